//! `DescribeCluster`: tells brokers and controller of the cluster.
//!
//! Source: Kafka protocol guide, `DescribeCluster`; KIP-700, KIP-919 (controllers), KIP-1073
//! (fenced brokers).

use std::borrow::Cow;

use super::declare::message;

message! {
    DescribeClusterRequest, versions 0..=2, flexible 0;

    /// Request of the API that tells brokers and controller of the cluster.
    pub struct DescribeClusterRequest {
        /// Whether to tell what the client may do with the cluster.
        pub include_cluster_authorized_operations: bool => (0..),
        /// 1 for brokers, 2 for controllers.
        pub endpoint_type: i8 => (1.., default 1),
        /// Whether to tell of fenced brokers.
        pub include_fenced_brokers: bool => (2..),
    }
}

message! {
    DescribeClusterResponse<'a>, versions 0..=2, flexible 0;

    /// Answer to [`DescribeClusterRequest`].
    pub struct DescribeClusterResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (0.., nullable 0..),
        /// 1 for brokers, 2 for controllers.
        pub endpoint_type: i8 => (1.., default 1),
        /// Id of the cluster.
        pub cluster_id: Cow<'a, str> => (0..),
        /// Id of the controller, or −1.
        pub controller_id: i32 => (0.., default -1),
        /// The brokers.
        pub brokers: Vec<DescribeClusterBroker<'a>> => (0..),
        /// Operations that the client may do, one bit each; `i32::MIN` if not asked for.
        pub cluster_authorized_operations: i32 => (0.., default i32::MIN),
    }

    /// A broker (or controller) of the cluster.
    pub struct DescribeClusterBroker<'a> {
        /// Id of the broker.
        pub broker_id: i32 => (0..),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (0..),
        /// Port at which it listens.
        pub port: i32 => (0..),
        /// Rack of the broker.
        pub rack: Option<Cow<'a, str>> => (0.., nullable 0..),
        /// Whether the controller keeps clients away from it.
        pub is_fenced: bool => (2..),
    }
}
