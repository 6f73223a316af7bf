//! `Metadata`: tells brokers, topics, partitions and their leaders.
//!
//! Source: Kafka protocol guide, `Metadata`; KIP-516 (topic ids), KIP-430 (authorized operations).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    MetadataRequest<'a>, versions 0..=13, flexible 9;

    /// Request of the API that tells brokers, topics, partitions and their leaders.
    pub struct MetadataRequest<'a> {
        /// Topics to tell about; null (in version 0: empty) for all.
        pub topics: Option<Vec<MetadataRequestTopic<'a>>> => (0.., nullable 1.., default Some(Vec::new())),
        /// Whether the broker may create topics that are missing.
        pub allow_auto_topic_creation: bool => (4.., default true),
        /// Whether to tell what the client may do with the cluster.
        pub include_cluster_authorized_operations: bool => (8..=10),
        /// Whether to tell what the client may do with the topics.
        pub include_topic_authorized_operations: bool => (8..),
    }

    /// A topic to tell about, by name or by id.
    pub struct MetadataRequestTopic<'a> {
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// Name of the topic; null if it is meant by its id.
        pub name: Option<Cow<'a, str>> => (0.., nullable 10.., default Some(Cow::Borrowed(""))),
    }
}

message! {
    MetadataResponse<'a>, versions 0..=13, flexible 9;

    /// Answer to [`MetadataRequest`].
    pub struct MetadataResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (3..; ignorable),
        /// The brokers.
        pub brokers: Vec<MetadataResponseBroker<'a>> => (0..),
        /// Id of the cluster.
        pub cluster_id: Option<Cow<'a, str>> => (2.., nullable 2..; ignorable),
        /// Id of the controller, or −1.
        pub controller_id: i32 => (1.., default -1; ignorable),
        /// The topics.
        pub topics: Vec<MetadataResponseTopic<'a>> => (0..),
        /// Operations that the client may do, one bit each; `i32::MIN` if not asked for.
        pub cluster_authorized_operations: i32 => (8..=10, default i32::MIN),
        /// What went wrong, or 0.
        pub error_code: i16 => (13..; ignorable),
    }

    /// A broker of the cluster.
    pub struct MetadataResponseBroker<'a> {
        /// Id of the broker.
        pub node_id: i32 => (0..),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (0..),
        /// Port at which it listens.
        pub port: i32 => (0..),
        /// Rack of the broker.
        pub rack: Option<Cow<'a, str>> => (1.., nullable 1..; ignorable),
    }

    /// A topic with its partitions.
    pub struct MetadataResponseTopic<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Name of the topic; null if it was asked for by an id that is unknown.
        pub name: Option<Cow<'a, str>> => (0.., nullable 12.., default Some(Cow::Borrowed(""))),
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// Whether the topic is the broker's own.
        pub is_internal: bool => (1..; ignorable),
        /// The partitions.
        pub partitions: Vec<MetadataResponsePartition> => (0..),
        /// Operations that the client may do, one bit each; `i32::MIN` if not asked for.
        pub topic_authorized_operations: i32 => (8.., default i32::MIN),
    }

    /// A partition with its leader and replicas.
    pub struct MetadataResponsePartition {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Broker that leads it, or −1.
        pub leader_id: i32 => (0..),
        /// Epoch of the leader, or −1.
        pub leader_epoch: i32 => (7.., default -1; ignorable),
        /// Brokers with a replica.
        pub replica_nodes: Vec<i32> => (0..),
        /// Brokers with a replica that is in sync.
        pub isr_nodes: Vec<i32> => (0..),
        /// Brokers with a replica that is offline.
        pub offline_replicas: Vec<i32> => (5..; ignorable),
    }
}
