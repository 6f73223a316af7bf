#!/usr/bin/env bash
# Kills a broker with -9 in the middle of load, again and again, and checks that nothing acknowledged is lost.
# usage: run.sh ROUNDS [DIR]     needs target/release/{streambus,loadgen}; env SEED for the timing
set -euo pipefail
rounds=${1:?rounds}; root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${2:-$(mktemp -d)}; mkdir -p "$dir"; RANDOM=${SEED:=$$}; echo "seed $SEED, directory $dir"
bin=${BIN_DIR:-$root/target/release}; address=127.0.0.1:0; broker=

stop() { if [ -n "$broker" ]; then kill -9 "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; broker=; fi; }
trap stop EXIT

start() { # waits for the line that says where it listens; keeps the port from then on
  : > "$dir/out"
  "$bin/streambus" --data-dir "$dir/data" --listen "$address" --http 127.0.0.1:0 > "$dir/out" 2>> "$dir/log" & broker=$!
  local begun; begun=$(date +%s%N)
  until grep -q "listens on" "$dir/out"; do
    kill -0 "$broker" || { echo "the broker did not start:"; tail -3 "$dir/log"; exit 1; }
    [ $(( $(date +%s%N) - begun )) -lt 30000000000 ] || { echo "no start within 30 s"; exit 1; }
    read -r -t 0.02 < <(:) || true
  done
  took=$(( ($(date +%s%N) - begun) / 1000000 )); address=$(grep -o 'listens on [0-9.:]*' "$dir/out" | cut -d' ' -f3)
}

start; slowest=$took
"$bin/loadgen" verify --phase produce --state "$dir/state" --brokers "$address" --topics 1 --partitions 8 --record-size 1024 \
  --connections 4 --in-flight 4 --duration "$((rounds * 2))s" > "$dir/produce" 2>&1 & load=$!
for round in $(seq "$rounds"); do
  # A wait of random length: the kill must meet every phase of the journal and of the checkpoints.
  read -r -t "0.$((RANDOM % 900 + 100))" < <(tail -f /dev/null --pid=$$) || true
  kill -9 "$broker"; wait "$broker" 2>/dev/null || true
  start; [ "$took" -le "$slowest" ] || slowest=$took
done
wait "$load" || { cat "$dir/produce"; exit 1; }
tail -3 "$dir/produce"
"$bin/loadgen" verify --phase check --state "$dir/state" --brokers "$address" --topics 1
kill -TERM "$broker"; wait "$broker" && echo "stopped in order"; broker=
echo "$rounds kills, slowest start $slowest ms"
