//! The whole image as bytes, so that the log before it can go.
//!
//! Format: version (i8, now 1), cluster id, brokers, next producer id, broker configs, topics. Lists are
//! counted; everything is in the protocol's compact encoding. The log store adds the checksum.

use protocol::primitives::{DecodeError, Decoder, Encoder};

use super::command::{get_configs, get_count, put_configs};
use super::{Broker, Image, Partition, Replica, Topic};

const VERSION: i8 = 1;

/// The bytes are no snapshot of this version.
pub type SnapshotError = DecodeError;

impl Image {
    /// The image's bytes.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.put_i8(VERSION);
        e.put_string(&self.cluster_id, true);
        e.put_length(Some(self.brokers.len()), true);
        for broker in self.brokers.values() {
            e.put_i32(broker.id);
            e.put_i64(broker.epoch);
            e.put_string(&broker.host, true);
            e.put_i32(i32::from(broker.port));
            e.put_nullable_string(broker.rack.as_deref(), true);
        }
        e.put_i64(self.next_producer_id);
        e.put_length(Some(self.broker_configs.len()), true);
        for (broker, configs) in &self.broker_configs {
            e.put_i32(*broker);
            put_configs(&mut e, configs);
        }
        e.put_length(Some(self.by_id.len()), true);
        for topic in self.by_id.values() {
            put_topic(&mut e, topic);
        }
        e.into_parts().0
    }

    /// Reads an image.
    ///
    /// # Errors
    /// Any bytes that are no snapshot of this version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut d = Decoder::new(bytes);
        let version = i16::from(d.get_i8()?);
        if version != i16::from(VERSION) {
            return Err(DecodeError::UnsupportedVersion {
                message: "metadata snapshot",
                version,
            });
        }
        let mut image = Self {
            cluster_id: d.get_string(true)?.to_owned(),
            ..Self::default()
        };
        for _ in 0..get_count(&mut d, size_of::<Broker>())? {
            let broker = Broker {
                id: d.get_i32()?,
                epoch: d.get_i64()?,
                host: d.get_string(true)?.to_owned(),
                port: d.get_i32()? as u16,
                rack: d.get_nullable_string(true)?.map(str::to_owned),
            };
            image.brokers.insert(broker.id, broker);
        }
        image.next_producer_id = d.get_i64()?;
        for _ in 0..get_count(&mut d, size_of::<super::Configs>())? {
            let broker = d.get_i32()?;
            image.broker_configs.insert(broker, get_configs(&mut d)?);
        }
        for _ in 0..get_count(&mut d, size_of::<Topic>())? {
            let topic = get_topic(&mut d)?;
            image.put_topic(topic);
        }
        d.finish()?;
        Ok(image)
    }
}

fn put_topic(e: &mut Encoder, topic: &Topic) {
    e.put_uuid(topic.id);
    e.put_string(&topic.name, true);
    put_configs(e, &topic.configs);
    e.put_length(Some(topic.partitions.len()), true);
    for partition in &topic.partitions {
        e.put_i32(partition.leader);
        e.put_i32(partition.leader_epoch);
        put_brokers(e, partition.replicas.iter().map(|replica| replica.broker));
        put_brokers(e, partition.isr.iter().copied());
    }
}

fn put_brokers(e: &mut Encoder, brokers: impl ExactSizeIterator<Item = i32>) {
    e.put_length(Some(brokers.len()), true);
    for broker in brokers {
        e.put_i32(broker);
    }
}

fn get_topic(d: &mut Decoder<'_>) -> Result<Topic, DecodeError> {
    let (id, name) = (d.get_uuid()?, d.get_string(true)?.into());
    let configs = get_configs(d)?;
    let mut partitions = Vec::new();
    for _ in 0..get_count(d, size_of::<Partition>())? {
        partitions.push(Partition {
            leader: d.get_i32()?,
            leader_epoch: d.get_i32()?,
            replicas: get_brokers(d)?
                .into_iter()
                .map(|broker| Replica { broker })
                .collect(),
            isr: get_brokers(d)?,
        });
    }
    Ok(Topic {
        id,
        name,
        partitions,
        configs,
    })
}

fn get_brokers(d: &mut Decoder<'_>) -> Result<Vec<i32>, DecodeError> {
    let mut brokers = Vec::new();
    for _ in 0..get_count(d, size_of::<i32>())? {
        brokers.push(d.get_i32()?);
    }
    Ok(brokers)
}
