#!/usr/bin/env bash
# Installs what the client tests need and the machine lacks (Debian). The broker itself needs only the Rust toolchain.
#   make, a C compiler, zlib: librdkafka for `cargo test`;   python3-venv, nodejs, npm, a JDK with Maven, Go, kcat: tests/clients
set -euo pipefail
missing=()
need() { command -v "$1" > /dev/null || missing+=("$2"); }
need make make; need cc gcc; need g++ g++; need python3 python3-venv; need node nodejs; need npm npm
need javac default-jdk-headless; need mvn maven; need go golang-go; need kcat kcat
[ -e /usr/include/zlib.h ] || missing+=(zlib1g-dev)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
for tool in make cc python3 node npm javac mvn go kcat; do command -v "$tool" > /dev/null || { echo "$tool is missing"; exit 1; }; done
echo "prerequisites are there"
