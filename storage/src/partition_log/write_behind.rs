//! Moving a log's bytes from memory to its segment files, and making them durable there.
//!
//! *Place*: tasks of the write-behind and of checkpoints. *Invariants*: **I1** only full blocks are
//! written, and the last block of a sealed segment; each once, straight out of the tail chunks.
//! **I2** one task at a time works on a log's files ([`Log::file_work`]). **I3** a failed write or
//! fdatasync takes the storage offline; but a write for which there is no room on the disk, or are no open
//! files, is repeated, as it was. *Durability*: after [`Log::sync_to`] the bytes asked for,
//! and the directory entries of their files, survive a power loss (but `logs/` itself, which the
//! checkpoint fsyncs once for all logs).

use std::io;
use std::rc::Rc;

use runtime::{BLOCK_BYTES, Durability, File, OpenMode, Slice, dir};

use super::state::LogState;
use super::{Condition, FileWork, Log};
use crate::checkpoint::entry::SegmentPosition;
use crate::directory::sync_dir;
use crate::error::StorageError;
use crate::log_id::logs_dir;
use crate::segment::files::{FileKind, rewritten_segment};
use crate::segment::index_file::{BLOCK_ENTRIES, BlockOwner, encode_block};
use crate::segment::{Segment, SegmentName, block_ceil, block_floor};

/// Greatest single write to a segment.
const WRITE_BYTES_MAX: u64 = 1 << 20;

/// The next write that a log needs.
pub(super) struct NextWrite {
    pub(super) segment: SegmentName,
    pub(super) from: u64,
    /// The segment's bytes up to here are in the file afterwards.
    pub(super) to: u64,
    /// Blocks from `from` on, as they lie in memory.
    pub(super) blocks: Vec<Slice>,
    /// The segment is sealed and ends at `to`.
    ends_segment: bool,
}

impl NextWrite {
    /// The write at `from` of a segment that is in memory from there to `limit`.
    pub(super) fn of(state: &LogState, segment: SegmentName, from: u64, limit: u64) -> Self {
        let limit = limit.min(from + WRITE_BYTES_MAX);
        let mut to = from;
        let mut blocks = Vec::new();
        for (chunk, run_to) in state
            .chunks
            .unwritten_runs(segment.base_offset, from, limit)
        {
            // One that begins in the block in which the next one begins has nothing of its own.
            if run_to > to {
                // The last block of a sealed segment was padded when it was sealed.
                blocks.push(chunk.slice(to, block_ceil(run_to)));
                to = run_to;
            }
            if to == limit {
                break;
            }
        }
        assert_eq!(to, limit, "what is not written is in memory");
        NextWrite {
            segment,
            from,
            to,
            blocks,
            ends_segment: false,
        }
    }
}

impl Log {
    /// Writes every full block that is only in memory.
    ///
    /// # Errors
    /// Of the file operations; the storage is offline then.
    pub(crate) async fn write_behind(self: &Rc<Self>) -> Result<(), StorageError> {
        let work = self.file_work().await;
        let result = self.write_all(&work).await;
        drop(work);
        self.settle(result)
    }

    /// Writes and syncs everything below `to`, and all earlier segments.
    ///
    /// # Errors
    /// Of the file operations; the storage is offline then.
    pub(crate) async fn sync_to(self: &Rc<Self>, to: SegmentPosition) -> Result<(), StorageError> {
        let work = self.file_work().await;
        let result = self.sync_to_with(&work, to).await;
        drop(work);
        self.settle(result)
    }

    /// Passes `result` on; an error takes the storage offline.
    pub(super) fn fail_on_error<T>(
        &self,
        result: Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if let Err(error) = &result {
            self.engine.fail(error);
        }
        result
    }

    /// Passes `result` on; an error takes the storage offline, unless it is a shortage: then the same is
    /// written again later. What a log needs that is deleted by now does not matter.
    pub(crate) fn settle(&self, result: Result<(), StorageError>) -> Result<(), StorageError> {
        if self.condition.get() == Condition::Deleted {
            return Ok(());
        }
        if let Err(error) = &result {
            self.engine.fail_unless_short(error);
        }
        result
    }

