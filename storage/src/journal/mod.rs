//! The write-ahead journal of one shard: group commit into pre-written, recycled files.
//!
//! *Place*: `storage` appends to it and waits for it; nothing else writes the shard's durable truth.
//! *Core*: the shard that opened it.
//! *Durability*: [`Journal::committed`] answers after the aligned durable write that held the record, and those
//! of all groups before it.
//! *Invariants*
//! - I1. Two groups are in flight at most, and the first of a file use alone. So a torn group is the last
//!   one, or the last but one and the last states that it was not durable.
//! - I2. A group states the journal and the file use (lap) it belongs to, its predecessor's CRC and the
//!   sequence that was durable when it was written: old content of a recycled file is never taken for
//!   new, and damage in the middle is told from a torn end.
//! - I3. A start makes durable what it replayed, then writes into a fresh file use; it never appends to
//!   what it replayed.
//! - I4. After a failed write nothing is written, taken, answered or retried any more; only for a full
//!   disk it is waited, with the groups in flight unanswered.
//! - I5. A record that rests on other files is in no group that is written before they are durable.
//!
//! *Limits*: `group_bytes_max` a gathering group, `files_max` files of `file_bytes`; the last file is
//! kept for records that free space ([`Journal::has_room`]). The tasks of a journal that is neither
//! closed nor failed last as long as their executor.

mod committed;
mod files;
mod format;
mod reader;
mod record;
mod replay;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::buffer::{AppendBuf, BLOCK_BYTES};
use runtime::sync::Notify;
use runtime::task::{self, Class};
use thiserror::Error;

use crate::error::StorageError;
use committed::Waiters;
use files::Files;
use format::{GROUP_HEADER_BYTES, padded};
pub use record::RecordView;

/// Numbers the records of one journal, from 1, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(u64);

impl From<u64> for Sequence {
    fn from(value: u64) -> Self {
        Sequence(value)
    }
}

impl From<Sequence> for u64 {
    fn from(sequence: Sequence) -> u64 {
        sequence.0
    }
}

/// The journal takes nothing any more.
#[derive(Clone, Debug, Error)]
#[error("journal: {reason}")]
pub struct JournalFailed {
    /// The first failure, or that it was closed.
    pub reason: Arc<str>,
}

/// Settings of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Size of one file. 64 KiB – 4 GiB, whole blocks.
    pub file_bytes: u64,
    /// Files that may be in use: one, another to go on in, and one in reserve at least. 3 – 1024.
    pub files_max: usize,
    /// Bytes that one group gathers before a further one is begun. A larger record has a group alone.
    /// 4 KiB – 1 GiB; a quarter of a file at most counts.
    pub group_bytes_max: usize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig {
            file_bytes: 64 << 20,
            files_max: 16,
            group_bytes_max: 1 << 20,
        }
    }
}

impl JournalConfig {
    /// A group of so many bytes does not wait for the one in flight. With smaller ones the disk is not the
    /// bound, and two would cost more than one.
    fn beside_bytes(&self) -> usize {
        self.group_bytes_max / 16
    }
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Records that were given to the visitor.
    pub records: u64,
    /// Bytes of a last group that was begun and not finished; it was never answered.
    pub bytes_cut: u64,
    /// Whether the last process closed the journal.
    pub was_closed: bool,
}

/// Figures for metrics.
#[derive(Clone, Debug, Default)]
pub struct JournalCounts {
    /// Groups made durable.
    pub commits: u64,
    /// Bytes written, padding included.
    pub bytes_written: u64,
    /// Durable writes by duration: count for each power of two of microseconds.
    pub commit_us_log2: [u64; 32],
    /// Sum of those durations in microseconds.
    pub commit_us_sum: u64,
}

impl JournalCounts {
    fn count(&mut self, bytes: usize, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commits += 1;
        self.bytes_written += bytes as u64;
        self.commit_us_sum = self.commit_us_sum.saturating_add(us);
        let bucket = (u64::BITS - us.leading_zeros()).min(31) as usize;
        if let Some(count) = self.commit_us_log2.get_mut(bucket) {
            *count += 1;
        }
    }
}

/// The journal of one shard. Clones are the same journal.
#[derive(Clone)]
pub struct Journal(Rc<Shared>);

type Observer = Box<dyn Fn(Sequence)>;

