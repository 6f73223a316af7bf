//! One partition's log: batches with ascending offsets in a list of segments, appended through the
//! journal, read from memory or disk, cut from either end.
//!
//! *Place*: made by [`crate::Storage`], used by the broker's data plane on the same shard. *Core*:
//! owner. *Invariants*: those of [`state`]; **I1** nothing is answered as appended, truncated or
//! deleted before its journal record is durable: callers await [`crate::Storage::committed`] with
//! the sequence they get. *Limits*: an idle log keeps its incomplete last block and less than
//! 1 KiB beside; no task, no timer, no open file.

mod append;
pub(crate) mod byte_run;
mod direct;
#[cfg(test)]
mod direct_tests;
mod in_flight;
mod index_load;
pub(crate) mod leader_epochs;
mod lookup;
pub(crate) mod producer_snapshot;
pub(crate) mod producers;
mod read;
mod read_hints;
mod retention;
mod retention_rules;
pub(crate) mod state;
pub(crate) mod swap;
pub(crate) mod tail_chunks;
mod transactions;
mod truncate;
mod walk;
mod write_behind;
pub(crate) mod written;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::config::LogConfig;
use crate::engine::{Engine, Eviction};
use crate::error::StorageError;
use crate::journal::Sequence;
use crate::log_id::{LogId, log_dir};
use crate::segment::SegmentName;
use crate::segment::files::{FileKind, file_path};
pub use append::Appended;
use direct::DirectWrites;
pub use lookup::TimestampOffset;
pub use producers::{ProducerSummary, SequenceCheck};
pub use read::ReadResult;
pub use retention::{RetentionOutcome, SegmentRetention};
pub use retention_rules::{Fate, Judgement};
use state::LogState;
pub(crate) use write_behind::{aligned, sync_logs_dir};

/// A partition log. Cloning gives another handle to the same log.
#[derive(Clone)]
pub struct PartitionLog {
    log: Rc<Log>,
}

impl From<Rc<Log>> for PartitionLog {
    fn from(log: Rc<Log>) -> Self {
        PartitionLog { log }
    }
}

impl PartitionLog {
    pub(crate) fn into_log(self) -> Rc<Log> {
        self.log
    }
}

impl std::fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.log.state.borrow();
        f.debug_struct("PartitionLog")
            .field("id", &self.log.id)
            .field("log_start_offset", &state.log_start)
            .field("durable_end_offset", &state.durable_end)
            .field("log_end_offset", &state.log_end)
            .finish_non_exhaustive()
    }
}

/// A log behind its handles.
pub struct Log {
    pub(crate) engine: Rc<Engine>,
    pub(crate) id: LogId,
    pub(crate) incarnation: u64,
    pub(crate) state: RefCell<LogState>,
    pub(crate) config: RefCell<Rc<LogConfig>>,
    me: Weak<Log>,
    /// What the log is in the middle of.
    pub(crate) condition: Cell<Condition>,
    /// Its files are being written, synced or cut by one task.
    has_file_work: Cell<bool>,
    /// And another one waits for that.
    is_file_work_wanted: Cell<bool>,
    direct: DirectWrites,
    /// The cleaner reads its segments and makes new ones beside them.
    pub(crate) is_in_cleaning: Cell<bool>,
    /// The cleaner has removed what an earlier process, or round, left in the directory.
    pub(crate) is_tidied: Cell<bool>,
    /// Segments whose derived files may lack something.
    derived_due: RefCell<Vec<SegmentName>>,
    /// Already in the commit observer's list.
    pub(crate) is_touched: Cell<bool>,
    /// Already in the queue of logs to write.
    is_flush_queued: Cell<bool>,
    /// Already in the queue of logs with an unwritten block.
    is_aging: Cell<bool>,
    /// Already in the queue of logs that give chunks back.
    pub(crate) has_eviction_turn: Cell<bool>,
}

