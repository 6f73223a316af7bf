//! The commands of the metadata log, and their bytes.
//!
//! Format: version (u8, now 1), kind (u8), fields in the protocol's own encoding. Unknown versions and
//! kinds are errors: a node that does not understand a command must not go on. Kind 5 is never used
//! again: it added partitions without saying to how many.

use protocol::primitives::{DecodeError, Decoder, Encoder, Uuid};

use super::image::{BrokerId, Configs};

const VERSION: i8 = 1;

/// One config that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config.
    pub name: String,
    /// Its new value; `None` takes the override away.
    pub value: Option<String>,
}

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Names the cluster, once.
    NameCluster {
        /// Its id.
        cluster_id: String,
    },
    /// A broker's process begins; every partition that it leads begins a new leader epoch.
    RegisterBroker {
        /// Broker id.
        id: i32,
        /// Host for clients.
        host: String,
        /// Port for clients.
        port: u16,
        /// Rack.
        rack: Option<String>,
    },
    /// A topic is made.
    CreateTopic {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: String,
        /// Brokers of each partition, the leader first.
        assignments: Vec<Vec<i32>>,
        /// Its configs.
        configs: Configs,
    },
    /// A topic goes.
    DeleteTopic {
        /// Its id.
        id: Uuid,
    },
    /// A topic gets more partitions.
    AddPartitions {
        /// Its id.
        id: Uuid,
        /// Partitions that it has before; with another number the command is refused.
        expected_count: usize,
        /// Brokers of each new partition, the leader first.
        assignments: Vec<Vec<i32>>,
    },
    /// Some of a topic's configs change.
    AlterTopicConfigs {
        /// Its id.
        id: Uuid,
        /// What changes.
        changes: Vec<ConfigChange>,
    },
    /// Some of a broker's configs change.
    AlterBrokerConfigs {
        /// The broker, or [`super::BROKER_DEFAULTS`].
        broker: BrokerId,
        /// What changes.
        changes: Vec<ConfigChange>,
    },
    /// Producer ids are handed to a broker.
    AllocateProducerIds {
        /// How many.
        count: i32,
    },
}

impl Command {
    /// The command's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.put_i8(VERSION);
        match self {
            Self::NameCluster { cluster_id } => {
                e.put_i8(1);
                e.put_string(cluster_id, true);
            }
            Self::RegisterBroker {
                id,
                host,
                port,
                rack,
            } => {
                e.put_i8(2);
                e.put_i32(*id);
                e.put_string(host, true);
                e.put_i32(i32::from(*port));
                e.put_nullable_string(rack.as_deref(), true);
            }
            Self::CreateTopic {
                id,
                name,
                assignments,
                configs,
            } => {
                e.put_i8(3);
                e.put_uuid(*id);
                e.put_string(name, true);
                put_assignments(&mut e, assignments);
                put_configs(&mut e, configs);
            }
            Self::DeleteTopic { id } => {
                e.put_i8(4);
                e.put_uuid(*id);
            }
            Self::AddPartitions {
                id,
                expected_count,
                assignments,
            } => {
                e.put_i8(9);
                e.put_uuid(*id);
                e.put_i32(i32::try_from(*expected_count).unwrap_or(i32::MAX));
                put_assignments(&mut e, assignments);
            }
            Self::AlterTopicConfigs { id, changes } => {
                e.put_i8(6);
                e.put_uuid(*id);
                put_changes(&mut e, changes);
            }
            Self::AlterBrokerConfigs { broker, changes } => {
                e.put_i8(7);
                e.put_i32(*broker);
                put_changes(&mut e, changes);
            }
            Self::AllocateProducerIds { count } => {
                e.put_i8(8);
                e.put_i32(*count);
            }
        }
        e.into_parts().0
    }

    /// Reads a command.
    ///
    /// # Errors
    /// Any bytes that are no command of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Decoder::new(bytes);
        let version = i16::from(d.get_i8()?);
        let unsupported = DecodeError::UnsupportedVersion {
            message: "metadata command",
            version,
        };
        if version != i16::from(VERSION) {
            return Err(unsupported);
        }
        let command = match d.get_i8()? {
            1 => Self::NameCluster {
                cluster_id: d.get_string(true)?.to_owned(),
            },
            2 => Self::RegisterBroker {
                id: d.get_i32()?,
                host: d.get_string(true)?.to_owned(),
                port: get_in_range(&mut d, "RegisterBroker", "port")?,
                rack: d.get_nullable_string(true)?.map(str::to_owned),
            },
            3 => Self::CreateTopic {
                id: d.get_uuid()?,
                name: d.get_string(true)?.to_owned(),
                assignments: get_assignments(&mut d)?,
                configs: get_configs(&mut d)?,
            },
            4 => Self::DeleteTopic { id: d.get_uuid()? },
            6 => Self::AlterTopicConfigs {
                id: d.get_uuid()?,
                changes: get_changes(&mut d)?,
            },
            7 => Self::AlterBrokerConfigs {
                broker: d.get_i32()?,
                changes: get_changes(&mut d)?,
            },
            8 => Self::AllocateProducerIds {
                count: d.get_i32()?,
            },
            9 => Self::AddPartitions {
                id: d.get_uuid()?,
                expected_count: get_in_range(&mut d, "AddPartitions", "expected_count")?,
                assignments: get_assignments(&mut d)?,
            },
            _ => return Err(unsupported),
        };
        d.finish()?;
        Ok(command)
    }
}

