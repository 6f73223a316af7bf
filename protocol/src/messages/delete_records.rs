//! `DeleteRecords`: moves the log start offset of partitions forward.
//!
//! Source: Kafka protocol guide, `DeleteRecords`; KIP-107.

use std::borrow::Cow;

use super::declare::message;

message! {
    DeleteRecordsRequest<'a>, versions 0..=2, flexible 2;

    /// Request of the API that moves the log start offset of partitions forward.
    pub struct DeleteRecordsRequest<'a> {
        /// The topics.
        pub topics: Vec<DeleteRecordsTopic<'a>> => (0..),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (0..),
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<DeleteRecordsPartition> => (0..),
    }

    /// How much to delete in one partition.
    pub struct DeleteRecordsPartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// New log start offset; −1 for the high watermark.
        pub offset: i64 => (0..),
    }
}

message! {
    DeleteRecordsResponse<'a>, versions 0..=2, flexible 2;

    /// Answer to [`DeleteRecordsRequest`].
    pub struct DeleteRecordsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// The topics.
        pub topics: Vec<DeleteRecordsTopicResult<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct DeleteRecordsTopicResult<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<DeleteRecordsPartitionResult> => (0..),
    }

    /// The outcome for one partition.
    pub struct DeleteRecordsPartitionResult {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Lowest offset that every replica still has.
        pub low_watermark: i64 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
    }
}
