//! Why the metadata refuses a command or a snapshot, and what a partition must satisfy.

use protocol::primitives::Uuid;
use protocol::primitives::decoder::MAX_ELEMENTS;

use super::{Broker, Image, Partition, Topic};

/// Most partitions of one topic: a snapshot with more could not be read again.
pub const TOPIC_PARTITIONS_MAX: usize = 1_000_000;

const _: () = assert!(TOPIC_PARTITIONS_MAX <= MAX_ELEMENTS);

/// A command or a snapshot that would make the metadata contradict itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The cluster has its name, which never changes.
    #[error("the cluster is named {name:?} already")]
    ClusterIsNamed {
        /// Its id.
        name: String,
    },
    /// A cluster, a topic or a host without a name.
    #[error("the {what} has no name")]
    NameMissing {
        /// What has none.
        what: &'static str,
    },
    /// A broker's number is below 0, or its epoch below 1.
    #[error("broker {id} in epoch {epoch}: ids begin at 0 and epochs at 1")]
    BrokerOutOfRange {
        /// Its id.
        id: i32,
        /// Its epoch.
        epoch: i64,
    },
    /// A broker that is not registered.
    #[error("broker {id} is not registered")]
    UnknownBroker {
        /// Its id.
        id: i32,
    },
    /// The same broker, topic or topic name twice.
    #[error("{what} is there twice")]
    Repeated {
        /// What is repeated.
        what: String,
    },
    /// A topic that does not exist (any more).
    #[error("there is no topic with the id {id}")]
    UnknownTopic {
        /// Its id.
        id: Uuid,
    },
    /// A topic with so many partitions cannot be.
    #[error("a topic with {count} partitions; 1 to {TOPIC_PARTITIONS_MAX} are possible")]
    PartitionCount {
        /// Its partitions.
        count: usize,
    },
    /// Partitions are added to a topic that has changed since that was decided.
    #[error("the topic has {found} partitions where {expected} were expected")]
    UnexpectedPartitionCount {
        /// When it was decided.
        expected: usize,
        /// Now.
        found: usize,
    },
    /// A partition without a replica.
    #[error("a partition has no replicas")]
    NoReplicas,
    /// A replica list or an ISR names a broker twice, or one below 0.
    #[error("broker {broker} is twice in a list of a partition's brokers, or is none")]
    BadReplica {
        /// The broker.
        broker: i32,
    },
    /// The leader, or a member of the ISR, is no replica.
    #[error("broker {broker} leads a partition or is in its ISR without being a replica")]
    NotAReplica {
        /// The broker.
        broker: i32,
    },
    /// A leader epoch below 0.
    #[error("a leader epoch is {epoch}")]
    NegativeLeaderEpoch {
        /// The epoch.
        epoch: i32,
    },
    /// There is no number after the last one.
    #[error("there are no more {what}")]
    Exhausted {
        /// Which numbers.
        what: &'static str,
    },
    /// A range of producer ids that is none.
    #[error("{count} producer ids cannot be allocated")]
    ProducerIdCount {
        /// How many were to be.
        count: i32,
    },
}

impl Broker {
    /// Checks a broker by itself.
    pub(super) fn check(&self) -> Result<(), MetadataError> {
        if self.host.is_empty() {
            return Err(MetadataError::NameMissing { what: "host" });
        }
        if self.id < 0 || self.epoch < 1 {
            let (id, epoch) = (self.id, self.epoch);
            return Err(MetadataError::BrokerOutOfRange { id, epoch });
        }
        Ok(())
    }
}

impl Partition {
    /// Checks a partition by itself (I2 of the [module](super)).
    pub(super) fn check(&self) -> Result<(), MetadataError> {
        if self.replicas.is_empty() {
            return Err(MetadataError::NoReplicas);
        }
        let replicas: Vec<i32> = self.replicas.iter().map(|replica| replica.broker).collect();
        check_distinct(&replicas)?;
        check_distinct(&self.isr)?;
        let leader = (self.leader != -1).then_some(self.leader);
        let mut members = leader.iter().chain(&self.isr);
        if let Some(&broker) = members.find(|broker| !replicas.contains(broker)) {
            return Err(MetadataError::NotAReplica { broker });
        }
        if self.leader_epoch < 0 {
            let epoch = self.leader_epoch;
            return Err(MetadataError::NegativeLeaderEpoch { epoch });
        }
        Ok(())
    }
}

/// A list of a partition's brokers is short: a set would cost more than it saves.
fn check_distinct(brokers: &[i32]) -> Result<(), MetadataError> {
    let is_bad = |(at, broker): &(usize, &i32)| {
        **broker < 0 || brokers.iter().take(*at).any(|other| other == *broker)
    };
    match brokers.iter().enumerate().find(is_bad) {
        Some((_, &broker)) => Err(MetadataError::BadReplica { broker }),
        None => Ok(()),
    }
}

/// Checks how many partitions a topic has.
pub(super) fn check_partition_count(count: usize) -> Result<(), MetadataError> {
    if (1..=TOPIC_PARTITIONS_MAX).contains(&count) {
        Ok(())
    } else {
        Err(MetadataError::PartitionCount { count })
    }
}

impl Image {
    /// Checks a topic that is to be added: it must be new, and consistent.
    pub(super) fn check_new_topic(&self, topic: &Topic) -> Result<(), MetadataError> {
        if topic.name.is_empty() {
            return Err(MetadataError::NameMissing { what: "topic" });
        }
        if self.by_id.contains_key(&topic.id) || self.by_name.contains_key(&topic.name) {
            let what = format!("topic {:?} ({})", topic.name, topic.id);
            return Err(MetadataError::Repeated { what });
        }
        check_partition_count(topic.partitions.len())?;
        topic.partitions.iter().try_for_each(Partition::check)
    }
}
