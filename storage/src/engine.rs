//! What all logs of one shard's storage share: the journal, open files, memory and dirty-byte
//! accounts, and the queues between the append path and the write-behind.
//!
//! *Place*: owned by [`crate::Storage`] and by every log. *Core*: the owner shard; nothing here is
//! shared between threads. *Invariants*: **I1** once offline, always offline: nothing is answered
//! as done any more. **I2** the durable end of a log moves only when the journal's durable sequence
//! passes the log's records, before anyone who waits for that sequence is woken. *Limits*: chunk
//! memory `cache_bytes_max`; every queue holds at most one entry per log, append or removal.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use runtime::dir::FileSystem;
use runtime::sync::Notify;
use runtime::time::sleep;
use runtime::{AppendBuf, BLOCK_BYTES, Charge, MemoryBudget};

use crate::cache::ReadCache;
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::growth::Growth;
use crate::journal::{Journal, JournalConfig, JournalFailed, Sequence};
use crate::partition_log::tail_chunks::ChunkMemory;
use crate::partition_log::{Log, PartitionLog};
use crate::read_ahead::ReadAhead;
use crate::scrub::Scrubbed;
use crate::segment::SegmentName;
use crate::segment::files::OpenFiles;
use crate::space::Space;
use crate::tasks::{TaskKind, Tasks};

/// Checkpoints are apart by at least this part of a journal file.
const CHECKPOINT_FILE_SHARE: u64 = 4;

/// Percentage of the journal in use from which a checkpoint is made of a few logs.
const CHECKPOINT_PERCENT_MIN: u64 = 25;
/// It is put off while less than this was journaled for each log with something to write.
const CHECKPOINT_LOG_BYTES: u64 = 64 << 10;
/// Percentage of the journal in use from which the one that runs takes all it can get.
const CHECKPOINT_HURRY_PERCENT: u64 = 75;

/// After this time work that met a shortage is tried again.
pub(crate) const SHORTAGE_WAIT: Duration = Duration::from_secs(1);

/// A called-back observer of durable ends.
type DurableObserver = Rc<dyn Fn(&PartitionLog)>;

/// The shared part of one shard's storage.
pub(crate) struct Engine {
    pub(crate) data_dir: PathBuf,
    pub(crate) shard: u32,
    pub(crate) config: StorageConfig,
    pub(crate) budget: MemoryBudget,
    pub(crate) journal: Journal,
    /// That of the logs, the table and the journal.
    pub(crate) file_system: FileSystem,
    pub(crate) files: OpenFiles,
    pub(crate) read_cache: ReadCache,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) space: Space,
    /// Wakes the write-behind.
    pub(crate) wake: Notify,
    /// Wakes who waits for memory or for a log's files.
    pub(crate) progress: Notify,
    /// Log directories made so far, and how many of them `logs/` was fsynced for.
    pub(crate) log_dirs_made: Cell<u64>,
    pub(crate) log_dirs_synced: Cell<u64>,
    pub(crate) removals: RefCell<VecDeque<Removal>>,
    pub(crate) tasks: Tasks,
    pub(crate) is_closing: Cell<bool>,
    /// Compaction ends, so that nothing has to be waited for.
    pub(crate) stops_cleaning: Cell<bool>,
    /// An append waits for memory: whatever can be written is to be written now.
    pub(crate) is_memory_wanted: Cell<bool>,
    pub(crate) queues: Queues,
    pub(crate) scrubbed: Scrubbed,
    /// Damage that reads and the scrubber have met.
    pub(crate) corruptions: Cell<u64>,
    /// Bytes written to segments by appends, and those of them that did not go through the journal.
    pub(crate) segment_bytes: Cell<u64>,
    pub(crate) direct_bytes: Cell<u64>,
    /// Bytes that went straight to segments and whose records the journal has not committed.
    direct_uncommitted: Cell<u64>,
    observer: RefCell<Option<DurableObserver>>,
    /// Bytes the journal had written when the last checkpoint of this process began.
    journal_bytes_at_checkpoint: Cell<Option<u64>>,
    chunk_bytes: Cell<u64>,
    pub(crate) growth: Growth,
    dirty_bytes: Cell<u64>,
    offline: RefCell<Option<String>>,
    went_offline: Notify,
}

