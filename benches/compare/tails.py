#!/usr/bin/env python3
"""Latency of producers on a quiet broker, and while compaction, retention, catch-up readers and a scrub run.

20,000 records of 1 KiB a second in requests of 20. Alternates quiet and busy runs, each on a fresh directory with
a log to read, and prints the medians beside the device's own durable writes. Of the 1,000 requests of each second the
slowest is its p99.9: the median of all seconds says what a stall of the device in some of them does not change.
"""

import statistics
import sys
import threading

from brokers import StreamBus
from commands import argument_parser, loadgen
from device import durable_write_percentiles
from scenarios import FILL, OPEN_LOOP, OPEN_LOOP_REQUESTS

PERCENTILES = ["p50_us", "p99_us", "p999_us"]
RATIO_AT_MOST = 2.0
DEVICE_RATIO_AT_MOST = 3.0
DEVICE_PROBE_S = 5
# What shows that each of the disturbers did something.
WORK = [
    "streambus_cleaner_segments_total", "streambus_scrubbed_bytes_total", "streambus_response_bytes_total",
]
# Full before the measurement begins, as it is in a broker that has run for a while: no page is touched for the first time.
MEMORY = "memory.budget=512MiB"
QUIET = [MEMORY, "storage.scrub_period_hours=0"]
BUSY = [MEMORY, "compaction.interval_ms=1000", "topics.retention_check_ms=1000", "storage.scrub_bytes_per_second=67108864"]


def parse_args():
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--duration", type=int, default=20, metavar="S")
    parser.add_argument("--warmup", type=int, default=5, metavar="S")
    parser.add_argument("--cold-gib", type=int, default=2, metavar="N", help="GiB to read and scrub (2)")
    return parser.parse_args()


def load(args, broker, mode, prefix, *extra):
    return loadgen(args, broker, mode, f"--topic-prefix={prefix}", *extra)


def disturb(args, broker, over):
    """Threads that read from the start again and again, and write what has to be compacted."""

    def read():
        while not over.is_set():
            load(args, broker, "consume", "cold", "--from=earliest", "--until-end")

    def compact():
        config = ["cleanup.policy=compact", "segment.bytes=4194304", "min.cleanable.dirty.ratio=0.01"]
        load(
            args, broker, "produce", "compacted", "--partitions=2", "--keys=1000", "--rate=2000", "--batch-records=20",
            f"--duration={args.duration + args.warmup}s", "--warmup=0s", *(f"--topic-config={one}" for one in config),
        )

    threads = [threading.Thread(target=read), threading.Thread(target=compact)]
    for thread in threads:
        thread.start()
    return threads


def run(args, is_busy):
    directory = args.work_dir / "tails"
    binary = str(args.bin_dir / "streambus")
    with StreamBus(directory, binary, BUSY if is_busy else QUIET) as broker:
        fill = [*FILL, f"--records={args.cold_gib << 20}"]
        load(args, broker, "produce", "cold", *fill, "--topic-config=segment.bytes=67108864")
        broker.restart()
        broker.drop_caches()
        over = threading.Event()
        threads = disturb(args, broker, over) if is_busy else []
        report = load(
            args, broker, "produce", "steady", *OPEN_LOOP, f"--duration={args.duration}s", f"--warmup={args.warmup}s",
            "--topic-config=retention.bytes=16777216", "--topic-config=segment.bytes=8388608",
        )
        over.set()
        for thread in threads:
            thread.join()
        produce = report["produce"]
        return {"latency": produce["latency"], "slowest": produce["slowest_by_second_us"], "work": {name: broker.metric(name) for name in WORK}}


def median(reports, percentile):
    return statistics.median(report[percentile] for report in reports)


def main():
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    reports = {False: [], True: []}
    device = []
    for number in range(args.alternations):
        for is_busy, done in reports.items():
            device.append(durable_write_percentiles(args.work_dir, DEVICE_PROBE_S, OPEN_LOOP_REQUESTS))
            done.append(run(args, is_busy))
            print(f"  {number + 1} of {args.alternations}, {'busy' if is_busy else 'quiet'}: {done[-1]}", flush=True)
    device.append(durable_write_percentiles(args.work_dir, DEVICE_PROBE_S, OPEN_LOOP_REQUESTS))
    print(f"  {'':10} {'device':>10} {'quiet':>10} {'busy':>10} {'busy/quiet':>11} {'quiet/device':>13}")
    for percentile in PERCENTILES:
        raw = median(device, percentile)
        quiet, busy = (median([one["latency"] for one in reports[which]], percentile) for which in (False, True))
        print(f"  {percentile:10} {raw:10.0f} {quiet:10.0f} {busy:10.0f} {busy / quiet:11.2f} {quiet / raw:13.2f}")
    quiet, busy = (statistics.median(sum((one["slowest"] for one in reports[which]), [])) for which in (False, True))
    print(f"  {'p99.9 of a second':21} {quiet:10.0f} {busy:10.0f} {busy / quiet:11.2f} {quiet / raw:13.2f}")
    is_good = busy <= RATIO_AT_MOST * quiet and quiet <= DEVICE_RATIO_AT_MOST * raw
    print(f"p99.9 of a second: busy at most {RATIO_AT_MOST} × quiet, quiet at most {DEVICE_RATIO_AT_MOST} × device: {'met' if is_good else 'MISSED'}")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
