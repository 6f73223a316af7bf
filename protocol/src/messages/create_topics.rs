//! `CreateTopics`: creates topics.
//!
//! Source: Kafka protocol guide, `CreateTopics`; KIP-4, KIP-525 (configs in the response), KIP-599
//! (quota).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    CreateTopicsRequest<'a>, versions 2..=7, flexible 5;

    /// Request of the API that creates topics.
    pub struct CreateTopicsRequest<'a> {
        /// The topics.
        pub topics: Vec<CreatableTopic<'a>> => (0..),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (0.., default 60_000),
        /// Whether to check only, and change nothing.
        pub validate_only: bool => (1..),
    }

    /// A topic to create.
    pub struct CreatableTopic<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// Number of partitions; −1 for the default, or with `assignments`.
        pub num_partitions: i32 => (0..),
        /// Replicas of each partition; −1 for the default, or with `assignments`.
        pub replication_factor: i16 => (0..),
        /// Replicas of each partition, instead of the two numbers.
        pub assignments: Vec<CreatableReplicaAssignment> => (0..),
        /// Configs that differ from the broker's.
        pub configs: Vec<CreatableTopicConfig<'a>> => (0..),
    }

    /// The replicas of one partition.
    pub struct CreatableReplicaAssignment {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// Brokers that get a replica; the first shall lead.
        pub broker_ids: Vec<i32> => (0..),
    }

    /// A config to set.
    pub struct CreatableTopicConfig<'a> {
        /// Name of the config.
        pub name: Cow<'a, str> => (0..),
        /// Value of the config.
        pub value: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
    }
}

message! {
    CreateTopicsResponse<'a>, versions 2..=7, flexible 5;

    /// Answer to [`CreateTopicsRequest`].
    pub struct CreateTopicsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (2..; ignorable),
        /// The topics.
        pub topics: Vec<CreatableTopicResult<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct CreatableTopicResult<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..),
        /// Id of the topic.
        pub topic_id: Uuid => (7..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (1.., nullable 0.., default Some(Cow::Borrowed("")); ignorable),
        /// Why the configs are not told, or 0.
        pub topic_config_error_code: i16 => (5.., tag 0; ignorable),
        /// Number of partitions, or −1.
        pub num_partitions: i32 => (5.., default -1; ignorable),
        /// Replicas of each partition, or −1.
        pub replication_factor: i16 => (5.., default -1; ignorable),
        /// All configs of the topic; null if the client may not see them.
        pub configs: Option<Vec<CreatableTopicConfigs<'a>>> => (5.., nullable 5.., default Some(Vec::new()); ignorable),
    }

    /// A config of the created topic.
    pub struct CreatableTopicConfigs<'a> {
        /// Name of the config.
        pub name: Cow<'a, str> => (5..),
        /// Value of the config.
        pub value: Option<Cow<'a, str>> => (5.., nullable 5.., default Some(Cow::Borrowed(""))),
        /// Whether clients cannot change it.
        pub read_only: bool => (5..),
        /// Where the value comes from.
        pub config_source: i8 => (5.., default -1; ignorable),
        /// Whether the value is a secret and not told.
        pub is_sensitive: bool => (5..),
    }
}
