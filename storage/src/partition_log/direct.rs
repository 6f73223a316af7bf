//! Large appends that go straight to their segment, so that their bytes are written once.
//!
//! ```text
//!   append ──▶ tail chunk ──▶ blocks written, synced ─┐ premise
//!      └─────▶ Extent record in a journal group ──────┴──▶ group written ──▶ acknowledged
//! ```
//!
//! *Place*: append decides which way a batch goes; one task a log writes. *Invariants*: **D1** an
//! `Extent` record is in no group that is written before all of its log is durable in segments, directory
//! entries included, but for the block that its batch ends in. **D2** a sync makes durable what was written when
//! it began; a durable write makes only itself durable, and is for a write that is alone, with all before it
//! durable; what is in flight counts in its order. **D3** nothing but the device holds up an append that was
//! begun: all before its segment is written, its own place is allocated, the right to work on the log's files is
//! taken with it and kept until all that was begun is durable; none is begun while others have that right or wait
//! for it; what is derived is written beside. **D4** a log with such a write in flight is neither cut nor deleted.
//! *Limits*: those of [`InFlight`]; `direct_bytes_max` bytes of all logs that the journal has not committed.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use runtime::sync::Notify;
use runtime::task::{Class, JoinHandle, spawn};
use runtime::{Durability, time};

use super::in_flight::{DirectWrite, Ended, InFlight};
use super::state::LogState;
use super::write_behind::{NextWrite, sync_logs_dir};
use super::{Condition, FileWork, Log};
use crate::checkpoint::entry::SegmentPosition;
use crate::engine::SHORTAGE_WAIT;
use crate::error::{StorageError, WRITE_DURABLY};
use crate::journal::{Premise, RecordView, Sequence};
use crate::segment::batch_header::{BatchHeader, HEADER_BYTES};
use crate::segment::files::FileKind;
use crate::segment::{Segment, SegmentName, block_ceil, block_floor};
use crate::tasks::{Task, TaskKind};

/// What an `Extent` takes of the journal at most.
const RECORD_BYTES_MAX: usize = 5 << 10;

/// What a log's direct writes are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// The task has the right to work on the log's files.
    Writing,
    /// It has given it back, to try again after a failure.
    Waiting,
}

/// How far a log's direct writes are.
#[derive(Default)]
pub(super) struct DirectWrites {
    /// Up to where the log is to be made durable in its segments.
    wanted: Cell<SegmentPosition>,
    /// Up to where it was.
    durable: Cell<SegmentPosition>,
    stage: Cell<Stage>,
    /// Wakes who waits for one of these to change. The log's own: with one for all logs, every write would wake
    /// all that wait for others.
    progress: Notify,
    /// The newest write was alone so far: the next one may be, too.
    is_alone: Cell<bool>,
    /// What is derived from what was written is being written, beside.
    is_deriving: Cell<bool>,
    /// The log is about to be deleted.
    is_barred: Cell<bool>,
    /// An append that could not go this way found no room in the journal, and waits for it.
    waits_for_journal: Cell<bool>,
}

impl DirectWrites {
    fn is_done(&self) -> bool {
        self.wanted.get() <= self.durable.get()
    }

    /// The log was cut: its positions mean something else from now on.
    pub(super) fn reset(&self) {
        assert!(self.is_done(), "a log is cut amid a direct write");
        self.wanted.take();
        self.durable.take();
    }
}

impl Log {
    /// Whether an append of `bytes` goes straight to its segment, as far as can be said without its batches.
    pub(super) fn expects_direct(&self, bytes: usize) -> bool {
        !self.direct.waits_for_journal.get()
            && self.may_go_direct(&self.state.borrow(), bytes as u64)
    }

    /// Whether the journal has room for an append of `bytes`.
    pub(super) fn has_journal_room(&self, bytes: usize, is_direct: bool) -> bool {
        let engine = &self.engine;
        if is_direct {
            engine.has_direct_room(bytes as u64) && engine.journal.has_room(RECORD_BYTES_MAX)
        } else {
            engine.journal.has_room(bytes)
        }
    }

