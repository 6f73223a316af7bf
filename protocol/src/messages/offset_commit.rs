//! `OffsetCommit`: stores the offsets up to which a group has consumed.
//!
//! Source: Kafka protocol guide, `OffsetCommit`; KIP-211 (retention), KIP-345 (static members),
//! KIP-848 (member epochs).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    OffsetCommitRequest<'a>, versions 2..=10, flexible 8;

    /// Request of the API that stores the offsets up to which a group has consumed.
    pub struct OffsetCommitRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// Generation of the group (or member epoch, KIP-848), or −1.
        pub generation_id_or_member_epoch: i32 => (1.., default -1; ignorable),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (1..; ignorable),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (7.., nullable 7..),
        /// How long to keep the offsets, in milliseconds; −1 for the broker's setting.
        pub retention_time_ms: i64 => (2..=4, default -1; ignorable),
        /// The topics.
        pub topics: Vec<OffsetCommitRequestTopic<'a>> => (0..),
    }

    /// Offsets of one topic.
    pub struct OffsetCommitRequestTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=9; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// The partitions.
        pub partitions: Vec<OffsetCommitRequestPartition<'a>> => (0..),
    }

    /// The offset of one partition.
    pub struct OffsetCommitRequestPartition<'a> {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Offset of the next record to consume.
        pub committed_offset: i64 => (0..),
        /// Leader epoch of the last record consumed, or −1.
        pub committed_leader_epoch: i32 => (6.., default -1; ignorable),
        /// A note of the client.
        pub committed_metadata: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
    }
}

message! {
    OffsetCommitResponse<'a>, versions 2..=10, flexible 8;

    /// Answer to [`OffsetCommitRequest`].
    pub struct OffsetCommitResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (3..; ignorable),
        /// The topics.
        pub topics: Vec<OffsetCommitResponseTopic<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct OffsetCommitResponseTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=9; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (10..; ignorable),
        /// The partitions.
        pub partitions: Vec<OffsetCommitResponsePartition> => (0..),
    }

    /// The outcome for one partition.
    pub struct OffsetCommitResponsePartition {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
    }
}