struct Shared {
    config: JournalConfig,
    files: Files,
    /// Groups that gather; all but the last are full.
    gathering: RefCell<VecDeque<Gathering>>,
    /// Buffers that were written and can gather again: one for each group in flight at most.
    spare: RefCell<Vec<AppendBuf>>,
    last: Cell<u64>,
    durable: Cell<u64>,
    waiters: Waiters,
    observer: RefCell<Option<Observer>>,
    /// Something gathered, or the journal is being closed.
    work: Notify,
    /// A group has become large enough to go beside the one in flight.
    is_large: Notify,
    /// Room came free, or the journal failed.
    room: Notify,
    /// Somebody waits for room that files do not have.
    is_room_wanted: Cell<bool>,
    failed: RefCell<Option<JournalFailed>>,
    /// It is about to be closed: nothing waits for space on the disk any more.
    is_ending: Cell<bool>,
    ending: Notify,
    is_closing: Cell<bool>,
    /// Nothing is written any more.
    has_writer_ended: Cell<bool>,
    writer_ended: Notify,
    counts: RefCell<JournalCounts>,
}

/// Ends when what a record says about other files is true there, durably.
pub(crate) type Premise = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

struct Gathering {
    buffer: AppendBuf,
    /// What has to be true before the group is written (I5).
    premises: Vec<Premise>,
    first: u64,
    records: u32,
}

impl Gathering {
    /// Bytes of the group in its file.
    fn padded_bytes(&self) -> u64 {
        padded(self.buffer.len() - GROUP_HEADER_BYTES) as u64
    }
}

impl Journal {
    /// Opens the journal in `dir`, gives every record from `replay_from` on to `visitor`, in order, and
    /// begins a fresh file use. Who names `replay_from` has every effect of the records before it.
    ///
    /// # Errors
    /// [`StorageError::Corruption`] when a record that was durable cannot be read, or records between
    /// `replay_from` and the oldest file, or before `replay_from`, are missing;
    /// [`StorageError::FormatVersion`]; what the visitor answers: nothing was changed then.
    /// [`StorageError::Io`], [`StorageError::DiskFull`].
    pub async fn open(
        dir: &Path,
        mut config: JournalConfig,
        replay_from: Sequence,
        visitor: &mut dyn FnMut(Sequence, RecordView<'_>) -> Result<(), StorageError>,
    ) -> Result<(Journal, ReplayReport), StorageError> {
        check(&config)?;
        config.group_bytes_max = config.group_bytes_max.min(config.file_bytes as usize / 4);
        let found = scan::scan(dir).await?;
        let replayed = replay::replay(dir, &found, replay_from, visitor).await?;
        for file in &found.unfinished {
            let removed = runtime::dir::remove_file(&file.path).await;
            removed.map_err(|error| StorageError::io("delete", &file.path, error))?;
        }
        let last = replayed.last_sequence;
        let files = Files::new(dir, &config, found, &replayed);
        let shared = Rc::new(Shared {
            config,
            files,
            gathering: RefCell::default(),
            spare: RefCell::default(),
            last: Cell::new(last),
            durable: Cell::new(last),
            waiters: Waiters::default(),
            observer: RefCell::default(),
            work: Notify::new(),
            is_large: Notify::new(),
            room: Notify::new(),
            is_room_wanted: Cell::new(false),
            failed: RefCell::default(),
            is_ending: Cell::new(false),
            ending: Notify::new(),
            is_closing: Cell::new(false),
            has_writer_ended: Cell::new(false),
            writer_ended: Notify::new(),
            counts: RefCell::default(),
        });
        let mut writer = writer::Writer::new(&shared, &replayed);
        writer.begin().await?;
        task::spawn(Class::Network, writer.run()).detach();
        task::spawn(Class::Background, files::make_ahead(shared.clone())).detach();
        Ok((Journal(shared), replayed.report))
    }

    /// As [`Self::open`] would replay it, changing nothing; also answers the newest sequence.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) async fn inspect(
        dir: &Path,
        replay_from: Sequence,
        visitor: &mut dyn FnMut(Sequence, RecordView<'_>) -> Result<(), StorageError>,
    ) -> Result<(ReplayReport, Sequence), StorageError> {
        let found = scan::look(dir).await?;
        let replayed = replay::replay(dir, &found, replay_from, visitor).await?;
        Ok((replayed.report, Sequence(replayed.last_sequence)))
    }

    /// Takes a record into the gathering group. It is durable when [`Self::committed`] says so.
    ///
    /// # Panics
    /// If the record is larger than [`Self::record_bytes_max`].
    pub fn append(&self, record: RecordView<'_>) -> Sequence {
        self.take(record, None)
    }

    /// [`Self::append`] of a record that is not written before `premise` has ended well. One that fails
    /// fails the journal.
    pub(crate) fn append_after(&self, record: RecordView<'_>, premise: Premise) -> Sequence {
        self.take(record, Some(premise))
    }

    fn take(&self, record: RecordView<'_>, premise: Option<Premise>) -> Sequence {
        let shared = &self.0;
        let bytes = record.encoded_bytes();
        assert!(
            bytes <= self.record_bytes_max(),
            "a record of {bytes} bytes fits in no journal file"
        );
        let sequence = shared.last.get() + 1;
        shared.last.set(sequence);
        // Nobody will write it; whoever waits for it is told so.
        if shared.failed.borrow().is_some() {
            return Sequence(sequence);
        }
        let mut gathering = shared.gathering.borrow_mut();
        let fits = gathering
            .back()
            .is_some_and(|group| group.buffer.remaining() >= bytes + BLOCK_BYTES);
        if !fits {
            let buffer = shared.buffer_for(bytes);
            gathering.push_back(Gathering {
                buffer,
                premises: Vec::new(),
                first: sequence,
                records: 0,
            });
        }
        let group = gathering.back_mut().expect("a group was begun above");
        let large = shared.config.beside_bytes();
        let was_small = group.buffer.len() < large;
        record.encode(&mut group.buffer);
        if was_small && group.buffer.len() >= large {
            shared.is_large.notify_one();
        }
        group.premises.extend(premise);
        group.records += 1;
        shared.work.notify_one();
        Sequence(sequence)
    }

    /// Resolves when the journal is durable through `sequence`. Costs nothing if it is already.
    ///
    /// # Errors
    /// [`JournalFailed`]: it will never be known to be.
    ///
    /// # Cancel safety
    /// Nothing is lost by a dropped wait.
    pub fn committed(
        &self,
        sequence: Sequence,
    ) -> impl Future<Output = Result<(), JournalFailed>> + use<> {
        committed::Committed::new(self.0.clone(), sequence.0)
    }

    /// The newest durable record.
    pub fn durable_sequence(&self) -> Sequence {
        Sequence(self.0.durable.get())
    }

    /// The newest record, durable or not.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.0.last.get())
    }

