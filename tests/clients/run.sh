#!/usr/bin/env bash
# Runs client suites against a broker. usage: run.sh BOOTSTRAP [suite...]
# Prints 'suite/case: pass|fail|skip: reason' lines and 'N passed, N failed, N skipped'; fails if a case fails.
# env: CASES regex of case names; NOT_YET regex of cases to skip aloud; TRACE=1 stack traces; LOG directory for output
here=$(cd "$(dirname "$0")" && pwd); bootstrap=${1:?bootstrap}; shift
suites=${*:-python-confluent python-kafka-python python-aiokafka node-kafkajs java go kcat}
LOG=${LOG:-$(mktemp -d)}; mkdir -p "$LOG"; python=$here/python/.venv/bin/python
export KAFKAJS_NO_PARTITIONER_WARNING=1 NODE_NO_WARNINGS=1
for suite in $suites; do
  case $suite in
    python-confluent) set -- "$python" "$here/python/confluent_smoke.py" ;;
    python-kafka-python) set -- "$python" "$here/python/kafka_python_smoke.py" ;;
    python-aiokafka) set -- "$python" "$here/python/aiokafka_smoke.py" ;;
    node-kafkajs) set -- node "$here/node/kafkajs_smoke.js" ;;
    java) set -- java -Xmx512m -cp "$here/java/classes:$here/java/libs/*" Smoke ;;
    go) set -- "$here/go/smoke" ;;
    kcat) set -- "$here/kcat/run.sh" ;;
    *) echo "$suite/start: fail: unknown suite" | tee "$LOG/$suite.out"; continue ;;
  esac
  timeout "${SUITE_SECONDS:-600}" "$@" "$bootstrap" 2> "$LOG/$suite.err" | tee "$LOG/$suite.out"; code=${PIPESTATUS[0]}
  # A suite that dies has no closing line: that is a failure, whatever its cases said before.
  grep -qE "^$suite: (pass|fail): " "$LOG/$suite.out" \
    || echo "$suite/end: fail: exit $code before its end: $(tail -1 "$LOG/$suite.err" | cut -c1-200)" | tee -a "$LOG/$suite.out"
done
count() { cat "$LOG"/*.out | grep -cE "^[a-z-]+/[^:]+: $1"; }
failed=$(count fail)
echo "$(count pass) passed, $failed failed, $(count skip) skipped"
[ "$failed" -eq 0 ]
