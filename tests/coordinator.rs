//! The group coordinator of a broker whose `__consumer_offsets` is deleted, or damaged.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::path::{Path, PathBuf};

use protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use support::requests::create_topic;
use support::{Broker, Raw};

const GROUP: &str = "a-group-with-a-name-to-look-for";
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
/// One partition of offsets, and members that wait for others as long as the test takes.
const SETTINGS: [&str; 4] = [
    "--set",
    "groups.offsets_partitions=1",
    "--set",
    "groups.initial_rebalance_delay_ms=300000",
];

fn start(directory: &Path) -> Broker {
    Broker::start_on(directory, "127.0.0.1:0", &SETTINGS)
}

/// Finds the group's coordinator, which makes its topic.
fn find(raw: &mut Raw) {
    let request = FindCoordinatorRequest {
        key: GROUP.into(),
        ..Default::default()
    };
    let code = raw.call(
        10,
        2,
        |encoder| request.encode(encoder, 2),
        |decoder| {
            FindCoordinatorResponse::decode(decoder, 2)
                .unwrap()
                .error_code
        },
    );
    assert_eq!(code, 0);
}

/// Commits an offset without being a member; asks again while the group is being loaded.
fn commit(raw: &mut Raw) -> i16 {
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 7,
                // Long, so that some hundred of them are too much for the checkpoint to hold.
                committed_metadata: Some("x".repeat(4000).into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    const LOADING: i16 = 14;
    loop {
        let code = raw.call(
            8,
            7,
            |encoder| request.encode(encoder, 7),
            |decoder| {
                let answer = OffsetCommitResponse::decode(decoder, 7).unwrap();
                answer.topics[0].partitions[0].error_code
            },
        );
        if code != LOADING {
            return code;
        }
    }
}

/// Sends a join that waits for further members; its answer is read later.
fn begin_join(raw: &mut Raw) {
    let request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: (&[0_u8; 6][..]).into(),
        }],
        ..Default::default()
    };
    // Version 3 gives the member its id at once.
    raw.request(11, 3, |encoder| request.encode(encoder, 3));
}

fn end_join(raw: &mut Raw) -> i16 {
    let frame = raw.receive().unwrap();
    let mut decoder = protocol::primitives::Decoder::new(&frame);
    protocol::header::decode_response_header(&mut decoder, 11, 3).unwrap();
    JoinGroupResponse::decode(&mut decoder, 3)
        .unwrap()
        .error_code
}

fn delete_offsets_topic(raw: &mut Raw) {
    let request = DeleteTopicsRequest {
        topic_names: vec!["__consumer_offsets".into()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let code = raw.call(
        20,
        3,
        |encoder| request.encode(encoder, 3),
        |decoder| DeleteTopicsResponse::decode(decoder, 3).unwrap().responses[0].error_code,
    );
    assert_eq!(code, 0);
}

#[test]
fn members_are_told_when_the_offsets_topic_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    create_topic(&mut raw, "t", 1);
    find(&mut raw);
    assert_eq!(commit(&mut raw), 0);
    let mut member = broker.connect();
    begin_join(&mut member);
    delete_offsets_topic(&mut raw);
    assert_eq!(end_join(&mut member), NOT_COORDINATOR);
    assert_eq!(commit(&mut raw), NOT_COORDINATOR);
    // Whoever looks for the coordinator again finds a new one.
    find(&mut raw);
    assert_eq!(commit(&mut raw), 0);
    assert!(broker.get("/readyz").0.contains("200"));
}

/// The directory of a broker that took so many commits and stopped in order.
fn committed_and_stopped(commits: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    let mut raw = broker.connect();
    create_topic(&mut raw, "t", 1);
    find(&mut raw);
    for _ in 0..commits {
        assert_eq!(commit(&mut raw), 0);
    }
    assert!(broker.stop().success());
    directory
}

/// The segment file that holds the group's name.
fn file_with_group(directory: &Path) -> (PathBuf, usize) {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            if path.extension().is_none_or(|kind| kind != "log") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let mut windows = bytes.windows(GROUP.len());
            if let Some(at) = windows.position(|window| window == GROUP.as_bytes()) {
                return (path, at);
            }
        }
    }
    panic!("no segment holds the group");
}

#[test]
fn a_damaged_offsets_log_fails_its_coordinator_and_readiness() {
    let directory = committed_and_stopped(300);
    let (path, at) = file_with_group(&directory.path().join("data"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let broker = start(directory.path());
    assert_eq!(commit(&mut broker.connect()), COORDINATOR_NOT_AVAILABLE);
    assert!(broker.get("/livez").0.contains("200"));
    let (status, said) = broker.get("/readyz");
    assert!(status.contains("503"), "{status}");
    assert!(
        said.contains("__consumer_offsets partitions [0] failed"),
        "{said}"
    );
}

/// Batches lie across the windows that are read from disk one by one.
#[test]
fn groups_are_loaded_from_a_log_that_is_longer_than_a_read() {
    let directory = committed_and_stopped(600);
    let broker = start(directory.path());
    assert_eq!(commit(&mut broker.connect()), 0);
    let (status, said) = broker.get("/readyz");
    assert!(status.contains("200"), "{said}");
}
