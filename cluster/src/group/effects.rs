//! What a rule may do besides changing its group: answer, append, and remember what to do then.
//!
//! *Place*: made by [`Groups`](super::Groups) for every event, passed down to the rules.
//!
//! *Invariants*
//! - I1. Appends finish in the order in which they were commanded: an offset commit can never be
//!   overtaken by an older one.

use std::collections::{BTreeMap, VecDeque};

use protocol::ErrorCode;

use super::event::{AppendId, Bytes, Command, GroupId, MemberId, Now, Reply, Token};
use super::member::MemberTerms;
use super::offsets::OffsetUpdate;
use super::records::OffsetsRecord;
use super::settings::GroupSettings;

/// What waits for an append to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: the record only helps a later load.
    Nothing,
    /// A request that was carried out in memory already.
    Reply(Token, Reply),
    /// Offsets that become visible, or go, and perhaps the reply to who asked.
    Offsets {
        updates: Vec<OffsetUpdate>,
        reply: Option<(Token, Reply)>,
    },
    /// The leader's assignment.
    Assignment {
        generation_id: i32,
        assignments: BTreeMap<MemberId, Bytes>,
    },
    /// A static member that came back while the group is stable.
    StaticMember(Box<StaticReplacement>),
    /// The group is gone.
    DeleteGroup { token: Option<Token> },
}

/// What is needed to finish, or to undo, the return of a static member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StaticReplacement {
    pub(super) token: Token,
    pub(super) generation_id: i32,
    pub(super) old_member_id: MemberId,
    pub(super) new_member_id: MemberId,
    /// The leader before the replacement.
    pub(super) old_leader: Option<MemberId>,
    /// What the member had agreed to before it came back.
    pub(super) old_terms: MemberTerms,
    pub(super) can_skip_assignment: bool,
}

/// An append whose end is awaited.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) id: AppendId,
    pub(super) group_id: GroupId,
    pub(super) then: Then,
}

/// All appends whose end is awaited, oldest first.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    next_id: u64,
    queue: VecDeque<Pending>,
    /// The newest append of each group that has one in the queue.
    newest_of: BTreeMap<GroupId, AppendId>,
}

impl InFlight {
    /// Takes the append that has ended.
    pub(super) fn finish(&mut self, id: AppendId) -> Pending {
        let pending = self
            .queue
            .pop_front()
            .expect("an append ends that nobody commanded");
        assert!(
            pending.id == id,
            "append {id:?} ended before {:?}",
            pending.id
        );
        if self.newest_of.get(&pending.group_id) == Some(&id) {
            self.newest_of.remove(&pending.group_id);
        }
        pending
    }

    /// Everything that is awaited, to be given up.
    pub(super) fn take_all(&mut self) -> VecDeque<Pending> {
        self.newest_of.clear();
        std::mem::take(&mut self.queue)
    }

    /// The newest append of this group.
    pub(super) fn last_of(&self, group_id: &str) -> Option<AppendId> {
        self.newest_of.get(group_id).copied()
    }

    /// The offset updates of this group that are not durable yet, oldest first.
    pub(super) fn updates_of<'a>(
        &'a self,
        group_id: &'a str,
    ) -> impl Iterator<Item = &'a OffsetUpdate> + 'a {
        // Most groups have nothing on its way, and there may be many groups.
        let has_any = self.newest_of.contains_key(group_id);
        self.queue
            .iter()
            .take_while(move |_| has_any)
            .filter(move |p| &*p.group_id == group_id)
            .flat_map(|pending| match &pending.then {
                Then::Offsets { updates, .. } => updates.as_slice(),
                Then::Nothing
                | Then::Reply(..)
                | Then::Assignment { .. }
                | Then::StaticMember(_)
                | Then::DeleteGroup { .. } => &[],
            })
    }

    pub(super) fn check_invariants(&self) {
        let oldest_id = self.next_id - self.queue.len() as u64;
        let ids = self.queue.iter().map(|pending| pending.id.0);
        assert!(
            ids.eq(oldest_id..self.next_id),
            "appends in flight have a gap"
        );
        let newest_of: BTreeMap<_, _> = self
            .queue
            .iter()
            .map(|pending| (pending.group_id.clone(), pending.id))
            .collect();
        assert_eq!(newest_of, self.newest_of);
    }
}

/// What a rule may do besides changing its group.
#[derive(Debug)]
pub(super) struct Effects<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) in_flight: &'a mut InFlight,
    pub(super) commands: &'a mut Vec<Command>,
}

impl Effects<'_> {
    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.commands.push(Command::Reply(token, reply));
    }

    pub(super) fn append(&mut self, group_id: &GroupId, records: Vec<OffsetsRecord>, then: Then) {
        assert!(
            !records.is_empty(),
            "an append of nothing would never be durable"
        );
        let id = AppendId(self.in_flight.next_id);
        self.in_flight.next_id += 1;
        self.in_flight.newest_of.insert(group_id.clone(), id);
        self.in_flight.queue.push_back(Pending {
            id,
            group_id: group_id.clone(),
            then,
        });
        self.commands.push(Command::Append { id, records });
    }

    /// Deadline of something that may take `timeout_ms` from now on.
    pub(super) fn deadline(&self, timeout_ms: i32) -> i64 {
        self.now
            .timer_ms
            .saturating_add(i64::from(timeout_ms.max(0)))
    }
}

/// The error that a client sees when its record could not be written.
///
/// *Source*: Kafka maps the errors of an append so that clients look for the coordinator again, or
/// retry, as they know how to.
pub(super) fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}