    /// [`Self::sync_to`] for who has the right to work on the files already.
    pub(super) async fn sync_to_with(
        self: &Rc<Self>,
        work: &FileWork,
        to: SegmentPosition,
    ) -> Result<(), StorageError> {
        self.write_all(work).await?;
        let unsynced: Vec<i64> = {
            let state = self.state.borrow();
            let needs_sync = |base: i64, synced: u64| {
                base < to.segment_base || (base == to.segment_base && synced < to.position)
            };
            let unsynced = state
                .segments
                .iter()
                .rev()
                .skip_while(|s| s.base_offset() > to.segment_base);
            unsynced
                .take_while(|s| s.is_unsynced() || s.base_offset() == to.segment_base)
                .filter(|s| s.is_unsynced() && needs_sync(s.base_offset(), s.synced))
                .map(Segment::base_offset)
                .collect()
        };
        for segment_base in unsynced.into_iter().rev() {
            self.sync_segment(segment_base).await?;
        }
        // Offline, nothing was written: then nothing may be said to be synced.
        self.engine.check_online()
    }

    pub(super) async fn sync_segment(
        self: &Rc<Self>,
        segment_base: i64,
    ) -> Result<(), StorageError> {
        let Some((name, written, is_linked)) =
            self.with_segment(segment_base, |s| (s.name(), s.written, s.is_linked))
        else {
            return Ok(());
        };
        let path = || self.path_of(name, FileKind::Segment);
        let file = self.open_named(name, FileKind::Segment).await?;
        file.sync_data()
            .await
            .map_err(|e| StorageError::io("fdatasync", &path(), e))?;
        if !is_linked {
            sync_dir(&self.dir()).await?;
        }
        self.with_segment(segment_base, |segment| {
            // A truncation may have moved `written` back; it waits for this task, so it has not.
            assert!(
                segment.written >= written,
                "written moved back during a sync"
            );
            segment.synced = written;
            segment.is_linked = true;
        });
        Ok(())
    }

    async fn write_all(self: &Rc<Self>, _work: &FileWork) -> Result<(), StorageError> {
        loop {
            self.write_derived().await?;
            let Some(next) = self.next_write() else {
                return self.cut_sealed().await;
            };
            let file = self.file_for_writing(&next).await?;
            let path = || self.path_of(next.segment, FileKind::Segment);
            let written = file
                .write_parts_at(next.from, next.blocks.clone(), Durability::Buffered)
                .await;
            written.map_err(|e| StorageError::io("write", &path(), e))?;
            if next.ends_segment {
                // Cuts the padding and what was allocated ahead.
                file.truncate(next.to)
                    .await
                    .map_err(|e| StorageError::io("truncate", &path(), e))?;
            }
            self.note_written(&next);
        }
    }

    fn next_write(&self) -> Option<NextWrite> {
        if self.condition.get() == Condition::Deleted || self.engine.is_offline() {
            return None;
        }
        let state = self.state.borrow();
        for at in state.first_unfinished()..state.segments.len() {
            let segment = &state.segments[at];
            let is_sealed = state.is_sealed(at);
            let limit = segment.writable_to(is_sealed);
            if segment.written >= limit {
                continue;
            }
            let next = NextWrite::of(&state, segment.name(), segment.written, limit);
            return Some(NextWrite {
                ends_segment: is_sealed && next.to == segment.bytes(),
                ..next
            });
        }
        None
    }

    /// Cuts what was allocated behind segments of which everything was written when they were sealed.
    async fn cut_sealed(self: &Rc<Self>) -> Result<(), StorageError> {
        while let Some((name, bytes)) = self.next_uncut() {
            let file = self.open_named(name, FileKind::Segment).await?;
            let path = || self.path_of(name, FileKind::Segment);
            let cut = file.truncate(bytes).await;
            cut.map_err(|e| StorageError::io("truncate", &path(), e))?;
            self.with_segment(name.base_offset, |segment| segment.allocated = bytes);
        }
        Ok(())
    }

