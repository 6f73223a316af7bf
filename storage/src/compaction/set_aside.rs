//! Logs that could not be cleaned, and when each is tried again.
//!
//! *Place*: the cleaner asks before it picks a log. *Limits*: one entry per log that failed and is
//! still there; waits double from [`WAIT_MIN_MS`] to [`WAIT_MAX_MS`].

use std::collections::HashMap;

/// Wait after the first failure.
const WAIT_MIN_MS: i64 = 60_000;
/// Longest wait.
const WAIT_MAX_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug)]
struct Wait {
    retry_at_ms: i64,
    wait_ms: i64,
}

/// Logs set aside, by incarnation.
#[derive(Debug, Default)]
pub(super) struct SetAside {
    waits: HashMap<u64, Wait>,
}

impl SetAside {
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }

    pub(super) fn is_known(&self, incarnation: u64) -> bool {
        self.waits.contains_key(&incarnation)
    }

    pub(super) fn is_waiting(&self, incarnation: u64, now_ms: i64) -> bool {
        self.waits
            .get(&incarnation)
            .is_some_and(|wait| now_ms < wait.retry_at_ms)
    }

    /// Notes a failure; answers after how many ms the log is tried again.
    pub(super) fn note_failure(&mut self, incarnation: u64, now_ms: i64) -> i64 {
        let before = self.waits.get(&incarnation).map_or(0, |wait| wait.wait_ms);
        let wait_ms = (before * 2).clamp(WAIT_MIN_MS, WAIT_MAX_MS);
        let retry_at_ms = now_ms.saturating_add(wait_ms);
        self.waits.insert(
            incarnation,
            Wait {
                retry_at_ms,
                wait_ms,
            },
        );
        wait_ms
    }

    /// The log was cleaned.
    pub(super) fn forget(&mut self, incarnation: u64) {
        self.waits.remove(&incarnation);
    }

    /// Keeps the logs that are still there.
    pub(super) fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        self.waits.retain(|incarnation, _| is_there(*incarnation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_within_bounds() {
        let mut set_aside = SetAside::default();
        assert!(!set_aside.is_waiting(1, 0));
        let waits: Vec<i64> = (0..8).map(|_| set_aside.note_failure(1, 1000)).collect();
        assert_eq!(waits[..3], [60_000, 120_000, 240_000]);
        assert_eq!(waits[7], WAIT_MAX_MS);
        assert!(set_aside.is_waiting(1, WAIT_MAX_MS));
        assert!(!set_aside.is_waiting(1, WAIT_MAX_MS + 1000));
        assert!(!set_aside.is_waiting(2, 0));
        set_aside.forget(1);
        assert_eq!(set_aside.note_failure(1, 0), WAIT_MIN_MS);
        set_aside.retain(|incarnation| incarnation != 1);
        assert_eq!(set_aside.len(), 0);
    }
}