    /// Waits until there may be such room.
    ///
    /// # Errors
    /// As [`crate::engine::Engine::committed`].
    pub(super) async fn journal_room(
        &self,
        bytes: usize,
        is_direct: bool,
    ) -> Result<(), StorageError> {
        let engine = &self.engine;
        if !is_direct {
            return engine.journal_room(bytes).await;
        }
        if engine.has_direct_room(bytes as u64) {
            return engine.journal_room(RECORD_BYTES_MAX).await;
        }
        let durable = u64::from(engine.journal.durable_sequence());
        engine.committed(Sequence::from(durable + 1)).await
    }

    /// Notes whether an append found room in the journal that has to take all of its bytes.
    pub(super) fn note_journal_room(&self, is_found: bool) {
        self.direct.waits_for_journal.set(!is_found);
    }

    /// Whether a batch of `bytes` at the end of the active segment may be written there at once (D3).
    pub(super) fn may_go_direct(&self, state: &LogState, bytes: u64) -> bool {
        let active = state.active();
        let has_files = match self.direct.stage.get() {
            Stage::Idle => !self.is_in_file_work(),
            Stage::Writing => true,
            Stage::Waiting => false,
        };
        bytes >= self.engine.config.direct_bytes_min
            && block_ceil(active.bytes() + bytes) <= active.allocated
            && state.first_unfinished() + 1 == state.segments.len()
            && has_files
            && !self.is_file_work_wanted()
            && !self.direct.is_barred.get()
    }

    /// Journals the newest batch, of which `header` is the header, as one that goes to its segment.
    pub(super) fn append_extent(
        &self,
        state: &LogState,
        batch: &BatchHeader,
        header: &[u8; HEADER_BYTES],
    ) -> Sequence {
        let end = state.active().bytes();
        let to = SegmentPosition {
            segment_base: state.active().base_offset(),
            position: block_floor(end),
        };
        assert!(
            end - to.position < batch.bytes,
            "a direct append fills a block"
        );
        let record = RecordView::Extent {
            incarnation: self.incarnation,
            base_offset: batch.base_offset,
            position: end - batch.bytes,
            header,
            tail: state.chunks.newest(end - to.position),
        };
        let premise = self.write_direct_to(to);
        self.engine.journal.append_after(record, premise)
    }

    /// Has the log made durable up to `to`.
    fn write_direct_to(&self, to: SegmentPosition) -> Premise {
        let direct = &self.direct;
        assert!(direct.wanted.get() <= to, "appends go forward");
        direct.wanted.set(to);
        direct.progress.notify_waiters();
        if let Some(log) = self.me.upgrade()
            && direct.stage.get() == Stage::Idle
        {
            let work = Rc::new(log.begin_file_work());
            direct.stage.set(Stage::Writing);
            let task = Task::begin(&self.engine, TaskKind::Direct);
            spawn(Class::Storage, log.run_direct(work, task)).detach();
        }
        let log = self.me.clone();
        Box::pin(async move {
            if let Some(log) = log.upgrade() {
                return log.direct_through(to).await;
            }
            let reason = "a log is gone amid a direct write".to_owned();
            Err(StorageError::Offline { reason })
        })
    }

    /// Waits until the log is durable in its segments up to `to`.
    async fn direct_through(&self, to: SegmentPosition) -> Result<(), StorageError> {
        let progress = async || {
            self.direct.progress.notified().await;
            Ok(())
        };
        while self.direct.durable.get() < to {
            self.engine.unless_offline(progress()).await?;
        }
        self.engine.check_online()
    }

    /// Lets no further append go straight to its segment, and waits for those that do (D4).
    pub(crate) async fn bar_direct(&self) -> Result<(), StorageError> {
        self.direct.is_barred.set(true);
        self.direct_through(self.direct.wanted.get()).await
    }

    /// The log is not deleted after all.
    pub(crate) fn unbar_direct(&self) {
        self.direct.is_barred.set(false);
    }

