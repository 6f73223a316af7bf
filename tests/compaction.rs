//! Compaction through the real broker: a compacted topic written and read by librdkafka.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use support::Broker;

const TOPIC: &str = "compacted";
const KEYS: usize = 40;
/// For whatever has to happen; a failure otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.kafka.to_string())
        .set("group.id", "none")
        .set("compression.type", "zstd")
        .set("enable.idempotence", "true");
    config
}

fn start(directory: &std::path::Path) -> Broker {
    let file = directory.join("streambus.toml");
    std::fs::write(&file, "[compaction]\ninterval_ms = 50\n").unwrap();
    let file = file.display().to_string();
    Broker::start_on(directory, "127.0.0.1:0", &["--config", &file])
}

fn create_topic(broker: &Broker) {
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "1048576")
        .set("min.cleanable.dirty.ratio", "0.01");
    let options = AdminOptions::new();
    let created = admin.create_topics([&topic], &options);
    futures_lite::future::block_on(created)
        .unwrap()
        .remove(0)
        .unwrap();
}

/// Writes `numbers`, each with a key and a value that does not compress.
fn write(broker: &Broker, numbers: std::ops::Range<usize>) {
    let producer: BaseProducer = config(broker).create().unwrap();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for number in numbers {
        let mut value = format!("{number};").into_bytes();
        for _ in 0..60 {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            value.extend(noise.to_le_bytes());
        }
        let key = format!("key {}", number % KEYS);
        let mut record = BaseRecord::to(TOPIC).key(&key).payload(&value);
        while let Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) =
            producer.send(record)
        {
            record = back;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// Offset and number of every record, by a consumer that reads to `last`.
fn read(broker: &Broker, last: i64) -> Vec<(i64, usize)> {
    let consumer: BaseConsumer = config(broker).create().unwrap();
    let mut place = TopicPartitionList::new();
    place
        .add_partition_offset(TOPIC, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&place).unwrap();
    let begun = Instant::now();
    let mut found = Vec::new();
    while found.last().is_none_or(|(offset, _)| *offset < last) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{} records were read",
            found.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        let text = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
        let number = text.split(';').next().unwrap().parse().unwrap();
        let key = format!("key {}", number % KEYS);
        assert_eq!(message.key(), Some(key.as_bytes()));
        found.push((message.offset(), number));
    }
    found
}

fn check(broker: &Broker, count: usize) {
    let found = read(broker, count as i64 - 1);
    assert!(
        found.len() < count * 3 / 4,
        "{} of {count} records are left",
        found.len()
    );
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "offsets ascend");
    assert!(
        found
            .iter()
            .all(|(offset, number)| *offset == *number as i64)
    );
    let newest: BTreeMap<usize, usize> = found
        .iter()
        .map(|(_, number)| (number % KEYS, *number))
        .collect();
    let expected: Vec<usize> = (count - KEYS..count).collect();
    let mut newest: Vec<usize> = newest.into_values().collect();
    newest.sort_unstable();
    assert_eq!(newest, expected);
}

#[test]
fn a_compacted_topic_is_compacted_and_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    create_topic(&broker);
    write(&broker, 0..12_000);
    let begun = Instant::now();
    while broker.metric_total("streambus_cleaner_dropped_bytes_total") < 3_000_000 {
        assert!(begun.elapsed() < PATIENCE, "{}", broker.get("/metrics").1);
        std::thread::sleep(Duration::from_millis(20));
    }
    check(&broker, 12_000);
    assert_eq!(broker.metric_total("streambus_cleaner_failures_total"), 0);
    // Killed while it may be cleaning what comes now.
    write(&broker, 12_000..20_000);
    broker.kill();
    let broker = start(directory.path());
    check(&broker, 20_000);
    assert!(broker.stop().success());
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start(directory.path());
    create_topic(&broker);
    let mut settings = config(&broker);
    settings
        .set("enable.idempotence", "false")
        .set("retries", "0");
    let producer: BaseProducer<Deliveries> = settings.create_with_context(Deliveries).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let record: BaseRecord<'_, (), [u8], Box<_>> =
        BaseRecord::with_opaque_to(TOPIC, Box::new(sender)).payload(b"no key");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    let refused = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(refused, Some(RDKafkaErrorCode::InvalidRecord));
}

/// Sends what became of a record to who asked.
struct Deliveries;

impl rdkafka::ClientContext for Deliveries {}

impl rdkafka::producer::ProducerContext for Deliveries {
    type DeliveryOpaque = Box<std::sync::mpsc::Sender<Option<RDKafkaErrorCode>>>;

    fn delivery(
        &self,
        result: &rdkafka::producer::DeliveryResult<'_>,
        sender: Self::DeliveryOpaque,
    ) {
        let code = result
            .as_ref()
            .err()
            .and_then(|(error, _)| error.rdkafka_error_code());
        let _ = sender.send(code);
    }
}
