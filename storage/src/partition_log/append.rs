//! Append: offsets assigned, header patched, bytes copied once into the log's tail and once into
//! the journal's gathering group. Synchronous; nothing is awaited and nothing is on disk yet.
//!
//! *Place*: the broker's produce path after validation. *Ordering*: journal records of a log are in
//! the order of its appends. *Limits*: [`PartitionLog::reserve`] waits for memory and journal space;
//! an append without room answers [`StorageError::NoRoom`] and changes nothing.
//!
//! Cost sketch for one 16 KiB batch: 61 header bytes decoded, two copies of 16 KiB (0.8 µs each at
//! 20 GB/s), a journal record header, three queue pushes. No allocation but for a new chunk.

use std::time::Duration;

use runtime::BLOCK_BYTES;
use runtime::time::timeout;

use super::Log;
use super::PartitionLog;
use super::state::LogState;
use crate::config::{LogConfig, SEGMENT_BYTES_LIMIT};
use crate::engine::Eviction;
use crate::error::StorageError;
use crate::journal::{RecordView, Sequence};
use crate::segment::batch_header::{BadHeader, BatchHeader, HEADER_BYTES, NONE};

/// After so long without room in the journal it is asked whether the disk is full.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// Logs that are asked for memory to use again before new memory is taken.
const EVICTION_ATTEMPTS: usize = 16;
/// Chunks from this size on are made ready by the kernel before they fill up; smaller ones are not worth a call.
const READY_BYTES_MIN: usize = 64 << 10;
/// More than a journal record has beside its batches.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record of the first batch.
    pub base_offset: i64,
    /// Offset of the last record, inclusive.
    pub last_offset: i64,
    /// The broker's time if the batch carries it (`LogAppendTime`), else −1.
    pub log_append_time: i64,
    /// Durable when the journal is, through this sequence.
    pub sequence: Sequence,
}

/// What an append gives its batches.
#[derive(Clone, Copy)]
struct Stamp {
    leader_epoch: i32,
    now_ms: i64,
    /// Straight to the segment.
    is_direct: bool,
}

impl PartitionLog {
    /// Whether an append of `bytes` would find room now.
    pub fn has_room(&self, bytes: usize) -> bool {
        let log = &self.log;
        log.check_space(bytes).is_ok()
            && log.make_room(&mut log.state.borrow_mut(), bytes, false)
            && log.has_journal_room(bytes, log.expects_direct(bytes))
    }

    /// Waits until there is room for an append of `bytes`. Another append may take it before the
    /// caller does, when it awaits in between.
    ///
    /// # Errors
    /// [`StorageError::SpaceExhausted`], [`StorageError::BatchTooLarge`]: there will be none.
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    ///
    /// # Cancel safety
    /// Nothing is held by a dropped wait.
    pub async fn reserve(&self, bytes: usize) -> Result<(), StorageError> {
        let bytes_max = self.log.batch_bytes_max();
        if bytes as u64 > bytes_max {
            let bytes = bytes as u64;
            return Err(StorageError::BatchTooLarge { bytes, bytes_max });
        }
        loop {
            self.log.check_changeable()?;
            match self.log.check_space(bytes) {
                Ok(()) => {}
                Err(StorageError::NoRoom) => {
                    self.log.engine.wake.notify_one();
                    self.log.engine.progress.notified().await;
                    continue;
                }
                Err(exhausted) => return Err(exhausted),
            }
            let is_direct = self.log.expects_direct(bytes);
            if !self.log.has_journal_room(bytes, is_direct) {
                // A journal that cannot be emptied because the disk is full has no room for long.
                if self.log.engine.space.is_out() {
                    return Err(self.log.engine.space.exhausted());
                }
                self.log.engine.wake.notify_one();
                let room = self.log.journal_room(bytes, is_direct);
                timeout(ROOM_PATIENCE, room).await.unwrap_or(Ok(()))?;
                continue;
            }
            if self
                .log
                .make_room(&mut self.log.state.borrow_mut(), bytes, false)
            {
                return Ok(());
            }
            self.log.engine.wait_for_memory(bytes).await;
        }
    }

