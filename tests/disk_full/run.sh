#!/usr/bin/env bash
# A broker on a file system that fills up, killed and started again when no byte is free: tests/disk_full.rs on a
# small ext4 of its own. Needs root and loop devices; without them it is skipped, aloud. Takes less than a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "SKIPPED: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can mount"
command -v mkfs.ext4 > /dev/null || skip "no mkfs.ext4"
dir=$(mktemp -d)
trap 'umount "$dir/data" 2> /dev/null || true; rm -rf "$dir"' EXIT
truncate -s 128M "$dir/image"; mkdir "$dir/data"
mkfs.ext4 -q -m 0 "$dir/image"
mount -o loop "$dir/image" "$dir/data" 2> "$dir/error" || skip "no loop device: $(cat "$dir/error")"
DISK_FULL_DIR=$dir timeout 120 cargo test --quiet -p streambus --test disk_full -- --nocapture || { tail -20 "$dir/log"; exit 1; }
