//! Reading batches: newest ones from the tail chunks without waiting, older ones from disk.
//!
//! *Place*: the broker's fetch path. *Invariants*: **I1** whole batches only, in order, from the one
//! that holds the asked offset; **I2** none that reaches the caller's bound; **I3** the first batch
//! is given even if it is larger than asked for (KIP-74), so that a reader always gets on; **I4**
//! what came from disk is checked against its CRC first (`verify_cold_reads`). *Limits*: the
//! caller's `bytes_max`; memory behind disk reads is the read cache's.

use std::rc::Rc;

use runtime::Slice;

use super::read_hints::ReadHint;
use super::state::LogState;
use super::walk::{Walk, WalkEnd, WalkFrom};
use super::{Log, PartitionLog};
use crate::error::StorageError;
use crate::segment::batch_header::BatchHeader;
use crate::segment::files::FileKind;

/// Batches read from a log.
#[derive(Clone, Debug, Default)]
pub struct ReadResult {
    /// The batches' bytes, in order; slice boundaries mean nothing.
    pub slices: Vec<Slice>,
    /// Sum of the slices.
    pub bytes: usize,
    /// Offset after the last batch; the asked offset when there is none.
    pub next_offset: i64,
}

/// How a read is bounded.
#[derive(Clone, Copy)]
struct Bounds {
    offset: i64,
    bytes_max: usize,
    /// Exclusive.
    upto: i64,
}

