//! The replicated metadata machine: commands change an [`Image`], the same everywhere.
//!
//! *Place*: `controller` decides on commands, `src/control` makes them durable and applies them,
//! shards read the image.
//! *Invariants*
//! - I1. `apply` is total and deterministic: the same commands give the same image on every node, and
//!   one that contradicts the image is refused everywhere and changes nothing.
//! - I2. A partition's leader epoch never decreases; it has replicas, each on another broker; its leader
//!   and its ISR are among them.
//! - I3. Topic names and ids are unique; an id is never used again.

mod apply;
mod command;
mod error;
mod image;
mod snapshot;

pub use command::{Command, ConfigChange};
pub use error::{MetadataError, TOPIC_PARTITIONS_MAX};
pub use image::{
    BROKER_DEFAULTS, Broker, BrokerId, Configs, Image, Partition, Replica, Topic, TopicChange,
};
pub use snapshot::SnapshotError;

/// Name of the internal topic of group coordinators.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Name that Kafka reserves for its metadata log; no topic can have it.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
/// Name of the internal topic of transaction coordinators.
pub const TRANSACTION_STATE: &str = "__transaction_state";

#[cfg(test)]
mod tests;
