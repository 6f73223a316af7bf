//! `ListOffsets`: finds offsets by time, or the ends of a log.
//!
//! Source: Kafka protocol guide, `ListOffsets`; KIP-79, KIP-734 (largest timestamp), KIP-1005
//! (tiered storage).

use std::borrow::Cow;

use super::declare::message;

message! {
    ListOffsetsRequest<'a>, versions 1..=11, flexible 6;

    /// Request of the API that finds offsets by time, or the ends of a log.
    pub struct ListOffsetsRequest<'a> {
        /// Id of the follower; −1 for a consumer.
        pub replica_id: i32 => (0..),
        /// 0: all records; 1: only those of committed transactions.
        pub isolation_level: i8 => (2..),
        /// The topics.
        pub topics: Vec<ListOffsetsTopic<'a>> => (0..),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (10..; ignorable),
    }

    /// Partitions of one topic to ask about.
    pub struct ListOffsetsTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<ListOffsetsPartition> => (0..),
    }

    /// What to find in one partition.
    pub struct ListOffsetsPartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Leader epoch that the client knows, to be fenced if it is old; −1 for no check.
        pub current_leader_epoch: i32 => (4.., default -1; ignorable),
        /// Time in milliseconds since 1970, or −1 latest, −2 earliest, −3 largest timestamp, −4
        /// earliest local, −5 last tiered.
        pub timestamp: i64 => (0..),
    }
}

message! {
    ListOffsetsResponse<'a>, versions 1..=11, flexible 6;

    /// Answer to [`ListOffsetsRequest`].
    pub struct ListOffsetsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (2..; ignorable),
        /// The topics.
        pub topics: Vec<ListOffsetsTopicResponse<'a>> => (0..),
    }

    /// What was found in one topic.
    pub struct ListOffsetsTopicResponse<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<ListOffsetsPartitionResponse> => (0..),
    }

    /// What was found in one partition.
    pub struct ListOffsetsPartitionResponse {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Timestamp of the record at the offset, or −1.
        pub timestamp: i64 => (1.., default -1),
        /// The offset, or −1.
        pub offset: i64 => (1.., default -1),
        /// Epoch of the leader, or −1.
        pub leader_epoch: i32 => (4.., default -1),
    }
}
