//! `LeaveGroup`: takes members out of a group.
//!
//! Source: Kafka protocol guide, `LeaveGroup`; KIP-345 (static members, many at once), KIP-800
//! (reasons).

use std::borrow::Cow;

use super::declare::message;

message! {
    LeaveGroupRequest<'a>, versions 0..=5, flexible 4;

    /// Request of the API that takes members out of a group.
    pub struct LeaveGroupRequest<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// The member that leaves (versions up to 2).
        pub member_id: Cow<'a, str> => (0..=2),
        /// The members that leave (version 3 and later).
        pub members: Vec<MemberIdentity<'a>> => (3..),
    }

    /// A member that leaves.
    pub struct MemberIdentity<'a> {
        /// Id of the member; empty for a static member that another removes.
        pub member_id: Cow<'a, str> => (3..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (3.., nullable 3..),
        /// Why, for people.
        pub reason: Option<Cow<'a, str>> => (5.., nullable 5..; ignorable),
    }
}

message! {
    LeaveGroupResponse<'a>, versions 0..=5, flexible 4;

    /// Answer to [`LeaveGroupRequest`].
    pub struct LeaveGroupResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// The members.
        pub members: Vec<MemberResponse<'a>> => (3..),
    }

    /// The outcome for one member.
    pub struct MemberResponse<'a> {
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (3..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (3.., nullable 3.., default Some(Cow::Borrowed(""))),
        /// What went wrong, or 0.
        pub error_code: i16 => (3..),
    }
}
