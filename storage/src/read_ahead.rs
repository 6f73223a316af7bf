//! How far ahead of sequential readers a shard reads.
//!
//! *Place*: asked for each window that a sequential reader comes to. What is read ahead keeps the device busy while an
//! answer is sent; an append that comes meanwhile waits behind it. So little is read ahead where there were appends
//! not long ago, as told by what was read since.

use std::cell::Cell;

use crate::journal::Sequence;

/// Windows read ahead of a reader where nobody appends.
pub(crate) const WINDOWS_ALONE: u64 = 4;
/// The same beside appends.
const WINDOWS_BESIDE_APPENDS: u64 = 1;
/// So many windows after the last append nobody appends.
const WINDOWS_UNTIL_ALONE: u32 = 64;

/// What a shard's readers and appends have done lately.
#[derive(Default)]
pub(crate) struct ReadAhead {
    /// What the journal had committed when a reader came last.
    committed: Cell<Option<Sequence>>,
    until_alone: Cell<u32>,
}

impl ReadAhead {
    /// A reader comes to another window: how many are to be read ahead of it. `committed` is what the journal has
    /// committed last.
    pub(crate) fn windows(&self, committed: Sequence) -> u64 {
        let before = self.committed.replace(Some(committed));
        if before.is_some_and(|before| before != committed) {
            self.until_alone.set(WINDOWS_UNTIL_ALONE);
        }
        match self.until_alone.get().checked_sub(1) {
            None => WINDOWS_ALONE,
            Some(left) => {
                self.until_alone.set(left);
                WINDOWS_BESIDE_APPENDS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_ahead_where_nobody_appends() {
        let ahead = ReadAhead::default();
        let windows = |committed: u64| ahead.windows(Sequence::from(committed));
        assert_eq!(windows(4), WINDOWS_ALONE);
        for committed in [5, 6] {
            assert_eq!(windows(committed), WINDOWS_BESIDE_APPENDS);
        }
        for _ in 1..WINDOWS_UNTIL_ALONE {
            assert_eq!(windows(6), WINDOWS_BESIDE_APPENDS);
        }
        assert_eq!(windows(6), WINDOWS_ALONE);
    }
}
