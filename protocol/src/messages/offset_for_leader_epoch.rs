//! `OffsetForLeaderEpoch`: tells where a leader epoch ends in a log.
//!
//! Source: Kafka protocol guide, `OffsetForLeaderEpoch`; KIP-101, KIP-320 (fencing).

use std::borrow::Cow;

use super::declare::message;

message! {
    OffsetForLeaderEpochRequest<'a>, versions 2..=4, flexible 4;

    /// Request of the API that tells where a leader epoch ends in a log.
    pub struct OffsetForLeaderEpochRequest<'a> {
        /// Id of the follower; −1 for a consumer, −2 for a debugger.
        pub replica_id: i32 => (3.., default -2; ignorable),
        /// The topics.
        pub topics: Vec<OffsetForLeaderTopic<'a>> => (0..),
    }

    /// Partitions of one topic to ask about.
    pub struct OffsetForLeaderTopic<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<OffsetForLeaderPartition> => (0..),
    }

    /// The epoch to look up in one partition.
    pub struct OffsetForLeaderPartition {
        /// Index of the partition.
        pub partition: i32 => (0..),
        /// Leader epoch that the client knows, to be fenced if it is old; −1 for no check.
        pub current_leader_epoch: i32 => (2.., default -1; ignorable),
        /// Epoch whose end is asked for.
        pub leader_epoch: i32 => (0..),
    }
}

message! {
    OffsetForLeaderEpochResponse<'a>, versions 2..=4, flexible 4;

    /// Answer to [`OffsetForLeaderEpochRequest`].
    pub struct OffsetForLeaderEpochResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (2..; ignorable),
        /// The topics.
        pub topics: Vec<OffsetForLeaderTopicResult<'a>> => (0..),
    }

    /// What was found in one topic.
    pub struct OffsetForLeaderTopicResult<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..),
        /// The partitions.
        pub partitions: Vec<EpochEndOffset> => (0..),
    }

    /// Where an epoch ends in one partition.
    pub struct EpochEndOffset {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Index of the partition.
        pub partition: i32 => (0..),
        /// Largest epoch that is not above the one asked for, or −1.
        pub leader_epoch: i32 => (1.., default -1; ignorable),
        /// End offset of the epoch, exclusive.
        pub end_offset: i64 => (0.., default -1),
    }
}