/// Work handed from appends to the write-behind and to the commit observer.
#[derive(Default)]
pub(crate) struct Queues {
    /// Appended, not yet durable; in sequence order.
    pending: RefCell<VecDeque<PendingCommit>>,
    /// Empty between commits: the memory for the list of logs that one touched.
    touched: RefCell<Vec<Rc<Log>>>,
    /// Logs whose chunks count, in the order in which they give one back.
    evictable: RefCell<VecDeque<Weak<Log>>>,
    /// Logs with enough unwritten bytes.
    pub(crate) flush: RefCell<VecDeque<Weak<Log>>>,
    /// Sealed segments whose index is in memory, oldest first.
    pub(crate) indexes: RefCell<VecDeque<(Weak<Log>, i64)>>,
    /// Logs with an unwritten full block, by the time (ms) they got it.
    pub(crate) aging: RefCell<VecDeque<(i64, Weak<Log>)>>,
}

struct PendingCommit {
    sequence: Sequence,
    log_end: i64,
    /// Bytes that went straight to a segment.
    direct_bytes: u64,
    log: Weak<Log>,
}

/// Files to be deleted once the record that decided it is durable.
pub(crate) struct Removal {
    pub(crate) sequence: Sequence,
    pub(crate) log: Rc<Log>,
    /// The segments whose files go; `None`: the whole directory.
    pub(crate) segments: Option<Vec<SegmentName>>,
}

impl Engine {
    pub(crate) fn new(
        data_dir: PathBuf,
        shard: u32,
        config: StorageConfig,
        budget: MemoryBudget,
        journal: Journal,
        file_system: FileSystem,
    ) -> Self {
        Engine {
            shard,
            file_system,
            files: OpenFiles::new(config.open_files_max),
            space: Space::new(&config, shard, &data_dir),
            data_dir,
            read_ahead: ReadAhead::default(),
            read_cache: ReadCache::new(
                config.read_cache_bytes_max,
                config.read_window_bytes,
                budget.clone(),
            ),
            config,
            budget,
            journal,
            wake: Notify::new(),
            progress: Notify::new(),
            // A crash may have come between making a log's directory and the fsync of its parent.
            log_dirs_made: Cell::new(1),
            log_dirs_synced: Cell::new(0),
            removals: RefCell::default(),
            tasks: Tasks::default(),
            is_closing: Cell::new(false),
            stops_cleaning: Cell::new(false),
            is_memory_wanted: Cell::new(false),
            queues: Queues::default(),
            scrubbed: Scrubbed::default(),
            corruptions: Cell::new(0),
            segment_bytes: Cell::new(0),
            direct_bytes: Cell::new(0),
            direct_uncommitted: Cell::new(0),
            observer: RefCell::new(None),
            journal_bytes_at_checkpoint: Cell::new(None),
            chunk_bytes: Cell::new(0),
            growth: Growth::new(),
            dirty_bytes: Cell::new(0),
            offline: RefCell::new(None),
            went_offline: Notify::new(),
        }
    }

    /// # Errors
    /// [`StorageError::Offline`] after a failure or when closed.
    pub(crate) fn check_online(&self) -> Result<(), StorageError> {
        match &*self.offline.borrow() {
            None => Ok(()),
            Some(reason) => Err(StorageError::Offline {
                reason: reason.clone(),
            }),
        }
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.offline.borrow().is_some()
    }

    /// Takes this storage offline for good. Who caused it logs it; the first reason stays.
    pub(crate) fn fail(&self, error: &StorageError) {
        let mut offline = self.offline.borrow_mut();
        if offline.is_none() {
            let directory = self.data_dir.display();
            tracing::error!(shard = self.shard, %directory, %error, "storage goes offline");
            *offline = Some(error.to_string());
        }
        drop(offline);
        self.tell_offline();
    }

    /// Takes this storage offline for good because others found the directory failed, who logged it.
    pub(crate) fn follow_offline(&self, reason: &str) {
        self.offline
            .borrow_mut()
            .get_or_insert_with(|| reason.to_owned());
        self.tell_offline();
    }

    /// Wakes everybody who waits for what will not come any more.
    fn tell_offline(&self) {
        self.wake.notify_one();
        self.progress.notify_waiters();
        self.went_offline.notify_waiters();
    }

    /// Resolves with the reason once this storage has gone offline. A close is none.
    pub(crate) async fn failed(&self) -> String {
        loop {
            if let Some(reason) = &*self.offline.borrow()
                && !self.is_closing.get()
            {
                return reason.clone();
            }
            self.went_offline.notified().await;
        }
    }