pub(super) fn put_assignments(e: &mut Encoder, assignments: &[Vec<i32>]) {
    e.put_length(Some(assignments.len()), true);
    for brokers in assignments {
        e.put_length(Some(brokers.len()), true);
        for broker in brokers {
            e.put_i32(*broker);
        }
    }
}

pub(super) fn get_assignments(d: &mut Decoder<'_>) -> Result<Vec<Vec<i32>>, DecodeError> {
    let mut assignments = Vec::new();
    for _ in 0..get_count(d, size_of::<Vec<i32>>())? {
        let mut brokers = Vec::new();
        for _ in 0..get_count(d, size_of::<i32>())? {
            brokers.push(d.get_i32()?);
        }
        assignments.push(brokers);
    }
    Ok(assignments)
}

pub(super) fn put_configs(e: &mut Encoder, configs: &Configs) {
    e.put_length(Some(configs.len()), true);
    for (name, value) in configs {
        e.put_string(name, true);
        e.put_string(value, true);
    }
}

pub(super) fn get_configs(d: &mut Decoder<'_>) -> Result<Configs, DecodeError> {
    let mut configs = Configs::new();
    for _ in 0..get_count(d, 2 * size_of::<String>())? {
        let name = d.get_string(true)?.to_owned();
        configs.insert(name, d.get_string(true)?.to_owned());
    }
    Ok(configs)
}

fn put_changes(e: &mut Encoder, changes: &[ConfigChange]) {
    e.put_length(Some(changes.len()), true);
    for change in changes {
        e.put_string(&change.name, true);
        e.put_nullable_string(change.value.as_deref(), true);
    }
}

fn get_changes(d: &mut Decoder<'_>) -> Result<Vec<ConfigChange>, DecodeError> {
    let mut changes = Vec::new();
    for _ in 0..get_count(d, size_of::<ConfigChange>())? {
        let name = d.get_string(true)?.to_owned();
        let value = d.get_nullable_string(true)?.map(str::to_owned);
        changes.push(ConfigChange { name, value });
    }
    Ok(changes)
}

/// A number of 32 bits that must be one of `T`.
pub(super) fn get_in_range<T: TryFrom<i32>>(
    d: &mut Decoder<'_>,
    message: &'static str,
    field: &'static str,
) -> Result<T, DecodeError> {
    let number = d.get_i32()?;
    T::try_from(number).map_err(|_| DecodeError::ValueOutOfRange {
        message,
        field,
        value: i64::from(number),
    })
}

/// A count of elements that take so many bytes in memory each.
pub(super) fn get_count(d: &mut Decoder<'_>, element_bytes: usize) -> Result<usize, DecodeError> {
    Ok(d.get_array_count(true, element_bytes)?.unwrap_or(0))
}
