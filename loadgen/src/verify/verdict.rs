//! What reading back found.

use std::fmt::{self, Display};

use serde::Serialize;

use super::notes::Notes;

/// Examples kept of what is wrong.
const EXAMPLES_MAX: usize = 10;

/// Counts over all partitions and runs.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Verdict {
    /// Records acknowledged.
    pub(crate) acknowledged: u64,
    /// Records found.
    pub(crate) found: u64,
    /// Acknowledged and not found.
    pub(crate) lost: u64,
    /// Found more than once.
    pub(crate) duplicated: u64,
    /// Found behind a later one.
    pub(crate) reordered: u64,
    /// Not found although a later one was, and not acknowledged.
    pub(crate) skipped: u64,
    /// Found at another offset than was acknowledged.
    pub(crate) misplaced: u64,
    /// With wrong bytes, or in the wrong partition.
    pub(crate) corrupt: u64,
    /// Found and not acknowledged: written, but the broker's answer was lost.
    pub(crate) in_doubt: u64,
    /// Records that are not ours.
    pub(crate) foreign: u64,
    /// Whether a producer without a producer id was among the runs: it may duplicate.
    pub(crate) may_duplicate: bool,
    /// Some of what is wrong.
    pub(crate) examples: Vec<String>,
}

impl Verdict {
    pub(super) fn new(notes: &Notes) -> Verdict {
        let acked = notes.runs.iter().flat_map(|run| run.acked.values());
        Verdict {
            acknowledged: acked.map(super::notes::Acked::end).sum(),
            may_duplicate: notes.runs.iter().any(|run| !run.is_idempotent),
            ..Verdict::default()
        }
    }

    /// Keeps an example of what is wrong.
    pub(super) fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    /// Adds what one partition showed.
    pub(super) fn add(&mut self, part: Verdict) {
        self.found += part.found;
        self.lost += part.lost;
        self.duplicated += part.duplicated;
        self.reordered += part.reordered;
        self.skipped += part.skipped;
        self.misplaced += part.misplaced;
        self.corrupt += part.corrupt;
        self.in_doubt += part.in_doubt;
        self.foreign += part.foreign;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(part.examples.into_iter().take(room));
    }

    /// Whether nothing is wrong. Without idempotence a retry may duplicate, and the second copy of
    /// a batch then lies behind later ones; both are told but forgiven.
    pub(crate) fn is_good(&self) -> bool {
        let is_whole = self.lost == 0 && self.misplaced == 0 && self.corrupt == 0;
        let is_exact = self.duplicated == 0 && self.reordered == 0 && self.skipped == 0;
        is_whole && (is_exact || self.may_duplicate)
    }
}

impl Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "acknowledged {}  found {}  in doubt {}  foreign {}",
            self.acknowledged, self.found, self.in_doubt, self.foreign
        )?;
        writeln!(
            formatter,
            "lost {}  duplicated {}  reordered {}  skipped {}  misplaced {}  corrupt {}",
            self.lost, self.duplicated, self.reordered, self.skipped, self.misplaced, self.corrupt
        )?;
        for example in &self.examples {
            writeln!(formatter, "  {example}")?;
        }
        writeln!(
            formatter,
            "{}",
            if self.is_good() { "VERIFIED" } else { "FAILED" }
        )
    }
}
