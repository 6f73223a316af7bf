//! One classic consumer group: its members, its state, and the small changes of which the rules are made.
//!
//! *Place*: [`Groups`](super::Groups) owns it; `join`, `sync`, `heartbeat`, `leave`, `rebalance`, `session`,
//! `commit`, `fetch` and `delete` beside this file are its rules.
//!
//! *Invariants*
//! - I1. `Empty` and `Dead` groups have no members and no selected protocol.
//! - I2. A group with members has a leader among them; one without has none.
//! - I3. A static name belongs to exactly one member, and that member carries it.
//! - I4. A pending member is not a member, and its session is watched.
//! - I5. Joins are parked in `PreparingRebalance`, and in `Stable` by a static member that returned;
//!   syncs in `CompletingRebalance` only.
//! - I6. In `CompletingRebalance` and `Stable` a protocol is selected that every member supports.
//! - I7. Members share at least one protocol.
//! - I8. A member is watched by a session deadline, or has a request parked.
//! - I9. `PreparingRebalance` has a deadline for the joins; members that owe a sync have one too.
//!
//! *Source*: the classic group protocol of Apache Kafka 4.3, KIP-345, KIP-394, KIP-814.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;

use super::effects::Effects;
use super::event::{
    Bytes, GroupId, JoinReply, MemberId, MemberProtocol, Now, Reply, SyncReply, Token,
};
use super::member::{Member, MemberTerms};
use super::offsets::CommittedOffsets;
use super::state::GroupState;
use super::subscription;
use super::timers::{TimerKey, Timers};

/// The protocol type of consumers, whose subscriptions the group can read.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// How much longer an initial rebalance may be delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// The part that runs now.
    pub(super) delay_ms: i32,
    /// What may be added if more members come.
    pub(super) remaining_ms: i32,
}

/// One classic consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) state: GroupState,
    /// When the group came into its state; unknown in very old records.
    pub(super) state_since_ms: Option<i64>,
    pub(super) generation_id: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol_name: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) static_members: BTreeMap<Arc<str>, MemberId>,
    /// Members that were given an id and have not joined with it (KIP-394).
    pub(super) pending_members: BTreeSet<MemberId>,
    /// Members that owe a sync in this generation.
    pub(super) pending_syncs: BTreeSet<MemberId>,
    /// How many members support each protocol.
    protocol_support: BTreeMap<Arc<str>, usize>,
    /// Topics that the members subscribe to, if the group can know them.
    pub(super) subscribed_topics: Option<BTreeSet<String>>,
    /// Set while the rebalance is the first after `Empty`.
    pub(super) initial_delay: Option<InitialDelay>,
    /// Whether somebody joined since the initial delay was last extended.
    pub(super) has_new_member: bool,
    pub(super) timers: Timers,
    /// Durable offsets.
    pub(super) offsets: CommittedOffsets,
}

