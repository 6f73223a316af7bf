//! `DeleteTopics`: deletes topics, by name or by id.
//!
//! Source: Kafka protocol guide, `DeleteTopics`; KIP-4, KIP-516 (topic ids, version 6).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::Uuid;

message! {
    DeleteTopicsRequest<'a>, versions 1..=6, flexible 4;

    /// Request of the API that deletes topics, by name or by id.
    pub struct DeleteTopicsRequest<'a> {
        /// Topics by name or id.
        pub topics: Vec<DeleteTopicState<'a>> => (6..),
        /// Names of the topics.
        pub topic_names: Vec<Cow<'a, str>> => (0..=5; ignorable),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (0..),
    }

    /// A topic to delete, by name or by id.
    pub struct DeleteTopicState<'a> {
        /// Name of the topic; null if it is meant by its id.
        pub name: Option<Cow<'a, str>> => (6.., nullable 6..),
        /// Id of the topic.
        pub topic_id: Uuid => (6..),
    }
}

message! {
    DeleteTopicsResponse<'a>, versions 1..=6, flexible 4;

    /// Answer to [`DeleteTopicsRequest`].
    pub struct DeleteTopicsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// Outcomes by topic.
        pub responses: Vec<DeletableTopicResult<'a>> => (0..),
    }

    /// The outcome for one topic.
    pub struct DeletableTopicResult<'a> {
        /// Name of the topic; null if it was meant by an id that is unknown.
        pub name: Option<Cow<'a, str>> => (0.., nullable 6.., default Some(Cow::Borrowed(""))),
        /// Id of the topic.
        pub topic_id: Uuid => (6..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
    }
}