    /// Has `observer` told of every commit, before those who wait for it are woken.
    pub fn on_commit(&self, observer: impl Fn(Sequence) + 'static) {
        *self.0.observer.borrow_mut() = Some(Box::new(observer));
    }

    /// Whether an append of `bytes` would neither wait for the group in flight nor take the space that
    /// is kept for records that free space. Those are appended without asking.
    pub fn has_room(&self, bytes: usize) -> bool {
        let shared = &self.0;
        if shared.failed.borrow().is_some() {
            return false;
        }
        let gathering = shared.gathering.borrow();
        let gathered: usize = gathering.iter().map(|group| group.buffer.len()).sum();
        let fits = gathering.is_empty()
            || gathering.len() == 1 && gathered + bytes < shared.config.group_bytes_max;
        let has_space = shared
            .files
            .has_space(gathered, bytes, shared.durable.get());
        fits && has_space
    }

    /// Waits until [`Self::has_room`]; another caller may take the room first.
    ///
    /// # Errors
    /// [`JournalFailed`].
    pub async fn room(&self, bytes: usize) -> Result<(), JournalFailed> {
        while !self.has_room(bytes) {
            if let Some(failed) = &*self.0.failed.borrow() {
                return Err(failed.clone());
            }
            self.0.is_room_wanted.set(true);
            self.0.room.notified().await;
        }
        // Others may fit beside this caller.
        self.0.room.notify_one();
        Ok(())
    }

    /// Largest record, in bytes of its encoding.
    pub fn record_bytes_max(&self) -> usize {
        (self.0.config.file_bytes as usize - BLOCK_BYTES) - BLOCK_BYTES - GROUP_HEADER_BYTES
    }

    /// Says that every effect of the records through `sequence` is durable elsewhere: files that hold
    /// no later ones are recycled.
    ///
    /// # Panics
    /// If the journal is not durable through `sequence` itself.
    pub fn release_through(&self, sequence: Sequence) {
        let durable = self.durable_sequence();
        assert!(
            sequence <= durable,
            "{sequence:?} released, but durable through {durable:?} only"
        );
        self.0.files.release_through(sequence.0);
        // Who still finds no room says so again.
        self.0.is_room_wanted.set(false);
        self.0.room.notify_waiters();
    }

