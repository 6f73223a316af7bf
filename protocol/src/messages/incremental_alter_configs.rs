//! `IncrementalAlterConfigs`: changes single configs of topics and brokers.
//!
//! Source: Kafka protocol guide, `IncrementalAlterConfigs`; KIP-339.

use std::borrow::Cow;

use super::declare::message;

message! {
    IncrementalAlterConfigsRequest<'a>, versions 0..=1, flexible 1;

    /// Request of the API that changes single configs of topics and brokers.
    pub struct IncrementalAlterConfigsRequest<'a> {
        /// The topics and brokers.
        pub resources: Vec<AlterConfigsResource<'a>> => (0..),
        /// Whether to check only, and change nothing.
        pub validate_only: bool => (0..),
    }

    /// A topic or broker, with the configs to change.
    pub struct AlterConfigsResource<'a> {
        /// 2 for a topic, 4 for a broker.
        pub resource_type: i8 => (0..),
        /// Name of the topic, or id of the broker.
        pub resource_name: Cow<'a, str> => (0..),
        /// Configs.
        pub configs: Vec<AlterableConfig<'a>> => (0..),
    }

    /// A config and what becomes of it.
    pub struct AlterableConfig<'a> {
        /// Name of the config.
        pub name: Cow<'a, str> => (0..),
        /// 0 sets, 1 deletes, 2 appends to a list, 3 takes from a list.
        pub config_operation: i8 => (0..),
        /// Value of the config.
        pub value: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
    }
}

message! {
    IncrementalAlterConfigsResponse<'a>, versions 0..=1, flexible 1;

    /// Answer to [`IncrementalAlterConfigsRequest`].
    pub struct IncrementalAlterConfigsResponse<'a> {
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
