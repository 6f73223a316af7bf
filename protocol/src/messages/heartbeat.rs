//! `Heartbeat`: keeps a member in its group.
//!
//! Source: Kafka protocol guide, `Heartbeat`; KIP-345 (static members).

use std::borrow::Cow;

use super::declare::message;

message! {
    HeartbeatRequest<'a>, versions 0..=4, flexible 4;

    /// Request of the API that keeps a member in its group.
    pub struct HeartbeatRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// Generation of the group, or −1.
        pub generation_id: i32 => (0..),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (3.., nullable 3..),
    }
}

message! {
    HeartbeatResponse, versions 0..=4, flexible 4;

    /// Answer to [`HeartbeatRequest`].
    pub struct HeartbeatResponse {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
    }
}
