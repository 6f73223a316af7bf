"""The loads of the comparison and what StreamBus must reach in each.

A target compares the medians of both brokers: `at_least` and `at_most` are bounds of the ratio
StreamBus / Kafka. `device` names the percentile of the device's durable write of which twice also passes.
"""

from dataclasses import dataclass
from typing import List, Optional

RATE = "produce.records_per_s"
CPU_RECORD = "broker_cpu.us_per_record"
CPU_KIB = "broker_cpu.us_per_kib"


@dataclass(frozen=True)
class Target:
    figure: str
    at_least: Optional[float] = None
    at_most: Optional[float] = None
    device: Optional[str] = None


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    mode: str
    args: List[str]
    targets: List[Target]
    is_kafka_durable: bool = False
    partitions: int = 8
    # Reads of a log that was filled before, from disk and then again from memory.
    is_catch_up: bool = False
    # Durable writes a second of the bare device that its percentiles are taken of; None: one after the other.
    device_rate: Optional[int] = None


def produce_latency(percentile):
    return f"produce.latency.{percentile}_us"


# Fills a log to be read, with --records.
FILL = ["--fixed", "--batch-records=64", "--connections=4"]
REQUESTS_OF_16 = ["--fixed", "--batch-records=16", "--record-size=1024", "--connections=8", "--in-flight=4"]
ONE_BY_ONE = ["--fixed", "--batch-records=1", "--record-size=100", "--connections=1", "--in-flight=1"]
FIFTY_SMALL = ["--fixed", "--batch-records=1", "--record-size=100", "--connections=50", "--in-flight=1"]
# librdkafka fills a request per partition for its linger of 5 ms; at the rates measured that is about 300 KiB.
LIBRDKAFKA = ["--fixed", "--batch-records=290", "--record-size=1024", "--connections=1", "--in-flight=8"]
OPEN_LOOP = ["--batch-records=20", "--record-size=1024", "--connections=4", "--in-flight=20", "--rate=20000"]
END_TO_END = ["--batch-records=1", "--record-size=1024", "--rate=1000", "--in-flight=20"]
# Requests a second in both.
OPEN_LOOP_REQUESTS = 1000


def many_partitions(which, title, partitions):
    return Scenario(
        f"many-{which}-{partitions}", f"{title}: 16 × 1 KiB a request over {partitions:,} partitions",
        "produce", REQUESTS_OF_16, [Target(RATE), Target(CPU_RECORD), Target(produce_latency("p99"))],
        is_kafka_durable=which == "durable", partitions=partitions,
    )


SCENARIOS = [
    Scenario(
        "durable-16", "(a) both durable: 16 × 1 KiB a request, 8 connections, 4 in flight",
        "produce", REQUESTS_OF_16,
        [
            Target(RATE, at_least=6.0),
            Target(produce_latency("p99"), at_most=0.2),
            Target(CPU_RECORD),
        ],
        is_kafka_durable=True,
    ),
    Scenario(
        "durable-one", "(a) both durable: one 100-byte record at a time on one connection",
        "produce", ONE_BY_ONE,
        [Target(RATE, at_least=1.6), Target(produce_latency("p50")), Target(CPU_RECORD)],
        is_kafka_durable=True,
    ),
    Scenario(
        "durable-50", "(a) both durable: one 100-byte record a request, 50 connections",
        "produce", FIFTY_SMALL,
        [Target(RATE, at_least=8.0), Target(CPU_RECORD, at_most=0.1), Target(produce_latency("p99"))],
        is_kafka_durable=True,
    ),
    Scenario(
        "shipped-16", "(b) durable against Kafka as shipped: 16 × 1 KiB a request, 8 connections, 4 in flight",
        "produce", REQUESTS_OF_16,
        [Target(RATE, at_least=1.0), Target(CPU_RECORD, at_most=1 / 3), Target(produce_latency("p99"))],
    ),
    Scenario(
        "shipped-50", "(b) durable against Kafka as shipped: one 100-byte record a request, 50 connections",
        "produce", FIFTY_SMALL,
        [Target(RATE, at_least=1.3), Target(CPU_RECORD, at_most=0.45), Target(produce_latency("p999"))],
    ),
    Scenario(
        "shipped-librdkafka", "(b) durable against Kafka as shipped: batches as librdkafka makes them",
        "produce", LIBRDKAFKA,
        [Target(RATE, at_least=1.0), Target(CPU_RECORD, at_most=0.5), Target(produce_latency("p99"))],
    ),
    Scenario(
        "shipped-open-loop", "(b) durable against Kafka as shipped: open loop, 20,000 records/s, 20 a request",
        "produce", OPEN_LOOP,
        [
            Target(produce_latency("p50"), at_most=1.2, device="p50_us"),
            Target(produce_latency("p99"), at_most=1.0, device="p99_us"),
            Target(produce_latency("p999"), at_most=1.0, device="p999_us"),
            Target(CPU_RECORD),
        ],
        device_rate=OPEN_LOOP_REQUESTS,
    ),
    Scenario(
        "catch-up", "(c) reading from the start: caches dropped, then warm",
        "consume", ["--until-end", "--from=earliest", "--connections=2"],
        [
            Target("cold." + CPU_KIB, at_most=1.1),
            Target("cold.fetch.mib_per_s"),
            Target("warm." + CPU_KIB),
            Target("warm.fetch.mib_per_s"),
        ],
        is_catch_up=True,
    ),
    Scenario(
        "end-to-end", "(c) end to end, durable against Kafka as shipped: 1,000 records/s, no linger",
        "end-to-end", END_TO_END,
        [
            Target("end_to_end.p50_us", at_most=1.3, device="p50_us"),
            Target("end_to_end.p99_us", at_most=0.2, device="p99_us"),
            Target(CPU_RECORD),
        ],
        device_rate=OPEN_LOOP_REQUESTS,
    ),
    many_partitions("durable", "both durable", 10),
    many_partitions("durable", "both durable", 10_000),
    many_partitions("shipped", "durable against Kafka as shipped", 10),
    many_partitions("shipped", "durable against Kafka as shipped", 10_000),
]
