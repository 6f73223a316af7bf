//! `AlterConfigs`: replaces all configs of topics and brokers.
//!
//! Source: Kafka protocol guide, `AlterConfigs`; KIP-133; superseded by `IncrementalAlterConfigs`,
//! and still sent by several clients.

use std::borrow::Cow;

use super::declare::message;

message! {
    AlterConfigsRequest<'a>, versions 0..=2, flexible 2;

    /// Request of the API that replaces all configs of topics and brokers.
    pub struct AlterConfigsRequest<'a> {
        /// The topics and brokers.
        pub resources: Vec<AlterConfigsResource<'a>> => (0..),
        /// Whether to check only, and change nothing.
        pub validate_only: bool => (0..),
    }

    /// A topic or broker, with all configs that it shall have.
    pub struct AlterConfigsResource<'a> {
        /// 2 for a topic, 4 for a broker.
        pub resource_type: i8 => (0..),
        /// Name of the topic, or id of the broker.
        pub resource_name: Cow<'a, str> => (0..),
        /// Configs.
        pub configs: Vec<AlterableConfig<'a>> => (0..),
    }

    /// A config to set.
    pub struct AlterableConfig<'a> {
        /// Name of the config.
        pub name: Cow<'a, str> => (0..),
        /// Value of the config.
        pub value: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
    }
}

message! {
    AlterConfigsResponse<'a>, versions 0..=2, flexible 2;

    /// Answer to [`AlterConfigsRequest`].
    pub struct AlterConfigsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// Outcomes by topic.
        pub responses: Vec<AlterConfigsResourceResponse<'a>> => (0..),
    }

    /// The outcome for one topic or broker.
    pub struct AlterConfigsResourceResponse<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// 2 for a topic, 4 for a broker.
        pub resource_type: i8 => (0..),
        /// Name of the topic, or id of the broker.
        pub resource_name: Cow<'a, str> => (0..),
    }
}
