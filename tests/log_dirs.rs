//! A broker with two data directories: one that is missing, or fails, takes its own partitions offline and no
//! others, and brings their records back when it is there again.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use protocol::messages::describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use protocol::primitives::Uuid;
use support::requests::{Fetch, batch, create_topic, delete_topic, fetch_response, produce_each};
use support::{Broker, Raw};

const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const STORAGE_ERROR: i16 = 56;
/// After so many batches of 400 kB a partition it has been tried to write a segment.
const ROUNDS_MAX: usize = 20;
const PARTITIONS: i32 = 8;
const ALL: [i32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// A broker's two directories: `data` with the metadata, and `further`.
struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn further(&self) -> PathBuf {
        self.root.path().join("further")
    }

    fn start(&self, shards: &str) -> Broker {
        self.try_start(shards).unwrap_or_else(|log| panic!("{log}"))
    }

    /// What a broker said that refused to start.
    fn refused(&self) -> String {
        let started = self.try_start("1");
        started.err().expect("the start is refused")
    }

    fn try_start(&self, shards: &str) -> Result<Broker, String> {
        let further = format!("node.further_data_dirs={}", self.further().display());
        let flags = ["--shards", shards, "--set", &further];
        let few = ["--set", "groups.offsets_partitions=4"];
        Broker::try_start_on(
            self.root.path(),
            "127.0.0.1:0",
            &[&flags[..], &few].concat(),
        )
    }

    /// As if the disk were pulled out, or not mounted.
    fn take_away(&self) {
        fs::rename(self.further(), self.root.path().join("aside")).unwrap();
    }

    /// As if it broke: what is open may still be used, and nothing can be made in it.
    fn break_in_use(&self, name: &str) {
        fs::rename(self.root.path().join(name), self.root.path().join("aside")).unwrap();
        fs::write(self.root.path().join(name), "no directory").unwrap();
    }

    fn mend(&self, name: &str) {
        fs::remove_file(self.root.path().join(name)).unwrap();
        fs::rename(self.root.path().join("aside"), self.root.path().join(name)).unwrap();
    }

    fn bring_back(&self) {
        fs::rename(self.root.path().join("aside"), self.further()).unwrap();
    }
}

/// The partitions of a topic in each directory that is online.
fn placed(raw: &mut Raw, topic: &str) -> Vec<(i16, BTreeSet<i32>)> {
    let request = DescribeLogDirsRequest { topics: None };
    raw.call(
        35,
        4,
        |encoder| request.encode(encoder, 4),
        |decoder| {
            let answer = DescribeLogDirsResponse::decode(decoder, 4).unwrap();
            let dirs = answer.results.iter().map(|dir| {
                assert_eq!(dir.error_code == 0, dir.total_bytes > 0, "{dir:?}");
                let topics = dir.topics.iter().filter(|found| found.name == topic);
                let partitions = topics.flat_map(|found| &found.partitions);
                let partitions = partitions.map(|partition| partition.partition_index);
                (dir.error_code, partitions.collect())
            });
            dirs.collect()
        },
    )
}

/// Leader and error of each partition.
fn leaders(raw: &mut Raw, topic: &str) -> BTreeMap<i32, (i16, i32)> {
    let names = vec![MetadataRequestTopic {
        name: Some(topic.into()),
        ..Default::default()
    }];
    let request = MetadataRequest {
        topics: Some(names),
        ..Default::default()
    };
    raw.call(
        3,
        9,
        |encoder| request.encode(encoder, 9),
        |decoder| {
            let answer = MetadataResponse::decode(decoder, 9).unwrap();
            let partitions = answer.topics[0].partitions.iter();
            let told = partitions.map(|told| {
                let is_offline = told.leader_id == -1;
                assert_eq!(
                    told.offline_replicas,
                    if is_offline { vec![1] } else { vec![] }
                );
                assert_eq!(told.isr_nodes, if is_offline { vec![] } else { vec![1] });
                (told.partition_index, (told.error_code, told.leader_id))
            });
            told.collect()
        },
    )
}

