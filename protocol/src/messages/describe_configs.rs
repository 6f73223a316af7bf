//! `DescribeConfigs`: tells the configs of topics and brokers.
//!
//! Source: Kafka protocol guide, `DescribeConfigs`; KIP-133, KIP-226 (synonyms), KIP-569
//! (documentation).

use std::borrow::Cow;

use super::declare::message;

message! {
    DescribeConfigsRequest<'a>, versions 1..=4, flexible 4;

    /// Request of the API that tells the configs of topics and brokers.
    pub struct DescribeConfigsRequest<'a> {
        /// The topics and brokers.
        pub resources: Vec<DescribeConfigsResource<'a>> => (0..),
        /// Whether to tell synonyms.
        pub include_synonyms: bool => (1..),
        /// Whether to tell documentation.
        pub include_documentation: bool => (3..),
    }

    /// A topic or broker to tell about.
    pub struct DescribeConfigsResource<'a> {
        /// 2 for a topic, 4 for a broker.
        pub resource_type: i8 => (0..),
        /// Name of the topic, or id of the broker.
        pub resource_name: Cow<'a, str> => (0..),
        /// Names of the configs to tell; null for all.
        pub configuration_keys: Option<Vec<Cow<'a, str>>> => (0.., nullable 0.., default Some(Vec::new())),
    }
}

message! {
    DescribeConfigsResponse<'a>, versions 1..=4, flexible 4;

    /// Answer to [`DescribeConfigsRequest`].
    pub struct DescribeConfigsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// The outcomes.
        pub results: Vec<DescribeConfigsResult<'a>> => (0..),
    }

    /// The configs of one topic or broker.
    pub struct DescribeConfigsResult<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// 2 for a topic, 4 for a broker.
        pub resource_type: i8 => (0..),
        /// Name of the topic, or id of the broker.
        pub resource_name: Cow<'a, str> => (0..),
        /// The configs.
        pub configs: Vec<DescribeConfigsResourceResult<'a>> => (0..),
    }

    /// One config.
    pub struct DescribeConfigsResourceResult<'a> {
        /// Name of the config.
        pub name: Cow<'a, str> => (0..),
        /// Its value; null if it is a secret or has none.
        pub value: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// Whether clients cannot change it.
        pub read_only: bool => (0..),
        /// Where the value comes from.
        pub config_source: i8 => (1.., default -1; ignorable),
        /// Whether the value is a secret and not told.
        pub is_sensitive: bool => (0..),
        /// Where the value could come from, the nearest first.
        pub synonyms: Vec<DescribeConfigsSynonym<'a>> => (1..; ignorable),
        /// Type of the value.
        pub config_type: i8 => (3..; ignorable),
        /// What the config means, for people.
        pub documentation: Option<Cow<'a, str>> => (3.., nullable 0.., default Some(Cow::Borrowed("")); ignorable),
    }

    /// A place from which a config could take its value.
    pub struct DescribeConfigsSynonym<'a> {
        /// Name of the config at that place.
        pub name: Cow<'a, str> => (1..),
        /// Value of the config.
        pub value: Option<Cow<'a, str>> => (1.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// Which place it is.
        pub source: i8 => (1..),
    }
}
