//! A real broker on a disk that fills up: what it refuses, what goes on, and how it comes back.
//!
//! Needs a small file system of its own mounted at `$DISK_FULL_DIR/data`, which `tests/disk_full/run.sh`
//! makes; without it the test says that it is skipped.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "an integration test"
)]

mod support;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use protocol::messages::produce::ProduceResponse;
use protocol::primitives::{Decoder, Uuid};
use support::requests::{Fetch, batch, create_topic, delete_topic, fetch_response, produce_frame};
use support::{Broker, Raw};

const STORAGE_ERROR: i16 = 56;
const FLAGS: [&str; 8] = [
    "--set",
    "journal.file_bytes=4MiB",
    "--set",
    "journal.files_max=4",
    "--set",
    "groups.offsets_partitions=1",
    "--set",
    "topics.retention_check_ms=1000",
];

fn start(directory: &Path) -> Broker {
    Broker::start_on(directory, "127.0.0.1:0", &FLAGS)
}

/// A topic with what was acknowledged of it.
struct Topic {
    name: &'static str,
    id: Uuid,
    /// Every batch from the part on that the broker does not write itself.
    acknowledged: Vec<Vec<u8>>,
}

impl Topic {
    fn create(raw: &mut Raw, name: &'static str) -> Self {
        let id = create_topic(raw, name, 1);
        Topic {
            name,
            id,
            acknowledged: Vec::new(),
        }
    }

    /// Error code and throttle time of one more batch.
    fn produce(&mut self, raw: &mut Raw) -> (i16, i32) {
        let batch = batch(1, 60_000 + self.acknowledged.len() % 1000);
        raw.send(&produce_frame(self.id, &[0], &batch));
        let answer = raw.receive().expect("an answer");
        let mut decoder = Decoder::new(&answer);
        protocol::header::decode_response_header(&mut decoder, 0, 13).unwrap();
        let response = ProduceResponse::decode(&mut decoder, 13).unwrap();
        let error_code = response.responses[0].partition_responses[0].error_code;
        if error_code == 0 {
            self.acknowledged.push(batch[16..].to_vec());
        }
        (error_code, response.throttle_time_ms)
    }

    /// Reads everything that was acknowledged.
    fn check(&self, raw: &mut Raw) {
        for (offset, expected) in self.acknowledged.iter().enumerate() {
            let fetch = Fetch {
                topic: self.id,
                partitions: &[0],
                offset: offset as i64,
                bytes_max: 1,
                wait_ms: 1000,
                session: (0, -1),
            };
            raw.send(&fetch.frame());
            let answer = raw.receive().expect("an answer");
            let response = fetch_response(&answer);
            let part = &response.responses[0].partitions[0];
            assert_eq!(part.error_code, 0, "{part:?}");
            let records = part.records.as_slice().unwrap_or_default();
            assert!(
                records.get(16..16 + expected.len()) == Some(&expected[..]),
                "record {offset} of {} is there",
                self.name
            );
        }
    }
}

/// Repeats `attempt` until it answers something.
fn within<T>(seconds: u64, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(seconds), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Commits an offset of a group without members; answers the error code.
fn commit(raw: &mut Raw, topic: &str, offset: i64) -> i16 {
    let request = OffsetCommitRequest {
        group_id: "readers".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    raw.call(
        8,
        8,
        |encoder| request.encode(encoder, 8),
        |decoder| {
            let response = OffsetCommitResponse::decode(decoder, 8).unwrap();
            response.topics[0].partitions[0].error_code
        },
    )
}

fn commit_soon(raw: &mut Raw, topic: &str, offset: i64) {
    let request = FindCoordinatorRequest {
        key: "readers".into(),
        ..Default::default()
    };
    within(20, "the offset is committed", || {
        raw.call(
            10,
            3,
            |encoder| request.encode(encoder, 3),
            |decoder| {
                FindCoordinatorResponse::decode(decoder, 3)
                    .map(drop)
                    .unwrap()
            },
        );
        (commit(raw, topic, offset) == 0).then_some(())
    });
}

fn stage(broker: &Broker) -> u64 {
    let stages = broker.metric("streambus_disk_stage").into_iter();
    stages.max().expect("the gauge of the stage")
}

/// Takes what is left of the disk, to the last block.
fn fill_up(path: &Path) {
    let mut file = File::create(path).unwrap();
    for bytes in [1 << 20, 4096] {
        let zeros = vec![0; bytes];
        while file.write_all(&zeros).is_ok() && file.sync_data().is_ok() {}
    }
}

#[test]
fn a_full_disk_refuses_producers_only_and_is_left_by_deleting() {
    let Some(directory) = std::env::var_os("DISK_FULL_DIR").map(PathBuf::from) else {
        eprintln!("SKIPPED: no file system to fill; tests/disk_full/run.sh makes one");
        return;
    };
    let broker = start(&directory);
    let mut raw = broker.connect();
    let mut kept = Topic::create(&mut raw, "kept");
    let mut bulk = Topic::create(&mut raw, "bulk");
    commit_soon(&mut raw, "kept", 1);

    // Slowed down first, then refused.
    let (mut throttled, mut refused) = (0, 0);
    for number in 0..20_000 {
        let topic = if number % 4 == 0 {
            &mut kept
        } else {
            &mut bulk
        };
        let (error_code, throttle_ms) = topic.produce(&mut raw);
        throttled += u32::from(throttle_ms > 0);
        assert!([0, STORAGE_ERROR].contains(&error_code), "{error_code}");
        refused = if error_code == 0 { 0 } else { refused + 1 };
        if refused == 10 {
            break;
        }
    }
    assert_eq!(refused, 10, "the disk fills up");
    assert!(throttled > 0, "producers are slowed down before");
    assert_eq!(stage(&broker), 3);
    let (kept_count, bulk_count) = (kept.acknowledged.len(), bulk.acknowledged.len());
    eprintln!("{kept_count} and {bulk_count} batches, {throttled} of them slowed down");
    kept.check(&mut raw);
    bulk.check(&mut raw);
    commit_soon(&mut raw, "kept", 2);

    // Killed, and the rest of the disk taken by somebody else.
    broker.kill();
    fill_up(&directory.join("data/others"));
    let broker = start(&directory);
    let mut raw = broker.connect();
    kept.check(&mut raw);
    bulk.check(&mut raw);
    assert_eq!(kept.produce(&mut raw).0, STORAGE_ERROR);
    commit_soon(&mut raw, "kept", 3);

    // Deleting makes room, and all goes on without a restart.
    delete_topic(&mut raw, "bulk");
    within(20, "producers are served again", || {
        (kept.produce(&mut raw).0 == 0).then_some(())
    });
    within(20, "every shard knows", || {
        (stage(&broker) < 3).then_some(())
    });
    commit_soon(&mut raw, "kept", 4);
    assert!(broker.stop().success());
    let broker = start(&directory);
    kept.check(&mut broker.connect());
    assert!(broker.stop().success());
}
