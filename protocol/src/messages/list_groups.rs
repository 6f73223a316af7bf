//! `ListGroups`: tells the groups that a broker coordinates.
//!
//! Source: Kafka protocol guide, `ListGroups`; KIP-518 (states), KIP-848 (types).

use std::borrow::Cow;

use super::declare::message;

message! {
    ListGroupsRequest<'a>, versions 0..=5, flexible 3;

    /// Request of the API that tells the groups that a broker coordinates.
    pub struct ListGroupsRequest<'a> {
        /// States to tell about; empty for all.
        pub states_filter: Vec<Cow<'a, str>> => (4..),
        /// Types to tell about; empty for all.
        pub types_filter: Vec<Cow<'a, str>> => (5..),
    }
}

message! {
    ListGroupsResponse<'a>, versions 0..=5, flexible 3;

    /// Answer to [`ListGroupsRequest`].
    pub struct ListGroupsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// The groups.
        pub groups: Vec<ListedGroup<'a>> => (0..),
    }

    /// One group.
    pub struct ListedGroup<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// Kind of group: `consumer` for consumers.
        pub protocol_type: Cow<'a, str> => (0..),
        /// State of the group.
        pub group_state: Cow<'a, str> => (4..; ignorable),
        /// `classic`, `consumer`, or another kind.
        pub group_type: Cow<'a, str> => (5..; ignorable),
    }
}
