//! `DescribeGroups` and `ListGroups`: what a group shows of itself, and its metadata record.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Bytes, GroupId, MemberId};
use super::group::Group;
use super::records::{GroupMetadata, MemberMetadata};
use super::state::GroupState;

/// What `DescribeGroups` shows of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that nobody has joined.
    pub protocol_type: Arc<str>,
    /// The strategy of a stable group; empty otherwise.
    pub protocol_data: Arc<str>,
    /// The members, by id.
    pub members: Vec<MemberDescription>,
}

/// What `DescribeGroups` shows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where the client is.
    pub client_host: Arc<str>,
    /// Its subscription, while the group is stable; empty otherwise.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// What `ListGroups` shows of a group. All groups here are of the type `Classic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group_id: GroupId,
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that nobody has joined.
    pub protocol_type: Arc<str>,
}

/// Which groups `ListGroups` shows. Letters' case does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Names of states; empty for all.
    pub states: Vec<String>,
    /// Names of types; empty for all.
    pub types: Vec<String>,
}

/// The name of the type of the groups in this module.
pub const GROUP_TYPE: &str = "Classic";

impl ListFilter {
    pub(super) fn accepts(&self, state: GroupState) -> bool {
        let is_named = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.trim().eq_ignore_ascii_case(name))
        };
        is_named(&self.states, state.name()) && is_named(&self.types, GROUP_TYPE)
    }
}

impl Group {
    /// The state to show: a group is there until its tombstone is durable.
    pub(super) fn shown_state(&self) -> GroupState {
        if self.state == GroupState::Dead {
            GroupState::Empty
        } else {
            self.state
        }
    }

    pub(super) fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: self.id.clone(),
            state: self.shown_state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
        }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        let protocol_name = self
            .protocol_name
            .clone()
            .filter(|_| self.state == GroupState::Stable);
        let members = self.members.values().map(|member| {
            let metadata = protocol_name
                .as_ref()
                .and_then(|name| member.terms.metadata(name));
            MemberDescription {
                member_id: member.id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: metadata.cloned().unwrap_or_default(),
                assignment: member.assignment.clone(),
            }
        });
        GroupDescription {
            state: self.shown_state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol_data: protocol_name.unwrap_or_default(),
        }
    }

    /// The group as its record shows it, with these assignments.
    pub(super) fn to_metadata(&self, assignments: &BTreeMap<MemberId, Bytes>) -> GroupMetadata {
        let protocol_name = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.terms.rebalance_timeout_ms,
            session_timeout_ms: member.terms.session_timeout_ms,
            subscription: member
                .terms
                .metadata(protocol_name)
                .cloned()
                .unwrap_or_default(),
            assignment: assignments.get(&member.id).cloned().unwrap_or_default(),
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation_id: self.generation_id,
            members: members.collect(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms.unwrap_or(-1),
        }
    }
}
