//! Administration over the wire: what is refused, with Kafka's codes, and what is told of the disk.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use protocol::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use protocol::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use support::{Broker, Raw};

const POLICY_VIOLATION: i16 = 44;
const INVALID_REQUEST: i16 = 42;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Sets a config of each resource to null; the codes and what is said.
fn set_to_null(raw: &mut Raw, resources: &[(i8, &str)]) -> Vec<(i16, String)> {
    let resources = resources.iter().map(|(kind, name)| AlterConfigsResource {
        resource_type: *kind,
        resource_name: (*name).into(),
        configs: vec![AlterableConfig {
            name: "some.config".into(),
            config_operation: 0,
            value: None,
        }],
    });
    let request = IncrementalAlterConfigsRequest {
        resources: resources.collect(),
        validate_only: false,
    };
    raw.call(
        44,
        1,
        |encoder| request.encode(encoder, 1),
        |decoder| {
            let answer = IncrementalAlterConfigsResponse::decode(decoder, 1).unwrap();
            let said = answer.responses.into_iter().map(|one| {
                let message = one.error_message.as_deref().unwrap_or_default();
                (one.error_code, message.to_owned())
            });
            said.collect()
        },
    )
}

#[test]
fn a_null_config_value_is_an_invalid_request_of_every_resource() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    let resources = [
        (TOPIC, "no.such"),
        (BROKER, ""),
        (BROKER, "1"),
        (BROKER, "7"),
    ];
    let mut answers = set_to_null(&mut raw, &resources).into_iter();
    for _ in 0..3 {
        let expected = "Null value not supported for : some.config".to_owned();
        assert_eq!(answers.next(), Some((INVALID_REQUEST, expected)));
    }
    assert_eq!(answers.next().unwrap().0, INVALID_REQUEST);
    let twice = set_to_null(&mut raw, &[(BROKER, "1"), (BROKER, "1")]);
    for (code, said) in twice {
        assert_eq!(code, INVALID_REQUEST);
        assert_eq!(said, "Each resource must appear at most once.");
    }
}

#[test]
fn the_partitions_of_one_request_are_bounded_together() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    let topics = ["a", "b", "c"].map(|name| CreatableTopic {
        name: name.into(),
        num_partitions: 40_000,
        replication_factor: 1,
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: topics.into(),
        ..Default::default()
    };
    let codes: Vec<i16> = raw.call(
        19,
        7,
        |encoder| request.encode(encoder, 7),
        |decoder| {
            let answer = CreateTopicsResponse::decode(decoder, 7).unwrap();
            answer.topics.iter().map(|one| one.error_code).collect()
        },
    );
    assert_eq!(codes, [POLICY_VIOLATION; 3], "each alone would be allowed");
}

#[test]
fn log_dirs_tell_the_size_of_the_volume() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let request = DescribeLogDirsRequest::default();
    let (total, usable) = broker.connect().call(
        35,
        4,
        |encoder| request.encode(encoder, 4),
        |decoder| {
            let answer = DescribeLogDirsResponse::decode(decoder, 4).unwrap();
            (
                answer.results[0].total_bytes,
                answer.results[0].usable_bytes,
            )
        },
    );
    let told = std::process::Command::new("df")
        .args(["--block-size=1", "--output=size"])
        .arg(directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let size: i64 = told.lines().nth(1).unwrap().trim().parse().unwrap();
    assert_eq!(total, size);
    // What is left changes all the time.
    assert!((1..total).contains(&usable), "{usable} of {total}");
}
