#!/usr/bin/env bash
# Takes the client suites' dependencies from the package registries. usage: install.sh [suite...]; default: all
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for suite in ${*:-python node java go}; do
  case $suite in
    python) python3 -m venv "$here/python/.venv"; "$here/python/.venv/bin/pip" install -q -r "$here/python/requirements.txt" ;;
    node) (cd "$here/node" && npm install --no-audit --no-fund --silent) ;;
    java) (cd "$here/java" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs && mkdir -p classes && javac -nowarn -d classes -cp 'libs/*' src/Smoke.java) ;;
    go) (cd "$here/go" && go build -o smoke .) ;;
    *) echo "unknown suite $suite"; exit 1 ;;
  esac
  echo "installed: $suite"
done
