//! `OffsetFetch`: reads the committed offsets of groups.
//!
//! Source: Kafka protocol guide, `OffsetFetch`; KIP-447 (stable offsets), KIP-709 (many groups),
//! KIP-848 (member epochs).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    OffsetFetchRequest<'a>, versions 1..=10, flexible 6;

    /// Request of the API that reads the committed offsets of groups.
    pub struct OffsetFetchRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..=7),
        /// Partitions to tell about; null for all.
        pub topics: Option<Vec<OffsetFetchRequestTopic<'a>>> => (0..=7, nullable 2..=7, default Some(Vec::new())),
        /// The groups.
        pub groups: Vec<OffsetFetchRequestGroup<'a>> => (8..),
        /// Whether to refuse offsets that an open transaction may change.
        pub require_stable: bool => (7..),
    }

    /// Partitions of one topic (versions up to 7).
    pub struct OffsetFetchRequestTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=7),
        /// Indexes of the partitions.
        pub partition_indexes: Vec<i32> => (0..=7),
    }

    /// One group to ask about (version 8 and later).
    pub struct OffsetFetchRequestGroup<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (8..),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Option<Cow<'a, str>> => (9.., nullable 9..; ignorable),
        /// Epoch of the member (KIP-848), or −1.
        pub member_epoch: i32 => (9.., default -1; ignorable),
        /// Partitions to tell about; null for all.
        pub topics: Option<Vec<OffsetFetchRequestTopics<'a>>> => (8.., nullable 8.., default Some(Vec::new())),
    }

    /// Partitions of one topic (version 8 and later).
    pub struct OffsetFetchRequestTopics<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (8..=9; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// Indexes of the partitions.
        pub partition_indexes: Vec<i32> => (8..),
    }
}

message! {
    OffsetFetchResponse<'a>, versions 1..=10, flexible 6;

    /// Answer to [`OffsetFetchRequest`].
    pub struct OffsetFetchResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (3..; ignorable),
        /// The topics.
        pub topics: Vec<OffsetFetchResponseTopic<'a>> => (0..=7),
        /// What went wrong, or 0.
        pub error_code: i16 => (2..=7; ignorable),
        /// The groups.
        pub groups: Vec<OffsetFetchResponseGroup<'a>> => (8..),
    }

    /// Offsets of one topic (versions up to 7).
    pub struct OffsetFetchResponseTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=7),
        /// The partitions.
        pub partitions: Vec<OffsetFetchResponsePartition<'a>> => (0..=7),
    }

    /// The offset of one partition (versions up to 7).
    pub struct OffsetFetchResponsePartition<'a> {
        /// Index of the partition.
        pub partition_index: i32 => (0..=7),
        /// Offset of the next record to consume, or −1.
        pub committed_offset: i64 => (0..=7),
        /// Leader epoch of the last record consumed, or −1.
        pub committed_leader_epoch: i32 => (5..=7, default -1; ignorable),
        /// A note of the client.
        pub metadata: Option<Cow<'a, str>> => (0..=7, nullable 0..=7, default Some(Cow::Borrowed(""))),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..=7),
    }

    /// Offsets of one group (version 8 and later).
    pub struct OffsetFetchResponseGroup<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (8..),
        /// The topics.
        pub topics: Vec<OffsetFetchResponseTopics<'a>> => (8..),
        /// What went wrong, or 0.
        pub error_code: i16 => (8..),
    }

    /// Offsets of one topic (version 8 and later).
    pub struct OffsetFetchResponseTopics<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (8..=9; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// The partitions.
        pub partitions: Vec<OffsetFetchResponsePartitions<'a>> => (8..),
    }

    /// The offset of one partition (version 8 and later).
    pub struct OffsetFetchResponsePartitions<'a> {
        /// Index of the partition.
        pub partition_index: i32 => (8..),
        /// Offset of the next record to consume, or −1.
        pub committed_offset: i64 => (8..),
        /// Leader epoch of the last record consumed, or −1.
        pub committed_leader_epoch: i32 => (8.., default -1; ignorable),
        /// A note of the client.
        pub metadata: Option<Cow<'a, str>> => (8.., nullable 8.., default Some(Cow::Borrowed(""))),
        /// What went wrong, or 0.
        pub error_code: i16 => (8..),
    }
}
