//! Large fetches with `net.zero_copy=on`: the same bytes as without, also to a client that reads late while
//! the broker takes memory for other batches.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use protocol::primitives::{Records, Uuid};
use support::requests::{Fetch, batch, create_topic, fetch_response, produce_each};
use support::{Broker, Raw};

const PARTITIONS: [i32; 3] = [0, 1, 2];
const BATCHES: usize = 3;
/// An answer has nine of them: little enough for a user who may lock only a few MiB of memory.
const BATCH_BYTES: usize = 150_000;
/// Within the topic's `max.message.bytes`.
const FILLER_BYTES: usize = 900_000;
/// Enough to hold an answer, and so little that the batches that come later push these out of memory.
const FLAGS: [&str; 4] = ["--set", "memory.budget=128MiB", "--shards", "2"];

fn start(directory: &std::path::Path, mode: &str) -> Broker {
    let zero_copy = format!("net.zero_copy={mode}");
    let flags = [&FLAGS[..], &["--set", &zero_copy]].concat();
    Broker::start_on(directory, "127.0.0.1:0", &flags)
}

fn produce(raw: &mut Raw, topic: Uuid, batch: &[u8]) {
    let batches = PARTITIONS.iter().map(|index| (*index, batch));
    for (_, error, _) in produce_each(raw, topic, batches) {
        assert_eq!(error, 0);
    }
}

fn fetch(topic: Uuid) -> Vec<u8> {
    let fetch = Fetch {
        topic,
        partitions: &PARTITIONS,
        offset: 0,
        bytes_max: 8 << 20,
        wait_ms: 0,
        session: (0, -1),
    };
    fetch.frame()
}

/// The records of each partition, by their place in [`PARTITIONS`].
fn records(answer: &[u8]) -> Vec<Vec<u8>> {
    let response = fetch_response(answer);
    let mut parts: Vec<_> = response.responses[0].partitions.iter().collect();
    parts.sort_by_key(|part| part.partition_index);
    let bytes = parts.iter().map(|part| match &part.records {
        Records::Inline(bytes) => bytes.to_vec(),
        other => panic!("no records: {other:?}"),
    });
    bytes.collect()
}

/// Whether the kernel reports what it copied.
fn has_zero_copy_sends() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse::<u32>());
    let mut next = || numbers.next().unwrap().unwrap();
    (next(), next()) >= (6, 2)
}

/// Asks for everything four times, reads the answers only after much more was produced, and returns them.
fn read_late(broker: &Broker, batches: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut producer = broker.connect();
    let topic = create_topic(&mut producer, "t", PARTITIONS.len() as i32);
    for batch in batches {
        produce(&mut producer, topic, batch);
    }
    let other = create_topic(&mut producer, "other", PARTITIONS.len() as i32);
    let mut reader = broker.connect();
    for _ in 0..4 {
        reader.send(&fetch(topic));
    }
    let filler = batch(1, FILLER_BYTES);
    for _ in 0..24 {
        produce(&mut producer, other, &filler);
    }
    (0..4)
        .map(|_| records(&reader.receive().unwrap()))
        .collect()
}

#[test]
fn large_fetches_are_the_same_with_and_without_a_copy() {
    let batches: Vec<_> = (0..BATCHES)
        .map(|number| batch(number + 1, BATCH_BYTES / (number + 1)))
        .collect();
    let read = |mode| {
        let directory = tempfile::tempdir().unwrap();
        let broker = start(directory.path(), mode);
        let read = read_late(&broker, &batches);
        let sends = broker.metric_total("streambus_zero_copy_sends_total");
        let copied = broker.metric_total("streambus_zero_copy_copied_sends_total");
        assert!(broker.stop().success());
        (read, sends, copied)
    };
    let (with_copy, sends, _) = read("off");
    assert_eq!(sends, 0);
    let (without, sends, copied) = read("on");
    assert_eq!(sends > 0, has_zero_copy_sends());
    assert_eq!(sends, copied, "loopback copies when it delivers");
    let bytes: usize = batches.iter().map(Vec::len).sum();
    for (one, other) in with_copy.iter().zip(&without) {
        for (one, other) in one.iter().zip(other) {
            assert_eq!(one.len(), bytes);
            assert!(one == other, "the bytes differ");
        }
    }
}
