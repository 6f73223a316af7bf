#!/usr/bin/env python3
"""Runs the same load against Apache Kafka and StreamBus in turn and prints ratios of medians.

See README.md beside this file.
"""

import json
import os
import statistics
import sys
import time

from brokers import Kafka, StreamBus, fetch_kafka, find_java
from commands import argument_parser, loadgen
from device import durable_write_percentiles
from scenarios import FILL, SCENARIOS

DEVICE_PROBE_S = 2
# As long as a run, for its rare stalls.
DEVICE_PROBE_AT_RATE_S = 20
# After a restart brokers still tidy up; a catch-up read is measured after this pause.
SETTLE_S = 3


def parse_args():
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one alternation, 5 s a run, 1 GiB for catch-up")
    parser.add_argument("--only", action="append", metavar="WORD", help="scenarios whose name contains WORD")
    parser.add_argument("--list", action="store_true", help="name the scenarios and stop")
    parser.add_argument("--alternations", type=int, help="runs of each broker (5)")
    parser.add_argument("--duration", type=int, metavar="S", help="seconds of each measurement (20)")
    parser.add_argument("--warmup", type=int, metavar="S", help="seconds of load before it (10)")
    parser.add_argument("--catch-up-gib", type=int, metavar="N", help="GiB to fill for catch-up reads (8)")
    parser.add_argument("--java", help="the java command to run Kafka with")
    args = parser.parse_args()
    defaults = (1, 5, 3, 1) if args.quick else (5, 20, 10, 8)
    for name, default in zip(("alternations", "duration", "warmup", "catch_up_gib"), defaults):
        if getattr(args, name) is None:
            setattr(args, name, default)
    args.work_dir = args.work_dir.resolve()
    return args


def chosen(args):
    return [s for s in SCENARIOS if not args.only or any(word in s.name for word in args.only)]


class Comparison:
    """One invocation: where things are, and how long a run takes."""

    def __init__(self, args):
        self.args = args
        args.work_dir.mkdir(parents=True, exist_ok=True)
        self.libs = fetch_kafka(args.work_dir)
        self.java = find_java(args.java)
        self.results = args.work_dir / "results.jsonl"

    def broker(self, name, scenario):
        directory = self.args.work_dir / name.lower()
        if name == Kafka.name:
            return Kafka(directory, self.libs, self.java, scenario.is_kafka_durable)
        return StreamBus(directory, str(self.args.bin_dir / "streambus"))

    def loadgen(self, broker, scenario, mode, extra):
        report = loadgen(self.args, broker, mode, f"--partitions={scenario.partitions}", *extra)
        errors = [report[part]["errors"] for part in ("produce", "fetch") if report.get(part, {}).get("errors")]
        if errors:
            print(f"  {broker.name} answered errors: {errors}", flush=True)
        return report

    def run(self, name, scenario):
        """One run of one broker, fresh; returns loadgen's report."""
        report = {}
        if name == StreamBus.name:
            seconds = DEVICE_PROBE_AT_RATE_S if scenario.device_rate else DEVICE_PROBE_S
            report["device"] = durable_write_percentiles(self.args.work_dir, seconds, scenario.device_rate)
        with self.broker(name, scenario) as broker:
            if scenario.is_catch_up:
                report.update(self.run_catch_up(broker, scenario))
            else:
                timing = [f"--duration={self.args.duration}s", f"--warmup={self.args.warmup}s"]
                report.update(self.loadgen(broker, scenario, scenario.mode, [*scenario.args, *timing]))
        with open(self.results, "a") as results:
            entry = {"time": time.time(), "scenario": scenario.name, "broker": name, "report": report}
            results.write(json.dumps(entry) + "\n")
        return report

    def run_catch_up(self, broker, scenario):
        records = self.args.catch_up_gib << 20
        fill = [*FILL, "--in-flight=4", f"--records={records}"]
        self.loadgen(broker, scenario, "produce", fill)
        broker.restart()
        broker.drop_caches()
        time.sleep(SETTLE_S)
        return {
            "cold": self.loadgen(broker, scenario, scenario.mode, scenario.args),
            "warm": self.loadgen(broker, scenario, scenario.mode, scenario.args),
        }

    def compare(self, scenario):
        """Alternates the brokers; returns both lists of reports."""
        reports = {Kafka.name: [], StreamBus.name: []}
        for number in range(self.args.alternations):
            for name, done in reports.items():
                print(f"  {scenario.name}: {name} {number + 1} of {self.args.alternations}", flush=True)
                done.append(self.run(name, scenario))
        return reports


def figure(report, path):
    for key in path.split("."):
        report = report[key]
    return float(report)


def median(reports, path):
    return statistics.median(figure(report, path) for report in reports)


def judge(target, reports):
    """Both medians, their ratio, and whether it is good enough (None: only told)."""
    kafka = median(reports[Kafka.name], target.figure)
    ours = median(reports[StreamBus.name], target.figure)
    ratio = ours / kafka if kafka else float("inf")
    if target.at_least is None and target.at_most is None:
        return kafka, ours, ratio, None, ""
    if target.at_least is not None:
        return kafka, ours, ratio, ratio >= target.at_least, f"≥ {target.at_least:.2f}"
    wanted = f"≤ {target.at_most:.2f}"
    is_good = ratio <= target.at_most
    if target.device:
        bound = 2 * median(reports[StreamBus.name], "device." + target.device)
        wanted += f" or ≤ {bound:.0f}"
        is_good = is_good or ours <= bound
    return kafka, ours, ratio, is_good, wanted


def show(scenario, reports):
    """Prints a scenario's table; returns whether all targets are met."""
    print(f"\n{scenario.title}")
    print(f"  {'':32} {'Kafka':>12} {'StreamBus':>12} {'ratio':>8}  target")
    outcomes = []
    for target in scenario.targets:
        kafka, ours, ratio, is_good, wanted = judge(target, reports)
        verdict = {None: "", True: "met", False: "MISSED"}[is_good]
        print(f"  {target.figure:32} {kafka:12,.2f} {ours:12,.2f} {ratio:8.3f}  {wanted} {verdict}".rstrip())
        outcomes.append(is_good is not False)
    print(flush=True)
    return all(outcomes)


def main():
    args = parse_args()
    if args.list:
        for scenario in chosen(args):
            print(f"{scenario.name:20} {scenario.title}")
        return
    print(f"{os.cpu_count()} cores, {args.alternations} alternations of {args.duration} s after {args.warmup} s", flush=True)
    comparison = Comparison(args)
    outcomes = [show(scenario, comparison.compare(scenario)) for scenario in chosen(args)]
    sys.exit(0 if all(outcomes) else 1)


if __name__ == "__main__":
    main()
