//! Where the newest readers of a log stopped, so that their next read starts there without a search.
//!
//! *Place*: in the log's state; a hint is only used for exactly the offset it was made for.
//! *Limits*: four readers at different places; more of them search in the index.

/// Readers remembered.
const HINTS: usize = 4;

/// A batch boundary: the batch with `offset` as its first or a later one begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadHint {
    pub(crate) offset: i64,
    pub(crate) segment_base: i64,
    pub(crate) position: u64,
}

/// The newest hints.
#[derive(Default)]
pub(crate) struct ReadHints {
    hints: [Option<ReadHint>; HINTS],
    replace_next: usize,
}

impl ReadHints {
    pub(crate) fn find(&self, offset: i64) -> Option<ReadHint> {
        self.hints
            .iter()
            .flatten()
            .find(|hint| hint.offset == offset)
            .copied()
    }

    /// Notes where the reader that came for `came_for` stopped.
    pub(crate) fn note(&mut self, came_for: i64, stopped: ReadHint) {
        let mine = self
            .hints
            .iter()
            .position(|hint| hint.is_some_and(|hint| hint.offset == came_for));
        let at = mine.unwrap_or(self.replace_next);
        if mine.is_none() {
            self.replace_next = (self.replace_next + 1) % HINTS;
        }
        self.hints[at] = Some(stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_replaces_its_own_hint() {
        let mut hints = ReadHints::default();
        for step in 0..10 {
            hints.note(
                step,
                ReadHint {
                    offset: step + 1,
                    segment_base: 0,
                    position: 100,
                },
            );
        }
        assert_eq!(hints.find(10).map(|hint| hint.position), Some(100));
        assert_eq!(hints.hints.iter().flatten().count(), 1);
        assert_eq!(hints.find(9), None);
    }
}
