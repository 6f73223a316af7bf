//! Incremental fetch sessions (KIP-227): what a client has asked for, so that it need not repeat it.
//!
//! Place: `fetch` keeps them; each lives on the shard that serves its client's connection.
//! Invariants:
//! - I1 a session's id carries its shard, so that a client that comes back to another shard is told
//!   `FETCH_SESSION_ID_NOT_FOUND` and begins anew, never given somebody else's session.
//! - I2 partitions are visited in the order in which they last gave records: the one that gave most
//!   recently is last, so that a busy partition cannot starve the others.
//!
//! Limits: `fetch.sessions_max` a shard; beyond it the one unused for longest is forgotten.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use protocol::error_code::ErrorCode;

use super::context::TopicRef;

/// Epoch of a request that asks for everything and may open a session.
const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request that wants no session.
pub(super) const FINAL_EPOCH: i32 = -1;

/// What a client wants of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The topic as the client names it.
    pub topic: TopicRef,
    /// Partition number.
    pub partition: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// Most bytes of this partition.
    pub bytes_max: i32,
    /// Leader epoch that the client believes in, or −1.
    pub current_leader_epoch: i32,
    /// Epoch of the client's last record, or −1.
    pub last_fetched_epoch: i32,
    /// High watermark and log start that the client was told last.
    told: Option<(i64, i64)>,
}

impl Entry {
    /// What a request says of a partition.
    pub(super) fn new(topic: TopicRef, partition: i32, fetch_offset: i64, bytes_max: i32) -> Self {
        Self {
            topic,
            partition,
            fetch_offset,
            bytes_max,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            told: None,
        }
    }

    /// Whether the client would learn something new of the partition's bounds; remembers that it did.
    pub(super) fn tell(&mut self, high_watermark: i64, log_start_offset: i64) -> bool {
        let now = Some((high_watermark, log_start_offset));
        std::mem::replace(&mut self.told, now) != now
    }
}

/// The partitions of a session in the order in which they are visited.
#[derive(Debug, Default)]
pub(super) struct Session {
    entries: BTreeMap<u64, Entry>,
    places: HashMap<(TopicRef, i32), u64>,
    next_place: u64,
    epoch: i32,
    used: u64,
}

impl Session {
    /// Adds a partition, or takes what the client now says of it.
    fn update(&mut self, entry: Entry) {
        let name = (entry.topic.clone(), entry.partition);
        if let Some(known) = self
            .places
            .get(&name)
            .and_then(|place| self.entries.get_mut(place))
        {
            let told = known.told;
            *known = Entry { told, ..entry };
            return;
        }
        self.places.insert(name, self.next_place);
        self.entries.insert(self.next_place, entry);
        self.next_place += 1;
    }

    fn forget(&mut self, topic: TopicRef, partition: i32) {
        if let Some(place) = self.places.remove(&(topic, partition)) {
            self.entries.remove(&place);
        }
    }

    /// Places and entries in visiting order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(place, entry)| (*place, entry))
    }

    /// The entry at a place.
    pub(super) fn entry_mut(&mut self, place: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&place)
    }

    /// Moves a partition that gave records to the end (I2).
    pub(super) fn served(&mut self, place: u64) {
        if let Some(entry) = self.entries.remove(&place) {
            self.places
                .insert((entry.topic.clone(), entry.partition), self.next_place);
            self.entries.insert(self.next_place, entry);
            self.next_place += 1;
        }
    }

    fn check_invariants(&self) {
        debug_assert_eq!(
            self.entries.len(),
            self.places.len(),
            "one place for each partition"
        );
    }
}

/// The part of a fetch request that concerns sessions.
#[derive(Debug)]
pub(super) struct Asked {
    /// Session id of the request, 0 for none.
    pub session_id: i32,
    /// Session epoch of the request.
    pub session_epoch: i32,
    /// Partitions that are new or changed.
    pub entries: Vec<Entry>,
    /// Partitions that are no longer wanted.
    pub forgotten: Vec<(TopicRef, i32)>,
}

/// A session taken out of the cache while a request uses it.
#[derive(Debug)]
pub(super) struct Taken {
    /// The partitions.
    pub session: Session,
    /// Id that the client is told; 0 when there is no session.
    pub id: i32,
    /// Whether the answer names only what changed.
    pub is_incremental: bool,
}

/// The sessions of one shard.
#[derive(Debug)]
pub(super) struct Sessions {
    shard: usize,
    limit: usize,
    by_id: RefCell<HashMap<i32, Session>>,
    next_id: Cell<i32>,
    clock: Cell<u64>,
}

/// Bits of a session id that number the sessions of one shard; the rest is the shard (I1).
const SHARD_SHIFT: u32 = 22;

impl Sessions {
    /// No sessions; at most `limit` later.
    pub(super) fn new(shard: usize, limit: usize) -> Self {
        Self {
            shard,
            limit,
            by_id: RefCell::default(),
            next_id: Cell::new(1),
            clock: Cell::new(0),
        }
    }

