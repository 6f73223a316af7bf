//! Large appends that go straight to their segment, so that their bytes are written once.
//!
//! ```text
//!   append ──▶ tail chunk ──▶ blocks written durably ─┐ premise
//!      └─────▶ Extent record in a journal group ──────┴──▶ group written ──▶ acknowledged
//! ```
//!
//! *Place*: append decides which way a batch goes; one task a log writes. *Invariants*: **D1** an
//! `Extent` record is in no group that is written before all of its log is durable in segments, directory
//! entries included, but for the block that its batch ends in. **D2** a durable write makes only itself durable:
//! whatever was written otherwise is synced first, and what is in flight counts in its order. **D3** only
//! allocated space is written to, and no append is begun while others work on the log's files, so that
//! neither a full disk nor a slow deletion holds up the journal. **D4** a log with such
//! a write in flight is neither cut nor deleted. *Limits*: [`WRITES_MAX`] writes of a log at a time; the
//! right to work on its files is given back when somebody else waits for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use runtime::task::{Class, JoinHandle, spawn, yield_now};
use runtime::{Durability, time};

use super::state::LogState;
use super::write_behind::{NextWrite, sync_logs_dir};
use super::{Condition, FileWork, Log};
use crate::checkpoint::entry::SegmentPosition;
use crate::error::{StorageError, WRITE_DURABLY};
use crate::journal::{Premise, RecordView, Sequence};
use crate::segment::batch_header::{BatchHeader, HEADER_BYTES};
use crate::segment::files::FileKind;
use crate::segment::{Segment, SegmentName, block_ceil, block_floor};
use crate::tasks::{Task, TaskKind};

/// Durable writes of one log at a time: the next one is on its way while one waits for the device.
const WRITES_MAX: usize = 4;
/// What an `Extent` takes of the journal at most.
const RECORD_BYTES_MAX: usize = 5 << 10;
/// A write for which the disk had no room is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// How far a log's direct writes are.
#[derive(Default)]
pub(super) struct DirectWrites {
    /// Up to where the log is to be made durable in its segments.
    wanted: Cell<SegmentPosition>,
    /// Up to where it was.
    durable: Cell<SegmentPosition>,
    is_running: Cell<bool>,
    /// The task has the right to work on the log's files.
    has_files: Cell<bool>,
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
    /// Room that an append of `bytes` needs in the journal.
    pub(super) fn journal_bytes(&self, state: &LogState, bytes: usize) -> usize {
        let is_direct =
            !self.direct.waits_for_journal.get() && self.may_go_direct(state, bytes as u64);
        if is_direct { RECORD_BYTES_MAX } else { bytes }
    }

    /// Notes whether an append found room in the journal that has to take all of its bytes.
    pub(super) fn note_journal_room(&self, is_found: bool) {
        self.direct.waits_for_journal.set(!is_found);
    }

    /// Whether a batch of `bytes` at the end of the active segment may be written there at once.
    pub(super) fn may_go_direct(&self, state: &LogState, bytes: u64) -> bool {
        let active = state.active();
        bytes >= self.engine.config.direct_bytes_min
            && block_ceil(active.bytes() + bytes) <= active.allocated
            && !self.direct.is_barred.get()
            && (self.direct.has_files.get() || !self.is_in_file_work())
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
        let sent = &self.engine.direct_bytes;
        sent.set(sent.get() + batch.bytes);
        let premise = self.write_direct_to(to);
        self.engine.journal.append_after(record, premise)
    }

    /// Has the log written durably up to `to`.
    fn write_direct_to(&self, to: SegmentPosition) -> Premise {
        let direct = &self.direct;
        assert!(direct.wanted.get() <= to, "appends go forward");
        direct.wanted.set(to);
        if direct.is_running.replace(true) {
            self.engine.progress.notify_waiters();
        } else if let Some(log) = self.me.upgrade() {
            let task = Task::begin(&self.engine, TaskKind::Direct);
            spawn(Class::Storage, log.run_direct(task)).detach();
        }
        let log = self.me.clone();
        Box::pin(async move {
            while let Some(log) = log.upgrade() {
                log.engine.check_online()?;
                if to <= log.direct.durable.get() {
                    return Ok(());
                }
                log.engine.progress.notified().await;
            }
            let reason = "a log is gone amid a direct write".to_owned();
            Err(StorageError::Offline { reason })
        })
    }

    /// Lets no further append go straight to its segment, and waits for those that do (D4).
    pub(crate) async fn bar_direct(&self) -> Result<(), StorageError> {
        self.direct.is_barred.set(true);
        while !self.direct.is_done() {
            self.engine.check_online()?;
            self.engine.progress.notified().await;
        }
        Ok(())
    }

    async fn run_direct(self: Rc<Self>, _task: Task) {
        while !self.direct.is_done() && !self.engine.is_offline() {
            let work = self.file_work().await;
            self.direct.has_files.set(true);
            let result = self.write_direct(&work).await;
            self.direct.has_files.set(false);
            drop(work);
            match &result {
                Ok(()) => self.engine.space.note_written(),
                // Who closes must come to an end: nothing that rests on this is acknowledged.
                Err(error) if self.engine.journal.is_ending() => self.engine.fail(error),
                Err(error) => self.engine.fail_unless_short(error),
            }
            if result.is_err_and(|error| error.is_shortage()) {
                time::sleep(RETRY).await;
            }
            // Who waits for the files comes first.
            yield_now().await;
        }
        self.direct.is_running.set(false);
    }

