//! One request whose partitions belong to several shards: each answer stands at its partition.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use protocol::primitives::Uuid;
use support::requests::{
    Fetch, batch, create_topic, fetch_response, produce_each, produce_frame_with_acks, produced,
};
use support::{Broker, Raw};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// In no order, and one that does not exist.
const PARTITIONS: [i32; 6] = [3, 9, 0, 4, 2, 1];

/// As many records as the partition's number and one, to each of [`PARTITIONS`].
fn produce(raw: &mut Raw, topic: Uuid) -> Vec<(i32, i16, i64)> {
    let batches = PARTITIONS.map(|index| batch(index as usize + 1, 10));
    let batches = PARTITIONS.iter().zip(&batches);
    produce_each(
        raw,
        topic,
        batches.map(|(index, batch)| (*index, &batch[..])),
    )
}

#[test]
fn every_partition_gets_its_own_answer() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start_on(directory.path(), "127.0.0.1:0", &["--shards", "3"]);
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", 5);
    for round in 0..3 {
        let expected = PARTITIONS.map(|index| match index {
            9 => (9, UNKNOWN_TOPIC_OR_PARTITION, -1),
            _ => (index, 0, round * i64::from(index + 1)),
        });
        assert_eq!(produce(&mut raw, topic), expected);
    }

    let fetch = Fetch {
        topic,
        partitions: &PARTITIONS,
        offset: 0,
        bytes_max: 1 << 20,
        wait_ms: 0,
        session: (0, -1),
    };
    raw.send(&fetch.frame());
    let answer = raw.receive().unwrap();
    let response = fetch_response(&answer);
    let found: Vec<_> = response.responses[0]
        .partitions
        .iter()
        .map(|part| {
            (
                part.partition_index,
                part.error_code,
                part.high_watermark,
                part.records.bytes(),
            )
        })
        .collect();
    let expected = PARTITIONS.map(|index| match index {
        9 => (9, UNKNOWN_TOPIC_OR_PARTITION, -1, 0),
        _ => {
            let batch = batch(index as usize + 1, 10);
            (index, 0, 3 * i64::from(index + 1), 3 * batch.len())
        }
    });
    assert_eq!(found, expected);
}

/// Nothing is sent for them, in their place among requests that are answered; what is refused closes the connection.
#[test]
fn requests_without_acks_are_appended_in_order_and_not_answered() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start_on(directory.path(), "127.0.0.1:0", &["--shards", "3"]);
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "t", 5);
    let all = [3, 0, 4, 2, 1];
    let one = batch(1, 10);
    for round in 0..20 {
        for acks in [0, 0, 0, 1] {
            raw.send(&produce_frame_with_acks(topic, acks, &all, &one));
        }
        assert_eq!(produced(&raw.receive().unwrap()), 4 * round + 3);
    }
    raw.send(&produce_frame_with_acks(topic, 1, &all, &one));
    raw.send(&produce_frame_with_acks(topic, 0, &[9], &one));
    assert_eq!(produced(&raw.receive().unwrap()), 80);
    assert!(raw.is_closed(), "the producer believes that all is well");
}