/// Whether a log takes changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Open,
    /// A truncation is on its way; its first record has this sequence. State is still as before it.
    Truncating(Option<Sequence>),
    Deleted,
}

impl Log {
    pub(crate) fn new(
        engine: &Rc<Engine>,
        id: LogId,
        incarnation: u64,
        state: LogState,
        config: LogConfig,
    ) -> Rc<Self> {
        Rc::new_cyclic(|me| Log {
            engine: Rc::clone(engine),
            id,
            incarnation,
            state: RefCell::new(state),
            config: RefCell::new(Rc::new(config)),
            me: me.clone(),
            condition: Cell::new(Condition::Open),
            has_file_work: Cell::new(false),
            is_file_work_wanted: Cell::new(false),
            direct: DirectWrites::default(),
            is_in_cleaning: Cell::new(false),
            is_tidied: Cell::new(false),
            derived_due: RefCell::default(),
            is_touched: Cell::new(false),
            is_flush_queued: Cell::new(false),
            is_aging: Cell::new(false),
            has_eviction_turn: Cell::new(false),
        })
    }

    pub(crate) fn weak(&self) -> Weak<Log> {
        self.me.clone()
    }

    pub(crate) fn dir(&self) -> PathBuf {
        log_dir(&self.engine.data_dir, self.id, self.incarnation)
    }

    pub(crate) fn path_of(&self, segment: SegmentName, kind: FileKind) -> PathBuf {
        file_path(&self.dir(), segment, kind)
    }

    /// # Errors
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub(crate) fn check_changeable(&self) -> Result<(), StorageError> {
        self.engine.check_online()?;
        match self.condition.get() {
            Condition::Open => Ok(()),
            Condition::Truncating(_) => Err(StorageError::LogBusy),
            Condition::Deleted => Err(StorageError::LogDeleted),
        }
    }