/// Appends a batch to every partition in one request; error and base offset of each.
fn produce(raw: &mut Raw, topic: Uuid, value_bytes: usize) -> BTreeMap<i32, (i16, i64)> {
    let records = batch(1, value_bytes);
    let answers = produce_each(
        raw,
        topic,
        ALL.map(|index| (index, &records[..])).into_iter(),
    );
    let answers = answers.into_iter();
    answers
        .map(|(index, error_code, base_offset)| (index, (error_code, base_offset)))
        .collect()
}

/// Error and end offset of each partition.
fn end_offsets(raw: &mut Raw, topic: &str) -> BTreeMap<i32, (i16, i64)> {
    let partitions = ALL.map(|partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: -1,
        ..Default::default()
    });
    let topic = ListOffsetsTopic {
        name: topic.into(),
        partitions: partitions.into(),
    };
    let request = ListOffsetsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    raw.call(
        2,
        5,
        |encoder| request.encode(encoder, 5),
        |decoder| {
            let answer = ListOffsetsResponse::decode(decoder, 5).unwrap();
            let parts = answer.topics[0].partitions.iter();
            parts
                .map(|part| (part.partition_index, (part.error_code, part.offset)))
                .collect()
        },
    )
}

/// Error of each partition and whether it has records: from the first on, or the second if it is waited for.
fn fetch(
    raw: &mut Raw,
    topic: Uuid,
    partitions: &[i32],
    wait_ms: i32,
) -> BTreeMap<i32, (i16, bool)> {
    let fetch = Fetch {
        topic,
        partitions,
        offset: if wait_ms > 0 { 1 } else { 0 },
        bytes_max: 1 << 20,
        wait_ms,
        session: (0, -1),
    };
    raw.send(&fetch.frame());
    let answer = raw.receive().unwrap();
    let answer = fetch_response(&answer);
    let parts = answer.responses[0].partitions.iter();
    parts
        .map(|part| {
            (
                part.partition_index,
                (part.error_code, part.records.bytes() > 0),
            )
        })
        .collect()
}

/// `here` for the partitions in `online`, `gone` for the others.
fn split<T: Copy>(online: &BTreeSet<i32>, here: T, gone: T) -> BTreeMap<i32, T> {
    let told = |index| if online.contains(&index) { here } else { gone };
    ALL.map(|index| (index, told(index))).into()
}

fn every<T: Copy>(value: T) -> BTreeMap<i32, T> {
    ALL.map(|index| (index, value)).into()
}

fn find_coordinator(raw: &mut Raw, group: &str) -> i16 {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    raw.call(
        10,
        4,
        |encoder| request.encode(encoder, 4),
        |decoder| {
            let answer = FindCoordinatorResponse::decode(decoder, 4).unwrap();
            answer.coordinators[0].error_code
        },
    )
}

/// Commits offset 7 of partition 0 until the coordinator has loaded.
fn commit(raw: &mut Raw, group: &str, topic: &str) {
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 7,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut code = -1;
    while code != 0 {
        code = raw.call(
            8,
            8,
            |encoder| request.encode(encoder, 8),
            |decoder| {
                let answer = OffsetCommitResponse::decode(decoder, 8).unwrap();
                answer.topics[0].partitions[0].error_code
            },
        );
        assert!([0, 14].contains(&code), "{group}: {code}");
    }
}

/// The committed offset of partition 0, or the group's error.
fn committed(raw: &mut Raw, group: &str, topic: &str) -> Result<i64, i16> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: topic.into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    raw.call(
        9,
        8,
        |encoder| request.encode(encoder, 8),
        |decoder| {
            let answer = OffsetFetchResponse::decode(decoder, 8).unwrap();
            let group = &answer.groups[0];
            match group.error_code {
                0 => Ok(group.topics[0].partitions[0].committed_offset),
                code => Err(code),
            }
        },
    )
}

