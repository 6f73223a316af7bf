//! `OffsetDelete`: deletes committed offsets of topics that a group does not consume.
//!
//! Source: Kafka protocol guide, `OffsetDelete`; KIP-496.

use std::borrow::Cow;

use super::declare::message;

message! {
    OffsetDeleteRequest<'a>, versions 0..=0;

    /// Request of the API that deletes committed offsets of topics that a group does not consume.
    pub struct OffsetDeleteRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// The topics.
        pub topics: Vec<OffsetDeleteRequestTopic<'a>> => (0..),
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteRequestTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<OffsetDeleteRequestPartition> => (0..),
    }

    /// A partition whose offset goes.
    pub struct OffsetDeleteRequestPartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
    }
}

message! {
    OffsetDeleteResponse<'a>, versions 0..=0;

    /// Answer to [`OffsetDeleteRequest`].
    pub struct OffsetDeleteResponse<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..; ignorable),
        /// The topics.
        pub topics: Vec<OffsetDeleteResponseTopic<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct OffsetDeleteResponseTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<OffsetDeleteResponsePartition> => (0..),
    }

    /// The outcome for one partition.
    pub struct OffsetDeleteResponsePartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
    }
}
