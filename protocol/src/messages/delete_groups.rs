//! `DeleteGroups`: deletes empty groups with their offsets.
//!
//! Source: Kafka protocol guide, `DeleteGroups`; KIP-229.

use std::borrow::Cow;

use super::declare::message;

message! {
    DeleteGroupsRequest<'a>, versions 0..=2, flexible 2;

    /// Request of the API that deletes empty groups with their offsets.
    pub struct DeleteGroupsRequest<'a> {
        /// Ids of the groups.
        pub groups_names: Vec<Cow<'a, str>> => (0..),
    }
}

message! {
    DeleteGroupsResponse<'a>, versions 0..=2, flexible 2;

    /// Answer to [`DeleteGroupsRequest`].
    pub struct DeleteGroupsResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..),
        /// Outcomes by group.
        pub results: Vec<DeletableGroupResult<'a>> => (0..),
    }

    /// The outcome for one group.
    pub struct DeletableGroupResult<'a> {
        /// Id of the group.
        pub group_id: Cow<'a, str> => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
    }
}