/// Which of the directories is offline, by the metric.
fn offline_dirs(broker: &Broker) -> BTreeSet<String> {
    let (_, metrics) = broker.get("/metrics");
    let series = metrics
        .lines()
        .filter(|line| line.starts_with("streambus_log_directory_offline"));
    let failed = series.filter(|line| line.ends_with(" 1"));
    failed
        .map(|line| line.split('"').nth(3).unwrap().to_owned())
        .collect()
}

fn logs_in(dir: &Path) -> usize {
    fs::read_dir(dir.join("logs")).unwrap().count()
}

#[test]
fn a_missing_directory_takes_its_partitions_only_and_brings_their_records_back() {
    let node = Node::new();
    let broker = node.start("2");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    create_topic(&mut raw, "short", PARTITIONS);
    let groups: Vec<String> = (0..16).map(|number| format!("group-{number}")).collect();
    for group in &groups {
        assert_eq!(find_coordinator(&mut raw, group), 0);
        commit(&mut raw, group, "t");
    }
    let dirs = placed(&mut raw, "t");
    let [(0, here), (0, gone)] = &dirs[..] else {
        panic!("two directories: {dirs:?}");
    };
    assert_eq!((here.len(), gone.len()), (4, 4), "{dirs:?}");
    for round in 0..3 {
        assert_eq!(produce(&mut raw, topic, 2000), every((0, round)));
    }
    broker.kill();

    // With another number of shards: the directory that comes back has the old one.
    node.take_away();
    let broker = node.start("1");
    let mut raw = broker.connect();
    assert_eq!(
        placed(&mut raw, "t"),
        [(0, here.clone()), (STORAGE_ERROR, BTreeSet::new())]
    );
    let expected = split(here, (0, 1), (LEADER_NOT_AVAILABLE, -1));
    assert_eq!(leaders(&mut raw, "t"), expected);
    assert_eq!(
        end_offsets(&mut raw, "t"),
        split(here, (0, 3), (STORAGE_ERROR, -1))
    );
    assert_eq!(
        fetch(&mut raw, topic, &ALL, 0),
        split(here, (0, true), (STORAGE_ERROR, false))
    );
    assert_eq!(
        produce(&mut raw, topic, 2000),
        split(here, (0, 3), (STORAGE_ERROR, -1))
    );
    let (status, text) = broker.get("/readyz");
    assert!(status.contains("200"), "{status} {text}");
    assert!(text.contains(node.further().to_str().unwrap()), "{text}");
    assert_eq!(
        offline_dirs(&broker),
        [node.further().display().to_string()].into()
    );
    let found = groups.iter().map(|group| find_coordinator(&mut raw, group));
    let found: BTreeSet<i16> = found.collect();
    assert_eq!(found, [0, COORDINATOR_NOT_AVAILABLE].into());
    for group in &groups {
        let expected = match find_coordinator(&mut raw, group) {
            0 => Ok(7),
            _ => Err(16),
        };
        assert_eq!(committed(&mut raw, group, "t"), expected, "{group}");
    }
    // What is new has its place, and what is deleted goes when its directory is there again.
    create_topic(&mut raw, "new", PARTITIONS);
    assert_eq!(placed(&mut raw, "new")[0].1.len(), PARTITIONS as usize);
    delete_topic(&mut raw, "short");
    assert!(!node.further().exists());
    broker.kill();

    node.bring_back();
    let broker = node.start("2");
    let mut raw = broker.connect();
    assert_eq!(offline_dirs(&broker), BTreeSet::new());
    assert_eq!(placed(&mut raw, "t"), dirs);
    assert_eq!(leaders(&mut raw, "t"), every((0, 1)));
    assert_eq!(end_offsets(&mut raw, "t"), split(here, (0, 4), (0, 3)));
    assert_eq!(fetch(&mut raw, topic, &ALL, 0), every((0, true)));
    assert_eq!(produce(&mut raw, topic, 2000), split(here, (0, 4), (0, 3)));
    for group in &groups {
        assert_eq!(find_coordinator(&mut raw, group), 0);
        commit(&mut raw, group, "new");
        assert_eq!(committed(&mut raw, group, "t"), Ok(7), "{group}");
    }
    assert!(broker.stop().success());
    let topic = topic.0.map(|byte| format!("{byte:02x}")).concat();
    let names = fs::read_dir(node.further().join("logs")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<_> = names.filter(|name| !name.starts_with(&topic)).collect();
    // Those of the offsets topic at most; nothing of the one that was deleted, or made meanwhile.
    assert!(others.len() <= 4, "{others:?}");
    assert!(logs_in(&node.further()) >= 4);
}

#[test]
fn a_directory_that_fails_in_use_takes_its_partitions_only() {
    let node = Node::new();
    let broker = node.start("2");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    assert_eq!(produce(&mut raw, topic, 2000), every((0, 0)));
    let here = placed(&mut raw, "t").swap_remove(0).1;
    // A fetch that waits is told.
    let waits_for = ALL.into_iter().find(|index| !here.contains(index)).unwrap();
    let mut parked = broker.connect();
    let waiter = std::thread::spawn(move || {
        loop {
            let (code, _) = fetch(&mut parked, topic, &[waits_for], 15_000)[&waits_for];
            if code != 0 {
                return code;
            }
        }
    });
    node.break_in_use("further");
    // Until it is noticed, some of what is produced reaches the open journal.
    let mut end = every(1);
    for _ in 0..ROUNDS_MAX {
        for (index, (code, offset)) in produce(&mut raw, topic, 400_000) {
            if code == 0 {
                assert_eq!(offset, end[&index], "partition {index}");
                end.insert(index, offset + 1);
            } else {
                assert_eq!((code, here.contains(&index)), (STORAGE_ERROR, false));
            }
        }
        if leaders(&mut raw, "t").values().any(|(code, _)| *code != 0) {
            break;
        }
    }
    assert_eq!(waiter.join().unwrap(), STORAGE_ERROR);
    let expected = split(&here, 0, STORAGE_ERROR);
    // Every shard follows the one that met it.
    let split_leaders = split(&here, (0, 1), (LEADER_NOT_AVAILABLE, -1));
    while leaders(&mut raw, "t") != split_leaders {
        std::thread::yield_now();
    }
    let codes = produce(&mut raw, topic, 10);
    for (index, (code, offset)) in codes {
        assert_eq!(code, expected[&index], "partition {index}");
        if code == 0 {
            assert_eq!(offset, end[&index]);
            end.insert(index, offset + 1);
        }
    }
    let codes = fetch(&mut raw, topic, &ALL, 0);
    assert!(
        codes
            .iter()
            .all(|(index, (code, _))| *code == expected[index]),
        "{codes:?}"
    );
    assert_eq!(
        placed(&mut raw, "t"),
        [(0, here.clone()), (STORAGE_ERROR, BTreeSet::new())]
    );
    assert_eq!(
        offline_dirs(&broker),
        [node.further().display().to_string()].into()
    );
    assert!(broker.get("/readyz").0.contains("200"));
    create_topic(&mut raw, "new", PARTITIONS);
    assert_eq!(placed(&mut raw, "new")[0].1.len(), PARTITIONS as usize);
    assert!(broker.stop().success());

    node.mend("further");
    let broker = node.start("2");
    let mut raw = broker.connect();
    for (index, (code, offset)) in end_offsets(&mut raw, "t") {
        assert_eq!(code, 0, "partition {index}");
        // What was not acknowledged may be there all the same.
        assert!(
            offset >= end[&index],
            "partition {index}: {offset}, {end:?}"
        );
        assert!(offset == end[&index] || !here.contains(&index));
    }
    assert_eq!(leaders(&mut raw, "new"), every((0, 1)));
}

#[test]
fn the_failure_of_the_directory_with_the_metadata_ends_the_node() {
    let node = Node::new();
    let broker = node.start("1");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    node.break_in_use("data");
    let records = batch(1, 400_000);
    let frame = support::requests::produce_frame(topic, &ALL, &records);
    for _ in 0..4 {
        raw.send(&frame);
    }
    assert!(!broker.ended().success());
    node.mend("data");
    let broker = node.start("1");
    assert_eq!(leaders(&mut broker.connect(), "t"), every((0, 1)));
}

#[test]
fn a_further_directory_that_cannot_be_used_is_offline_from_the_start() {
    let node = Node::new();
    fs::write(node.further(), "no directory").unwrap();
    let broker = node.start("1");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    assert_eq!(
        placed(&mut raw, "t"),
        [(0, ALL.into()), (STORAGE_ERROR, BTreeSet::new())]
    );
    assert_eq!(produce(&mut raw, topic, 10), every((0, 0)));
}

#[test]
fn without_its_metadata_a_node_does_not_start_and_deletes_nothing() {
    let node = Node::new();
    let metadata = node.root.path().join("data/metadata/metadata.redb");
    assert!(node.start("1").stop().success());
    // A first start that ended before it had metadata: there is nothing to lose.
    fs::remove_file(&metadata).unwrap();
    let broker = node.start("1");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    assert_eq!(produce(&mut raw, topic, 2000), every((0, 0)));
    broker.kill();

    let copy = node.root.path().join("copy.redb");
    fs::rename(&metadata, &copy).unwrap();
    // The second time there is an empty one, which the first made.
    for _ in 0..2 {
        let error = node.refused();
        assert!(error.contains("has logs"), "{error}");
        assert!(error.contains("restore the metadata"), "{error}");
    }
    let other = Node::new();
    assert!(other.start("1").stop().success());
    fs::copy(
        other.root.path().join("data/metadata/metadata.redb"),
        &metadata,
    )
    .unwrap();
    let error = node.refused();
    assert!(error.contains("is of cluster"), "{error}");

    fs::rename(&copy, &metadata).unwrap();
    let broker = node.start("1");
    let mut raw = broker.connect();
    assert_eq!(end_offsets(&mut raw, "t"), every((0, 1)));
    assert_eq!(fetch(&mut raw, topic, &ALL, 0), every((0, true)));
}

#[test]
fn without_its_metadata_a_node_does_not_start_while_its_logs_may_be_offline() {
    let node = Node::new();
    assert!(node.start("1").stop().success());
    fs::remove_file(node.root.path().join("data/metadata/metadata.redb")).unwrap();
    node.take_away();
    let error = node.refused();
    assert!(error.contains("may have logs"), "{error}");
    node.bring_back();
    assert!(node.start("1").stop().success());
}

#[test]
fn a_directory_that_lost_its_shards_is_not_taken_for_a_new_one() {
    let node = Node::new();
    let broker = node.start("1");
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", PARTITIONS);
    assert_eq!(produce(&mut raw, topic, 2000), every((0, 0)));
    let here = placed(&mut raw, "t").swap_remove(0).1;
    assert!(broker.stop().success());

    let aside = node.root.path().join("aside");
    let shards = node.further().join("shards");
    fs::rename(&shards, &aside).unwrap();
    let broker = node.start("1");
    let mut raw = broker.connect();
    assert_eq!(
        offline_dirs(&broker),
        [node.further().display().to_string()].into()
    );
    assert_eq!(
        end_offsets(&mut raw, "t"),
        split(&here, (0, 1), (STORAGE_ERROR, -1))
    );
    assert!(broker.stop().success());
    fs::rename(&aside, &shards).unwrap();

    let shards = node.root.path().join("data/shards");
    fs::rename(&shards, &aside).unwrap();
    let error = node.refused();
    assert!(error.contains("a directory for each shard"), "{error}");
    fs::rename(&aside, &shards).unwrap();
    let broker = node.start("1");
    assert_eq!(end_offsets(&mut broker.connect(), "t"), every((0, 1)));
}
