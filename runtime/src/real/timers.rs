//! The timers of a shard, ordered by deadline.
//!
//! *Place*: owned by [`Shard`](super::shard::Shard); its driver fires what is due and bounds its
//! wait by the earliest deadline.
//! *Limits*: one entry per sleeping task; O(log n) to set, cancel and fire.

use std::collections::BTreeMap;
use std::task::Waker;

/// Names a timer that is set: its deadline and a number that makes it unique.
pub(crate) type TimerKey = (u64, u64);

/// Deadlines in nanoseconds of the monotonic clock, and whom to wake.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    waiting: BTreeMap<TimerKey, Waker>,
    next_number: u64,
}

impl Timers {
    /// Sets a timer.
    pub(crate) fn set(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        let key = (deadline, self.next_number);
        self.next_number += 1;
        self.waiting.insert(key, waker);
        key
    }

    /// Changes whom a timer wakes; false if it has fired.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let Some(known) = self.waiting.get_mut(&key) else {
            return false;
        };
        if !known.will_wake(waker) {
            known.clone_from(waker);
        }
        true
    }

    /// Cancels a timer, if it has not fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.waiting.remove(&key);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes the wakers of all timers due at `now`.
    pub(crate) fn fire(&mut self, now: u64, woken: &mut Vec<Waker>) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            woken.push(entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_of_their_deadlines() {
        let mut timers = Timers::default();
        let mut woken = Vec::new();
        timers.set(30, Waker::noop().clone());
        let cancelled = timers.set(10, Waker::noop().clone());
        let kept = timers.set(20, Waker::noop().clone());
        assert_eq!(timers.next(), Some(10));
        timers.cancel(cancelled);
        assert_eq!(timers.next(), Some(20));
        timers.fire(20, &mut woken);
        assert_eq!(woken.len(), 1);
        assert!(!timers.update(kept, Waker::noop()));
        assert_eq!(timers.next(), Some(30));
        timers.fire(u64::MAX, &mut woken);
        assert_eq!((woken.len(), timers.next()), (2, None));
    }
}
