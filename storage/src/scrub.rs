//! The scrubber: reads sealed segments again, slowly, so that damage is known before somebody needs them.
//!
//! *Place*: one background task of a storage, if it is on. *Core*: the storage's shard. *Invariants*: **I1** it
//! changes nothing: damage is logged, counted, and stays. **I2** what changed while it was read (a segment
//! that was deleted, cut or replaced) is no damage, nor is a shortage of open files or memory. *Limits*: `scrub_bytes_per_second`; one window of
//! direct reads in memory, [`LISTED_MAX`] damaged places of a segment; no file of the bounded set of open ones,
//! and none for more than a second after it was deleted.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use runtime::time::{now, sleep, wall_clock_ms};

use crate::offline::Item;
use crate::offline::segment::{Background, Source};
use crate::partition_log::{Condition, Log, PartitionLog};
use crate::segment::SegmentExtent;
use crate::segment::files::{FileKind, file_path};
use crate::storage::Storage;

/// A round begins at most so long after the one before has ended, and looks as often for an end of the
/// storage.
const TICK: Duration = Duration::from_mins(1);

/// Damaged places of one segment that are named; of others it is said how many.
const LISTED_MAX: usize = 16;

/// What the scrubber has done since the start.
#[derive(Debug, Default)]
pub(crate) struct Scrubbed {
    pub(crate) segments: Cell<u64>,
    pub(crate) bytes: Cell<u64>,
}

/// Damage, as the walk over a segment reports it.
struct Damage {
    file: PathBuf,
    position: u64,
    expected: String,
    found: String,
}

/// What a walk over one segment met.
#[derive(Default)]
struct Damages {
    listed: Vec<Damage>,
    count: u64,
}

impl Damages {
    fn note(&mut self, item: &Item<'_>) {
        let Item::Damage {
            file,
            position,
            expected,
            found,
        } = item
        else {
            return;
        };
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(Damage {
                file: file.to_path_buf(),
                position: *position,
                expected: (*expected).to_owned(),
                found: (*found).to_owned(),
            });
        }
    }

    fn report(&self, log: &Log) {
        for damage in &self.listed {
            let Damage {
                file,
                position,
                expected,
                found,
            } = damage;
            tracing::error!(
                log = %log.id, file = %file.display(), position, expected, found,
                "the scrubber found damage; nothing was changed: restore the file from a copy"
            );
        }
        let others = self.count - self.listed.len() as u64;
        if others > 0 {
            tracing::error!(log = %log.id, others, "and more damage in this file");
        }
    }
}

/// Walks over all sealed segments once a period, until the storage is closed or offline.
pub(crate) async fn run(storage: Storage) {
    let period = Duration::from_millis(storage.engine().config.scrub_period_ms);
    loop {
        let begun = now();
        round(&storage).await;
        while begun.elapsed() < period || begun.elapsed() < TICK {
            if has_ended(&storage) {
                return;
            }
            sleep(TICK.min(period)).await;
        }
        if has_ended(&storage) {
            return;
        }
    }
}

fn has_ended(storage: &Storage) -> bool {
    let engine = storage.engine();
    engine.is_offline() || engine.is_closing.get()
}

/// One round over the logs there are now. It begins somewhere else each time: who is started often would
/// see the same ones only.
async fn round(storage: &Storage) {
    let mut logs: Vec<_> = storage.logs().iter().map(PartitionLog::downgrade).collect();
    if logs.is_empty() {
        return;
    }
    let first = wall_clock_ms().unsigned_abs() as usize % logs.len();
    logs.rotate_left(first);
    for log in logs {
        let mut after = None;
        // A log that is deleted meanwhile has no next segment.
        while let Some(log) = log.upgrade()
            && let Some(extent) = next_sealed(&log, after)
        {
            if has_ended(storage) {
                return;
            }
            after = Some(extent.base_offset);
            scrub_segment(&log, extent).await;
        }
    }
}

/// The first sealed segment after `after` whose bytes are all in its file.
fn next_sealed(log: &Log, after: Option<i64>) -> Option<SegmentExtent> {
    let state = log.state.borrow();
    let mut segments = state.segments.iter().enumerate();
    let found = segments.find(|(at, segment)| {
        let is_later = after.is_none_or(|after| segment.base_offset() > after);
        is_later && state.is_sealed(*at) && segment.bytes() > 0 && segment.unwritten() == 0
    });
    found.map(|(_, segment)| segment.extent)
}

async fn scrub_segment(log: &Rc<Log>, extent: SegmentExtent) {
    let engine = &log.engine;
    let truncations = log.state.borrow().truncations;
    let (walked_log, is_wanted) = (Rc::clone(log), move |log: &Log| {
        let has_ended = log.engine.is_offline() || log.engine.is_closing.get();
        !has_ended && is_unchanged(log, extent, truncations)
    });
    let source = Source {
        path: file_path(&log.dir(), extent.name(), FileKind::Segment),
        base_offset: extent.base_offset,
        bytes: Some(extent.bytes),
        memory: Vec::new(),
        background: Some(Background {
            bytes_per_second: engine.config.scrub_bytes_per_second,
            is_wanted: Box::new(move || is_wanted(&walked_log)),
        }),
    };
    let mut damages = Damages::default();
    let mut sink = |item: Item<'_>| damages.note(&item);
    let walked = source.walk(extent.base_offset, &mut sink).await;
    if walked.was_short {
        let file = source.path.display();
        tracing::warn!(%file, "left to the next round: too few open files or too little memory");
    }
    if walked.was_short || !is_wanted(log) {
        return;
    }
    let add = |counter: &Cell<u64>, amount| counter.set(counter.get() + amount);
    add(&engine.scrubbed.segments, 1);
    add(&engine.scrubbed.bytes, extent.bytes);
    add(&engine.corruptions, damages.count);
    damages.report(log);
}

/// Whether the segment is what it was when its walk began (I2).
fn is_unchanged(log: &Log, extent: SegmentExtent, truncations: u64) -> bool {
    let state = log.state.borrow();
    let segment = state.segment_at(extent.base_offset);
    let is_same = segment.is_some_and(|at| {
        let now = state.segments[at].extent;
        (now.name(), now.bytes) == (extent.name(), extent.bytes)
    });
    is_same && state.truncations == truncations && log.condition.get() != Condition::Deleted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file full of zeros, or of damage, is not a list as long as it.
    #[test]
    fn damage_is_counted_and_some_of_it_listed() {
        let mut damages = Damages::default();
        for position in 0..100_000 {
            damages.note(&Item::Damage {
                file: std::path::Path::new("/f"),
                position,
                expected: "this",
                found: "that",
            });
        }
        assert_eq!((damages.count, damages.listed.len()), (100_000, LISTED_MAX));
        assert_eq!(damages.listed[0].position, 0);
    }
}
