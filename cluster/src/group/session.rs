//! Deadlines that have come: sessions that ended, joins and syncs that are awaited no longer.

use super::effects::Effects;
use super::group::Group;
use super::state::GroupState;
use super::timers::TimerKey;

impl Group {
    /// Does what is due at `fx.now`.
    ///
    /// A deadline set meanwhile is left for the next call, even if it is due already; so this ends.
    pub(super) fn on_time(&mut self, fx: &mut Effects<'_>) {
        let mut due = Vec::new();
        while let Some(key) = self.timers.pop_due(fx.now.timer_ms) {
            due.push(key);
        }
        for key in due {
            // What an earlier one of these did may have made this one pointless, or set it anew.
            if self.timers.is_scheduled(&key) {
                continue;
            }
            match key {
                TimerKey::Join if self.state == GroupState::PreparingRebalance => {
                    self.on_join_deadline(fx);
                }
                TimerKey::Join => {}
                TimerKey::Sync => self.on_sync_deadline(fx),
                TimerKey::Session(member_id) => self.on_session_end(&member_id, fx),
            }
        }
    }

    fn on_session_end(&mut self, member_id: &str, fx: &mut Effects<'_>) {
        if self.pending_members.contains(member_id) {
            self.remove_member(member_id, fx);
            self.maybe_complete_after_removal(fx);
            return;
        }
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if member.has_satisfied_heartbeat() {
            // Watched again when its parked request is answered.
            return;
        }
        self.remove_member(member_id, fx);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(None, fx),
            GroupState::PreparingRebalance => self.maybe_complete_after_removal(fx),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Ends the joins if only the removed member was missing. A failed member ends the initial delay
    /// too: nobody knows how long it was gone.
    fn maybe_complete_after_removal(&mut self, fx: &mut Effects<'_>) {
        if self.state == GroupState::PreparingRebalance && self.have_all_members_joined() {
            self.complete_join(None, fx);
        }
    }
}