impl PartitionLog {
    /// Reads batches from the one that holds `offset` on, at most `bytes_max` bytes (but always one
    /// batch), all of whose records lie below `upto` (exclusive). Empty when there is none.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] below the log start or above the log end;
    /// [`StorageError::Corruption`] when the bytes on disk are not what was written;
    /// [`StorageError::Io`], [`StorageError::Offline`], [`StorageError::LogDeleted`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the result; a disk read under way ends for other readers.
    pub async fn read(
        &self,
        offset: i64,
        bytes_max: usize,
        upto: i64,
    ) -> Result<ReadResult, StorageError> {
        loop {
            if let Some(result) = self.try_read(offset, bytes_max, upto) {
                return result;
            }
            let bounds = Bounds {
                offset,
                bytes_max,
                upto,
            };
            match self.log.read_from_disk(bounds).await {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => {}
                Err(error) => {
                    if let StorageError::Corruption { .. } = error {
                        let met = &self.log.engine.corruptions;
                        met.set(met.get() + 1);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// As [`Self::read`], without waiting: `None` when the batch is not in memory.
    pub fn try_read(
        &self,
        offset: i64,
        bytes_max: usize,
        upto: i64,
    ) -> Option<Result<ReadResult, StorageError>> {
        if let Err(error) = self.log.check_readable() {
            return Some(Err(error));
        }
        let mut state = self.log.state.borrow_mut();
        if offset < state.log_start || offset > state.log_end {
            let (log_start, log_end) = (state.log_start, state.log_end);
            return Some(Err(StorageError::OffsetOutOfRange {
                offset,
                log_start,
                log_end,
            }));
        }
        if offset >= state.log_end.min(upto) {
            return Some(Ok(ReadResult {
                next_offset: offset,
                ..ReadResult::default()
            }));
        }
        let first = state.chunks.holding_offset(offset)?;
        let result = read_chunks(
            &state,
            first,
            Bounds {
                offset,
                bytes_max,
                upto,
            },
        );
        match result {
            Ok((result, stopped)) => {
                state.read_hints.note(offset, stopped);
                Some(Ok(result))
            }
            Err((segment_base, position, bad)) => {
                let at = state.segment_for(segment_base);
                let path = self
                    .log
                    .path_of(state.segments[at].name(), FileKind::Segment);
                let expected = format!("{} {} (in memory)", bad.field, bad.expected);
                Some(Err(StorageError::corruption(
                    &path, position, expected, bad.found,
                )))
            }
        }
    }
}

type BadPlace = (i64, u64, crate::segment::batch_header::BadHeader);

/// Reads from the tail chunks, beginning with number `first`.
fn read_chunks(
    state: &LogState,
    first: usize,
    bounds: Bounds,
) -> Result<(ReadResult, ReadHint), BadPlace> {
    let mut result = ReadResult {
        next_offset: bounds.offset,
        ..ReadResult::default()
    };
    let mut stopped = ReadHint {
        offset: bounds.offset,
        segment_base: 0,
        position: 0,
    };
    let mut at = first;
    while let Some(chunk) = state.chunks.get(at) {
        let mut position = if at == first {
            start_in_chunk(state, chunk, bounds.offset)
        } else {
            chunk.batches_from
        };
        let mut from = position;
        let mut is_full = false;
        while position < chunk.end {
            let bytes = &chunk.as_bytes()
                [(position - chunk.start) as usize..(chunk.end - chunk.start) as usize];
            let batch = BatchHeader::decode_prefix(bytes)
                .map_err(|bad| (chunk.segment_base, position, bad))?;
            if batch.last_offset() < bounds.offset {
                position += batch.bytes;
                from = position;
                continue;
            }
            let taken = result.bytes + (position - from) as usize;
            is_full = batch.last_offset() >= bounds.upto
                || (taken > 0 && taken + batch.bytes as usize > bounds.bytes_max);
            if is_full {
                break;
            }
            position += batch.bytes;
            result.next_offset = batch.next_offset();
        }
        if position > from {
            result.slices.push(chunk.slice(from, position));
            result.bytes += (position - from) as usize;
        }
        stopped = ReadHint {
            offset: result.next_offset,
            segment_base: chunk.segment_base,
            position,
        };
        if is_full || result.bytes >= bounds.bytes_max {
            break;
        }
        at += 1;
    }
    Ok((result, stopped))
}

/// Position of a batch at or before the one that holds `offset`, within a chunk that holds it.
fn start_in_chunk(state: &LogState, chunk: &super::tail_chunks::Chunk, offset: i64) -> u64 {
    let in_chunk = |position: u64| position >= chunk.batches_from && position <= chunk.end;
    if let Some(hint) = state.read_hints.find(offset)
        && hint.segment_base == chunk.segment_base
        && in_chunk(hint.position)
    {
        return hint.position;
    }
    let segment = state
        .segment_at(chunk.segment_base)
        .map(|at| &state.segments[at]);
    let entry = segment.and_then(|segment| segment.index.floor_offset(chunk.segment_base, offset));
    match entry.map(|entry| u64::from(entry.position)) {
        Some(position) if in_chunk(position) => position,
        Some(_) | None => chunk.batches_from,
    }
}

/// Whether damage lies behind batches that were collected, from `first` on: they are given, and who comes for
/// the damaged one is told.
fn is_behind(error: &StorageError, first: Option<u64>, walk: &Walk<'_>) -> bool {
    let is_damage = matches!(error, StorageError::Corruption { .. });
    is_damage && first.is_some_and(|first| walk.position() > first)
}

impl Log {
    /// Reads batches that begin on disk. `None`: what is asked for has come to be in memory, or
    /// the log was truncated meanwhile; try again.
    async fn read_from_disk(
        self: &Rc<Self>,
        bounds: Bounds,
    ) -> Result<Option<ReadResult>, StorageError> {
        let (mut segment_base, is_sequential) = {
            let state = self.state.borrow();
            let segment = &state.segments[state.segment_for(bounds.offset)];
            // It comes for what follows another read.
            let is_sequential = state.read_hints.find(bounds.offset).is_some();
            (segment.base_offset(), is_sequential)
        };
        loop {
            let Some(from) = self.walk_start(segment_base, bounds.offset).await? else {
                return Ok(None);
            };
            let mut walk = Walk::new(self, from);
            if is_sequential {
                walk = walk.reading_ahead(bounds.bytes_max as u64);
            }
            match self.collect(&mut walk, bounds).await? {
                Ok(result) => return Ok(Some(result)),
                Err(WalkEnd::Changed) => return Ok(None),
                // A gap at the segment's end: the next one has the first batch after the offset.
                Err(WalkEnd::EndOfSegment) => {}
            }
            let state = self.state.borrow();
            match state.segments.get(state.segment_for(segment_base) + 1) {
                Some(next) => segment_base = next.base_offset(),
                // The log ends in a gap, where a truncation took a whole batch: nothing is there yet.
                None => {
                    return Ok(Some(ReadResult {
                        next_offset: bounds.offset,
                        ..ReadResult::default()
                    }));
                }
            }
        }
    }

    /// Where to begin walking for `offset` in a segment: a hint, an index entry, or its start.
    pub(super) async fn walk_start(
        self: &Rc<Self>,
        segment_base: i64,
        offset: i64,
    ) -> Result<Option<WalkFrom>, StorageError> {
        self.complete_index(segment_base, |index| {
            index.floor_offset(segment_base, offset).is_some()
        })
        .await?;
        let state = self.state.borrow();
        let Some(segment) = state.segment_at(segment_base).map(|at| &state.segments[at]) else {
            return Ok(None);
        };
        let truncations = state.truncations;
        let hint = state
            .read_hints
            .find(offset)
            .filter(|hint| hint.segment_base == segment_base);
        let indexed = || {
            segment
                .index
                .floor_offset(segment_base, offset)
                .map_or(0, |entry| u64::from(entry.position))
        };
        let position = hint.map_or_else(indexed, |hint| hint.position);
        Ok(Some(WalkFrom {
            segment: segment.name(),
            position,
            truncations,
        }))
    }

    /// Walks to the batch that holds the offset and collects from there to the end of the segment
    /// or the bounds.
    async fn collect(
        self: &Rc<Self>,
        walk: &mut Walk<'_>,
        bounds: Bounds,
    ) -> Result<Result<ReadResult, WalkEnd>, StorageError> {
        let verify = self.engine.config.verify_cold_reads;
        let came_from = walk.from();
        let mut first = None;
        let mut next_offset = bounds.offset;
        loop {
            let batch = match walk.peek().await {
                Ok(Ok(batch)) => batch,
                Ok(Err(WalkEnd::EndOfSegment)) if first.is_some() => break,
                Ok(Err(end)) => return Ok(Err(end)),
                Err(error) if is_behind(&error, first, walk) => break,
                Err(error) => return Err(error),
            };
            if batch.last_offset() < bounds.offset {
                walk.advance(&batch, walk.position() + batch.bytes);
                continue;
            }
            let begin = *first.get_or_insert(walk.position());
            let taken = (walk.position() - begin) as usize;
            let is_full = taken > 0 && taken + batch.bytes as usize > bounds.bytes_max;
            if is_full || batch.last_offset() >= bounds.upto {
                break;
            }
            match walk.hold(&batch, verify).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return Ok(Err(end)),
                Err(error) if is_behind(&error, first, walk) => break,
                Err(error) => return Err(error),
            }
            next_offset = batch.next_offset();
            walk.advance(&batch, begin);
        }
        let begin = first.unwrap_or(walk.position());
        let stopped = ReadHint {
            offset: next_offset,
            segment_base: walk.segment_base(),
            position: walk.position(),
        };
        self.note_stopped(bounds.offset, stopped, came_from);
        let slices = if walk.position() > begin {
            walk.run().slices(begin, walk.position())
        } else {
            Vec::new()
        };
        Ok(Ok(ReadResult {
            slices,
            bytes: (walk.position() - begin) as usize,
            next_offset,
        }))
    }

    /// Notes where a reader stopped.
    fn note_stopped(&self, came_for: i64, stopped: ReadHint, came_from: WalkFrom) {
        let mut state = self.state.borrow_mut();
        // Else it read what a truncation or compaction has replaced meanwhile: the position says nothing about
        // what stands there now.
        if state.truncations == came_from.truncations
            && state.segment_named(came_from.segment).is_some()
        {
            state.read_hints.note(came_for, stopped);
        }
    }
}
