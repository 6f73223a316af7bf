//! `DescribeGroups`: tells the state and the members of groups.
//!
//! Source: Kafka protocol guide, `DescribeGroups`; KIP-430 (authorized operations), KIP-1043
//! (missing groups).

use std::borrow::Cow;

use super::declare::message;

message! {
    DescribeGroupsRequest<'a>, versions 0..=6, flexible 5;

    /// Request of the API that tells the state and the members of groups.
    pub struct DescribeGroupsRequest<'a> {
        /// The groups.
        pub groups: Vec<Cow<'a, str>> => (0..),
        /// Whether to tell what the client may do with the groups.
        pub include_authorized_operations: bool => (3..),
    }
}

message! {
    DescribeGroupsResponse<'a>, versions 0..=6, flexible 5;

    /// Answer to [`DescribeGroupsRequest`].
    pub struct DescribeGroupsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// The groups.
        pub groups: Vec<DescribedGroup<'a>> => (0..),
    }

    /// One group.
    pub struct DescribedGroup<'a> {
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (6.., nullable 6..),
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// State of the group.
        pub group_state: Cow<'a, str> => (0..),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Cow<'a, str> => (0..),
        /// The protocol that was chosen.
        pub protocol_data: Cow<'a, str> => (0..),
        /// The members.
        pub members: Vec<DescribedGroupMember<'a>> => (0..),
        /// Operations that the client may do, one bit each; `i32::MIN` if not asked for.
        pub authorized_operations: i32 => (3.., default i32::MIN),
    }

    /// One member of a group.
    pub struct DescribedGroupMember<'a> {
        /// Id that the coordinator gave to the member; empty before that.
        pub member_id: Cow<'a, str> => (0..),
        /// Name of a static member.
        pub group_instance_id: Option<Cow<'a, str>> => (4.., nullable 4..; ignorable),
        /// Client id that the member last joined with.
        pub client_id: Cow<'a, str> => (0..),
        /// Address of the member.
        pub client_host: Cow<'a, str> => (0..),
        /// What the member told when it joined.
        pub member_metadata: Cow<'a, [u8]> => (0..),
        /// What the member shall consume.
        pub member_assignment: Cow<'a, [u8]> => (0..),
    }
}
