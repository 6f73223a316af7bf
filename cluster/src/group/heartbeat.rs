//! Heartbeat: a member says that it lives, and learns of a rebalance.

use protocol::ErrorCode;

use super::effects::Effects;
use super::event::HeartbeatRequest;
use super::group::Group;
use super::state::GroupState;

impl Group {
    /// *Source*: while the group completes a rebalance, members that have their generation already
    /// heartbeat normally.
    pub(super) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        fx: &mut Effects<'_>,
    ) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::CoordinatorNotAvailable;
        }
        let instance = request.group_instance_id.as_deref();
        if let Err(error) = self.validate_member(&request.member_id, instance) {
            return error;
        }
        if request.generation_id != self.generation_id {
            return ErrorCode::IllegalGeneration;
        }
        self.touch_session(&request.member_id, fx);
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
        }
    }
}