    /// What the failure of work that is repeated means: a full disk is waited out, and a shortage of open
    /// files or memory, since what was to be written is still in memory and in the journal; anything else
    /// takes this storage offline.
    pub(crate) fn fail_unless_short(&self, error: &StorageError) {
        if error.is_disk_full() {
            self.space.note_out(error);
        } else if error.is_shortage() {
            self.space.note_short(error);
        } else {
            self.fail(error);
        }
    }

    /// For who has to carry out what is journaled, and has failed to: waits until it is to be tried again.
    ///
    /// # Errors
    /// What is no shortage of space, open files or memory; and a shortage when the storage is to end: the next
    /// start repeats what was decided.
    pub(crate) async fn wait_out(&self, error: StorageError) -> Result<(), StorageError> {
        self.check_online()?;
        if !error.is_shortage() || self.journal.is_ending() {
            return Err(error);
        }
        tracing::warn!(%error, "tried again in a second");
        sleep(SHORTAGE_WAIT).await;
        Ok(())
    }

    /// Ends a start that has failed: nothing of it goes on.
    pub(crate) async fn abandon(&self) {
        // Each holds the engine.
        self.removals.borrow_mut().clear();
        self.journal.abandon().await;
    }

    /// Waits until the journal is durable through `sequence`.
    ///
    /// # Errors
    /// [`StorageError::Journal`], and [`StorageError::Offline`] as soon as anything else has failed: a
    /// journal that nobody empties may wait for ever.
    pub(crate) async fn committed(&self, sequence: Sequence) -> Result<(), StorageError> {
        let committed = self.journal.committed(sequence);
        self.unless_offline(committed).await
    }

    /// Waits until the journal has room for `bytes`.
    ///
    /// # Errors
    /// As [`Self::committed`].
    pub(crate) async fn journal_room(&self, bytes: usize) -> Result<(), StorageError> {
        self.unless_offline(self.journal.room(bytes)).await
    }

