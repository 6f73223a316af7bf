//! Timestamps and retention over a real broker: what is refused, stamped, kept and deleted, and how the
//! broker explains it.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use protocol::primitives::Records;
use protocol::record_batch::{BatchBuilder, BatchOptions, BatchView, TimestampType};
use support::{Broker, Raw};

const INVALID_TIMESTAMP: i16 = 32;
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
/// How long the broker may take to sweep.
const PATIENCE: Duration = Duration::from_secs(30);

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}

fn start(directory: &std::path::Path) -> Broker {
    let flags = ["--set", "topics.retention_check_ms=100"];
    Broker::start_on(directory, "127.0.0.1:0", &flags)
}

fn create(raw: &mut Raw, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let code = raw.call(
        19,
        5,
        |encoder| request.encode(encoder, 5),
        |decoder| CreateTopicsResponse::decode(decoder, 5).unwrap().topics[0].error_code,
    );
    assert_eq!(code, 0);
}

/// What a producer was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: i16,
    log_append_time_ms: i64,
    /// Index in the batch, and what is said.
    record_errors: Vec<(i32, String)>,
}

/// Produces records with these timestamps as one batch.
fn produce(raw: &mut Raw, topic: &str, timestamps: &[i64], value_bytes: usize) -> Told {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    for timestamp in timestamps {
        batch.push(*timestamp, None, Some(&vec![7; value_bytes]), &[]);
    }
    let batch = batch.build().unwrap();
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Records::Inline((&batch[..]).into()),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    raw.call(
        0,
        9,
        |encoder| request.encode(encoder, 9),
        |decoder| {
            let answer = ProduceResponse::decode(decoder, 9).unwrap();
            let part = &answer.responses[0].partition_responses[0];
            let errors = part.record_errors.iter().map(|one| {
                let message = one.batch_index_error_message.as_deref();
                (one.batch_index, message.unwrap_or_default().to_owned())
            });
            Told {
                code: part.error_code,
                log_append_time_ms: part.log_append_time_ms,
                record_errors: errors.collect(),
            }
        },
    )
}

