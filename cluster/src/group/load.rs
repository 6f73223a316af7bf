//! Rebuilding the groups of a partition from its records.
//!
//! *Place*: the driver replays the partition from its start to its end into a [`Loader`], in order, and
//! then serves the [`Groups`] that come out.
//!
//! *Invariants*
//! - I1. The last record of a key wins, whether the topic was compacted or not.
//! - I2. A loaded group is `Empty` or `Stable`: a rebalance that was under way begins again when its
//!   members find that their generation is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{GroupId, MemberProtocol, Now};
use super::group::Group;
use super::groups::Groups;
use super::member::{Member, MemberTerms};
use super::offsets::OffsetUpdate;
use super::records::{
    DecodedRecord, GroupMetadata, MemberMetadata, OffsetAndMetadata, OffsetsRecord, RecordError,
    decode,
};
use super::settings::GroupSettings;
use super::state::GroupState;

/// Collects the records of a partition.
#[derive(Debug, Default)]
pub struct Loader {
    groups: BTreeMap<GroupId, Loaded>,
    skipped_record_count: u64,
}

/// What is known of one group so far.
#[derive(Debug, Default)]
struct Loaded {
    metadata: Option<GroupMetadata>,
    offsets: BTreeMap<(Arc<str>, i32), OffsetAndMetadata>,
}

impl Loader {
    /// Nothing loaded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record of the partition.
    ///
    /// # Errors
    /// If the record cannot be read. To go on without it may lose offsets.
    pub fn record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), RecordError> {
        match decode(key, value)? {
            DecodedRecord::Known(record) => self.replay(record),
            // Written for a kind of group that is not served.
            DecodedRecord::Other { key_version: _ } => self.skipped_record_count += 1,
        }
        Ok(())
    }

    /// Records of kinds that are not served.
    pub fn skipped_record_count(&self) -> u64 {
        self.skipped_record_count
    }

    fn replay(&mut self, record: OffsetsRecord) {
        let group_id = record.group_id().clone();
        let loaded = self.groups.entry(group_id.clone()).or_default();
        match record {
            OffsetsRecord::Offset {
                topic,
                partition,
                value: Some(offset),
                ..
            } => {
                loaded.offsets.insert((topic, partition), offset);
            }
            OffsetsRecord::Offset {
                topic,
                partition,
                value: None,
                ..
            } => {
                loaded.offsets.remove(&(topic, partition));
            }
            OffsetsRecord::Group { value, .. } => loaded.metadata = value,
        }
        if loaded.metadata.is_none() && loaded.offsets.is_empty() {
            self.groups.remove(&group_id);
        }
    }

    /// The groups as of the last record. Members' sessions begin at `now`.
    pub fn finish(self, settings: GroupSettings, now: Now) -> Groups {
        let mut groups = Groups::new(settings, now);
        for (group_id, loaded) in self.groups {
            let mut group = Group::new(group_id, now);
            // Without a record of the group nobody knows since when it is empty.
            group.state_since_ms = None;
            if let Some(metadata) = loaded.metadata {
                group.restore(metadata);
            }
            for ((topic, partition), offset) in loaded.offsets {
                group.offsets.apply(OffsetUpdate {
                    topic,
                    partition,
                    value: Some(offset),
                });
            }
            groups.adopt(group, now);
        }
        groups
    }
}

impl Group {
    /// Becomes what its record says.
    fn restore(&mut self, metadata: GroupMetadata) {
        assert!(self.members.is_empty(), "a new group is restored");
        self.state_since_ms = (metadata.state_since_ms >= 0).then_some(metadata.state_since_ms);
        self.generation_id = metadata.generation_id;
        self.protocol_type =
            Some(metadata.protocol_type.clone()).filter(|protocol_type| !protocol_type.is_empty());
        for member in metadata.members {
            let Some(protocol_name) = &metadata.protocol_name else {
                break;
            };
            self.restore_member(member, protocol_name, &metadata.protocol_type);
        }
        if !self.members.is_empty() {
            self.state = GroupState::Stable;
            self.protocol_name = metadata.protocol_name;
            if let Some(leader) = metadata.leader.filter(|id| self.members.contains_key(id)) {
                self.leader = Some(leader);
            }
        }
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    fn restore_member(
        &mut self,
        member: MemberMetadata,
        protocol_name: &Arc<str>,
        protocol_type: &str,
    ) {
        let is_taken = member
            .group_instance_id
            .as_ref()
            .is_some_and(|instance| self.static_members.contains_key(instance));
        if is_taken || self.members.contains_key(&member.member_id) {
            // No broker writes a member twice; the first stays.
            return;
        }
        let rebalance_timeout_ms = if member.rebalance_timeout_ms < 0 {
            member.session_timeout_ms
        } else {
            member.rebalance_timeout_ms
        };
        let protocol = MemberProtocol {
            name: protocol_name.clone(),
            metadata: member.subscription,
        };
        let restored = Member {
            id: member.member_id,
            group_instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            terms: MemberTerms {
                rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![protocol],
            },
            assignment: member.assignment,
            is_new: false,
            parked_join: None,
            parked_sync: None,
        };
        self.add_member(restored, protocol_type);
    }
}