    /// Waits for `work`, but not when this storage goes offline.
    ///
    /// # Errors
    /// As [`Self::committed`].
    pub(crate) async fn unless_offline(
        &self,
        work: impl Future<Output = Result<(), JournalFailed>>,
    ) -> Result<(), StorageError> {
        let mut work = pin!(work);
        let mut went_offline = pin!(self.went_offline.notified());
        poll_fn(|context| {
            if let Poll::Ready(result) = work.as_mut().poll(context) {
                let result = result.map_err(StorageError::from);
                if let Err(error) = &result {
                    self.fail(error);
                }
                return Poll::Ready(result);
            }
            match self.check_online() {
                Ok(()) => went_offline
                    .as_mut()
                    .poll(context)
                    .map(|()| self.check_online()),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Marks the end of a graceful close: later calls are refused.
    pub(crate) fn mark_closed(&self) {
        *self.offline.borrow_mut() = Some("closed".to_owned());
        self.tell_offline();
    }

    pub(crate) fn observe_durable(&self, observer: DurableObserver) {
        *self.observer.borrow_mut() = Some(observer);
    }

    /// Notes that `log` ends at `log_end` once `sequence` is durable; its last `direct_bytes` went straight to
    /// their segment.
    pub(crate) fn note_pending(
        &self,
        sequence: Sequence,
        log_end: i64,
        direct_bytes: u64,
        log: Weak<Log>,
    ) {
        for counter in [&self.direct_bytes, &self.direct_uncommitted] {
            counter.set(counter.get() + direct_bytes);
        }
        self.queues.pending.borrow_mut().push_back(PendingCommit {
            sequence,
            log_end,
            direct_bytes,
            log,
        });
    }

    /// Whether `bytes` more may go straight to a segment: what gathers in the journal meanwhile waits for them.
    pub(crate) fn has_direct_room(&self, bytes: u64) -> bool {
        let held = self.direct_uncommitted.get();
        // A batch larger than the bound goes when nothing else does.
        held == 0 || held + bytes <= self.config.direct_bytes_max
    }

    /// Called by the journal after each group commit, before waiters are woken.
    pub(crate) fn on_committed(&self, durable: Sequence) {
        let mut touched = self.queues.touched.take();
        {
            let mut pending = self.queues.pending.borrow_mut();
            while pending
                .front()
                .is_some_and(|commit| commit.sequence <= durable)
            {
                let Some(commit) = pending.pop_front() else {
                    break;
                };
                let uncommitted = self.direct_uncommitted.get() - commit.direct_bytes;
                self.direct_uncommitted.set(uncommitted);
                let Some(log) = commit.log.upgrade() else {
                    continue;
                };
                if log.note_durable(commit.log_end) {
                    touched.push(log);
                }
            }
        }
        let observer = self.observer.borrow().clone();
        for log in touched.drain(..) {
            log.is_touched.set(false);
            if let Some(observer) = &observer {
                observer(&PartitionLog::from(log));
            }
        }
        self.queues.touched.replace(touched);
        if !self.removals.borrow().is_empty() || self.wants_checkpoint() {
            self.wake.notify_one();
        }
    }

    /// Sequence of the newest journal record.
    pub(crate) fn last_sequence(&self) -> Sequence {
        self.journal.last_sequence()
    }

    /// [`Self::last_sequence`] as checkpoint entries hold it.
    pub(crate) fn last_sequence_value(&self) -> u64 {
        u64::from(self.last_sequence())
    }

    /// The sequence before `sequence`, as checkpoint entries hold it.
    pub(crate) fn value_before(sequence: Sequence) -> u64 {
        u64::from(sequence).saturating_sub(1)
    }

    /// Lets the journal go below `sequence`: a durable checkpoint has it all.
    pub(crate) fn release_journal_below(&self, sequence: u64) {
        self.journal
            .release_through(Sequence::from(sequence.saturating_sub(1)));
    }

    /// Whether the journal is full enough for a checkpoint, and has grown since the last one: what
    /// lies in the file in use is not given back by another. Or whether an append waits for nothing else.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let is_full = self.journal.used_percent() >= self.checkpoint_percent();
        let has_grown = || match self.journal_bytes_at_checkpoint.get() {
            None => true,
            Some(before) => {
                let grown = self.journal.counts().bytes_written - before;
                grown >= self.config.journal.file_bytes / CHECKPOINT_FILE_SHARE
            }
        };
        is_full && has_grown() || self.journal.needs_release()
    }

    /// Percentage of the journal in use from which a checkpoint is worth it: of many logs it writes a little each,
    /// so it waits until that is more.
    fn checkpoint_percent(&self) -> u64 {
        let percent_max = u64::from(self.config.checkpoint_journal_percent);
        let JournalConfig {
            file_bytes,
            files_max,
            ..
        } = self.config.journal;
        let logs = self.queues.aging.borrow().len() as u64;
        let percent = logs * CHECKPOINT_LOG_BYTES * 100 / (file_bytes * files_max as u64);
        percent.clamp(CHECKPOINT_PERCENT_MIN.min(percent_max), percent_max)
    }

    /// Whether the checkpoint that is being made has to end soon.
    pub(crate) fn is_checkpoint_hurried(&self) -> bool {
        self.journal.used_percent() >= CHECKPOINT_HURRY_PERCENT || self.journal.is_ending()
    }

    /// A checkpoint begins now.
    pub(crate) fn note_checkpoint(&self) {
        let written = self.journal.counts().bytes_written;
        self.journal_bytes_at_checkpoint.set(Some(written));
    }

    /// Waits until every deletion decided so far has been carried out.
    ///
    /// # Errors
    /// [`StorageError::Offline`].
    pub(crate) async fn wait_for_removals(&self) -> Result<(), StorageError> {
        while !self.removals.borrow().is_empty() || self.tasks.count(TaskKind::Removal) > 0 {
            self.check_online()?;
            self.wake.notify_one();
            self.progress.notified().await;
        }
        self.check_online()
    }

    /// The checkpoint that was begun did not come about: the next may begin as if it had not been.
    pub(crate) fn forget_checkpoint(&self) {
        self.journal_bytes_at_checkpoint.set(None);
    }

    /// Has files deleted once the removal's record is durable.
    pub(crate) fn queue_removal(&self, removal: Removal) {
        self.removals.borrow_mut().push_back(removal);
        self.wake.notify_one();
    }

    /// Bytes that are in memory only, over all logs.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes.get()
    }

    pub(crate) fn add_dirty(&self, bytes: u64) {
        self.dirty_bytes.set(self.dirty_bytes.get() + bytes);
    }

    pub(crate) fn remove_dirty(&self, bytes: u64) {
        let dirty = self.dirty_bytes.get();
        assert!(
            bytes <= dirty,
            "{bytes} bytes written of {dirty} dirty ones"
        );
        self.dirty_bytes.set(dirty - bytes);
    }

    /// Memory of all tail chunks.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes.get()
    }

    pub(crate) fn release_chunk_bytes(&self, bytes: u64) {
        let held = self.chunk_bytes.get();
        assert!(bytes <= held, "{bytes} bytes released of {held} in chunks");
        self.chunk_bytes.set(held - bytes);
    }

    /// Notes `counted_bytes` of chunk memory that `log` has taken.
    pub(crate) fn note_chunk(&self, counted_bytes: u64, log: &Log) {
        self.chunk_bytes.set(self.chunk_bytes.get() + counted_bytes);
        if counted_bytes > 0 && !log.has_eviction_turn.replace(true) {
            self.queues.evictable.borrow_mut().push_back(log.weak());
        }
    }

    /// Memory for a chunk of `log`, evicting other chunks if need be. `None`: there is none until
    /// the write-behind has got further. A single block is always given: it is what a log needs to
    /// keep its incomplete last block. `is_forced`: so is what cannot be put off.
    pub(crate) fn chunk_memory(
        &self,
        capacity: usize,
        log: &Log,
        is_forced: bool,
    ) -> Option<ChunkMemory> {
        let counted_bytes = (capacity - BLOCK_BYTES) as u64;
        // A chunk larger than the bound is taken when nothing else is.
        let fits = || {
            let held = self.chunk_bytes.get();
            held == 0 || held + counted_bytes <= self.config.cache_bytes_max
        };
        while counted_bytes > 0 && !fits() && self.evict_one() {}
        let mut charge = self.budget.try_charge(capacity);
        if charge.is_none() && counted_bytes > 0 {
            charge = self.charge_evicting(capacity);
        }
        let is_due = is_forced || counted_bytes == 0;
        if (!fits() || charge.is_none()) && !is_due {
            return None;
        }
        self.note_chunk(counted_bytes, log);
        Some(ChunkMemory {
            buffer: AppendBuf::with_capacity(capacity),
            charge,
        })
    }

    /// Memory for something that is not a chunk, evicting chunks and windows if need be.
    pub(crate) fn charge_evicting(&self, bytes: usize) -> Option<Charge> {
        let mut charge = self.budget.try_charge(bytes);
        while charge.is_none() && (self.read_cache.evict_one() || self.evict_one()) {
            charge = self.budget.try_charge(bytes);
        }
        charge
    }

    /// Waits for memory that [`Self::chunk_memory`] did not find: until the write-behind has got
    /// further, or, if all of ours is evicted, until others have left room in the shard's budget.
    pub(crate) async fn wait_for_memory(&self, bytes: usize) {
        if self.chunk_bytes.get() == 0 {
            drop(
                self.budget
                    .charge(bytes.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES)
                    .await,
            );
            return;
        }
        self.is_memory_wanted.set(true);
        self.wake.notify_one();
        self.progress.notified().await;
    }

    /// Gives back the memory of a written chunk: of each log in turn its oldest, so that what idle
    /// logs hold goes first. `false` when there is none.
    pub(crate) fn evict_one(&self) -> bool {
        self.evict_among(usize::MAX)
    }

    /// [`Self::evict_one`], looking at the next `logs_max` only.
    pub(crate) fn evict_among(&self, logs_max: usize) -> bool {
        let attempts = self.queues.evictable.borrow().len().min(logs_max);
        for _ in 0..attempts {
            let Some(entry) = self.queues.evictable.borrow_mut().pop_front() else {
                return false;
            };
            let Some(log) = entry.upgrade() else { continue };
            let eviction = log.evict_chunk();
            match eviction {
                Eviction::Gone => log.has_eviction_turn.set(false),
                Eviction::Freed { .. } | Eviction::Needed => {
                    self.queues.evictable.borrow_mut().push_back(entry);
                }
            }
            if let Eviction::Freed { bytes } = eviction {
                self.release_chunk_bytes(bytes);
                return true;
            }
        }
        false
    }
}

/// What became of an attempt to evict a log's oldest chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// So much memory was given back.
    Freed { bytes: u64 },
    /// The log has no such chunk any more.
    Gone,
    /// The chunk is not written yet.
    Needed,
}