    async fn run_direct(self: Rc<Self>, mut work: Rc<FileWork>, _task: Task) {
        loop {
            let result = self.write_direct(&work).await;
            if let Err(error) = &result {
                self.note_direct_failed(error);
            }
            if self.direct.is_done() || self.engine.is_offline() {
                break;
            }
            self.direct.stage.set(Stage::Waiting);
            drop(work);
            if result.is_err() {
                time::sleep(SHORTAGE_WAIT).await;
            }
            work = Rc::new(self.file_work().await);
            self.direct.stage.set(Stage::Writing);
        }
        self.direct.stage.set(Stage::Idle);
    }

    fn note_direct_failed(&self, error: &StorageError) {
        // Who closes must come to an end: nothing that rests on this is acknowledged.
        if self.engine.journal.is_ending() {
            self.engine.fail(error);
        } else {
            self.engine.fail_unless_short(error);
        }
    }

    /// Makes durable all that is wanted of a segment.
    async fn write_direct(self: &Rc<Self>, work: &Rc<FileWork>) -> Result<(), StorageError> {
        let segment_base = self.direct.wanted.get().segment_base;
        self.sync_written_through(segment_base).await?;
        sync_logs_dir(&self.engine).await?;
        let place = self.with_segment(segment_base, |s| (s.name(), s.written, s.synced));
        let Some((name, mut position, synced)) = place else {
            let reason = "a segment is gone amid a direct write".to_owned();
            return Err(StorageError::Offline { reason });
        };
        assert_eq!(position, synced, "what was written before is synced (D2)");
        self.note_direct(segment_base);
        let mut in_flight = InFlight::default();
        let mut result = Ok(());
        loop {
            if result.is_ok() {
                self.begin_sync(segment_base, &mut in_flight);
                result = self.begin_writes(name, &mut position, &mut in_flight).await;
            }
            if in_flight.is_empty() {
                return result;
            }
            let ended = in_flight.next_end(&self.direct.progress).await;
            // Behind one that failed nothing counts (D2).
            result = result.and_then(|()| self.note_ended(name, ended, work));
        }
    }

    /// Begins as many writes of a segment, from `position` on, as there may be and are wanted.
    async fn begin_writes(
        self: &Rc<Self>,
        name: SegmentName,
        position: &mut u64,
        in_flight: &mut InFlight,
    ) -> Result<(), StorageError> {
        while in_flight.has_room()
            && let Some(next) = self.next_direct(name, *position)
        {
            *position = next.to;
            let is_alone = in_flight.is_empty() && next.to == self.direct.wanted.get().position;
            let was_alone = self.direct.is_alone.replace(is_alone);
            let write = DirectWrite {
                next,
                // Where they come one by one, each makes itself durable: no sync has to follow it.
                is_durable: is_alone && was_alone,
            };
            let task = self.begin_write(&write).await?;
            in_flight.add_write(write, task);
        }
        Ok(())
    }

    /// Begins a sync of what was written of a segment, unless one is on its way.
    fn begin_sync(self: &Rc<Self>, segment_base: i64, in_flight: &mut InFlight) {
        let is_unsynced = self.with_segment(segment_base, |segment| segment.is_unsynced());
        if is_unsynced == Some(true) && !in_flight.is_syncing() {
            let log = Rc::clone(self);
            let sync = async move { log.sync_segment(segment_base).await };
            in_flight.set_sync(spawn(Class::Storage, sync));
        }
    }

    fn note_ended(
        self: &Rc<Self>,
        name: SegmentName,
        ended: Ended,
        work: &Rc<FileWork>,
    ) -> Result<(), StorageError> {
        match ended {
            Ended::Write(write, written) => {
                let operation = if write.is_durable {
                    WRITE_DURABLY
                } else {
                    "write"
                };
                let path = || self.path_of(name, FileKind::Segment);
                written.map_err(|e| StorageError::io(operation, &path(), e))?;
                self.note_written(&write.next);
                if write.is_durable {
                    self.with_segment(name.base_offset, |segment| segment.synced = write.next.to);
                }
                self.derive_beside(name.base_offset, work);
            }
            Ended::Sync(synced) => synced?,
            Ended::Nothing => return Ok(()),
        }
        self.note_direct(name.base_offset);
        Ok(())
    }

