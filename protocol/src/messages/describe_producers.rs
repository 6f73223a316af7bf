//! `DescribeProducers`: tells the producers that are active in partitions.
//!
//! Source: Kafka protocol guide, `DescribeProducers`; KIP-664.

use std::borrow::Cow;

use super::declare::message;

message! {
    DescribeProducersRequest<'a>, versions 0..=0, flexible 0;

    /// Request of the API that tells the producers that are active in partitions.
    pub struct DescribeProducersRequest<'a> {
        /// Topics to tell about.
        pub topics: Vec<TopicRequest<'a>> => (0..),
    }

    /// Partitions of a topic to tell about.
    pub struct TopicRequest<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// Indexes of the partitions.
        pub partition_indexes: Vec<i32> => (0..),
    }
}

message! {
    DescribeProducersResponse<'a>, versions 0..=0, flexible 0;

    /// Answer to [`DescribeProducersRequest`].
    pub struct DescribeProducersResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// The topics.
        pub topics: Vec<TopicResponse<'a>> => (0..),
    }

    /// A topic with its partitions.
    pub struct TopicResponse<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<PartitionResponse<'a>> => (0..),
    }

    /// A partition with its active producers.
    pub struct PartitionResponse<'a> {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, in words.
        pub error_message: Option<Cow<'a, str>> => (0.., nullable 0.., default None),
        /// The producers.
        pub active_producers: Vec<ProducerState> => (0..),
    }

    /// What the partition knows of a producer.
    pub struct ProducerState {
        /// Id of the producer.
        pub producer_id: i64 => (0..),
        /// Its epoch.
        pub producer_epoch: i32 => (0..),
        /// Sequence of its last record, or −1.
        pub last_sequence: i32 => (0.., default -1),
        /// Greatest timestamp that it wrote, in milliseconds, or −1.
        pub last_timestamp: i64 => (0.., default -1),
        /// Epoch of the transaction coordinator that ended its last transaction, or −1.
        pub coordinator_epoch: i32 => (0..),
        /// First offset of its open transaction, or −1.
        pub current_txn_start_offset: i64 => (0.., default -1),
    }
}
