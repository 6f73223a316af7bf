//! The deadlines of one group.
//!
//! *Place*: rules schedule and cancel; [`Group::on_time`](super::group::Group::on_time) takes what is due.
//! The group's driver needs the earliest only, so that no group has a task of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::event::MemberId;

/// What a deadline is for. A group has at most one of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// The joins of a rebalance, or the delay before the first.
    Join,
    /// The syncs after a rebalance.
    Sync,
    /// A member, or a pending member, must be heard of.
    Session(MemberId),
}

/// The deadlines of one group, by time and by purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Timers {
    by_time: BTreeSet<(i64, TimerKey)>,
    by_key: BTreeMap<TimerKey, i64>,
}

impl Timers {
    /// Sets the deadline of `key`, in place of an earlier one.
    pub(super) fn schedule(&mut self, key: TimerKey, at_ms: i64) {
        self.cancel(&key);
        self.by_time.insert((at_ms, key.clone()));
        self.by_key.insert(key, at_ms);
    }

    pub(super) fn cancel(&mut self, key: &TimerKey) {
        if let Some((key, at_ms)) = self.by_key.remove_entry(key) {
            let was_there = self.by_time.remove(&(at_ms, key));
            assert!(was_there, "a deadline was known by its key only");
        }
    }

    pub(super) fn is_scheduled(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn earliest_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes one deadline that is not after `now_ms`.
    pub(super) fn pop_due(&mut self, now_ms: i64) -> Option<TimerKey> {
        if self.earliest_ms()? > now_ms {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// The members whose session is watched.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &MemberId> {
        self.by_key.keys().filter_map(|key| match key {
            TimerKey::Session(member_id) => Some(member_id),
            TimerKey::Join | TimerKey::Sync => None,
        })
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_time.len(), self.by_key.len());
        for (key, at_ms) in &self.by_key {
            assert!(
                self.by_time.contains(&(*at_ms, key.clone())),
                "{key:?} has no deadline"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_deadlines_in_order_and_only_once() {
        let mut timers = Timers::default();
        timers.schedule(TimerKey::Join, 30);
        timers.schedule(TimerKey::Session("a".into()), 20);
        timers.schedule(TimerKey::Session("a".into()), 40);
        timers.schedule(TimerKey::Sync, 10);
        timers.cancel(&TimerKey::Sync);
        timers.check_invariants();
        assert_eq!(timers.earliest_ms(), Some(30));
        assert_eq!(timers.pop_due(29), None);
        assert_eq!(timers.pop_due(40), Some(TimerKey::Join));
        assert_eq!(timers.pop_due(40), Some(TimerKey::Session("a".into())));
        assert_eq!(timers.pop_due(i64::MAX), None);
        timers.check_invariants();
    }
}