    /// Appends the batches in `batches` (one or more, validated by the caller): assigns offsets from
    /// the log end on, stamps `leader_epoch`, and hands the bytes to the journal. They are durable,
    /// and count for [`Self::durable_end_offset`], when the answered sequence is.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`]: await [`Self::reserve`] and try again.
    /// [`StorageError::SpaceExhausted`]; [`StorageError::BatchTooLarge`]; [`StorageError::BadBatch`]:
    /// the headers do not add up (nothing was appended). [`StorageError::Offline`],
    /// [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub fn append(
        &self,
        batches: &[u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, StorageError> {
        let log = &*self.log;
        log.check_changeable()?;
        check_headers(batches, log.batch_bytes_max())?;
        log.check_space(batches.len())?;
        let mut state = log.state.borrow_mut();
        let config = std::rc::Rc::clone(&log.config.borrow());
        let is_direct = log.goes_direct(&state, &config, batches, now_ms);
        let has_journal_room = log.has_journal_room(batches.len(), is_direct);
        log.note_journal_room(is_direct || has_journal_room);
        if !has_journal_room || !log.make_room(&mut state, batches.len(), false) {
            return Err(StorageError::NoRoom);
        }
        let base_offset = state.log_end;
        let mut rest = batches;
        let mut appended = None;
        while let Ok(batch) = BatchHeader::decode_prefix(rest) {
            let (bytes, after) = rest.split_at(batch.bytes as usize);
            log.roll_if_full(&mut state, &config, &batch, now_ms);
            let stamp = Stamp {
                leader_epoch,
                now_ms,
                is_direct,
            };
            let sequence = log.append_one(&mut state, bytes, stamp);
            let log_append_time = if batch.has_log_append_time() {
                batch.max_timestamp
            } else {
                NONE
            };
            let last_offset = state.log_end - 1;
            appended = Some(Appended {
                base_offset,
                last_offset,
                log_append_time,
                sequence,
            });
            rest = after;
        }
        debug_assert!(rest.is_empty(), "headers were checked before");
        let appended = appended.ok_or(StorageError::NoRoom)?;
        if !is_direct {
            log.note_dirty(&state, now_ms);
        }
        Ok(appended)
    }

    /// Begins a leader epoch at the log end. `None`: the log has that epoch or a newer one already.
    ///
    /// # Errors
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub fn begin_epoch(&self, epoch: i32) -> Result<Option<Sequence>, StorageError> {
        let log = &*self.log;
        log.check_changeable()?;
        let mut state = log.state.borrow_mut();
        let start_offset = state.log_end;
        if !state.epochs.begin(epoch, start_offset) {
            return Ok(None);
        }
        let record = RecordView::EpochStart {
            incarnation: log.incarnation,
            epoch,
            start_offset,
        };
        Ok(Some(log.engine.journal.append(record)))
    }

    /// Seals the active segment and begins a new one at the log end; `None` when it is empty.
    ///
    /// # Errors
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub fn roll(&self, now_ms: i64) -> Result<Option<Sequence>, StorageError> {
        self.log.check_changeable()?;
        let mut state = self.log.state.borrow_mut();
        Ok(self.log.roll(&mut state, now_ms))
    }
}

impl Log {
    /// The largest batch that the journal can take.
    fn batch_bytes_max(&self) -> u64 {
        (self.engine.journal.record_bytes_max() - RECORD_OVERHEAD_BYTES) as u64
    }

    /// Whether the disk has space for an append of `bytes`. Without it, the few logs that may go on have
    /// the reserve, and what their journal can hold.
    fn check_space(&self, bytes: usize) -> Result<(), StorageError> {
        if self.config.borrow().may_use_reserve {
            return Ok(());
        }
        self.engine.space.check(bytes as u64)
    }

