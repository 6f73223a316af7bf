//! The groups of one partition of `__consumer_offsets`.
//!
//! *Place*: the driver of the partition's leader owns one, hands it every request, every end of an append
//! and the time, and performs the commands that come back. Nothing here awaits, reads a clock or draws a
//! random number.
//!
//! *Invariants*
//! - I1. Each request is answered exactly once, at once or by a later event.
//! - I2. `deadlines` holds the earliest deadline of each group that has one.
//! - I3. A group that is `Dead` has its deletion in flight.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ErrorCode;

use super::commit::failed_where_good;
use super::delete::DeletedTopic;
use super::describe::{GroupDescription, GroupListing, ListFilter};
use super::effects::{Effects, InFlight, Pending, Then, append_error};
use super::event::{
    AppendId, Command, CommitRequest, DeleteOffsetsReply, FetchRequest, GroupId, JoinRequest,
    LeaveReply, LeftMember, Now, Reply, Request, Token,
};
use super::fetch::fetch_nothing;
use super::group::Group;
use super::records::OffsetsRecord;
use super::settings::GroupSettings;
use super::state::GroupState;
use super::validate::validate_request;

/// A fetch that waits for commits that were made before it (KIP-447).
#[derive(Debug, Clone)]
struct ParkedFetch {
    token: Token,
    request: FetchRequest,
    after: AppendId,
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Groups {
    settings: GroupSettings,
    by_id: BTreeMap<GroupId, Group>,
    deadlines: BTreeSet<(i64, GroupId)>,
    deadline_of: BTreeMap<GroupId, i64>,
    next_expiry_ms: i64,
    in_flight: InFlight,
    parked_fetches: Vec<ParkedFetch>,
}

impl Groups {
    /// The groups of a new partition: none.
    pub fn new(settings: GroupSettings, now: Now) -> Self {
        let next_expiry_ms = now
            .timer_ms
            .saturating_add(settings.offsets_retention_check_interval_ms);
        Self {
            settings,
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            next_expiry_ms,
            in_flight: InFlight::default(),
            parked_fetches: Vec::new(),
        }
    }

    /// Takes a loaded group and begins its members' sessions.
    pub(super) fn adopt(&mut self, mut group: Group, now: Now) {
        let mut commands = Vec::new();
        let mut fx = Effects {
            now,
            settings: &self.settings,
            in_flight: &mut self.in_flight,
            commands: &mut commands,
        };
        let member_ids: Vec<_> = group.members.keys().cloned().collect();
        for member_id in member_ids {
            group.touch_session(&member_id, &fx);
        }
        if group.members.len() > self.settings.members_max {
            // The limit was lowered: the members join again, and the last to come are turned away.
            group.prepare_rebalance(None, &mut fx);
        }
        assert!(
            commands.is_empty(),
            "members of a loaded group wait for nothing"
        );
        let group_id = group.id.clone();
        self.by_id.insert(group_id.clone(), group);
        self.finish_event(&group_id);
    }

    /// Does what a request asks. The reply is among `commands` now or at a later event.
    pub fn handle(
        &mut self,
        token: Token,
        request: Request,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        if let Err(error) = validate_request(&request, &self.settings) {
            commands.push(Command::Reply(token, request.error_reply(error)));
            return;
        }
        let group_id = GroupId::from(request.group_id());
        match request {
            Request::Join(request) => self.join(token, &group_id, &request, now, commands),
            Request::CommitOffsets(request) => {
                self.commit(token, &group_id, &request, now, commands);
            }
            Request::FetchOffsets(request) => self.fetch(token, request, commands),
            request @ (Request::Sync(_)
            | Request::Heartbeat(_)
            | Request::Leave(_)
            | Request::DeleteOffsets(_)
            | Request::DeleteGroup { .. }) => {
                self.ask_existing(token, &group_id, request, now, commands);
            }
        }
        self.finish_event(&group_id);
    }

