//! `CreatePartitions`: adds partitions to topics.
//!
//! Source: Kafka protocol guide, `CreatePartitions`; KIP-195.

use std::borrow::Cow;

use super::declare::message;

message! {
    CreatePartitionsRequest<'a>, versions 0..=3, flexible 2;

    /// Request of the API that adds partitions to topics.
    pub struct CreatePartitionsRequest<'a> {
        /// The topics.
        pub topics: Vec<CreatePartitionsTopic<'a>> => (0..),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (0..),
        /// Whether to check only, and change nothing.
        pub validate_only: bool => (0..),
    }

    /// A topic that shall have more partitions.
    pub struct CreatePartitionsTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// Number of partitions that the topic shall have.
        pub count: i32 => (0..),
        /// Replicas of each new partition; null for the broker's choice.
        pub assignments: Option<Vec<CreatePartitionsAssignment>> => (0.., nullable 0.., default Some(Vec::new())),
    }

    /// The replicas of one new partition.
    pub struct CreatePartitionsAssignment {
        /// Brokers that get a replica; the first shall lead.
        pub broker_ids: Vec<i32> => (0..),
    }
}

message! {
    CreatePartitionsResponse<'a>, versions 0..=3, flexible 2;

    /// Answer to [`CreatePartitionsRequest`].
    pub struct CreatePartitionsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// The outcomes.
        pub results: Vec<CreatePartitionsTopicResult<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct CreatePartitionsTopicResult<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (0.., nullable 0..),
    }
}