    fn next_uncut(&self) -> Option<(SegmentName, u64)> {
        if self.condition.get() == Condition::Deleted || self.engine.is_offline() {
            return None;
        }
        let state = self.state.borrow();
        let sealed = &state.segments[..state.segments.len() - 1];
        let mut unfinished = sealed.iter().skip(state.first_unfinished());
        let uncut = unfinished.find(|segment| segment.unwritten() == 0)?;
        Some((uncut.name(), uncut.bytes()))
    }

    /// The segment's file, made when it does not exist, with space for the write allocated.
    async fn file_for_writing(self: &Rc<Self>, next: &NextWrite) -> Result<File, StorageError> {
        let file = self.open_or_create(next.segment, FileKind::Segment).await?;
        if !next.ends_segment {
            self.allocate_ahead(&file, next).await;
        }
        Ok(file)
    }

    /// Where less than a quarter is left of what is allocated at once, allocates as much again as the
    /// segment has, within bounds. Only a help: what cannot be allocated ahead fails, if it must, at the
    /// write, and a large append without space ahead goes through the journal.
    pub(super) async fn allocate_ahead(&self, file: &File, next: &NextWrite) {
        let config = &self.engine.config;
        let step_max = config
            .allocate_step_bytes_max
            .min(self.engine.space.allocate_step_max());
        let step = next.from.next_power_of_two().min(step_max);
        let allocated = self.with_segment(next.segment.base_offset, |segment| segment.allocated);
        let Some(allocated) = allocated else { return };
        let is_small = next.from.min(step) < config.allocate_from_bytes;
        if is_small || next.to + step / 4 <= allocated {
            return;
        }
        let (from, needed_to) = (allocated.max(next.from), block_ceil(next.to));
        let limit = self.config.borrow().segment_bytes.max(needed_to);
        let upto = block_floor((from + step).min(limit)).max(needed_to);
        if from < upto && file.allocate(from, upto - from).await.is_ok() {
            self.with_segment(next.segment.base_offset, |segment| segment.allocated = upto);
        }
    }

    pub(super) fn note_written(&self, next: &NextWrite) {
        if self.condition.get() == Condition::Deleted {
            return;
        }
        let written = self.with_segment(next.segment.base_offset, |segment| {
            assert_eq!(segment.written, next.from, "segments are written in order");
            segment.written = next.to;
            if next.ends_segment {
                segment.allocated = block_ceil(next.to);
            }
            segment.check_invariants();
        });
        let bytes = block_ceil(next.to) - next.from;
        self.engine
            .segment_bytes
            .set(self.engine.segment_bytes.get() + bytes);
        // The segment is gone when retention dropped it; its bytes were taken off then.
        if written.is_some() {
            self.engine.remove_dirty(next.to - next.from);
            let mut due = self.derived_due.borrow_mut();
            if due.last() != Some(&next.segment) {
                due.push(next.segment);
            }
        }
        self.engine.progress.notify_waiters();
    }

    /// Writes what is derived from the segments that were written; what fails stays due.
    pub(super) async fn write_derived(self: &Rc<Self>) -> Result<(), StorageError> {
        loop {
            // The directory of a deleted log would be made again, and stay.
            if self.condition.get() == Condition::Deleted || self.engine.is_offline() {
                return Ok(());
            }
            let due = self.derived_due.borrow().last().copied();
            let Some(name) = due else { return Ok(()) };
            if self.state.borrow().segment_named(name).is_some() {
                self.write_derived_of(name).await?;
            }
            self.derived_due.borrow_mut().retain(|due| *due != name);
        }
    }

    /// Full index blocks, producer states.
    async fn write_derived_of(self: &Rc<Self>, name: SegmentName) -> Result<(), StorageError> {
        let snapshot = self
            .with_segment(name.base_offset, |segment| segment.producer_snapshot.take())
            .flatten();
        if let Some(snapshot) = snapshot {
            let path = self.path_of(name, FileKind::Producers);
            if let Err(error) = dir::write_file_atomic(&path, &snapshot).await {
                self.with_segment(name.base_offset, |s| s.producer_snapshot = Some(snapshot));
                return Err(StorageError::io("write", &path, error));
            }
        }
        while let Some((number, block)) = self.next_index_block(name.base_offset) {
            let file = self.open_or_create(name, FileKind::Index).await?;
            let at = u64::from(number) * BLOCK_BYTES as u64;
            let path = || self.path_of(name, FileKind::Index);
            let written = file.write_at(at, block, Durability::Buffered).await;
            written.map_err(|e| StorageError::io("write", &path(), e))?;
            self.with_segment(name.base_offset, |segment| {
                segment.index_blocks = Some(number + 1);
            });
        }
        Ok(())
    }

