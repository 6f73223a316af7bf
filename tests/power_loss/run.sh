#!/usr/bin/env bash
# The power goes in the middle of load, again and again; at the end nothing acknowledged may be missing.
# The broker's data is on an ext4 on a disk of our own (volatile-disk: a FUSE file below a loop device) that keeps what was flushed, and of the rest what
# chance leaves: newer or older blocks, sectors, nothing. First that disk lies about its flushes, and the check must find out: or it would prove nothing.
# usage: run.sh ROUNDS     needs target/release/{streambus,loadgen,volatile-disk}, root, FUSE and loop devices; without the latter it is skipped, aloud
# env: SEED for the times and for what is left; LOAD further flags of loadgen, such as --topic-config streambus.ack.durability=memory (which must fail)
set -euo pipefail
rounds=${1:?rounds}
. "$(dirname "$0")/../support/broker.sh"
skip() { echo "SKIPPED: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "only root can mount"
[ -c /dev/fuse ] || skip "no FUSE: /dev/fuse is missing"
[ -c /dev/loop-control ] || skip "no loop devices: /dev/loop-control is missing"
command -v mkfs.ext4 > /dev/null || skip "no mkfs.ext4"
RANDOM=${SEED:=$$}; dir=$(mktemp -d); echo "seed $SEED, directory $dir"
disk='' loop='' load='' words=''
trap 'end load; kill_broker; power_off; rm -rf --one-file-system "$dir"' EXIT
mkdir "$dir/disk" "$dir/data"; mkfifo "$dir/words"

wait_for() { # wait_for TEXT FILE PID: until a line of FILE, which the process writes, has TEXT
  local begun=$SECONDS
  until grep -qs "$1" "$2"; do
    kill -0 "$3" 2> /dev/null || { echo "ended without '$1':"; cat "$2" "$dir/disk.log"; return 1; }
    [ $((SECONDS - begun)) -lt 30 ] || { echo "no '$1' within 30 s"; return 1; }
    sleep 0.01
  done
}
end() { # end NAME: kills the process whose id is in that variable
  local -n process=$1
  if [ -n "$process" ]; then kill -KILL "$process" 2> /dev/null || true; wait "$process" 2> /dev/null || true; process=''; fi
}
unmount() { # unmount DIRECTORY: a process that was killed may hold it for a moment
  local begun=$SECONDS
  while grep -q " $1 " /proc/mounts && ! umount "$1" 2> /dev/null; do
    [ $((SECONDS - begun)) -lt 20 ] || { umount --lazy "$1"; return; }
    sleep 0.05
  done
}

power_on() { # a disk with the content of the image, and the file system on it
  local out=$dir/disk.out; : > "$out"
  "$bin/volatile-disk" "$dir/image" "$dir/disk" --seed "$RANDOM" < "$dir/words" > "$out" 2>> "$dir/disk.log" & disk=$!
  exec {words}> "$dir/words"
  wait_for mounted "$out" "$disk"
  loop=$(losetup --find --show "$dir/disk/image")
  # Only a device with a volatile cache is sent flushes.
  grep -q 'write back' "/sys/block/${loop#/dev/}/queue/write_cache" || { echo "$loop has no cache that is flushed"; return 1; }
  mount -t ext4 -o noinit_itable "$loop" "$dir/data"
}
power_off() { # without the disk's process every request fails at once, so nothing can hang here
  end disk; [ -z "$words" ] || { exec {words}>&-; words=''; }
  unmount "$dir/data"
  [ -z "$loop" ] || { losetup --detach "$loop" || true; loop=''; }
  unmount "$dir/disk"
}
kill_broker() { # its requests under way end when the disk's process does
  [ -z "$broker" ] || kill -KILL "$broker" 2> /dev/null || true
  end disk; stop_broker KILL || true
}
start() { # small files, so that the journal comes round and segments roll all the time; batches (8 KiB) go straight to segments or not
  start_broker "$dir" --set journal.file_bytes=4MiB --set journal.files_max=4 --set storage.direct_bytes=$((RANDOM % 2 * 8))KiB
}
verify() { # verify PHASE [flags]
  local phase=$1; shift
  "$bin/loadgen" verify --phase "$phase" --state "$dir/state" --brokers "$address" --topics 1 "$@"
}

trial() { # trial ROUNDS SECONDS [lie]: load, power losses, check; sets $produced and $verdict, the exit codes of both phases
  local rounds=$1 seconds=$2 lie=${3:-} slowest=0 round loss
  rm -f "$dir/image" "$dir/state"; truncate -s "$((1024 + 256 * rounds))M" "$dir/image"; mkfs.ext4 -q -m 0 "$dir/image"
  power_on; start
  # shellcheck disable=SC2086 # several flags
  verify produce --partitions 8 --record-size 1024 --batch-records 8 --connections 4 --in-flight 4 --warmup 0s --duration "${seconds}s" \
    --topic-config segment.bytes=4194304 ${LOAD:-} > "$dir/produce" 2>&1 & load=$!
  wait_for '^ack' "$dir/state" "$load"
  for round in $(seq "$rounds"); do
    # A wait of random length: the loss must meet every phase of the journal and of the checkpoints.
    sleep "0.$((RANDOM % 500 + 100))"
    [ -z "$lie" ] || { echo lie >&"$words"; sleep 0.5; }
    echo lose >&"$words"
    wait_for 'power lost' "$dir/disk.out" "$disk"
    kill_broker; power_off
    loss=$(tail -1 "$dir/disk.out")
    power_on; start; [ "$took" -le "$slowest" ] || slowest=$took
    echo "$round: $loss; started in $took ms"
  done
  produced=0; wait "$load" || produced=$?; load=''
  verdict=0; verify check > "$dir/check" 2>&1 || verdict=$?
  stop_broker TERM && echo "stopped in order"
  power_off
  echo "$rounds power losses, slowest start $slowest ms"
}
fail() { echo "FAILED: $1"; tail -5 "$dir/produce"; cat "$dir/check"; exit 1; }

echo "a disk that lies:"; trial 1 3 lie
[ "$verdict" = 2 ] || fail "the check does not see what a lying disk loses"
grep '^lost [1-9]' "$dir/check" || fail "the check sees something else than lost records"
echo "a disk that does not:"; trial "$rounds" "$((rounds * 2))"
[ "$produced" = 0 ] || fail "the load ended with an error"
[ "$verdict" = 0 ] || fail "what was acknowledged is not what is there"
tail -3 "$dir/produce"; cat "$dir/check"