impl Group {
    /// A group that nobody has joined.
    pub(super) fn new(id: GroupId, now: Now) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            state_since_ms: Some(now.wall_ms),
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            protocol_support: BTreeMap::new(),
            subscribed_topics: None,
            initial_delay: None,
            has_new_member: false,
            timers: Timers::default(),
            offsets: CommittedOffsets::default(),
        }
    }

    pub(super) fn transition_to(&mut self, state: GroupState, now: Now) {
        assert!(
            self.state.may_become(state),
            "group {} cannot go from {:?} to {state:?}",
            self.id,
            self.state
        );
        self.state = state;
        self.state_since_ms = Some(now.wall_ms);
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn leader_or_empty(&self) -> MemberId {
        self.leader.clone().unwrap_or_else(|| MemberId::from(""))
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// The longest rebalance timeout among the members, for the group waits for the slowest.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|m| m.terms.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    pub(super) fn parked_join_count(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.parked_join.is_some())
            .count()
    }

    pub(super) fn have_all_members_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|m| m.parked_join.is_some())
    }

    /// Checks that a request comes from a member, and from the current bearer of its static name.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(existing) if &**existing != member_id => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    /// Whether a member of this kind could work with those that are here.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[MemberProtocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.is_supported_by_all(&p.name))
    }

    fn is_supported_by_all(&self, protocol_name: &str) -> bool {
        let support = self
            .protocol_support
            .get(protocol_name)
            .copied()
            .unwrap_or(0);
        support == self.members.len()
    }

    pub(super) fn add_member(&mut self, member: Member, protocol_type: &str) {
        if let Some(instance) = &member.group_instance_id {
            let previous = self
                .static_members
                .insert(instance.clone(), member.id.clone());
            assert!(
                previous.is_none(),
                "{instance} is already a member of group {}",
                self.id
            );
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.into());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_members.remove(&member.id);
        self.count_protocols(&member.terms);
        let previous = self.members.insert(member.id.clone(), member);
        assert!(
            previous.is_none(),
            "a member joined group {} twice",
            self.id
        );
    }

    /// Removes a member, or a pending member, and answers what it has parked.
    pub(super) fn remove_member(&mut self, member_id: &str, fx: &mut Effects<'_>) {
        self.pending_members.remove(member_id);
        self.pending_syncs.remove(member_id);
        self.timers.cancel(&TimerKey::Session(member_id.into()));
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.discount_protocols(&member.terms);
        if let Some(instance) = &member.group_instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        // The client may be alive after all: told that it is unknown, it joins anew.
        fx.commands
            .extend(member.refuse_parked("", ErrorCode::UnknownMemberId));
    }

    /// Gives a static member's place to its new incarnation, and fences the old one.
    pub(super) fn replace_static_member(
        &mut self,
        old_member_id: &str,
        new_member_id: &MemberId,
        fx: &mut Effects<'_>,
    ) {
        let mut member = self
            .members
            .remove(old_member_id)
            .expect("a static name has a member");
        fx.commands
            .extend(member.refuse_parked(old_member_id, ErrorCode::FencedInstanceId));
        member.id = new_member_id.clone();
        member.parked_join = None;
        member.parked_sync = None;
        let instance = member
            .group_instance_id
            .clone()
            .expect("the member is static");
        self.static_members.insert(instance, new_member_id.clone());
        if self.is_leader(old_member_id) {
            self.leader = Some(new_member_id.clone());
        }
        if self.pending_syncs.remove(old_member_id) {
            self.pending_syncs.insert(new_member_id.clone());
        }
        self.timers.cancel(&TimerKey::Session(old_member_id.into()));
        self.members.insert(new_member_id.clone(), member);
    }

    /// Changes what a member has agreed to.
    pub(super) fn set_terms(&mut self, member_id: &str, terms: MemberTerms) {
        self.count_protocols(&terms);
        let member = self
            .members
            .get_mut(member_id)
            .expect("terms are changed of a member");
        let old_terms = std::mem::replace(&mut member.terms, terms);
        self.discount_protocols(&old_terms);
    }

    /// Parks a join, and answers an older one of the same member: its client has given up on it.
    pub(super) fn park_join(&mut self, member_id: &str, token: Token, fx: &mut Effects<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if let Some(older) = member.parked_join.replace(token) {
            let reply = JoinReply::error(member_id, ErrorCode::RebalanceInProgress);
            fx.reply(older, Reply::Join(reply));
        }
    }

    /// Parks a sync, and answers an older one of the same member.
    pub(super) fn park_sync(&mut self, member_id: &str, token: Token, fx: &mut Effects<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if let Some(older) = member.parked_sync.replace(token) {
            fx.reply(
                older,
                Reply::Sync(SyncReply::error(ErrorCode::RebalanceInProgress)),
            );
        }
    }

    /// Starts a member's session anew.
    pub(super) fn touch_session(&mut self, member_id: &str, fx: &Effects<'_>) {
        if let Some(member) = self.members.get(member_id) {
            let deadline = fx.deadline(member.terms.session_timeout_ms);
            self.timers
                .schedule(TimerKey::Session(member.id.clone()), deadline);
        }
    }

    /// The protocol with the most votes among those that all members support; the leader's
    /// preference decides a tie.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let candidates: BTreeSet<&str> = self
            .protocol_support
            .iter()
            .filter(|(_, support)| **support == self.members.len())
            .map(|(name, _)| &**name)
            .collect();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(&candidates) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        // The leader supports every candidate, so that one of the winners is found here.
        let mut favourites = leader.terms.protocols.iter().map(|p| &p.name);
        favourites
            .find(|name| votes.get(name) == Some(&most))
            .cloned()
    }

    /// Reads the members' subscriptions under the selected protocol.
    pub(super) fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol_name = self.protocol_name.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.terms.metadata(protocol_name)?;
            topics.extend(subscription::topics(metadata)?);
        }
        Some(topics)
    }

    /// Whether members may be consuming the topic. A consumer group whose subscriptions cannot be read
    /// may be consuming anything.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// The assignment of each member, as it stands.
    pub(super) fn assignments(&self) -> BTreeMap<MemberId, Bytes> {
        self.members
            .iter()
            .map(|(id, member)| (id.clone(), member.assignment.clone()))
            .collect()
    }

    fn count_protocols(&mut self, terms: &MemberTerms) {
        for protocol in &terms.protocols {
            *self
                .protocol_support
                .entry(protocol.name.clone())
                .or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, terms: &MemberTerms) {
        for protocol in &terms.protocols {
            let support = self
                .protocol_support
                .get_mut(&protocol.name)
                .expect("the protocol was counted");
            *support -= 1;
            if *support == 0 {
                self.protocol_support.remove(&protocol.name);
            }
        }
    }

    /// Checks the invariants of the module header.
    pub(super) fn check_invariants(&self) {
        self.timers.check_invariants();
        self.check_membership();
        self.check_state();
        for member in self.members.values() {
            self.check_member(member);
        }
    }

    fn check_membership(&self) {
        match &self.leader {
            Some(leader) => assert!(self.members.contains_key(leader), "I2: {leader} leads"),
            None => assert!(
                self.members.is_empty(),
                "I2: nobody leads group {}",
                self.id
            ),
        }
        for (instance, member_id) in &self.static_members {
            let member = self.members.get(member_id);
            let carried = member.and_then(|m| m.group_instance_id.as_ref());
            assert_eq!(carried, Some(instance), "I3");
        }
        for member_id in &self.pending_members {
            assert!(
                !self.members.contains_key(member_id),
                "I4: {member_id} is a member"
            );
            let key = TimerKey::Session(member_id.clone());
            assert!(
                self.timers.is_scheduled(&key),
                "I4: {member_id} is not watched"
            );
        }
        for member_id in self.timers.sessions() {
            let is_known = self.members.contains_key(member_id);
            assert!(
                is_known || self.pending_members.contains(member_id),
                "{member_id} is gone"
            );
        }
        let mut support: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for protocol in self.members.values().flat_map(|m| &m.terms.protocols) {
            *support.entry(protocol.name.clone()).or_default() += 1;
        }
        assert_eq!(support, self.protocol_support, "support is miscounted");
        if !self.members.is_empty() {
            assert!(
                support.values().any(|count| *count == self.members.len()),
                "I7"
            );
        }
    }

    fn check_state(&self) {
        match self.state {
            GroupState::Empty | GroupState::Dead => {
                assert!(self.members.is_empty(), "I1: members in {:?}", self.state);
                assert!(
                    self.protocol_name.is_none(),
                    "I1: a protocol in {:?}",
                    self.state
                );
            }
            GroupState::PreparingRebalance => {
                assert!(
                    self.timers.is_scheduled(&TimerKey::Join),
                    "I9: no deadline for joins"
                );
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                assert!(!self.members.is_empty(), "nobody in {:?}", self.state);
                let name = self
                    .protocol_name
                    .as_ref()
                    .expect("I6: no protocol is selected");
                assert!(self.is_supported_by_all(name), "I6: not all support {name}");
                assert!(
                    !self.timers.is_scheduled(&TimerKey::Join),
                    "a deadline for joins remains"
                );
            }
        }
        if self.state != GroupState::PreparingRebalance {
            assert!(self.initial_delay.is_none(), "a delay remains");
        }
        assert!(
            self.pending_syncs
                .iter()
                .all(|id| self.members.contains_key(id))
        );
        let awaits_syncs = self.timers.is_scheduled(&TimerKey::Sync);
        assert_eq!(
            awaits_syncs,
            !self.pending_syncs.is_empty(),
            "I9: syncs in {:?}",
            self.state
        );
    }

    fn check_member(&self, member: &Member) {
        let id = &member.id;
        if let Some(instance) = &member.group_instance_id {
            assert_eq!(self.static_members.get(instance), Some(id), "I3");
        }
        if member.parked_join.is_some() {
            let returned = member.is_static() && self.state == GroupState::Stable;
            assert!(
                returned || self.state == GroupState::PreparingRebalance,
                "I5: {id} joins"
            );
        }
        if member.parked_sync.is_some() {
            assert_eq!(
                self.state,
                GroupState::CompletingRebalance,
                "I5: {id} syncs"
            );
        }
        let is_watched = self.timers.is_scheduled(&TimerKey::Session(id.clone()));
        assert!(
            is_watched || member.has_satisfied_heartbeat(),
            "I8: {id} may stay for ever"
        );
    }
}
