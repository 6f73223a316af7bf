//! Kafka's configs of topics and brokers: what exists, what values are allowed, what is in force.
//!
//! Place: `controller` validates alterations with it, handlers describe configs with it, the data
//! plane runs by the typed [`TopicConfig`] resolved here.
//! Invariants:
//! - I1 every default passes its own validation and resolves to a `TopicConfig` (test).
//! - I2 what resolves was validated before it was stored; a value that a later version no longer
//!   understands falls back to the next source instead of failing the partition.
//!
//! Source: Kafka 4.3 `TopicConfig`, `ServerConfigs` and KIP-226, KIP-248, KIP-339.

mod alter;
mod broker_definitions;
mod definition;
mod describe;
mod effective;
mod topic_config;
mod topic_definitions;
mod value;

#[cfg(test)]
mod tests;

pub use alter::{AlterError, AlterOperation, Alteration, alter_incrementally, replace_all};
pub use broker_definitions::BROKER_CONFIGS;
pub use definition::{Definition, Synonym, Update, find_broker_config, find_topic_config};
pub use describe::{
    ConfigRow, SynonymRow, describe_broker, describe_broker_defaults, describe_topic,
};
pub use effective::{BrokerLayers, ConfigSource};
pub use topic_config::{AckDurability, CleanupPolicy, CompressionType, TimestampType, TopicConfig};
pub use topic_definitions::TOPIC_CONFIGS;
pub use value::{ConfigType, InvalidValue, Validator};