    /// # Errors
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`].
    pub(crate) fn check_readable(&self) -> Result<(), StorageError> {
        self.engine.check_online()?;
        match self.condition.get() {
            Condition::Open | Condition::Truncating(_) => Ok(()),
            Condition::Deleted => Err(StorageError::LogDeleted),
        }
    }

    /// Moves the durable end up; answers whether the log is news for the commit observer's list.
    pub(crate) fn note_durable(&self, log_end: i64) -> bool {
        let mut state = self.state.borrow_mut();
        if log_end <= state.durable_end || self.condition.get() == Condition::Deleted {
            return false;
        }
        // A truncation waits for everything before it, so no commit reports more than is there.
        assert!(
            log_end <= state.log_end,
            "durable end {log_end} beyond the log end {}",
            state.log_end
        );
        state.durable_end = log_end;
        !self.is_touched.replace(true)
    }

    /// Gives back the memory of the oldest chunk, if it has been written.
    pub(crate) fn evict_chunk(&self) -> Eviction {
        // Borrowed: the log is making room for itself, which asks its own state directly.
        match self.state.try_borrow_mut() {
            Ok(mut state) => state.evict_chunk(),
            Err(_) => Eviction::Needed,
        }
    }

    /// Enters what recovery put into memory into the storage's accounts and queues.
    pub(crate) fn adopt_recovered(&self) {
        let state = self.state.borrow();
        for chunk in state.chunks.iter() {
            self.engine.note_chunk(chunk.counted_bytes as u64, self);
        }
        let unwritten = state.unwritten_bytes();
        self.engine.add_dirty(unwritten);
        let has_writable = has_writable(&state);
        drop(state);
        if has_writable {
            self.queue_flush();
        }
    }

    /// Whether there is something that the write-behind could write.
    pub(crate) fn has_writable(&self) -> bool {
        has_writable(&self.state.borrow())
    }

    /// Gives back what a deleted log holds.
    pub(crate) fn release_memory(&self) {
        let mut state = self.state.borrow_mut();
        self.engine.remove_dirty(state.unwritten_bytes());
        let bytes = state.chunks.clear() as u64;
        self.engine.release_chunk_bytes(bytes);
        // Nothing is left to be written either.
        self.derived_due.borrow_mut().clear();
        for segment in &mut state.segments {
            segment.written = segment.bytes();
        }
    }

    /// Whether some task works on this log's files now.
    pub(crate) fn is_in_file_work(&self) -> bool {
        self.has_file_work.get()
    }

    /// Whether some task waits for the right to work on this log's files.
    fn is_file_work_wanted(&self) -> bool {
        self.is_file_work_wanted.get()
    }

    /// The right to work on this log's files, which nobody may have.
    fn begin_file_work(self: &Rc<Self>) -> FileWork {
        let is_taken = self.has_file_work.replace(true);
        assert!(!is_taken, "somebody works on the log's files already");
        let log = Rc::clone(self);
        FileWork { log }
    }

    /// Waits until no other task works on this log's files, and takes that place.
    pub(crate) async fn file_work(self: &Rc<Self>) -> FileWork {
        while self.has_file_work.get() {
            self.is_file_work_wanted.set(true);
            self.engine.progress.notified().await;
        }
        self.is_file_work_wanted.set(false);
        self.begin_file_work()
    }
}

fn has_writable(state: &LogState) -> bool {
    let first = state.first_unfinished();
    let mut unwritten = state.segments.iter().enumerate().skip(first);
    unwritten.any(|(at, segment)| segment.writable_to(state.is_sealed(at)) > segment.written)
}

/// The right to work on a log's files, given back when dropped.
pub(crate) struct FileWork {
    log: Rc<Log>,
}

impl Drop for FileWork {
    fn drop(&mut self) {
        self.log.has_file_work.set(false);
        self.log.engine.wake.notify_one();
        self.log.engine.progress.notify_waiters();
    }
}

impl PartitionLog {
    /// The log's name.
    pub fn id(&self) -> LogId {
        self.log.id
    }

    /// A handle that does not keep the log.
    pub(crate) fn downgrade(&self) -> Weak<Log> {
        self.log.weak()
    }

    /// This log's incarnation: unique in the data directory, never used twice.
    pub fn incarnation(&self) -> u64 {
        self.log.incarnation
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log.state.borrow().log_start
    }

    /// Offset of the next record.
    pub fn log_end_offset(&self) -> i64 {
        self.log.state.borrow().log_end
    }

    /// Every record below (exclusive) survives a power loss.
    pub fn durable_end_offset(&self) -> i64 {
        self.log.state.borrow().durable_end
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.log.state.borrow().size_bytes()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.log.state.borrow().segments.len()
    }

    /// The newest leader epoch that has begun here.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.log.state.borrow().epochs.latest()
    }

    /// The settings in force.
    pub fn config(&self) -> Rc<LogConfig> {
        Rc::clone(&self.log.config.borrow())
    }

    /// What to do with a batch of an idempotent producer. Sequences are inclusive.
    pub fn check_sequence(
        &self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        last_sequence: i32,
    ) -> SequenceCheck {
        self.log
            .state
            .borrow()
            .producers
            .check(producer_id, epoch, first_sequence, last_sequence)
    }

    /// The producers remembered, by ascending id.
    pub fn producers(&self) -> Vec<ProducerSummary> {
        self.log.state.borrow().producers.summaries()
    }

    /// Count of idempotent producers remembered.
    pub fn producer_count(&self) -> usize {
        self.log.state.borrow().producers.len()
    }

    /// The greatest epoch at or below `epoch`, and the offset after the last that it wrote;
    /// `(-1, -1)` when `epoch` is newer than all or none is known.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        let state = self.log.state.borrow();
        state.epochs.end_offset_for(epoch, state.log_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;

    /// What 100,000 idle logs cost is known: no buffer, no file, no task, and this.
    #[test]
    fn an_idle_log_is_small() {
        let bytes = size_of::<Log>() + size_of::<Segment>();
        assert!(bytes < 1024, "{bytes} bytes");
    }
}
