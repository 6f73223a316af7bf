//! The broker as a process: start, stop, kill -9, restart, refusals, HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use protocol::primitives::Records;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use support::{Broker, Raw, run_to_end};

fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(value), &[]);
    builder.build().unwrap()
}

/// Makes sure that a topic exists (auto-create).
fn touch(raw: &mut Raw, topic: &str) {
    let names = vec![MetadataRequestTopic {
        name: Some(topic.into()),
        ..Default::default()
    }];
    let request = MetadataRequest {
        topics: Some(names),
        ..Default::default()
    };
    let code = raw.call(
        3,
        9,
        |encoder| request.encode(encoder, 9),
        |decoder| MetadataResponse::decode(decoder, 9).unwrap().topics[0].error_code,
    );
    assert_eq!(code, 0);
}

/// Appends one record with acks=all and returns its offset.
fn produce(raw: &mut Raw, topic: &str, value: &[u8]) -> i64 {
    let batch = batch(value);
    let data = PartitionProduceData {
        index: 0,
        records: Records::Inline((&batch[..]).into()),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![data],
            ..Default::default()
        }],
        ..Default::default()
    };
    raw.call(
        0,
        9,
        |encoder| request.encode(encoder, 9),
        |decoder| {
            let response = ProduceResponse::decode(decoder, 9).unwrap();
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, 0);
            answer.base_offset
        },
    )
}

fn end_offset(raw: &mut Raw, topic: &str) -> i64 {
    let partition = ListOffsetsPartition {
        timestamp: -1,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: topic.into(),
        partitions: vec![partition],
    };
    let request = ListOffsetsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    raw.call(
        2,
        5,
        |encoder| request.encode(encoder, 5),
        |decoder| ListOffsetsResponse::decode(decoder, 5).unwrap().topics[0].partitions[0].offset,
    )
}

#[test]
fn acknowledged_records_survive_kill_9_and_other_shard_counts() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_on(directory.path(), "127.0.0.1:0", &["--shards", "2"]);
    touch(&mut broker.connect(), "t");
    let mut expected = 0;
    for shards in ["1", "3", "2", "2"] {
        let mut raw = broker.connect();
        for _ in 0..50 {
            assert_eq!(produce(&mut raw, "t", &[7; 1000]), expected);
            expected += 1;
        }
        broker.kill();
        broker = Broker::start_on(directory.path(), "127.0.0.1:0", &["--shards", shards]);
        assert_eq!(end_offset(&mut broker.connect(), "t"), expected);
    }
}

#[test]
fn sigterm_stops_in_order_and_leaves_nothing_to_replay() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    touch(&mut raw, "t");
    produce(&mut raw, "t", b"x");
    assert!(broker.stop().success());
    let broker = Broker::start(directory.path());
    assert_eq!(end_offset(&mut broker.connect(), "t"), 1);
    let recovered = broker.log();
    let last = recovered
        .lines()
        .rev()
        .find(|line| line.contains("storage recovered"))
        .unwrap();
    assert!(last.contains("records_applied: 0"), "{last}");
}

#[test]
fn a_data_directory_in_use_foreign_or_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data_flag = data.to_str().unwrap();
    let start = || {
        run_to_end(&[
            "--data-dir",
            data_flag,
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ])
    };
    let broker = Broker::start(directory.path());
    let (status, _, error) = start();
    assert!(
        !status.success() && error.contains("in use by another process"),
        "{error}"
    );
    assert!(broker.stop().success());
    let meta = data.join("streambus.meta");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(
        &meta,
        text.replace("format_version = 1", "format_version = 99"),
    )
    .unwrap();
    let (status, _, error) = start();
    assert!(
        !status.success() && error.contains("format version 99"),
        "{error}"
    );
    std::fs::remove_file(&meta).unwrap();
    let (status, _, error) = start();
    assert!(
        !status.success() && error.contains("not made by StreamBus"),
        "{error}"
    );
}

#[test]
fn bad_settings_are_refused_with_what_is_allowed() {
    let check = |arguments: &[&str], said: &[&str]| {
        let (status, _, error) = run_to_end(arguments);
        assert!(!status.success());
        for word in said {
            assert!(error.contains(word), "{error}");
        }
    };
    check(&["--shards", "-3"], &[]);
    check(
        &["--shards", "many"],
        &["runtime.shards = many", "from 0 to 1024"],
    );
    check(
        &["--set", "journal.files_max=1"],
        &["journal.files_max = 1", "from 2 to 1024"],
    );
    check(&["--set", "no.such=1"], &["unknown setting"]);
    check(
        &["--config", "/no/such/file"],
        &["/no/such/file", "cannot be read"],
    );
    check(&["--no-such-flag"], &["--no-such-flag"]);
}

#[test]
fn help_and_config_say_what_there_is() {
    let (status, help, _) = run_to_end(&["--help"]);
    assert!(status.success() && help.contains("--data-dir") && help.contains("--advertise"));
    let (status, config, _) = run_to_end(&["config"]);
    assert!(status.success() && config.contains("[journal]") && config.contains("file_bytes"));
}

#[test]
fn http_tells_health_and_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    touch(&mut broker.connect(), "t");
    assert!(broker.get("/livez").0.contains("200"));
    assert!(broker.get("/readyz").0.contains("200"));
    assert!(broker.get("/nothing").0.contains("404"));
    let (_, metrics) = broker.get("/metrics");
    for series in [
        "streambus_requests_total{api=\"Metadata\"}",
        "streambus_request_seconds_bucket",
        "streambus_journal_commits_total",
        "streambus_journal_commit_seconds_count",
        "streambus_memory_limit_bytes",
        "streambus_connections_open",
        "streambus_partitions",
    ] {
        assert!(metrics.contains(series), "{series} is not in\n{metrics}");
    }
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE")) {
        let name = line.split_whitespace().nth(2).unwrap();
        assert!(name.starts_with("streambus_"), "{line}");
        assert!(
            metrics.contains(&format!("# HELP {name} ")),
            "{name} has no help"
        );
    }
}
