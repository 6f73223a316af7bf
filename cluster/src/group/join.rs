//! `JoinGroup`: who may join, under which id, and whether it moves the group.
//!
//! *Source*: KIP-394 (a dynamic member learns its id before it joins), KIP-345 (static members), KIP-814
//! (a static leader keeps the assignment).

use protocol::ErrorCode;

use super::effects::{Effects, StaticReplacement, Then, append_error};
use super::event::{JoinReply, JoinRequest, MemberId, Reply, Token};
use super::group::Group;
use super::member::{Member, MemberTerms};
use super::records::OffsetsRecord;
use super::state::GroupState;
use super::timers::TimerKey;

/// The first version whose dynamic members must know their id before they join.
const VERSION_REQUIRES_MEMBER_ID: i16 = 4;
/// The first version whose static leader can be told to skip the assignment.
const VERSION_CAN_SKIP_ASSIGNMENT: i16 = 9;

impl Group {
    pub(super) fn join(&mut self, token: Token, request: &JoinRequest, fx: &mut Effects<'_>) {
        match self.try_join(token, request, fx) {
            Ok(()) => {}
            Err(error) => {
                fx.reply(
                    token,
                    Reply::Join(JoinReply::error(&request.member_id, error)),
                );
            }
        }
    }

    /// Answers or parks the join, or says why not.
    fn try_join(
        &mut self,
        token: Token,
        request: &JoinRequest,
        fx: &mut Effects<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if !self.has_room_for(&request.member_id, fx) {
            self.remove_member(&request.member_id, fx);
            self.maybe_complete_join(None, fx);
            let reply = JoinReply::error("", ErrorCode::GroupMaxSizeReached);
            fx.reply(token, Reply::Join(reply));
            return Ok(());
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match (&request.group_instance_id, request.member_id.is_empty()) {
            (Some(instance), true) => self.join_static(token, request, instance, fx),
            (None, true) => self.join_dynamic(token, request, fx)?,
            (instance, false) if self.pending_members.contains(&*request.member_id) => {
                if instance.is_some() {
                    // Ids are handed out to dynamic members only.
                    return Err(ErrorCode::UnknownMemberId);
                }
                self.join_new_member(token, request, request.member_id.as_str().into(), fx);
            }
            (instance, false) => {
                self.validate_member(&request.member_id, instance.as_deref())?;
                self.rejoin(token, request, fx)?;
            }
        }
        Ok(())
    }

    /// Whether the group may have this member. While it prepares a rebalance those count who joined:
    /// the last to come are turned away, whoever they are.
    fn has_room_for(&self, member_id: &str, fx: &Effects<'_>) -> bool {
        let members_max = fx.settings.members_max;
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let member = self.members.get(member_id);
                member.is_some_and(|m| m.parked_join.is_some())
                    || self.members.len() < members_max
                    || self.parked_join_count() < members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < members_max
            }
        }
    }

    fn join_dynamic(
        &mut self,
        token: Token,
        request: &JoinRequest,
        fx: &mut Effects<'_>,
    ) -> Result<(), ErrorCode> {
        let member_id = new_member_id(&request.client_id, &request.member_id_suffix);
        if self.is_known(&member_id) {
            // The driver's random text repeated itself; nothing is lost by another attempt.
            return Err(ErrorCode::UnknownMemberId);
        }
        if request.api_version < VERSION_REQUIRES_MEMBER_ID {
            self.join_new_member(token, request, member_id, fx);
            return Ok(());
        }
        if self.pending_members.len() >= fx.settings.pending_members_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        self.pending_members.insert(member_id.clone());
        let deadline = fx.deadline(request.session_timeout_ms);
        self.timers
            .schedule(TimerKey::Session(member_id.clone()), deadline);
        let reply = JoinReply::error(&member_id, ErrorCode::MemberIdRequired);
        fx.reply(token, Reply::Join(reply));
        Ok(())
    }

    fn join_static(
        &mut self,
        token: Token,
        request: &JoinRequest,
        instance: &str,
        fx: &mut Effects<'_>,
    ) {
        let member_id = new_member_id(instance, &request.member_id_suffix);
        if self.is_known(&member_id) {
            let reply = JoinReply::error("", ErrorCode::UnknownMemberId);
            fx.reply(token, Reply::Join(reply));
            return;
        }
        match self.static_members.get(instance).cloned() {
            Some(old_member_id) => {
                self.return_static(token, request, &old_member_id, &member_id, fx);
            }
            None => self.join_new_member(token, request, member_id, fx),
        }
    }

    fn is_known(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id) || self.pending_members.contains(member_id)
    }

    fn join_new_member(
        &mut self,
        token: Token,
        request: &JoinRequest,
        member_id: MemberId,
        fx: &mut Effects<'_>,
    ) {
        let member = Member {
            id: member_id.clone(),
            group_instance_id: request.group_instance_id.as_deref().map(Into::into),
            client_id: request.client_id.as_str().into(),
            client_host: request.client_host.as_str().into(),
            terms: MemberTerms::of(request),
            assignment: super::event::Bytes::default(),
            is_new: true,
            parked_join: Some(token),
            parked_sync: None,
        };
        if self.initial_delay.is_some() {
            self.has_new_member = true;
        }
        self.add_member(member, &request.protocol_type);
        let deadline = fx.deadline(fx.settings.new_member_join_timeout_ms);
        self.timers.schedule(TimerKey::Session(member_id), deadline);
        self.rebalance(None, fx);
    }

    /// A member that is in the group joins again.
    fn rejoin(
        &mut self,
        token: Token,
        request: &JoinRequest,
        fx: &mut Effects<'_>,
    ) -> Result<(), ErrorCode> {
        let member_id = &*request.member_id;
        let terms = MemberTerms::of(request);
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UnknownMemberId)?;
        let has_same_protocols = member.terms.protocols == terms.protocols;
        let is_answered = match self.state {
            GroupState::PreparingRebalance => false,
            // It did not receive the answer to its join, perhaps.
            GroupState::CompletingRebalance => has_same_protocols,
            // The leader joins again to force a rebalance, when the topics changed for instance.
            GroupState::Stable => has_same_protocols && !self.is_leader(member_id),
            GroupState::Empty | GroupState::Dead => return Err(ErrorCode::UnknownMemberId),
        };
        if is_answered {
            fx.reply(token, Reply::Join(self.join_reply(member_id)));
            return Ok(());
        }
        self.set_terms(member_id, terms);
        self.park_join(member_id, token, fx);
        self.rebalance(None, fx);
        Ok(())
    }

    /// A static member came back under a new id: it takes the place of its old self.
    fn return_static(
        &mut self,
        token: Token,
        request: &JoinRequest,
        old_member_id: &MemberId,
        new_member_id: &MemberId,
        fx: &mut Effects<'_>,
    ) {
        let old_leader = self.leader.clone();
        self.replace_static_member(old_member_id, new_member_id, fx);
        self.touch_session(new_member_id, fx);
        let old_terms = self
            .members
            .get(new_member_id)
            .map(|member| member.terms.clone());
        self.set_terms(new_member_id, MemberTerms::of(request));
        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol_name => {
                if let Some(member) = self.members.get_mut(new_member_id) {
                    member.parked_join = Some(token);
                }
                let record =
                    OffsetsRecord::group_metadata(self.to_metadata(&self.assignments()), &self.id);
                let replacement = StaticReplacement {
                    token,
                    generation_id: self.generation_id,
                    old_member_id: old_member_id.clone(),
                    new_member_id: new_member_id.clone(),
                    old_leader,
                    old_terms: old_terms.unwrap_or_else(|| MemberTerms::of(request)),
                    can_skip_assignment: request.api_version >= VERSION_CAN_SKIP_ASSIGNMENT,
                };
                fx.append(
                    &self.id,
                    vec![record],
                    Then::StaticMember(Box::new(replacement)),
                );
            }
            // The leader may have been told the old id already, and would assign nothing to the new.
            GroupState::Stable
            | GroupState::CompletingRebalance
            | GroupState::PreparingRebalance => {
                self.park_join(new_member_id, token, fx);
                self.rebalance(None, fx);
            }
            GroupState::Empty | GroupState::Dead => {
                unreachable!("group {} has no members in {:?}", self.id, self.state)
            }
        }
    }

    /// The record of a returned static member is durable, or not.
    pub(super) fn static_member_written(
        &mut self,
        replacement: &StaticReplacement,
        result: Result<(), ErrorCode>,
        fx: &mut Effects<'_>,
    ) {
        let member_id = &replacement.new_member_id;
        let still_waits = self.state == GroupState::Stable
            && self.generation_id == replacement.generation_id
            && self
                .members
                .get(member_id)
                .is_some_and(|member| member.parked_join == Some(replacement.token));
        if !still_waits {
            // A rebalance has begun, and answers the join; or the member was replaced, and was told.
            return;
        }
        let mut reply = self.join_reply(member_id);
        match result {
            Ok(()) if replacement.can_skip_assignment => {
                reply.skip_assignment = self.is_leader(member_id);
            }
            Ok(()) => {
                // A client that cannot skip the assignment must not think that it leads.
                reply.members.clear();
                reply.leader = replacement.old_leader.clone().unwrap_or_else(|| "".into());
            }
            Err(error) => {
                reply.error = append_error(error);
                reply.members.clear();
                reply.leader = replacement.old_leader.clone().unwrap_or_else(|| "".into());
                reply.member_id = "".into();
            }
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.parked_join = None;
        }
        fx.reply(replacement.token, Reply::Join(reply));
        if result.is_err() {
            self.set_terms(member_id, replacement.old_terms.clone());
            self.replace_static_member(member_id, &replacement.old_member_id, fx);
            self.touch_session(&replacement.old_member_id, fx);
        } else {
            self.touch_session(member_id, fx);
        }
    }
}

fn new_member_id(prefix: &str, suffix: &str) -> MemberId {
    assert!(!suffix.is_empty(), "a member id needs random text");
    format!("{prefix}-{suffix}").into()
}
