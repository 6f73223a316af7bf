# Sourced by the scripts that need a broker of their own: start_broker and stop_broker.
# env: BIN_DIR folder of the binaries (target/release); SHARDS (2, so that requests cross shards on any machine). Sets $broker (pid), $address and $took (ms until it listened).
bin=${BIN_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/release}
address=127.0.0.1:0; broker=

start_broker() { # start_broker DIR [flags]: data in DIR/data, output in DIR/out and DIR/log; a second start keeps the port
  local dir=$1 begun; shift; mkdir -p "$dir"; : > "$dir/out"; begun=$(date +%s%N)
  STREAMBUS__RUNTIME__SHARDS=${SHARDS:-2} "$bin/streambus" --data-dir "$dir/data" --listen "$address" --http 127.0.0.1:0 "$@" > "$dir/out" 2>> "$dir/log" & broker=$!
  until grep -q 'listens on' "$dir/out"; do
    kill -0 "$broker" 2> /dev/null || { echo "the broker did not start:"; tail -5 "$dir/log"; broker=; return 1; }
    [ $(( $(date +%s%N) - begun )) -lt 30000000000 ] || { echo "no start within 30 s"; return 1; }
    sleep 0.02
  done
  took=$(( ($(date +%s%N) - begun) / 1000000 ))
  address=$(grep -o 'listens on [0-9.:]*' "$dir/out" | cut -d' ' -f3)
}

stop_broker() { # stop_broker [signal]: waits for its end and returns its exit code
  local code=0
  if [ -n "$broker" ]; then kill "-${1:-TERM}" "$broker" 2> /dev/null || true; wait "$broker" 2> /dev/null || code=$?; broker=; fi
  return $code
}