/// Earliest and latest offset.
fn offsets(raw: &mut Raw, topic: &str) -> (i64, i64) {
    let mut offset = |timestamp| {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![ListOffsetsPartition {
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        raw.call(
            2,
            5,
            |encoder| request.encode(encoder, 5),
            |decoder| {
                let answer = ListOffsetsResponse::decode(decoder, 5).unwrap();
                answer.topics[0].partitions[0].offset
            },
        )
    };
    (offset(-2), offset(-1))
}

fn explain(broker: &Broker, topic: &str) -> serde_json::Value {
    let path = format!("/v1/topics/{topic}/partitions/0/retention");
    let (status, body) = broker.get(&path);
    assert!(status.contains("200"), "{status} {body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until the log begins where it should.
fn await_start(raw: &mut Raw, topic: &str, is_reached: impl Fn((i64, i64)) -> bool) -> (i64, i64) {
    let begun = Instant::now();
    loop {
        let offsets = offsets(raw, topic);
        if is_reached(offsets) {
            return offsets;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{topic} is still at {offsets:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn records_outside_the_allowed_times_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    create(&mut raw, "t", &[]);
    let now_ms = now_ms();
    // The default: an hour into the future, as far back as one likes (KIP-937).
    assert_eq!(
        produce(&mut raw, "t", &[0, 1, now_ms + HOUR_MS / 2], 1).code,
        0
    );
    let told = produce(&mut raw, "t", &[now_ms, now_ms + 2 * HOUR_MS, now_ms], 1);
    assert_eq!(
        (told.code, told.log_append_time_ms),
        (INVALID_TIMESTAMP, -1)
    );
    let [(1, said)] = &told.record_errors[..] else {
        panic!("the second record alone is to blame: {told:?}")
    };
    assert!(said.contains(&(now_ms + 2 * HOUR_MS).to_string()), "{said}");
    create(
        &mut raw,
        "narrow",
        &[
            ("message.timestamp.before.max.ms", "60000"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ],
    );
    assert_eq!(
        produce(&mut raw, "narrow", &[now_ms + YEAR_MS, -1], 1).code,
        0
    );
    let told = produce(&mut raw, "narrow", &[now_ms - HOUR_MS], 1);
    assert_eq!((told.code, told.record_errors[0].0), (INVALID_TIMESTAMP, 0));
    assert_eq!(offsets(&mut raw, "narrow"), (0, 2));
}

#[test]
fn log_append_time_is_the_brokers() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    create(
        &mut raw,
        "t",
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let before_ms = now_ms();
    // What the producer says is no matter, however wrong.
    let told = produce(&mut raw, "t", &[0, before_ms + YEAR_MS], 10);
    assert_eq!((told.code, told.record_errors.len()), (0, 0));
    let stamp = told.log_append_time_ms;
    assert!((before_ms..=now_ms()).contains(&stamp), "{stamp}");
    let request = FetchRequest {
        max_wait_ms: 1_000,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    raw.call(
        1,
        11,
        |encoder| request.encode(encoder, 11),
        |decoder| {
            let answer = FetchResponse::decode(decoder, 11).unwrap();
            let records = answer.responses[0].partitions[0]
                .records
                .as_slice()
                .unwrap();
            let batch = BatchView::parse(records).unwrap();
            assert_eq!(batch.check_crc(), Ok(()));
            assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
            assert_eq!(batch.max_timestamp(), stamp);
        },
    );
}

#[test]
fn future_timestamps_do_not_pin_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    create(
        &mut raw,
        "t",
        &[
            ("message.timestamp.after.max.ms", "9223372036854775807"),
            ("retention.ms", "60000"),
        ],
    );
    let future_ms = now_ms() + YEAR_MS;
    assert_eq!(produce(&mut raw, "t", &[future_ms; 3], 100).code, 0);
    let told = explain(&broker, "t");
    let [segment] = &told["segments"].as_array().unwrap()[..] else {
        panic!("one segment: {told}")
    };
    let appended_ms = segment["last_append_ms"].as_i64().unwrap();
    assert_eq!(segment["max_timestamp_ms"], future_ms);
    assert_eq!(segment["age_from_ms"], appended_ms);
    assert_eq!(segment["goes_by_age_at_ms"], appended_ms + 60_001);
    assert_eq!(
        (&segment["goes"], &segment["why"]),
        (&false.into(), &"it takes the appends".into())
    );
    // The limit by time, and it goes, the active segment too.
    create(
        &mut raw,
        "short",
        &[
            ("message.timestamp.after.max.ms", "9223372036854775807"),
            ("retention.ms", "100"),
        ],
    );
    assert_eq!(produce(&mut raw, "short", &[future_ms; 3], 100).code, 0);
    await_start(&mut raw, "short", |offsets| offsets == (3, 3));
    assert_eq!(offsets(&mut raw, "t"), (0, 3), "the other is as it was");
}

#[test]
fn retention_by_size_takes_what_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    let segments = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
    create(&mut raw, "all", &segments);
    create(
        &mut raw,
        "t",
        &[segments[0], segments[1], ("retention.bytes", "2097152")],
    );
    create(&mut raw, "compacted", &[("cleanup.policy", "compact")]);
    // 8 MB in segments of 1 MiB.
    for topic in ["all", "t"] {
        for _ in 0..16 {
            assert_eq!(produce(&mut raw, topic, &[now_ms()], 500_000).code, 0);
        }
    }
    // Five of eight segments: a round amid the batches takes fewer, and the next one the rest.
    let (start, end) = await_start(&mut raw, "t", |(start, _)| start >= 10);
    let told = explain(&broker, "t");
    assert_eq!(
        (&told["log_start_offset"], &told["log_end_offset"]),
        (&start.into(), &end.into())
    );
    assert!(told["size_bytes"].as_u64().unwrap() >= 2 << 20, "{told}");
    let oldest = &told["segments"][0];
    assert_eq!(oldest["goes"], false);
    let why = "retention.ms is not reached and size is within retention.bytes";
    assert_eq!(oldest["why"], why);
    let missing = oldest["goes_by_size_after_bytes"].as_u64().unwrap();
    assert!((1..1 << 20).contains(&missing), "{told}");
    for _ in 0..=missing / 500_000 {
        assert_eq!(produce(&mut raw, "t", &[now_ms()], 500_000).code, 0);
    }
    await_start(&mut raw, "t", |(now, _)| now > start);
    let kept = explain(&broker, "all");
    assert_eq!(kept["log_start_offset"], 0);
    assert_eq!(
        kept["segments"][0]["why"],
        "neither retention.ms nor retention.bytes is set"
    );
    let compacted = explain(&broker, "compacted");
    assert_eq!(
        (&compacted["cleanup_policy"], &compacted["retention_ms"]),
        (&"compact".into(), &serde_json::Value::Null)
    );
    for unknown in [
        "/v1/topics/no/partitions/0/retention",
        "/v1/topics/t/partitions/1/retention",
    ] {
        assert!(broker.get(unknown).0.contains("404"));
    }
}
