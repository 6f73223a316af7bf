//! `SyncGroup`: hands the leader's assignment to the members of a group.
//!
//! Source: Kafka protocol guide, `SyncGroup`; KIP-345 (static members), KIP-559 (protocol names).

use std::borrow::Cow;

use super::declare::message;

message! {
    SyncGroupRequest<'a>, versions 0..=5, flexible 4;

    /// Request of the API that hands the leader's assignment to the members of a group.
    pub struct SyncGroupRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// Generation of the group, or −1.
        pub generation_id: i32 => (0..),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (3.., nullable 3..),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
        /// The protocol that was chosen.
        pub protocol_name: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
        /// What each member shall consume; only the leader tells.
        pub assignments: Vec<SyncGroupRequestAssignment<'a>> => (0..),
    }

    /// What the leader assigned to one member.
    pub struct SyncGroupRequestAssignment<'a> {
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// What the member shall consume.
        pub assignment: Cow<'a, [u8]> => (0..),
    }
}

message! {
    SyncGroupResponse<'a>, versions 0..=5, flexible 4;

    /// Answer to [`SyncGroupRequest`].
    pub struct SyncGroupResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
        /// The protocol that was chosen.
        pub protocol_name: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
        /// What the member shall consume.
        pub assignment: Cow<'a, [u8]> => (0..),
    }
}
