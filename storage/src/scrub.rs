//! The scrubber: reads sealed segments again, slowly, so that damage is known before somebody needs them.
//!
//! *Place*: one background task of a storage, if it is on. *Core*: the storage's shard. *Invariants*: **I1** it
//! changes nothing: damage is logged, counted, and stays. **I2** what changed while it was read (a segment
//! that was deleted, cut or replaced) is no damage. *Limits*: `scrub_bytes_per_second`; one window of
//! direct reads, or one batch, in memory; no file of the bounded set of open ones.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use runtime::time::{now, sleep, wall_clock_ms};

use crate::offline::Item;
use crate::offline::segment::Source;
use crate::partition_log::{Condition, Log, PartitionLog};
use crate::segment::SegmentExtent;
use crate::segment::files::{FileKind, file_path};
use crate::storage::Storage;

/// A round begins at most so long after the one before has ended, and looks as often for an end of the
/// storage.
const TICK: Duration = Duration::from_mins(1);

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
    let source = Source {
        path: file_path(&log.dir(), extent.name(), FileKind::Segment),
        base_offset: extent.base_offset,
        bytes: Some(extent.bytes),
        memory: Vec::new(),
        bytes_per_second: engine.config.scrub_bytes_per_second,
    };
    let mut damage = Vec::new();
    let mut sink = |item: Item<'_>| {
        if let Item::Damage {
            file,
            position,
            expected,
            found,
        } = item
        {
            damage.push(Damage {
                file: file.to_path_buf(),
                position,
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
    };
    source.walk(extent.base_offset, &mut sink).await;
    if !is_unchanged(log, extent, truncations) {
        return;
    }
    let add = |counter: &Cell<u64>, amount| counter.set(counter.get() + amount);
    add(&engine.scrubbed.segments, 1);
    add(&engine.scrubbed.bytes, extent.bytes);
    for Damage {
        file,
        position,
        expected,
        found,
    } in damage
    {
        add(&engine.corruptions, 1);
        tracing::error!(
            log = %log.id, file = %file.display(), position, expected, found,
            "the scrubber found damage; nothing was changed: restore the file from a copy"
        );
    }
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