    /// Makes the open chunk have room for `bytes`; `false` when there is no memory.
    fn make_room(&self, state: &mut LogState, bytes: usize, is_forced: bool) -> bool {
        let (segment_base, position) = (state.active().base_offset(), state.active().bytes());
        if state.chunks.room(segment_base, position) >= bytes {
            return true;
        }
        let chunk_bytes_max = self.engine.config.chunk_bytes_max as usize;
        let usual = state.chunks.next_capacity(position, bytes, chunk_bytes_max);
        let least = state.chunks.next_capacity(position, bytes, BLOCK_BYTES);
        let is_new = self.may_grow(state, usual - BLOCK_BYTES);
        loop {
            let memory = self.engine.chunk_memory(usual, self, false);
            let memory = memory.or_else(|| self.engine.chunk_memory(least, self, is_forced));
            if let Some(memory) = memory {
                if is_new && memory.buffer.capacity() >= READY_BYTES_MIN {
                    memory.buffer.make_ready();
                }
                let freed = state
                    .chunks
                    .open(memory, segment_base, position, state.log_end);
                self.engine.release_chunk_bytes(freed as u64);
                return true;
            }
            // The engine could not look into this log, whose own old chunks may be all there is.
            if !self.evict_own(state) {
                return false;
            }
        }
    }

    /// Whether memory may grow by `bytes` now. Where not, the memory of an old chunk is given back, of this log if it
    /// has one: the next chunk gets it.
    fn may_grow(&self, state: &mut LogState, bytes: usize) -> bool {
        if bytes == 0 || self.engine.growth.take(bytes as u64) {
            return true;
        }
        if !self.evict_own(state) {
            self.engine.evict_among(EVICTION_ATTEMPTS);
        }
        false
    }

    /// Gives back the memory of this log's oldest written chunk; `false` when it has none.
    fn evict_own(&self, state: &mut LogState) -> bool {
        let Eviction::Freed { bytes } = state.evict_chunk() else {
            return false;
        };
        self.engine.release_chunk_bytes(bytes);
        true
    }

    /// Whether `batches` is a single one that is written straight to the active segment.
    fn goes_direct(
        &self,
        state: &LogState,
        config: &LogConfig,
        batches: &[u8],
        now_ms: i64,
    ) -> bool {
        let bytes = batches.len() as u64;
        self.may_go_direct(state, bytes)
            && BatchHeader::decode_prefix(batches).is_ok_and(|batch| {
                batch.bytes == bytes && !must_roll(state, config, &batch, now_ms)
            })
    }

    /// Rolls when the segment would grow too large or spans too much time with this batch.
    fn roll_if_full(
        &self,
        state: &mut LogState,
        config: &LogConfig,
        batch: &BatchHeader,
        now_ms: i64,
    ) {
        if must_roll(state, config, batch, now_ms) {
            self.roll(state, now_ms);
        }
    }

    pub(super) fn roll(&self, state: &mut LogState, now_ms: i64) -> Option<Sequence> {
        let sealed_base = state.active().base_offset();
        if !state.roll(self.incarnation, now_ms) {
            return None;
        }
        self.note_index_in_memory(sealed_base);
        let record = RecordView::Roll {
            incarnation: self.incarnation,
            base_offset: state.log_end,
        };
        let sequence = self.engine.journal.append(record);
        self.queue_flush();
        Some(sequence)
    }

    /// Appends one batch, whose headers were checked, as one journal record.
    fn append_one(&self, state: &mut LogState, bytes: &[u8], stamp: Stamp) -> Sequence {
        let made = self.make_room(state, bytes.len(), true);
        assert!(made, "forced room is always made");
        let position = state.active().bytes();
        let base_offset = state.log_end;
        let (header, body) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .expect("headers were checked");
        let header = patch_header(*header, base_offset, stamp.leader_epoch);
        let batch = BatchHeader::decode(&header).expect("headers were checked");
        state.append(&batch, &header, body, stamp.now_ms);

        let sequence = if stamp.is_direct {
            self.append_extent(state, &batch, &header)
        } else {
            self.engine.journal.append(RecordView::Append {
                incarnation: self.incarnation,
                base_offset,
                position,
                bytes: state.chunks.newest(batch.bytes),
            })
        };
        self.engine.add_dirty(batch.bytes);
        self.engine.space.take(batch.bytes);
        let direct_bytes = if stamp.is_direct { batch.bytes } else { 0 };
        self.engine
            .note_pending(sequence, state.log_end, direct_bytes, self.me.clone());
        sequence
    }

