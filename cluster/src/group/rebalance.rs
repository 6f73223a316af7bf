//! The rules of a rebalance: when it begins, whom it waits for, and how it ends.
//!
//! *Place*: called by the rules of join, sync, leave and session, when the membership changes.
//!
//! *Source*: Kafka's classic group coordinator: `prepareRebalance`, the initial rebalance delay, and the
//! completion of the join phase.

use super::effects::{Effects, Then};
use super::event::{JoinReply, JoinedMember, Reply, SyncReply, Token};
use super::group::{Group, InitialDelay};
use super::records::OffsetsRecord;
use super::state::GroupState;
use super::timers::TimerKey;

use protocol::ErrorCode;

impl Group {
    /// Begins a rebalance if none is under way, else sees whether the joins are complete.
    ///
    /// `then` is answered once the record is durable that a group without members writes, or at once
    /// when there is none.
    pub(super) fn rebalance(&mut self, then: Option<(Token, Reply)>, fx: &mut Effects<'_>) {
        if self.state.may_become(GroupState::PreparingRebalance) {
            self.prepare_rebalance(then, fx);
        } else {
            self.maybe_complete_join(then, fx);
        }
    }

    /// Begins a rebalance: members learn of it by their heartbeats and join again.
    pub(super) fn prepare_rebalance(&mut self, then: Option<(Token, Reply)>, fx: &mut Effects<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.reset_assignments(ErrorCode::RebalanceInProgress, fx);
        }
        self.pending_syncs.clear();
        self.timers.cancel(&TimerKey::Sync);
        let is_initial = self.state == GroupState::Empty;
        self.transition_to(GroupState::PreparingRebalance, fx.now);
        if is_initial {
            let delay_ms = fx.settings.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.has_new_member = false;
            self.initial_delay = Some(InitialDelay {
                delay_ms,
                remaining_ms,
            });
            self.timers.schedule(TimerKey::Join, fx.deadline(delay_ms));
            answer(then, fx);
        } else if self.have_all_members_joined() {
            self.complete_join(then, fx);
        } else {
            self.timers
                .schedule(TimerKey::Join, fx.deadline(self.rebalance_timeout_ms()));
            answer(then, fx);
        }
    }

    /// Ends the joins if nobody is missing; the first rebalance waits for its delay in any case.
    pub(super) fn maybe_complete_join(
        &mut self,
        then: Option<(Token, Reply)>,
        fx: &mut Effects<'_>,
    ) {
        let is_complete = self.state == GroupState::PreparingRebalance
            && self.initial_delay.is_none()
            && self.have_all_members_joined();
        if is_complete {
            self.complete_join(then, fx);
        } else {
            answer(then, fx);
        }
    }

    /// The deadline of the joins has come.
    pub(super) fn on_join_deadline(&mut self, fx: &mut Effects<'_>) {
        assert_eq!(
            self.state,
            GroupState::PreparingRebalance,
            "joins are awaited"
        );
        match self.initial_delay {
            Some(InitialDelay {
                delay_ms,
                remaining_ms,
            }) if self.has_new_member && remaining_ms > 0 => {
                self.has_new_member = false;
                let next_delay_ms = fx.settings.initial_rebalance_delay_ms.min(remaining_ms);
                self.initial_delay = Some(InitialDelay {
                    delay_ms: next_delay_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
                self.timers
                    .schedule(TimerKey::Join, fx.deadline(next_delay_ms));
            }
            Some(_) | None => self.complete_join(None, fx),
        }
    }

    /// Ends the joins with those who are here, and begins the next generation.
    pub(super) fn complete_join(&mut self, then: Option<(Token, Reply)>, fx: &mut Effects<'_>) {
        assert_eq!(self.state, GroupState::PreparingRebalance);
        self.timers.cancel(&TimerKey::Join);
        self.initial_delay = None;
        self.remove_missing_dynamic_members(fx);
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none of them joined: wait until their sessions end.
            self.timers
                .schedule(TimerKey::Join, fx.deadline(self.rebalance_timeout_ms()));
            answer(then, fx);
            return;
        }
        self.generation_id = next_generation(self.generation_id);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.become_empty(then, fx);
        } else {
            self.begin_generation(fx);
            answer(then, fx);
        }
    }

    /// Static members may be away for their session timeout; the others must join in time.
    fn remove_missing_dynamic_members(&mut self, fx: &mut Effects<'_>) {
        let missing: Vec<_> = self
            .members
            .values()
            .filter(|member| member.parked_join.is_none() && !member.is_static())
            .map(|member| member.id.clone())
            .collect();
        for member_id in missing {
            self.remove_member(&member_id, fx);
        }
    }

    /// Keeps the leader if it joined, or makes another who did the leader.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self
            .members
            .get(leader)
            .is_some_and(|m| m.parked_join.is_some())
        {
            return true;
        }
        let joined = self
            .members
            .values()
            .find(|m| m.parked_join.is_some())
            .map(|m| m.id.clone());
        match joined {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    fn become_empty(&mut self, then: Option<(Token, Reply)>, fx: &mut Effects<'_>) {
        self.protocol_name = None;
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition_to(GroupState::Empty, fx.now);
        let record = OffsetsRecord::group_metadata(self.to_metadata(&self.assignments()), &self.id);
        let then = then.map_or(Then::Nothing, |(token, reply)| Then::Reply(token, reply));
        fx.append(&self.id, vec![record], then);
    }

    fn begin_generation(&mut self, fx: &mut Effects<'_>) {
        let selected = self.select_protocol();
        assert!(
            selected.is_some(),
            "members of group {} share no protocol",
            self.id
        );
        self.protocol_name = selected;
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition_to(GroupState::CompletingRebalance, fx.now);
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let reply = self.join_reply(&member_id);
            let member = self.members.get_mut(&member_id).expect("listed above");
            member.is_new = false;
            if let Some(token) = member.parked_join.take() {
                fx.reply(token, Reply::Join(reply));
            }
            self.touch_session(&member_id, fx);
            self.pending_syncs.insert(member_id);
        }
        self.timers
            .schedule(TimerKey::Sync, fx.deadline(self.rebalance_timeout_ms()));
    }

    /// What a member is told of the current generation.
    pub(super) fn join_reply(&self, member_id: &str) -> JoinReply {
        let members = if self.is_leader(member_id) {
            self.joined_members()
        } else {
            Vec::new()
        };
        JoinReply {
            error: ErrorCode::None,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader_or_empty(),
            skip_assignment: false,
            member_id: member_id.into(),
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol_name = self.protocol_name.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinedMember {
                member_id: member.id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                metadata: member
                    .terms
                    .metadata(protocol_name)
                    .cloned()
                    .unwrap_or_default(),
            })
            .collect()
    }

    /// Takes the assignments back and answers parked syncs with `error`.
    pub(super) fn reset_assignments(&mut self, error: ErrorCode, fx: &mut Effects<'_>) {
        assert_eq!(self.state, GroupState::CompletingRebalance);
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.members.get_mut(&member_id).expect("listed above");
            member.assignment = super::event::Bytes::default();
            if let Some(token) = member.parked_sync.take() {
                fx.reply(token, Reply::Sync(SyncReply::error(error)));
                // Its session may have ended unnoticed while the sync was parked.
                self.touch_session(&member_id, fx);
            }
        }
    }

    /// The deadline of the syncs has come: who owes one is removed.
    pub(super) fn on_sync_deadline(&mut self, fx: &mut Effects<'_>) {
        let missing = std::mem::take(&mut self.pending_syncs);
        if missing.is_empty() {
            return;
        }
        assert!(matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        ));
        for member_id in missing {
            self.remove_member(&member_id, fx);
        }
        self.prepare_rebalance(None, fx);
    }
}

/// Generation ids grow; after the last comes the first, as −1 means "none".
fn next_generation(generation_id: i32) -> i32 {
    generation_id.checked_add(1).unwrap_or(0)
}

fn answer(then: Option<(Token, Reply)>, fx: &mut Effects<'_>) {
    if let Some((token, reply)) = then {
        fx.reply(token, reply);
    }
}
