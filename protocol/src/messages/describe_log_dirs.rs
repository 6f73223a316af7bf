//! `DescribeLogDirs`: tells how much each partition stores, by log directory.
//!
//! Source: Kafka protocol guide, `DescribeLogDirs`; KIP-113, KIP-827 (volume sizes).

use std::borrow::Cow;

use super::declare::message;

message! {
    DescribeLogDirsRequest<'a>, versions 1..=5, flexible 2;

    /// Request of the API that tells how much each partition stores, by log directory.
    pub struct DescribeLogDirsRequest<'a> {
        /// Partitions to tell about; null for all.
        pub topics: Option<Vec<DescribableLogDirTopic<'a>>> => (0.., nullable 0.., default Some(Vec::new())),
    }

    /// Partitions of one topic to tell about.
    pub struct DescribableLogDirTopic<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<i32> => (0..),
    }
}

message! {
    DescribeLogDirsResponse<'a>, versions 1..=5, flexible 2;

    /// Answer to [`DescribeLogDirsRequest`].
    pub struct DescribeLogDirsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (3..; ignorable),
        /// The log directories.
        pub results: Vec<DescribeLogDirsResult<'a>> => (0..),
    }

    /// One log directory.
    pub struct DescribeLogDirsResult<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Absolute path.
        pub log_dir: Cow<'a, str> => (0..),
        /// The topics.
        pub topics: Vec<DescribeLogDirsTopic<'a>> => (0..),
        /// Size of the volume in bytes, or −1.
        pub total_bytes: i64 => (4.., default -1; ignorable),
        /// Free bytes of the volume, or −1.
        pub usable_bytes: i64 => (4.., default -1; ignorable),
        /// Whether no new partition may be put here.
        pub is_cordoned: bool => (5..; ignorable),
    }

    /// What a log directory holds of one topic.
    pub struct DescribeLogDirsTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<DescribeLogDirsPartition> => (0..),
    }

    /// What a log directory holds of one partition.
    pub struct DescribeLogDirsPartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Bytes of its segments.
        pub partition_size: i64 => (0..),
        /// Offsets by which the replica is behind.
        pub offset_lag: i64 => (0..),
        /// Whether it is being moved into this directory.
        pub is_future_key: bool => (0..),
    }
}