    /// Whether somebody waits for room that only [`Self::release_through`] the newest record makes,
    /// however little was written since the last release.
    pub fn needs_release(&self) -> bool {
        self.0.is_room_wanted.get() && self.0.files.needs_release(self.0.last.get())
    }

    /// Part of the allowed files that holds records which are not released.
    pub fn used_percent(&self) -> u64 {
        self.0.files.used_percent()
    }

    /// Figures for metrics.
    pub fn counts(&self) -> JournalCounts {
        self.0.counts.borrow().clone()
    }

    /// From now on nothing waits for space on the disk: what then finds none, tried once more, fails the
    /// journal, and with it everything that is not durable. For who is about to close it, and must come to
    /// an end.
    pub fn begin_close(&self) {
        self.0.is_ending.set(true);
        self.0.ending.notify_waiters();
    }

    /// Whether [`Self::begin_close`] was called.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.is_ending.get()
    }

    /// Commits what has gathered and writes the mark of an orderly end. Nothing is taken afterwards.
    ///
    /// # Errors
    /// [`JournalFailed`], also where the disk has no space for what has gathered.
    pub async fn close(&self) -> Result<(), JournalFailed> {
        self.begin_close();
        let ended = self.end().await;
        self.tasks_ended().await;
        ended
    }

    /// Ends without writing anything more: for a start that has failed elsewhere. Nothing is taken afterwards.
    pub(crate) async fn abandon(&self) {
        self.0.fail("the start failed".to_owned());
        self.tasks_ended().await;
    }

    /// Failed or not, nothing touches the directory afterwards.
    async fn tasks_ended(&self) {
        self.0.files.ended().await;
        while !self.0.has_writer_ended.get() {
            self.0.writer_ended.notified().await;
        }
    }

    async fn end(&self) -> Result<(), JournalFailed> {
        if !self.0.waiters.is_closed() {
            self.committed(self.last_sequence()).await?;
        }
        self.0.is_closing.set(true);
        self.0.work.notify_one();
        self.0.waiters.closed(&self.0.failed).await
    }
}

impl Shared {
    /// A buffer with room for a record of `bytes`, the group's header in it.
    fn buffer_for(&self, bytes: usize) -> AppendBuf {
        let wanted = (bytes + GROUP_HEADER_BYTES).next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        let spare = self.spare.borrow_mut().pop();
        let spare = spare.filter(|buffer| buffer.capacity() >= wanted);
        let mut buffer = spare.unwrap_or_else(|| {
            AppendBuf::with_capacity(wanted.max(self.config.group_bytes_max + 2 * BLOCK_BYTES))
        });
        buffer.append_zeros(GROUP_HEADER_BYTES);
        buffer
    }

    /// Takes nothing any more (I4), and tells everybody who waits.
    fn fail(&self, reason: String) {
        let failed = JournalFailed {
            reason: reason.into(),
        };
        self.failed.borrow_mut().get_or_insert(failed);
        self.waiters.wake_all();
        self.room.notify_waiters();
        self.files.wanted.notify_one();
        self.work.notify_one();
    }
}

fn check(config: &JournalConfig) -> Result<(), StorageError> {
    let blocks = BLOCK_BYTES as u64;
    let is_size = config.file_bytes.is_multiple_of(blocks)
        && (64 << 10..=4 << 30).contains(&config.file_bytes);
    let group = config.group_bytes_max;
    let is_group = (BLOCK_BYTES..=1 << 30).contains(&group);
    let checks = [
        (
            "journal.file_bytes",
            config.file_bytes,
            is_size,
            "whole blocks, 64 KiB to 4 GiB",
        ),
        (
            "journal.files_max",
            config.files_max as u64,
            (3..=1024).contains(&config.files_max),
            "3 to 1024",
        ),
        (
            "journal.group_bytes_max",
            group as u64,
            is_group,
            "4 KiB to 1 GiB",
        ),
    ];
    match checks.into_iter().find(|(_, _, valid, _)| !valid) {
        None => Ok(()),
        Some((name, value, _, allowed)) => Err(StorageError::InvalidSetting {
            name,
            value,
            allowed,
        }),
    }
}