    /// An append has ended: durable, or not.
    ///
    /// # Panics
    /// If appends end in another order than they were commanded in.
    pub fn appended(
        &mut self,
        id: AppendId,
        result: Result<(), ErrorCode>,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        let Pending { group_id, then, .. } = self.in_flight.finish(id);
        if let Some((group, mut fx)) = self.group_and_effects(&group_id, now, commands) {
            match then {
                Then::Nothing => {}
                Then::Reply(token, reply) => fx.reply(token, failed_where_good(reply, result)),
                Then::Offsets { updates, reply } => {
                    group.offsets_written(updates, reply, result, &mut fx);
                }
                Then::Assignment {
                    generation_id,
                    assignments,
                } => {
                    group.assignment_written(generation_id, &assignments, result, &mut fx);
                }
                Then::StaticMember(replacement) => {
                    group.static_member_written(&replacement, result, &mut fx);
                }
                Then::DeleteGroup { token } => {
                    self.deleted(&group_id, token, result, now, commands);
                }
            }
        } else {
            // Only the deletion of a group removes it, and nothing is appended for it in between.
            assert_eq!(
                then,
                Then::Nothing,
                "group {group_id} went with a reply owed"
            );
        }
        self.answer_parked_fetches(id, commands);
        self.finish_event(&group_id);
    }

    /// Does what is due. To be called when [`next_deadline_ms`](Self::next_deadline_ms) has come, and
    /// harmless at any other time.
    pub fn on_time(&mut self, now: Now, commands: &mut Vec<Command>) {
        let mut due = Vec::new();
        while self
            .deadlines
            .first()
            .is_some_and(|(at_ms, _)| *at_ms <= now.timer_ms)
        {
            let Some((_, group_id)) = self.deadlines.pop_first() else {
                break;
            };
            self.deadline_of.remove(&group_id);
            due.push(group_id);
        }
        for group_id in due {
            if let Some((group, mut fx)) = self.group_and_effects(&group_id, now, commands) {
                group.on_time(&mut fx);
            }
            self.finish_event(&group_id);
        }
        if self.next_expiry_ms <= now.timer_ms {
            self.expire(now, commands);
        }
    }

    /// When [`on_time`](Self::on_time) has something to do, on the clock of [`Now::timer_ms`].
    pub fn next_deadline_ms(&self) -> i64 {
        match self.deadlines.first() {
            Some((at_ms, _)) => self.next_expiry_ms.min(*at_ms),
            None => self.next_expiry_ms,
        }
    }

    /// Deletes the offsets of topics that are gone.
    pub fn forget_topics(
        &mut self,
        deleted: &[DeletedTopic],
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        let group_ids: Vec<_> = self.by_id.keys().cloned().collect();
        for group_id in group_ids {
            if let Some((group, mut fx)) = self.group_and_effects(&group_id, now, commands) {
                group.forget_topics(deleted, &mut fx);
            }
            self.finish_event(&group_id);
        }
    }

    /// What `DescribeGroups` shows; nothing if there is no such group.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        self.by_id.get(group_id).map(Group::describe)
    }

    /// What `ListGroups` shows, by group id.
    pub fn list(&self, filter: &ListFilter) -> Vec<GroupListing> {
        self.by_id
            .values()
            .filter(|group| filter.accepts(group.shown_state()))
            .map(Group::listing)
            .collect()
    }

    /// The state of a group, for tests.
    #[cfg(test)]
    pub(super) fn group(&self, group_id: &str) -> &Group {
        self.by_id.get(group_id).expect("the group exists")
    }

    /// The number of groups.
    pub fn group_count(&self) -> usize {
        self.by_id.len()
    }

    /// The partition is led by another broker now, or by none: answers everything that waits.
    ///
    /// The machine must not be used afterwards.
    pub fn unload(mut self, commands: &mut Vec<Command>) {
        let error = ErrorCode::NotCoordinator;
        for pending in self.in_flight.take_all() {
            match pending.then {
                Then::Reply(token, reply)
                | Then::Offsets {
                    reply: Some((token, reply)),
                    ..
                } => {
                    let reply = failed_where_good(reply, Err(error));
                    commands.push(Command::Reply(token, reply));
                }
                Then::DeleteGroup { token: Some(token) } => {
                    commands.push(Command::Reply(token, Reply::DeleteGroup(error)));
                }
                // Members wait for these two, and are answered below.
                Then::Assignment { .. }
                | Then::StaticMember(_)
                | Then::Nothing
                | Then::Offsets { reply: None, .. }
                | Then::DeleteGroup { token: None } => {}
            }
        }
        for parked in std::mem::take(&mut self.parked_fetches) {
            let reply = Request::FetchOffsets(parked.request).error_reply(error);
            commands.push(Command::Reply(parked.token, reply));
        }
        for member in self.by_id.values().flat_map(|group| group.members.values()) {
            commands.extend(member.refuse_parked(&member.id, error));
        }
    }

