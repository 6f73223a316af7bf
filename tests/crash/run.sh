#!/usr/bin/env bash
# Kills a broker with -9 in the middle of load, again and again, and checks that nothing acknowledged is lost.
# usage: run.sh ROUNDS [DIR]     needs target/release/{streambus,loadgen}; env SEED for the timing
set -euo pipefail
rounds=${1:?rounds}; dir=${2:-}
. "$(dirname "$0")/../support/broker.sh"
[ -n "$dir" ] || { dir=$(mktemp -d); made=$dir; }
RANDOM=${SEED:=$$}; echo "seed $SEED, directory $dir"
trap 'stop_broker KILL || true; rm -rf "${made:-/nonexistent}"' EXIT

start_broker "$dir"; slowest=$took
"$bin/loadgen" verify --phase produce --state "$dir/state" --brokers "$address" --topics 1 --partitions 8 --record-size 1024 \
  --connections 4 --in-flight 4 --duration "$((rounds * 2))s" > "$dir/produce" 2>&1 & load=$!
for round in $(seq "$rounds"); do
  # A wait of random length: the kill must meet every phase of the journal and of the checkpoints.
  sleep "0.$((RANDOM % 900 + 100))"
  stop_broker KILL || true
  start_broker "$dir"; [ "$took" -le "$slowest" ] || slowest=$took
done
wait "$load" || { cat "$dir/produce"; exit 1; }
tail -3 "$dir/produce"
"$bin/loadgen" verify --phase check --state "$dir/state" --brokers "$address" --topics 1
stop_broker TERM && echo "stopped in order"
echo "$rounds kills, slowest start $slowest ms"
