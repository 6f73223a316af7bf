//! `FindCoordinator`: tells which broker coordinates a group or a transactional id.
//!
//! Source: Kafka protocol guide, `FindCoordinator`; KIP-699 (many keys).

use std::borrow::Cow;

use super::declare::message;

message! {
    FindCoordinatorRequest<'a>, versions 0..=6, flexible 3;

    /// Request of the API that tells which broker coordinates a group or a transactional id.
    pub struct FindCoordinatorRequest<'a> {
        /// Group id or transactional id (versions up to 3).
        pub key: Cow<'a, str> => (0..=3),
        /// 0 for a group, 1 for a transactional id, 2 for a share group.
        pub key_type: i8 => (1..),
        /// Group ids or transactional ids.
        pub coordinator_keys: Vec<Cow<'a, str>> => (4..),
    }
}

message! {
    FindCoordinatorResponse<'a>, versions 0..=6, flexible 3;

    /// Answer to [`FindCoordinatorRequest`].
    pub struct FindCoordinatorResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..=3),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (1..=3, nullable 1..=3, default Some(Cow::Borrowed("")); ignorable),
        /// Id of the broker.
        pub node_id: i32 => (0..=3),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (0..=3),
        /// Port at which it listens.
        pub port: i32 => (0..=3),
        /// A coordinator for each key.
        pub coordinators: Vec<Coordinator<'a>> => (4..),
    }

    /// The coordinator of one key.
    pub struct Coordinator<'a> {
        /// Group id or transactional id.
        pub key: Cow<'a, str> => (4..),
        /// Id of the broker.
        pub node_id: i32 => (4..),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (4..),
        /// Port at which it listens.
        pub port: i32 => (4..),
        /// What went wrong, or 0.
        pub error_code: i16 => (4..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (4.., nullable 4.., default Some(Cow::Borrowed("")); ignorable),
    }
}