    /// Checks the invariants of the groups and of this module.
    pub fn check_invariants(&self) {
        self.in_flight.check_invariants();
        for (group_id, group) in &self.by_id {
            assert_eq!(*group_id, group.id);
            self.check_group(group_id);
        }
        assert_eq!(self.deadlines.len(), self.deadline_of.len(), "I2");
        for (group_id, at_ms) in &self.deadline_of {
            assert!(self.by_id.contains_key(group_id), "I2: {group_id} is gone");
            assert!(
                self.deadlines.contains(&(*at_ms, group_id.clone())),
                "I2: {group_id}"
            );
        }
    }

    fn join(
        &mut self,
        token: Token,
        group_id: &GroupId,
        request: &JoinRequest,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        let is_new = !self.by_id.contains_key(group_id);
        if is_new && !request.member_id.is_empty() {
            let reply = Request::Join(request.clone()).error_reply(ErrorCode::UnknownMemberId);
            commands.push(Command::Reply(token, reply));
            return;
        }
        self.by_id
            .entry(group_id.clone())
            .or_insert_with(|| Group::new(group_id.clone(), now));
        let Some((group, mut fx)) = self.group_and_effects(group_id, now, commands) else {
            return;
        };
        if is_new {
            // Kafka writes a group down when it first hears of it: a name that is being joined is taken.
            let record =
                OffsetsRecord::group_metadata(group.to_metadata(&group.assignments()), group_id);
            fx.append(group_id, vec![record], Then::Nothing);
        }
        group.join(token, request, &mut fx);
    }

    fn commit(
        &mut self,
        token: Token,
        group_id: &GroupId,
        request: &CommitRequest,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        if !self.by_id.contains_key(group_id) {
            if request.generation_id >= 0 {
                let error = if request.api_version >= VERSION_KNOWS_GROUP_ID_NOT_FOUND {
                    ErrorCode::GroupIdNotFound
                } else {
                    ErrorCode::IllegalGeneration
                };
                let reply = Request::CommitOffsets(request.clone()).error_reply(error);
                commands.push(Command::Reply(token, reply));
                return;
            }
            // A consumer without membership, or an administrator: the group is there for its offsets.
            self.by_id
                .insert(group_id.clone(), Group::new(group_id.clone(), now));
        }
        if let Some((group, mut fx)) = self.group_and_effects(group_id, now, commands) {
            group.commit(token, request, &mut fx);
        }
    }

    fn fetch(&mut self, token: Token, request: FetchRequest, commands: &mut Vec<Command>) {
        if request.require_stable
            && let Some(after) = self.in_flight.last_of(&request.group_id)
        {
            self.parked_fetches.push(ParkedFetch {
                token,
                request,
                after,
            });
            return;
        }
        let topics = request.topics.as_deref();
        let reply = match self.by_id.get(&*request.group_id) {
            Some(group) => group.fetch(topics),
            None => fetch_nothing(topics),
        };
        commands.push(Command::Reply(token, Reply::FetchOffsets(reply)));
    }

    fn answer_parked_fetches(&mut self, ended: AppendId, commands: &mut Vec<Command>) {
        if self.parked_fetches.is_empty() {
            return;
        }
        let (ready, parked) = std::mem::take(&mut self.parked_fetches)
            .into_iter()
            .partition(|p| p.after <= ended);
        self.parked_fetches = parked;
        let ready: Vec<ParkedFetch> = ready;
        for ParkedFetch {
            token, mut request, ..
        } in ready
        {
            // It waited for what was on its way when it came, and for nothing later.
            request.require_stable = false;
            self.fetch(token, request, commands);
        }
    }

    /// Requests that make no sense for a group that does not exist.
    fn ask_existing(
        &mut self,
        token: Token,
        group_id: &GroupId,
        request: Request,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        let Some((group, mut fx)) = self.group_and_effects(group_id, now, commands) else {
            commands.push(Command::Reply(token, reply_without_group(request)));
            return;
        };
        match request {
            Request::Sync(request) => group.sync(token, request, &mut fx),
            Request::Heartbeat(request) => {
                let error = group.heartbeat(&request, &mut fx);
                fx.reply(token, Reply::Heartbeat(error));
            }
            Request::Leave(request) => group.leave(token, request, &mut fx),
            Request::DeleteOffsets(request) => group.delete_offsets(token, &request, &mut fx),
            Request::DeleteGroup { .. } => group.delete(Some(token), &mut fx),
            Request::Join(_) | Request::CommitOffsets(_) | Request::FetchOffsets(_) => {
                unreachable!("these have rules for groups that do not exist")
            }
        }
    }

