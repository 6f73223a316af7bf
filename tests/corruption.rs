//! Damage on the disk, seen by a client: named, never served, and nobody else's concern.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;
use support::requests::{Fetch, batch, create_topic, fetch_response, produce_frame, produced};
use support::{Broker, Raw};

const BATCHES: i64 = 40;
const DAMAGED: i64 = 20;

/// Error code and records of each partition, read from `offset` on.
fn fetch(raw: &mut Raw, topic: Uuid, offset: i64) -> Vec<(i16, Vec<u8>)> {
    let fetch = Fetch {
        topic,
        partitions: &[0, 1],
        offset,
        bytes_max: 1 << 20,
        wait_ms: 0,
        session: (0, -1),
    };
    raw.send(&fetch.frame());
    let answer = raw.receive().expect("an answer");
    let response = fetch_response(&answer);
    let mut parts: Vec<_> = response.responses[0].partitions.iter().collect();
    parts.sort_by_key(|part| part.partition_index);
    let records = |part: &protocol::messages::fetch::PartitionData| {
        part.records.as_slice().unwrap_or_default().to_vec()
    };
    parts
        .iter()
        .map(|part| (part.error_code, records(part)))
        .collect()
}

fn segment(data: &Path, partition: i32) -> PathBuf {
    let name = format!("-{partition}-");
    let logs = fs::read_dir(data.join("logs")).unwrap();
    let mut logs = logs.map(|entry| entry.unwrap().path());
    let log = logs.find(|path| path.file_name().unwrap().to_str().unwrap().contains(&name));
    log.unwrap().join("00000000000000000000.log")
}

/// Kafka 4.3.1 answers CORRUPT_MESSAGE for what it finds damaged, too; it does not look at the CRC, its clients do.
#[test]
fn damage_is_answered_as_such_and_other_partitions_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", 2);
    let batch = batch(1, 10_000);
    for offset in 0..BATCHES {
        raw.send(&produce_frame(topic, &[0, 1], &batch));
        assert_eq!(produced(&raw.receive().expect("an answer")), offset);
    }
    assert!(broker.stop().success());
    let path = segment(&directory.path().join("data"), 0);
    let position = DAMAGED as u64 * batch.len() as u64;
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position + 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position + 5000).unwrap();
    drop(file);

    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    let corrupt = ErrorCode::CorruptMessage as i16;
    let whole = |offset: i64| -> Vec<u8> {
        batch[16..]
            .iter()
            .copied()
            .take(usize::from(offset < BATCHES) * batch.len())
            .collect()
    };
    // What lies before the damage is served, up to it.
    let before = fetch(&mut raw, topic, 0);
    assert_eq!(before[0].0, 0);
    assert_eq!(before[0].1.len(), DAMAGED as usize * batch.len());
    assert_eq!(
        (before[1].0, before[1].1.len()),
        (0, BATCHES as usize * batch.len())
    );
    for _ in 0..2 {
        let at = fetch(&mut raw, topic, DAMAGED);
        assert_eq!(at[0], (corrupt, Vec::new()), "nothing of it is served");
        assert_eq!(at[1].0, 0, "the other partition is");
        assert_eq!(at[1].1[16..batch.len()], whole(DAMAGED)[..]);
    }
    let after = fetch(&mut raw, topic, DAMAGED + 1);
    assert_eq!(after[0].0, 0, "what lies behind it is");
    assert_eq!(after[0].1[16..batch.len()], whole(DAMAGED + 1)[..]);
    raw.send(&produce_frame(topic, &[0], &batch));
    assert_eq!(produced(&raw.receive().expect("an answer")), BATCHES);
    let log = broker.log();
    let named = log.lines().any(|line| {
        line.contains(path.to_str().unwrap()) && line.contains(&format!(" at {position}"))
    });
    assert!(named, "{log}");
    assert!(broker.stop().success());
}