    /// Tells the write-behind what it has to know after an append.
    fn note_dirty(&self, state: &LogState, now_ms: i64) {
        let active = state.active();
        let unwritten = active.unwritten();
        let config = &self.engine.config;
        if unwritten >= config.write_behind_bytes {
            self.queue_flush();
        } else if self.engine.dirty_bytes() > config.dirty_bytes_max {
            // The oldest are written, not this one, of which there will be more.
            self.engine.wake.notify_one();
        }
        if active.writable_to(false) > active.written && !self.is_aging.replace(true) {
            self.engine
                .queues
                .aging
                .borrow_mut()
                .push_back((now_ms, self.me.clone()));
        }
    }

    /// Puts the log into the queue of logs to write.
    pub(crate) fn queue_flush(&self) {
        if !self.is_flush_queued.replace(true) {
            self.engine
                .queues
                .flush
                .borrow_mut()
                .push_back(self.me.clone());
            self.engine.wake.notify_one();
        }
    }

    /// The log leaves the queue of logs to write.
    pub(crate) fn note_flush_taken(&self) {
        self.is_flush_queued.set(false);
    }

    /// The log leaves the queue of logs with an unwritten block.
    pub(crate) fn note_aged(&self) {
        self.is_aging.set(false);
    }
}

/// Whether the segment would grow too large or span too much time with this batch.
fn must_roll(state: &LogState, config: &LogConfig, batch: &BatchHeader, now_ms: i64) -> bool {
    let active = &state.active().extent;
    let is_full = active.bytes + batch.bytes > config.segment_bytes.min(SEGMENT_BYTES_LIMIT)
        || state.log_end + i64::from(batch.last_offset_delta) - active.base_offset
            > i64::from(i32::MAX);
    let newest_ms = if active.first_timestamp == NONE {
        now_ms
    } else {
        batch.max_timestamp
    };
    let oldest_ms = if active.first_timestamp == NONE {
        active.last_append_ms
    } else {
        active.first_timestamp
    };
    let is_old = newest_ms.saturating_sub(oldest_ms) > config.segment_ms;
    active.bytes > 0 && (is_full || is_old)
}

/// The header with the base offset and leader epoch that the log gives; neither is in the CRC.
fn patch_header(
    mut header: [u8; HEADER_BYTES],
    base_offset: i64,
    leader_epoch: i32,
) -> [u8; HEADER_BYTES] {
    header[0..8].copy_from_slice(&base_offset.to_be_bytes());
    header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    header
}

/// Checks that `batches` is one or more whole batches, none of them too large.
fn check_headers(batches: &[u8], bytes_max: u64) -> Result<(), StorageError> {
    let bad = |BadHeader {
                   field,
                   expected,
                   found,
               }| StorageError::BadBatch {
        field,
        expected,
        found,
    };
    let mut rest = batches;
    loop {
        let batch = BatchHeader::decode_prefix(rest).map_err(bad)?;
        let available = rest.len() as i64;
        rest = usize::try_from(batch.bytes)
            .ok()
            .and_then(|bytes| rest.get(bytes..))
            .ok_or(StorageError::BadBatch {
                field: "batch bytes within",
                expected: available,
                found: batch.bytes as i64,
            })?;
        if batch.bytes > bytes_max {
            let bytes = batch.bytes;
            return Err(StorageError::BatchTooLarge { bytes, bytes_max });
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}
