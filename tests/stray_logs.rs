//! Logs that the metadata does not know, because it was restored from a copy that is older than they are.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::fs;

use protocol::primitives::Uuid;
use support::requests::{Fetch, batch, create_topic, delete_topic, fetched, produce_each};
use support::{Broker, Raw};

const ADDRESS: &str = "127.0.0.1:0";

fn produce(raw: &mut Raw, topic: Uuid) {
    let records = batch(1, 100);
    let answers = produce_each(raw, topic, [(0, &records[..])].into_iter());
    assert_eq!(answers, [(0, 0, 0)]);
}

fn bytes_of(raw: &mut Raw, topic: Uuid) -> usize {
    let fetch = Fetch {
        topic,
        partitions: &[0],
        offset: 0,
        bytes_max: 1 << 20,
        wait_ms: 0,
        session: (0, -1),
    };
    raw.send(&fetch.frame());
    fetched(&raw.receive().unwrap()).record_bytes
}

fn stray_logs(broker: &Broker) -> u64 {
    broker.metric_total("streambus_stray_logs{")
}

#[test]
fn what_is_newer_than_the_metadata_is_kept_until_somebody_says_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path();
    let metadata = directory.join("data/metadata/metadata.redb");
    let (old, new) = (directory.join("old.redb"), directory.join("new.redb"));

    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    let first = create_topic(&mut raw, "first", 1);
    produce(&mut raw, first);
    assert!(broker.stop().success());
    fs::copy(&metadata, &old).unwrap();
    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    let second = create_topic(&mut raw, "second", 1);
    produce(&mut raw, second);
    delete_topic(&mut raw, "first");
    assert!(broker.stop().success());
    fs::rename(&metadata, &new).unwrap();

    fs::copy(&old, &metadata).unwrap();
    let broker = Broker::start(directory);
    assert_eq!(stray_logs(&broker), 1, "{}", broker.log());
    assert!(broker.stop().success());

    fs::copy(&new, &metadata).unwrap();
    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    assert_eq!(stray_logs(&broker), 0, "{}", broker.log());
    assert!(bytes_of(&mut raw, second) > 100, "its records are there");
    drop(raw);
    assert!(broker.stop().success());

    fs::copy(&old, &metadata).unwrap();
    let delete = ["--set", "storage.delete_stray_logs=true"];
    let broker = Broker::start_on(directory, ADDRESS, &delete);
    assert_eq!(stray_logs(&broker), 0, "{}", broker.log());
    assert!(broker.stop().success());

    fs::copy(&new, &metadata).unwrap();
    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    assert_eq!(bytes_of(&mut raw, second), 0, "its log was made anew");
}
