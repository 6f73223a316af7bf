//! The whole image as bytes, so that the log before it can go.
//!
//! Format: version (i8, now 2), cluster id, brokers, next producer id, broker configs, topics, from version 2 on
//! ids of deleted topics. Lists are counted; everything is in the protocol's compact encoding. The log store adds
//! the checksum.

use protocol::primitives::{DecodeError, Decoder, Encoder, Uuid};

use super::command::{get_configs, get_count, get_in_range, put_configs};
use super::{BROKER_DEFAULTS, Broker, Image, MetadataError, Partition, Replica, Topic};

const VERSION: i8 = 2;
/// The oldest version that is read.
const VERSION_MIN: i8 = 1;

/// The bytes are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They are not those of this version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// They say something that cannot be.
    #[error(transparent)]
    Invalid(#[from] MetadataError),
}

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
        e.put_length(Some(self.deleted.len()), true);
        for id in &self.deleted {
            e.put_uuid(*id);
        }
        e.into_parts().0
    }

    /// Reads an image.
    ///
    /// # Errors
    /// Any bytes that are no snapshot of these versions, or of an image that no commands could have made.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut d = Decoder::new(bytes);
        let version = d.get_i8()?;
        if !(VERSION_MIN..=VERSION).contains(&version) {
            let version = i16::from(version);
            let message = "metadata snapshot";
            return Err(DecodeError::UnsupportedVersion { message, version }.into());
        }
        let mut image = Self {
            cluster_id: d.get_string(true)?.to_owned(),
            ..Self::default()
        };
        for _ in 0..get_count(&mut d, size_of::<Broker>())? {
            let broker = get_broker(&mut d)?;
            broker.check()?;
            let id = broker.id;
            if image.brokers.insert(id, broker).is_some() {
                return Err(repeated(format!("broker {id}")));
            }
        }
        image.next_producer_id = d.get_i64()?;
        if image.next_producer_id < 0 {
            let what = "producer ids";
            return Err(MetadataError::Exhausted { what }.into());
        }
        image.get_broker_configs(&mut d)?;
        for _ in 0..get_count(&mut d, size_of::<Topic>())? {
            let topic = get_topic(&mut d)?;
            image.check_new_topic(&topic)?;
            image.put_topic(topic);
        }
        if version > VERSION_MIN {
            for _ in 0..get_count(&mut d, size_of::<Uuid>())? {
                image.remember_deleted(d.get_uuid()?);
            }
        }
        d.finish()?;
        Ok(image)
    }

    fn get_broker_configs(&mut self, d: &mut Decoder<'_>) -> Result<(), SnapshotError> {
        for _ in 0..get_count(d, size_of::<super::Configs>())? {
            let id = d.get_i32()?;
            let configs = get_configs(d)?;
            if id != BROKER_DEFAULTS && !self.brokers.contains_key(&id) {
                return Err(MetadataError::UnknownBroker { id }.into());
            }
            if self.broker_configs.insert(id, configs).is_some() {
                return Err(repeated(format!("the configs of broker {id}")));
            }
        }
        Ok(())
    }
}

fn repeated(what: String) -> SnapshotError {
    MetadataError::Repeated { what }.into()
}

fn get_broker(d: &mut Decoder<'_>) -> Result<Broker, DecodeError> {
    Ok(Broker {
        id: d.get_i32()?,
        epoch: d.get_i64()?,
        host: d.get_string(true)?.to_owned(),
        port: get_in_range(d, "Broker", "port")?,
        rack: d.get_nullable_string(true)?.map(str::to_owned),
    })
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
