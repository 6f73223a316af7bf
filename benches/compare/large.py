#!/usr/bin/env python3
"""Large batches to one partition and reads of a cold log, beside what fio does with the same device.

Each round runs fio and StreamBus in turn on fresh files: fio writes a new file with O_DIRECT, each write durable and
not; StreamBus takes large batches, each durable before its answer; fio reads its file; StreamBus serves a log from
memory (what the sockets and the client let through) and, started again, from disk.
"""

import statistics
import sys

from brokers import StreamBus
from commands import answer, argument_parser, loadgen
from scenarios import FILL

# Soon full, so that what is measured does not touch memory for the first time.
PRODUCE_MEMORY = ["memory.budget=1GiB"]
READ_MEMORY = ["memory.budget=6GiB"]
# Fits in the caches of that.
HOT_BYTES = 512 << 20
FIO = ["--direct=1", "--ioengine=io_uring", "--iodepth=4", "--bs=900k", "--size=4G", "--output-format=json"]
PRODUCE = {
    "produce, 256 KB, 8 × 4": ["--batch-records=256", "--connections=8", "--in-flight=4"],
    "produce, 900 KB, 1 × 4": ["--batch-records=900", "--connections=1", "--in-flight=4"],
}
DURABLE, BUFFERED, READ = "fio write, durable", "fio write", "fio read"
HOT, COLD = "read from memory", "read from disk"
WRITE_AT_LEAST = 0.7
READ_AT_LEAST = 0.8


def parse_args():
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--duration", type=int, default=5, metavar="S")
    parser.add_argument("--warmup", type=int, default=3, metavar="S")
    parser.add_argument("--read-gib", type=int, default=2, metavar="N", help="GiB to read (2)")
    return parser.parse_args()


def fio_rates(args):
    """GB/s."""
    path = args.work_dir / "fio"

    def rate(direction, *extra):
        report = answer(["fio", "--name=large", f"--filename={path}", f"--rw={direction}", *FIO, *extra])
        return report["jobs"][0][direction]["bw_bytes"] / 1e9

    rates = {}
    try:
        rates[DURABLE] = rate("write", "--sync=dsync")
        rates[READ] = rate("read")
        path.unlink()
        rates[BUFFERED] = rate("write")
    finally:
        path.unlink(missing_ok=True)
    return rates


def produce_rate(args, broker, shape):
    measured = [f"--duration={args.duration}s", f"--warmup={args.warmup}s"]
    kept = "--topic-config=retention.bytes=4294967296"
    report = loadgen(args, broker, "produce", "--partitions=1", "--fixed", "--record-size=1000", kept, *shape, *measured)
    return report["produce"]["records_per_s"] * 1000 / 1e9


def read_rate(args, broker):
    report = loadgen(args, broker, "consume", "--from=earliest", "--until-end", "--connections=2")
    return report["fetch"]["mib_per_s"] * (1 << 20) / 1e9


def fill(args, broker, total_bytes):
    loadgen(args, broker, "produce", *FILL, f"--records={total_bytes >> 10}")


def streambus_rates(args):
    """GB/s, each load on a fresh broker."""
    directory, binary = args.work_dir / "large", str(args.bin_dir / "streambus")
    rates = {}
    for name, shape in PRODUCE.items():
        with StreamBus(directory, binary, PRODUCE_MEMORY) as broker:
            rates[name] = produce_rate(args, broker, shape)
    with StreamBus(directory, binary, READ_MEMORY) as broker:
        fill(args, broker, HOT_BYTES)
        # The first read brings into memory what had left it.
        read_rate(args, broker)
        rates[HOT] = read_rate(args, broker)
    with StreamBus(directory, binary, READ_MEMORY) as broker:
        fill(args, broker, args.read_gib << 30)
        broker.restart()
        broker.drop_caches()
        rates[COLD] = read_rate(args, broker)
    return rates


def main():
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    rounds = []
    for number in range(args.rounds):
        rounds.append({**fio_rates(args), **streambus_rates(args)})
        print(f"  {number + 1} of {args.rounds}: {({name: round(rate, 2) for name, rate in rounds[-1].items()})}", flush=True)
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    for name, rate in median.items():
        rates = [one[name] for one in rounds]
        print(f"  {name:24} {rate:6.2f} GB/s ({min(rates):.2f} to {max(rates):.2f})")
    for name in PRODUCE:
        print(f"  {name} / {DURABLE}: {median[name] / median[DURABLE]:.2f}; / {BUFFERED}: {median[name] / median[BUFFERED]:.2f}")
    print(f"  {COLD} / {READ}: {median[COLD] / median[READ]:.2f}; / {HOT}: {median[COLD] / median[HOT]:.2f}")
    best = max(median[name] for name in PRODUCE)
    writes_enough = best >= WRITE_AT_LEAST * median[DURABLE]
    reads_enough = median[COLD] >= READ_AT_LEAST * min(median[READ], median[HOT])
    is_good = writes_enough and reads_enough
    print(
        f"writes at least {WRITE_AT_LEAST} of fio's durable ones, cold reads {READ_AT_LEAST} of fio's or of those from memory: "
        f"{'met' if is_good else 'MISSED'}"
    )
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
