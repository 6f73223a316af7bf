//! `SyncGroup`: the leader hands in the assignment, every member fetches its own.

use std::collections::BTreeMap;

use protocol::ErrorCode;

use super::effects::{Effects, Then, append_error};
use super::event::{Bytes, MemberId, Reply, SyncReply, SyncRequest, Token};
use super::group::Group;
use super::records::OffsetsRecord;
use super::state::GroupState;
use super::timers::TimerKey;

impl Group {
    pub(super) fn sync(&mut self, token: Token, request: SyncRequest, fx: &mut Effects<'_>) {
        if let Err(error) = self.validate_sync(&request) {
            fx.reply(token, Reply::Sync(SyncReply::error(error)));
            return;
        }
        match self.state {
            GroupState::PreparingRebalance => {
                fx.reply(
                    token,
                    Reply::Sync(SyncReply::error(ErrorCode::RebalanceInProgress)),
                );
            }
            GroupState::CompletingRebalance => {
                self.park_sync(&request.member_id, token, fx);
                self.sync_arrived(&request.member_id);
                if self.is_leader(&request.member_id) {
                    self.store_assignment(request.assignments, fx);
                }
            }
            GroupState::Stable => {
                self.sync_arrived(&request.member_id);
                fx.reply(token, Reply::Sync(self.sync_reply(&request.member_id)));
            }
            GroupState::Empty | GroupState::Dead => {
                fx.reply(
                    token,
                    Reply::Sync(SyncReply::error(ErrorCode::UnknownMemberId)),
                );
            }
        }
    }

    fn validate_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            GroupState::Empty => return Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => {}
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let agrees = |told: &Option<String>, ours: &Option<_>| match (told, ours) {
            (Some(told), Some(ours)) => {
                let ours: &std::sync::Arc<str> = ours;
                **told == **ours
            }
            // Versions before 5 do not say.
            (None, _) | (_, None) => true,
        };
        if !agrees(&request.protocol_type, &self.protocol_type)
            || !agrees(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn sync_arrived(&mut self, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.timers.cancel(&TimerKey::Sync);
        }
    }

    /// Writes the leader's assignment. Members that it forgot get an empty one.
    fn store_assignment(&mut self, handed_in: Vec<(String, Bytes)>, fx: &mut Effects<'_>) {
        let handed_in: BTreeMap<String, Bytes> = handed_in.into_iter().collect();
        let assignments: BTreeMap<MemberId, Bytes> = self
            .members
            .keys()
            .map(|id| {
                (
                    id.clone(),
                    handed_in.get(&**id).cloned().unwrap_or_default(),
                )
            })
            .collect();
        let record = OffsetsRecord::group_metadata(self.to_metadata(&assignments), &self.id);
        let then = Then::Assignment {
            generation_id: self.generation_id,
            assignments,
        };
        fx.append(&self.id, vec![record], then);
    }

    /// The assignment is durable, or not. If the group has moved on, it is of no interest.
    pub(super) fn assignment_written(
        &mut self,
        generation_id: i32,
        assignments: &BTreeMap<MemberId, Bytes>,
        result: Result<(), ErrorCode>,
        fx: &mut Effects<'_>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation_id != generation_id {
            return;
        }
        match result {
            Ok(()) => {
                self.transition_to(GroupState::Stable, fx.now);
                self.propagate_assignments(assignments, fx);
            }
            Err(error) => {
                self.reset_assignments(append_error(error), fx);
                self.rebalance(None, fx);
            }
        }
    }

    fn propagate_assignments(
        &mut self,
        assignments: &BTreeMap<MemberId, Bytes>,
        fx: &mut Effects<'_>,
    ) {
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.members.get_mut(&member_id).expect("listed above");
            member.assignment = assignments.get(&member_id).cloned().unwrap_or_default();
            if let Some(token) = member.parked_sync.take() {
                fx.reply(token, Reply::Sync(self.sync_reply(&member_id)));
                // Its session may have ended unnoticed while the sync was parked.
                self.touch_session(&member_id, fx);
            }
        }
    }

    fn sync_reply(&self, member_id: &str) -> SyncReply {
        let assignment = self.members.get(member_id).map(|m| m.assignment.clone());
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: assignment.unwrap_or_default(),
        }
    }
}
