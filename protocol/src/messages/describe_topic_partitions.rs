//! `DescribeTopicPartitions`: tells the partitions of topics, page by page.
//!
//! Source: Kafka protocol guide, `DescribeTopicPartitions`; KIP-966.

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    DescribeTopicPartitionsRequest<'a>, versions 0..=0, flexible 0;

    /// Request of the API that tells the partitions of topics, page by page.
    pub struct DescribeTopicPartitionsRequest<'a> {
        /// Topics to tell about; empty for all.
        pub topics: Vec<TopicRequest<'a>> => (0..),
        /// Most partitions in one response.
        pub response_partition_limit: i32 => (0.., default 2000),
        /// Where to start, if not at the beginning.
        pub cursor: Option<Cursor<'a>> => (0.., nullable 0..),
    }

    /// A topic to tell about.
    pub struct TopicRequest<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
    }

    /// Where a page starts.
    pub struct Cursor<'a> {
        /// Name of the first topic.
        pub topic_name: Cow<'a, str> => (0..),
        /// Index of the first partition in it.
        pub partition_index: i32 => (0..),
    }
}

message! {
    DescribeTopicPartitionsResponse<'a>, versions 0..=0, flexible 0;

    /// Answer to [`DescribeTopicPartitionsRequest`].
    pub struct DescribeTopicPartitionsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..; ignorable),
        /// The topics.
        pub topics: Vec<DescribeTopicPartitionsResponseTopic<'a>> => (0..),
        /// Where the next page starts; null if this is the last.
        pub next_cursor: Option<Cursor<'a>> => (0.., nullable 0..),
    }

    /// A topic with those of its partitions that are on this page.
    pub struct DescribeTopicPartitionsResponseTopic<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Name of the topic.
        pub name: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// Id of the topic.
        pub topic_id: Uuid => (0..; ignorable),
        /// Whether the topic is the broker's own.
        pub is_internal: bool => (0..; ignorable),
        /// The partitions.
        pub partitions: Vec<DescribeTopicPartitionsResponsePartition> => (0..),
        /// Operations that the client may do, one bit each; `i32::MIN` if not asked for.
        pub topic_authorized_operations: i32 => (0.., default i32::MIN),
    }

    /// A partition with its leader and replicas.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Broker that leads it, or −1.
        pub leader_id: i32 => (0..),
        /// Epoch of the leader, or −1.
        pub leader_epoch: i32 => (0.., default -1; ignorable),
        /// Brokers with a replica.
        pub replica_nodes: Vec<i32> => (0..),
        /// Brokers with a replica that is in sync.
        pub isr_nodes: Vec<i32> => (0..),
        /// Brokers that may lead it though out of sync (KIP-966).
        pub eligible_leader_replicas: Option<Vec<i32>> => (0.., nullable 0..),
        /// The eligible leaders when all were lost (KIP-966).
        pub last_known_elr: Option<Vec<i32>> => (0.., nullable 0..),
        /// Brokers with a replica that is offline.
        pub offline_replicas: Vec<i32> => (0..; ignorable),
    }
}