    /// Finds or opens the session that a request belongs to, and takes it out until [`Sessions::put`].
    pub(super) fn take(&self, asked: Asked) -> Result<Taken, ErrorCode> {
        if asked.session_epoch == INITIAL_EPOCH || asked.session_epoch == FINAL_EPOCH {
            self.by_id.borrow_mut().remove(&asked.session_id);
            let mut session = Session::default();
            for entry in asked.entries {
                session.update(entry);
            }
            let wants_session = asked.session_epoch == INITIAL_EPOCH && self.limit > 0;
            let id = if wants_session { self.new_id() } else { 0 };
            return Ok(Taken {
                session,
                id,
                is_incremental: false,
            });
        }
        let mut by_id = self.by_id.borrow_mut();
        let epoch = by_id
            .get(&asked.session_id)
            .map(|session| session.epoch)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if epoch != asked.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        let mut session = by_id.remove(&asked.session_id).unwrap_or_default();
        for entry in asked.entries {
            session.update(entry);
        }
        for (topic, partition) in asked.forgotten {
            session.forget(topic, partition);
        }
        Ok(Taken {
            session,
            id: asked.session_id,
            is_incremental: true,
        })
    }

    /// Keeps a session for the client's next request.
    pub(super) fn put(&self, taken: Taken) {
        if taken.id == 0 {
            return;
        }
        let mut session = taken.session;
        session.check_invariants();
        session.epoch = if session.epoch == i32::MAX {
            1
        } else {
            session.epoch + 1
        };
        self.clock.set(self.clock.get() + 1);
        session.used = self.clock.get();
        let mut by_id = self.by_id.borrow_mut();
        if by_id.len() >= self.limit {
            let oldest = by_id
                .iter()
                .min_by_key(|(_, session)| session.used)
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                by_id.remove(&oldest);
            }
        }
        by_id.insert(taken.id, session);
    }

    fn new_id(&self) -> i32 {
        let number = self.next_id.get();
        self.next_id
            .set((number + 1) & ((1 << SHARD_SHIFT) - 1) | 1);
        ((self.shard as i32 & 0x1ff) << SHARD_SHIFT) | number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicRef {
        TopicRef::Name("t".into())
    }

    fn asked(session_id: i32, session_epoch: i32, partitions: &[i32]) -> Asked {
        let entries = partitions
            .iter()
            .map(|p| Entry::new(topic(), *p, 0, 100))
            .collect();
        Asked {
            session_id,
            session_epoch,
            entries,
            forgotten: Vec::new(),
        }
    }

    fn order(taken: &Taken) -> Vec<i32> {
        taken
            .session
            .entries()
            .map(|(_, entry)| entry.partition)
            .collect()
    }

    #[test]
    fn an_incremental_request_sees_what_was_asked_before() {
        let sessions = Sessions::new(1, 10);
        let taken = sessions.take(asked(0, 0, &[1, 2, 3])).unwrap();
        let id = taken.id;
        assert!(id != 0 && !taken.is_incremental);
        sessions.put(taken);
        let mut more = asked(id, 1, &[4]);
        more.forgotten.push((topic(), 2));
        let taken = sessions.take(more).unwrap();
        assert!(taken.is_incremental);
        assert_eq!(order(&taken), [1, 3, 4]);
    }

    #[test]
    fn a_wrong_epoch_or_id_is_refused() {
        let sessions = Sessions::new(0, 10);
        let taken = sessions.take(asked(0, 0, &[1])).unwrap();
        let id = taken.id;
        sessions.put(taken);
        let error = sessions.take(asked(id, 2, &[])).unwrap_err();
        assert_eq!(error, ErrorCode::InvalidFetchSessionEpoch);
        let error = sessions.take(asked(id + 1, 1, &[])).unwrap_err();
        assert_eq!(error, ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn a_partition_that_gave_records_goes_to_the_end() {
        let sessions = Sessions::new(0, 10);
        let mut taken = sessions.take(asked(0, 0, &[1, 2, 3])).unwrap();
        taken.session.served(0);
        assert_eq!(order(&taken), [2, 3, 1]);
    }

    #[test]
    fn the_session_unused_for_longest_makes_room() {
        let sessions = Sessions::new(0, 2);
        let ids: Vec<i32> = (0..3)
            .map(|_| {
                let taken = sessions.take(asked(0, 0, &[1])).unwrap();
                let id = taken.id;
                sessions.put(taken);
                id
            })
            .collect();
        assert!(sessions.take(asked(ids[0], 1, &[])).is_err());
        assert!(sessions.take(asked(ids[2], 1, &[])).is_ok());
    }

    #[test]
    fn bounds_are_told_once() {
        let mut entry = Entry::new(topic(), 0, 0, 100);
        assert!(entry.tell(5, 0));
        assert!(!entry.tell(5, 0));
        assert!(entry.tell(6, 0));
    }
}
