//! `JoinGroup`: makes a consumer a member of a group, and starts a rebalance.
//!
//! Source: Kafka protocol guide, `JoinGroup`; KIP-345 (static members), KIP-394 (required member
//! ids), KIP-559 (protocol names), KIP-814 (skipped assignment).

use std::borrow::Cow;

use super::declare::message;

message! {
    JoinGroupRequest<'a>, versions 0..=9, flexible 6;

    /// Request of the API that makes a consumer a member of a group, and starts a rebalance.
    pub struct JoinGroupRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// Silence after which the member is taken for dead, in milliseconds.
        pub session_timeout_ms: i32 => (0..),
        /// Time that members have to join again, in milliseconds; −1 for the session timeout.
        pub rebalance_timeout_ms: i32 => (1.., default -1; ignorable),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (5.., nullable 5..),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Cow<'a, str> => (0..),
        /// Protocols that the member supports, the preferred first.
        pub protocols: Vec<JoinGroupRequestProtocol<'a>> => (0..),
        /// Why, for people.
        pub reason: Option<Cow<'a, str>> => (8.., nullable 8..; ignorable),
    }

    /// An assignment protocol that the member supports.
    pub struct JoinGroupRequestProtocol<'a> {
        /// Name of the protocol.
        pub name: Cow<'a, str> => (0..),
        /// What the member tells to the leader.
        pub metadata: Cow<'a, [u8]> => (0..),
    }
}

message! {
    JoinGroupResponse<'a>, versions 0..=9, flexible 6;

    /// Answer to [`JoinGroupRequest`].
    pub struct JoinGroupResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (2..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Generation of the group, or −1.
        pub generation_id: i32 => (0.., default -1),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Option<Cow<'a, str>> => (7.., nullable 7..; ignorable),
        /// The protocol that was chosen.
        pub protocol_name: Option<Cow<'a, str>> => (0.., nullable 7.., default Some(Cow::Borrowed(""))),
        /// Member id of the leader.
        pub leader: Cow<'a, str> => (0..),
        /// Whether the leader shall leave the assignment as it is.
        pub skip_assignment: bool => (9..),
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// The members; only the leader is told.
        pub members: Vec<JoinGroupResponseMember<'a>> => (0..),
    }

    /// A member, told to the leader of the group.
    pub struct JoinGroupResponseMember<'a> {
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
        /// What the member tells to the leader.
        pub metadata: Cow<'a, [u8]> => (0..),
    }
}