    /// Syncs what is written and not synced of the segments through `segment_base`, and their names. Nothing is
    /// written, which might find no space (D3).
    async fn sync_written_through(self: &Rc<Self>, segment_base: i64) -> Result<(), StorageError> {
        let is_unsynced = |segment: &Segment| segment.is_unsynced() || !segment.is_linked;
        let unsynced: Vec<i64> = {
            let state = self.state.borrow();
            let through = state.segment_for(segment_base);
            assert!(
                state.first_unfinished() >= through,
                "a segment before a direct append is not written (D3)"
            );
            // Segments are synced in order.
            let (before, last) = (&state.segments[..through], &state.segments[through]);
            let before = before
                .iter()
                .rev()
                .take_while(|segment| is_unsynced(segment));
            let last = Some(last).filter(|segment| is_unsynced(segment));
            let unsynced = last.into_iter().chain(before);
            unsynced.map(Segment::base_offset).collect()
        };
        for segment_base in unsynced.into_iter().rev() {
            self.sync_segment(segment_base).await?;
        }
        Ok(())
    }

    /// Has what is derived from a segment written with the same right to work on the files, which is given back when
    /// both are done. No append waits for it: it can be made anew, and may find no space (D3).
    fn derive_beside(self: &Rc<Self>, segment_base: i64, work: &Rc<FileWork>) {
        let is_due = self.has_derived_due(segment_base) && self.engine.space.may_write();
        if !is_due || self.direct.is_deriving.replace(true) {
            return;
        }
        let (log, work) = (Rc::clone(self), Rc::clone(work));
        let task = Task::begin(&self.engine, TaskKind::Direct);
        spawn(Class::Storage, async move {
            let derived = log.write_derived().await;
            log.direct.is_deriving.set(false);
            // An error was dealt with: it has taken the storage offline, unless it is a shortage.
            if log.settle(derived).is_err() {
                log.queue_flush();
            }
            drop((work, task));
        })
        .detach();
    }

    /// Notes how far the log is durable in its segments (D1).
    fn note_direct(&self, segment_base: i64) {
        let synced = self.with_segment(segment_base, |segment| segment.synced);
        let durable = SegmentPosition {
            segment_base,
            position: synced.unwrap_or(0),
        };
        if durable > self.direct.durable.get() {
            self.direct.durable.set(durable);
            self.direct.progress.notify_waiters();
        }
    }

    /// The next blocks from `position` on that are wanted.
    fn next_direct(&self, name: SegmentName, position: u64) -> Option<NextWrite> {
        let wanted = self.direct.wanted.get();
        let may_go_on = wanted.segment_base == name.base_offset
            && self.condition.get() != Condition::Deleted
            && !self.engine.is_offline();
        if !may_go_on || wanted.position <= position {
            return None;
        }
        let state = self.state.borrow();
        Some(NextWrite::of(&state, name, position, wanted.position))
    }

    async fn begin_write(
        self: &Rc<Self>,
        write: &DirectWrite,
    ) -> Result<JoinHandle<io::Result<()>>, StorageError> {
        let next = &write.next;
        let file = self.open_named(next.segment, FileKind::Segment).await?;
        let allocated = self.with_segment(next.segment.base_offset, |segment| segment.allocated);
        assert!(
            allocated.is_none_or(|allocated| next.to <= allocated),
            "direct writes go to allocated space (D3)"
        );
        self.allocate_ahead(&file, next).await;
        let (from, blocks) = (next.from, next.blocks.clone());
        let durability = if write.is_durable {
            Durability::DataSync
        } else {
            Durability::Buffered
        };
        Ok(spawn(Class::Storage, async move {
            file.write_parts_at(from, blocks, durability).await
        }))
    }
}