    fn deleted(
        &mut self,
        group_id: &GroupId,
        token: Option<Token>,
        result: Result<(), ErrorCode>,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        match result {
            Ok(()) => {
                self.by_id.remove(group_id);
            }
            Err(_) => {
                if let Some((group, fx)) = self.group_and_effects(group_id, now, commands) {
                    group.undo_delete(&fx);
                }
            }
        }
        if let Some(token) = token {
            let error = result.err().map_or(ErrorCode::None, append_error);
            commands.push(Command::Reply(token, Reply::DeleteGroup(error)));
        }
    }

    fn expire(&mut self, now: Now, commands: &mut Vec<Command>) {
        let interval_ms = self.settings.offsets_retention_check_interval_ms;
        self.next_expiry_ms = now.timer_ms.saturating_add(interval_ms);
        let group_ids: Vec<_> = self.by_id.keys().cloned().collect();
        for group_id in group_ids {
            if let Some((group, mut fx)) = self.group_and_effects(&group_id, now, commands) {
                group.expire(&mut fx);
            }
            self.finish_event(&group_id);
        }
    }

    fn group_and_effects<'a>(
        &'a mut self,
        group_id: &str,
        now: Now,
        commands: &'a mut Vec<Command>,
    ) -> Option<(&'a mut Group, Effects<'a>)> {
        let group = self.by_id.get_mut(group_id)?;
        let settings = &self.settings;
        let in_flight = &mut self.in_flight;
        Some((
            group,
            Effects {
                now,
                settings,
                in_flight,
                commands,
            },
        ))
    }

    fn check_group(&self, group_id: &GroupId) {
        let deadline = self.deadline_of.get(group_id).copied();
        let group = self.by_id.get(group_id);
        let earliest_ms = group.and_then(|group| group.timers.earliest_ms());
        assert_eq!(deadline, earliest_ms, "I2: {group_id}");
        if let Some(group) = group {
            group.check_invariants();
            group.offsets.check_invariants();
            if group.state == GroupState::Dead {
                assert!(self.in_flight.last_of(group_id).is_some(), "I3: {group_id}");
            }
        }
    }

    /// Ends every event: brings the deadline of its group up to date.
    fn finish_event(&mut self, group_id: &GroupId) {
        self.update_deadline(group_id);
        if cfg!(debug_assertions) {
            self.check_group(group_id);
        }
    }

    fn update_deadline(&mut self, group_id: &GroupId) {
        let earliest_ms = self
            .by_id
            .get(group_id)
            .and_then(|group| group.timers.earliest_ms());
        let indexed_ms = self.deadline_of.get(group_id).copied();
        if earliest_ms == indexed_ms {
            return;
        }
        if let Some(at_ms) = indexed_ms {
            self.deadlines.remove(&(at_ms, group_id.clone()));
            self.deadline_of.remove(group_id);
        }
        if let Some(at_ms) = earliest_ms {
            self.deadlines.insert((at_ms, group_id.clone()));
            self.deadline_of.insert(group_id.clone(), at_ms);
        }
    }
}

/// The first version of `OffsetCommit` with an error for groups that do not exist.
const VERSION_KNOWS_GROUP_ID_NOT_FOUND: i16 = 9;

/// *Source*: members of a group that is gone are unknown; what is deleted must exist.
fn reply_without_group(request: Request) -> Reply {
    match request {
        Request::Leave(request) => {
            let left = |member| LeftMember {
                member,
                error: ErrorCode::UnknownMemberId,
            };
            let members = request.members.into_iter().map(left).collect();
            Reply::Leave(LeaveReply {
                error: ErrorCode::None,
                members,
            })
        }
        Request::DeleteOffsets(_) => {
            let error = ErrorCode::GroupIdNotFound;
            Reply::DeleteOffsets(DeleteOffsetsReply {
                error,
                topics: Vec::new(),
            })
        }
        Request::DeleteGroup { .. } => Reply::DeleteGroup(ErrorCode::GroupIdNotFound),
        request => request.error_reply(ErrorCode::UnknownMemberId),
    }
}
