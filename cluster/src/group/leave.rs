//! `LeaveGroup`: members go, on their own or by an administrator's hand.

use protocol::ErrorCode;

use super::effects::Effects;
use super::event::{LeaveReply, LeaveRequest, LeavingMember, LeftMember, MemberId, Reply, Token};
use super::group::Group;
use super::state::GroupState;

impl Group {
    /// Answers when the group's being empty, if it comes to that, is durable.
    pub(super) fn leave(&mut self, token: Token, request: LeaveRequest, fx: &mut Effects<'_>) {
        if self.state == GroupState::Dead {
            let error = ErrorCode::CoordinatorNotAvailable;
            fx.reply(
                token,
                Reply::Leave(LeaveReply {
                    error,
                    members: Vec::new(),
                }),
            );
            return;
        }
        let mut members = Vec::with_capacity(request.members.len());
        for member in request.members {
            let error = match self.resolve_leaving(&member) {
                Ok(member_id) => {
                    self.remove_member(&member_id, fx);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            members.push(LeftMember { member, error });
        }
        let has_left = members.iter().any(|left| left.error == ErrorCode::None);
        let reply = Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members,
        });
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance if has_left => {
                self.rebalance(Some((token, reply)), fx);
            }
            GroupState::PreparingRebalance if has_left => {
                self.maybe_complete_join(Some((token, reply)), fx);
            }
            GroupState::Stable
            | GroupState::CompletingRebalance
            | GroupState::PreparingRebalance
            | GroupState::Empty
            | GroupState::Dead => fx.reply(token, reply),
        }
    }

    /// Finds who is meant: a member by its id, or a static member by its name alone (KIP-345).
    fn resolve_leaving(&self, member: &LeavingMember) -> Result<MemberId, ErrorCode> {
        let instance = member.group_instance_id.as_deref();
        if member.member_id.is_empty() {
            let found = instance.and_then(|name| self.static_members.get(name));
            return found.cloned().ok_or(ErrorCode::UnknownMemberId);
        }
        if let Some(pending) = self.pending_members.get(&*member.member_id) {
            return Ok(pending.clone());
        }
        self.validate_member(&member.member_id, instance)?;
        Ok(member.member_id.as_str().into())
    }
}