    /// Writes durably what is wanted, until there is no more or somebody else waits for the files.
    async fn write_direct(self: &Rc<Self>, work: &FileWork) -> Result<(), StorageError> {
        let to = self.direct.wanted.get();
        if !self.is_all_synced(to.segment_base) {
            let whole_segment = SegmentPosition {
                position: u64::MAX,
                ..to
            };
            self.sync_to_with(work, whole_segment).await?;
            sync_logs_dir(&self.engine).await?;
        }
        let place = self.with_segment(to.segment_base, |s| (s.name(), s.written, s.synced));
        let Some((name, mut position, synced)) = place else {
            let reason = "a segment is gone amid a direct write".to_owned();
            return Err(StorageError::Offline { reason });
        };
        assert_eq!(position, synced, "what was written before is synced (D2)");
        self.note_direct(to.segment_base, position);
        let mut in_flight = VecDeque::with_capacity(WRITES_MAX);
        let mut result = Ok(());
        loop {
            while in_flight.len() < WRITES_MAX
                && result.is_ok()
                && let Some(next) = self.next_direct(name, position)
            {
                position = next.to;
                match self.start_direct(&next).await {
                    Ok(write) => in_flight.push_back((next, write)),
                    Err(error) => result = Err(error),
                }
            }
            let Some((next, write)) = in_flight.front_mut() else {
                return result;
            };
            // None: there may be more to write.
            let Some(written) = self.written_or_progress(write).await else {
                continue;
            };
            let path = || self.path_of(name, FileKind::Segment);
            let written = written.map_err(|e| StorageError::io(WRITE_DURABLY, &path(), e));
            // Behind one that failed nothing counts (D2).
            result = result.and(written);
            if result.is_ok() {
                self.note_written(next);
                self.with_segment(name.base_offset, |segment| segment.synced = next.to);
                self.note_direct(name.base_offset, next.to);
                result = self.write_derived().await;
            }
            in_flight.pop_front();
        }
    }

    /// Whether everything that is written is durable, and everything before the segment is written.
    fn is_all_synced(&self, segment_base: i64) -> bool {
        let state = self.state.borrow();
        let Some(at) = state.segment_at(segment_base) else {
            return false;
        };
        let (before, segment) = (&state.segments[..at], &state.segments[at]);
        let engine = &self.engine;
        segment.synced == segment.written
            && segment.is_linked
            && engine.log_dirs_synced.get() >= engine.log_dirs_made.get()
            && before.iter().rev().all(|s: &Segment| s.unsynced() == 0)
    }

    /// All of the log below `position` is durable in its segments (D1).
    fn note_direct(&self, segment_base: i64, position: u64) {
        let durable = SegmentPosition {
            segment_base,
            position,
        };
        let direct = &self.direct;
        direct.durable.set(direct.durable.get().max(durable));
        self.engine.progress.notify_waiters();
    }

    /// The next blocks from `position` on that are wanted.
    fn next_direct(&self, name: SegmentName, position: u64) -> Option<NextWrite> {
        let wanted = self.direct.wanted.get();
        let may_go_on = wanted.segment_base == name.base_offset
            && self.condition.get() != Condition::Deleted
            && !self.is_file_work_wanted()
            && !self.engine.is_offline();
        if !may_go_on || wanted.position <= position {
            return None;
        }
        let state = self.state.borrow();
        Some(NextWrite::of(&state, name, position, wanted.position))
    }

    async fn start_direct(
        self: &Rc<Self>,
        next: &NextWrite,
    ) -> Result<JoinHandle<io::Result<()>>, StorageError> {
        let file = self.open_named(next.segment, FileKind::Segment).await?;
        let allocated = self.with_segment(next.segment.base_offset, |segment| segment.allocated);
        assert!(
            allocated.is_none_or(|allocated| next.to <= allocated),
            "direct writes go to allocated space (D3)"
        );
        self.allocate_ahead(&file, next).await;
        let (from, blocks) = (next.from, next.blocks.clone());
        Ok(spawn(Class::Storage, async move {
            file.write_at(from, blocks, Durability::DataSync).await
        }))
    }

    /// The end of a write in flight; `None`: something else has happened.
    async fn written_or_progress(
        &self,
        write: &mut JoinHandle<io::Result<()>>,
    ) -> Option<io::Result<()>> {
        let mut progress = pin!(self.engine.progress.notified());
        let ended = poll_fn(|context| {
            if let Poll::Ready(ended) = Pin::new(&mut *write).poll(context) {
                return Poll::Ready(Some(ended));
            }
            progress.as_mut().poll(context).map(|()| None)
        });
        let ended = ended.await?;
        Some(ended.unwrap_or_else(|failed| Err(io::Error::other(failed))))
    }
}