    /// Whether a segment lacks something derived that can be written now.
    pub(super) fn has_derived_due(&self, segment_base: i64) -> bool {
        let due = self.with_segment(segment_base, |segment| {
            let full = segment.index.entries().len() / BLOCK_ENTRIES;
            let blocks = segment.index_blocks.filter(|_| segment.index.is_complete());
            segment.producer_snapshot.is_some() || blocks.is_some_and(|n| (n as usize) < full)
        });
        due.unwrap_or(false)
    }

    /// The next full index block whose batches are in the file. None while the index is not
    /// complete in memory: it is written when a lookup has completed it.
    fn next_index_block(&self, segment_base: i64) -> Option<(u32, Slice)> {
        let state = self.state.borrow();
        let segment = &state.segments[state.segment_at(segment_base)?];
        let number = segment
            .index_blocks
            .filter(|_| segment.index.is_complete())?;
        let from = number as usize * BLOCK_ENTRIES;
        let entries = segment.index.entries().get(from..from + BLOCK_ENTRIES)?;
        let last = entries.last().map_or(0, |entry| u64::from(entry.position));
        if last >= segment.written {
            return None;
        }
        let owner = BlockOwner {
            incarnation: self.incarnation,
            segment_base,
        };
        Some((number, aligned(&encode_block(owner, number, entries))))
    }

    /// Deletes the files of segments that the log no longer has, durably. Files that are gone already
    /// are fine: a replay repeats what was decided. To be called with the right to work on files.
    pub(crate) async fn remove_segment_files(
        &self,
        segments: &[SegmentName],
    ) -> Result<(), StorageError> {
        let log_dir = self.dir();
        let exists = dir::exists(&log_dir).await;
        if !exists.map_err(|e| StorageError::io("look for", &log_dir, e))? {
            return Ok(());
        }
        for segment in segments {
            let in_its_place = self.with_segment(segment.base_offset, |other| other.name());
            assert_ne!(
                in_its_place,
                Some(*segment),
                "a segment is in use and was to be deleted"
            );
            self.engine.files.forget_segment(self.incarnation, *segment);
            for kind in FileKind::ALL {
                // The states before a segment are the same after it was rewritten.
                if kind == FileKind::Producers && in_its_place.is_some() {
                    continue;
                }
                let path = self.path_of(*segment, kind);
                match dir::remove_file(&path).await {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(StorageError::io("delete", &path, e)),
                }
            }
        }
        sync_dir(&log_dir).await
    }

    /// Deletes files of rewritten segments that the log does not have: a stop came before the swap.
    /// Answers how many. Only for the cleaner, which makes such files: none appears meanwhile.
    pub(crate) async fn remove_unknown_segments(&self) -> Result<usize, StorageError> {
        let log_dir = self.dir();
        let exists = dir::exists(&log_dir).await;
        if !exists.map_err(|e| StorageError::io("look for", &log_dir, e))? {
            return Ok(0);
        }
        let entries = dir::read_dir(&log_dir).await;
        let entries = entries.map_err(|e| StorageError::io("list", &log_dir, e))?;
        let mut removed = 0;
        for entry in entries {
            let Some(name) = rewritten_segment(&entry.name) else {
                continue;
            };
            if self.state.borrow().segment_named(name).is_some() {
                continue;
            }
            let path = log_dir.join(&entry.name);
            match dir::remove_file(&path).await {
                Ok(()) => removed += 1,
                // On its way out already.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(StorageError::io("delete", &path, e)),
            }
        }
        Ok(removed)
    }

