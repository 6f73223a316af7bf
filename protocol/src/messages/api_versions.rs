//! `ApiVersions`: tells which APIs and versions the broker speaks.
//!
//! Source: Kafka protocol guide, `ApiVersions`; KIP-35, KIP-511 (client software), KIP-584
//! (features).

use std::borrow::Cow;

use super::declare::message;

message! {
    ApiVersionsRequest<'a>, versions 0..=4, flexible 3;

    /// Request of the API that tells which APIs and versions the broker speaks.
    pub struct ApiVersionsRequest<'a> {
        /// Name of the client library.
        pub client_software_name: Cow<'a, str> => (3..; ignorable),
        /// Version of the client library.
        pub client_software_version: Cow<'a, str> => (3..; ignorable),
    }
}

message! {
    ApiVersionsResponse<'a>, versions 0..=4, flexible 3;

    /// Answer to [`ApiVersionsRequest`].
    pub struct ApiVersionsResponse<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// The APIs, by ascending key.
        pub api_keys: Vec<ApiVersion> => (0..),
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// Features that this broker could run with.
        pub supported_features: Vec<SupportedFeatureKey<'a>> => (3.., tag 0; ignorable),
        /// Epoch of `finalized_features`; −1 if unknown.
        pub finalized_features_epoch: i64 => (3.., tag 1, default -1; ignorable),
        /// Features that the cluster runs with.
        pub finalized_features: Vec<FinalizedFeatureKey<'a>> => (3.., tag 2; ignorable),
        /// Whether the controller could take over from `ZooKeeper`; never, today.
        pub zk_migration_ready: bool => (3.., tag 3; ignorable),
    }

    /// Versions of one API.
    pub struct ApiVersion {
        /// Key of the API.
        pub api_key: i16 => (0..),
        /// Oldest version, inclusive.
        pub min_version: i16 => (0..),
        /// Newest version, inclusive.
        pub max_version: i16 => (0..),
    }

    /// A feature that the broker could run with.
    pub struct SupportedFeatureKey<'a> {
        /// Name of the feature.
        pub name: Cow<'a, str> => (3..),
        /// Oldest version, inclusive.
        pub min_version: i16 => (3..),
        /// Newest version, inclusive.
        pub max_version: i16 => (3..),
    }

    /// A feature that the cluster runs with.
    pub struct FinalizedFeatureKey<'a> {
        /// Name of the feature.
        pub name: Cow<'a, str> => (3..),
        /// Highest level, inclusive.
        pub max_version_level: i16 => (3..),
        /// Lowest level, inclusive.
        pub min_version_level: i16 => (3..),
    }
}