    /// Opens a file that exists.
    pub(crate) async fn open_named(
        &self,
        segment: SegmentName,
        kind: FileKind,
    ) -> Result<File, StorageError> {
        let key = (self.incarnation, segment, kind);
        if let Some(file) = self.engine.files.get(key) {
            return Ok(file);
        }
        let path = self.path_of(segment, kind);
        let opened = self.engine.files.open(key, &path, OpenMode::ReadWrite);
        opened.await.map_err(|e| StorageError::io("open", &path, e))
    }

    async fn open_or_create(
        &self,
        segment: SegmentName,
        kind: FileKind,
    ) -> Result<File, StorageError> {
        let engine = &self.engine;
        let key = (self.incarnation, segment, kind);
        if let Some(file) = engine.files.get(key) {
            return Ok(file);
        }
        let path = self.path_of(segment, kind);
        let opened = engine.files.open_or_create(key, &path).await;
        let (file, is_made) = opened.map_err(|e| StorageError::io("open or create", &path, e))?;
        // Its directory may have been made, too.
        engine
            .log_dirs_made
            .set(engine.log_dirs_made.get() + u64::from(is_made));
        Ok(file)
    }

    pub(crate) fn with_segment<T>(
        &self,
        segment_base: i64,
        change: impl FnOnce(&mut Segment) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let at = state.segment_at(segment_base)?;
        Some(change(&mut state.segments[at]))
    }
}

/// A copy of `bytes`, whole blocks, that can be written directly.
pub(crate) fn aligned(bytes: &[u8]) -> Slice {
    let mut buffer = runtime::AlignedBuf::zeroed(bytes.len().next_multiple_of(BLOCK_BYTES));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer.freeze()
}

/// Makes the names of all log directories durable that were made before.
pub(crate) async fn sync_logs_dir(engine: &crate::engine::Engine) -> Result<(), StorageError> {
    let made = engine.log_dirs_made.get();
    // Compared by count: another task's fsync may be under way, and has not ended.
    if engine.log_dirs_synced.get() < made {
        sync_dir(&logs_dir(&engine.data_dir)).await?;
        engine
            .log_dirs_synced
            .set(engine.log_dirs_synced.get().max(made));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::record_batch::{BatchBuilder, BatchOptions};
    use runtime::MemoryBudget;
    use runtime::sim::Simulation;

    use super::*;
    use crate::{LogConfig, LogId, Storage, StorageConfig};

    /// A task that had waited for the log's files while they were removed made the directory again.
    #[test]
    fn what_is_derived_from_a_deleted_log_is_not_written() {
        let disk = runtime::sim::Disk::new();
        let program = async {
            let config = StorageConfig::default();
            let opened = Storage::open(Path::new("/data"), 0, config, MemoryBudget::new(64 << 20));
            let (storage, _) = opened.await.expect("open");
            let id = LogId {
                topic: [1; 16],
                partition: 0,
            };
            let created = storage.create_log(id, LogConfig::default()).await;
            let log = Rc::clone(&created.expect("create").log);
            let batch = batch();
            for _ in 0..BLOCK_ENTRIES + 2 {
                let log = super::super::PartitionLog::from(Rc::clone(&log));
                log.reserve(batch.len()).await.expect("room");
                log.append(&batch, 0, 0).expect("append");
            }
            log.write_behind().await.expect("write");
            let name = log.state.borrow().segments[0].name();
            log.derived_due.borrow_mut().push(name);
            storage.delete_log(id).await.expect("delete");
            assert!(log.derived_due.borrow().is_empty(), "it is forgotten");
            log.engine.wait_for_removals().await.expect("removed");
            log.derived_due.borrow_mut().push(name);
            log.with_segment(0, |segment| segment.index_blocks = Some(0));
            assert!(log.next_index_block(0).is_some(), "there would be a block");
            log.write_behind().await.expect("nothing to write");
            assert!(!dir::exists(&log.dir()).await.expect("look"));
        };
        Simulation::new(1).disk(&disk).run(program).value();
    }

    /// Large enough for an index entry of its own.
    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.push(0, None, Some(&vec![7; 66_000]), &[]);
        builder.build().expect("a batch")
    }
}
