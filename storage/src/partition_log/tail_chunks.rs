//! The newest part of a log in memory: the buffers batches are copied into when they are appended,
//! which are at once what the write-behind writes and what tail readers are served from.
//!
//! *Place*: filled by append and replay, emptied by eviction after the write-behind. *Invariants*:
//! **I1** chunks are in log order, and within a segment without a gap: a chunk starts at the block
//! in which its predecessor ended, with a copy of that block's beginning, so every block and every
//! batch lies whole in one chunk. **I2** only the last chunk is open. **I3** a chunk is dropped
//! only when what it alone holds has been written. *Limits*: chunks grow with the log's rate from
//! one block to `chunk_bytes_max`; their sum beyond a block each is bounded by `cache_bytes_max`.

use std::collections::VecDeque;

use runtime::{AppendBuf, BLOCK_BYTES, Charge, Slice};

use crate::segment::{block_ceil, block_floor};

/// Chunks of an idle log are one block; each full one is followed by one this much larger.
const GROWTH: usize = 4;

/// One buffer of a log's tail.
pub(crate) struct Chunk {
    /// The segment to which its bytes belong.
    pub(crate) segment_base: i64,
    /// Position of its first byte, a block boundary.
    pub(crate) start: u64,
    /// Position of the first batch that begins in it; what lies before belongs to earlier batches.
    pub(crate) batches_from: u64,
    /// Least offset that a batch beginning in it may have.
    pub(crate) first_offset: i64,
    /// Position after its last byte (padding not counted).
    pub(crate) end: u64,
    /// Its memory beyond one block: a block is what every log may have, whatever the bounds.
    pub(crate) counted_bytes: usize,
    bytes: ChunkBytes,
    /// The same in the shard's budget, given back when the chunk is dropped.
    charge: Option<Charge>,
}

enum ChunkBytes {
    Open(AppendBuf),
    Sealed(Slice),
}

impl Chunk {
    /// The bytes from `start` on (with the padding of a sealed segment's last block).
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            ChunkBytes::Open(buffer) => buffer.as_slice(),
            ChunkBytes::Sealed(slice) => slice,
        }
    }

    /// A view of the bytes at positions `from..to`.
    pub(crate) fn slice(&self, from: u64, to: u64) -> Slice {
        assert!(
            self.start <= from && from <= to,
            "{from}..{to} begins before the chunk at {}",
            self.start
        );
        let range = (from - self.start) as usize..(to - self.start) as usize;
        match &self.bytes {
            ChunkBytes::Open(buffer) => buffer.slice(range),
            ChunkBytes::Sealed(slice) => slice.sub(range),
        }
    }

    fn remaining(&self) -> usize {
        match &self.bytes {
            ChunkBytes::Open(buffer) => buffer.remaining(),
            ChunkBytes::Sealed(_) => 0,
        }
    }
}

/// The chunks of a log.
#[derive(Default)]
pub(crate) struct TailChunks {
    chunks: VecDeque<Chunk>,
    /// Capacity of the last buffer that filled up; 0: none did lately.
    grown_bytes: usize,
}

/// Memory for a chunk.
pub(crate) struct ChunkMemory {
    pub(crate) buffer: AppendBuf,
    pub(crate) charge: Option<Charge>,
}

impl TailChunks {
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// Bytes that can be appended to `segment_base` at `position` without a new chunk.
    pub(crate) fn room(&self, segment_base: i64, position: u64) -> usize {
        match self.chunks.back() {
            Some(last) if last.segment_base == segment_base && last.end == position => {
                last.remaining()
            }
            _ => 0,
        }
    }

    /// Capacity that the next chunk should have to take `bytes` after the incomplete block that
    /// ends at `position`.
    pub(crate) fn next_capacity(
        &self,
        position: u64,
        bytes: usize,
        chunk_bytes_max: usize,
    ) -> usize {
        let needed = (position - block_floor(position)) as usize + bytes;
        let usual = (self.grown_bytes * GROWTH).clamp(BLOCK_BYTES, chunk_bytes_max);
        usual.max(needed.next_multiple_of(BLOCK_BYTES))
    }

    /// Starts a new open chunk at the block of `position`, the end of `segment_base`. The bytes of
    /// that block before `position` are copied from the last chunk, which must hold them. Answers
    /// the memory of a predecessor that became superfluous.
    pub(crate) fn open(
        &mut self,
        memory: ChunkMemory,
        segment_base: i64,
        position: u64,
        next_offset: i64,
    ) -> usize {
        let ChunkMemory { mut buffer, charge } = memory;
        let start = block_floor(position);
        if start < position {
            let last = self
                .chunks
                .back()
                .expect("an incomplete block is always in memory");
            assert_eq!(
                (last.segment_base, last.end),
                (segment_base, position),
                "the tail has a gap"
            );
            buffer.append(
                &last.as_bytes()[(start - last.start) as usize..(position - last.start) as usize],
            );
        }
        self.grown_bytes = buffer.capacity();
        self.seal_last();
        // A predecessor that began in the same block holds nothing that the new chunk does not.
        let is_superfluous = |last: &Chunk| {
            last.segment_base == segment_base
                && last.start == start
                && last.batches_from >= last.end
        };
        let mut freed = 0;
        if self.chunks.back().is_some_and(is_superfluous) {
            freed = self
                .chunks
                .pop_back()
                .map_or(0, |chunk| chunk.counted_bytes);
        }
        self.chunks.push_back(Chunk {
            segment_base,
            start,
            batches_from: position,
            first_offset: next_offset,
            end: position,
            counted_bytes: buffer.capacity() - BLOCK_BYTES,
            bytes: ChunkBytes::Open(buffer),
            charge,
        });
        freed
    }

    /// Puts back a tail that ends at a log's end, from a checkpoint or a block read from disk.
    /// `bytes` begin at `start`. Only for a log without chunks.
    pub(crate) fn restore(
        &mut self,
        segment_base: i64,
        start: u64,
        bytes: Slice,
        log_end_offset: i64,
    ) {
        assert!(
            self.chunks.is_empty(),
            "a tail is restored only where none is"
        );
        assert_eq!(start, block_floor(start), "a tail begins at a block");
        if bytes.is_empty() {
            return;
        }
        let end = start + bytes.len() as u64;
        // Where batches begin is not known inside a restored tail, except at a segment's start.
        let (batches_from, first_offset) = if start == 0 {
            (0, segment_base)
        } else {
            (end, log_end_offset)
        };
        let bytes = if bytes.len() < BLOCK_BYTES {
            ChunkBytes::Sealed(bytes)
        } else {
            // Holds full blocks, which are written straight from here: that needs alignment.
            let mut buffer = AppendBuf::with_capacity(bytes.len().next_multiple_of(BLOCK_BYTES));
            buffer.append(&bytes);
            ChunkBytes::Open(buffer)
        };
        let counted_bytes = ((end - start) as usize).next_multiple_of(BLOCK_BYTES) - BLOCK_BYTES;
        self.chunks.push_back(Chunk {
            segment_base,
            start,
            batches_from,
            first_offset,
            end,
            counted_bytes,
            bytes,
            charge: None,
        });
    }

    /// Appends to the open chunk, which must have room (see [`Self::room`]).
    pub(crate) fn append(&mut self, parts: [&[u8]; 2]) {
        let last = self.chunks.back_mut().expect("append after room was made");
        let ChunkBytes::Open(buffer) = &mut last.bytes else {
            unreachable!("append to a sealed chunk");
        };
        for part in parts {
            buffer.append(part);
            last.end += part.len() as u64;
        }
    }

    /// The last `bytes` appended.
    pub(crate) fn newest(&self, bytes: u64) -> &[u8] {
        let last = self.chunks.back().expect("newest after an append");
        let to = (last.end - last.start) as usize;
        &last.as_bytes()[to - bytes as usize..to]
    }

    /// Ends the segment of the last chunk: fills its last block with zeros so that it can be
    /// written, and closes the chunk.
    pub(crate) fn seal_segment(&mut self, segment_base: i64) {
        // A segment that ends with a full block may have no chunk any more.
        if let Some(last) = self
            .chunks
            .back_mut()
            .filter(|last| last.segment_base == segment_base)
        {
            let padding = (block_ceil(last.end) - last.end) as usize;
            match &mut last.bytes {
                ChunkBytes::Open(buffer) => {
                    buffer.append_zeros(padding);
                }
                ChunkBytes::Sealed(slice) => {
                    // A restored tail: copied into a buffer of its own that can be written.
                    let mut buffer = AppendBuf::with_capacity(slice.len() + padding);
                    buffer.append(slice);
                    buffer.append_zeros(padding);
                    last.bytes = ChunkBytes::Open(buffer);
                }
            }
        }
        self.seal_last();
    }

    fn seal_last(&mut self) {
        if let Some(last) = self.chunks.back_mut()
            && let ChunkBytes::Open(buffer) = &last.bytes
        {
            last.bytes = ChunkBytes::Sealed(buffer.slice(0..buffer.len()));
        }
    }

    /// The chunks of a segment, each with the position up to which its bytes are not also in the
    /// next one.
    pub(crate) fn of_segment(&self, segment_base: i64) -> impl Iterator<Item = (&Chunk, u64)> {
        let first = self
            .chunks
            .partition_point(|chunk| chunk.segment_base < segment_base);
        let of_segment = self
            .chunks
            .range(first..)
            .take_while(move |chunk| chunk.segment_base == segment_base);
        of_segment.enumerate().map(move |(at, chunk)| {
            let next = self
                .chunks
                .get(first + at + 1)
                .filter(|next| next.segment_base == segment_base);
            (chunk, next.map_or(chunk.end, |next| next.start))
        })
    }

    /// The chunks from which a segment is written from the block at `position` on, each with the position up to
    /// which it is written from it: the next one's start, and at the last one `limit`, the segment's writable end.
    pub(crate) fn unwritten_runs(
        &self,
        segment_base: i64,
        position: u64,
        limit: u64,
    ) -> impl Iterator<Item = (&Chunk, u64)> {
        let begins_before =
            |chunk: &Chunk| (chunk.segment_base, chunk.start) <= (segment_base, position);
        let first = self.chunks.partition_point(begins_before).saturating_sub(1);
        let is_here = move |chunk: &&Chunk| chunk.segment_base == segment_base;
        let here = self.chunks.range(first..).take_while(is_here);
        here.enumerate().map(move |(at, chunk)| {
            let next = self.chunks.get(first + at + 1).filter(is_here);
            (chunk, next.map_or(limit, |next| next.start.min(limit)))
        })
    }

    /// Drops the oldest chunk if its bytes are in the file up to `written` and it is not needed
    /// for the incomplete last block. Answers the memory it had.
    pub(crate) fn evict_oldest(&mut self, written_of: impl Fn(i64) -> u64) -> Option<usize> {
        let first = self.chunks.front()?;
        let written = written_of(first.segment_base);
        if self.chunks.len() > 1 {
            let owned_to = match self.chunks.get(1) {
                Some(next) if next.segment_base == first.segment_base => next.start,
                Some(_) | None => first.end,
            };
            if written < owned_to {
                return None;
            }
            return self.chunks.pop_front().map(|chunk| chunk.counted_bytes);
        }
        if first.end > written {
            return None;
        }
        self.grown_bytes = 0;
        self.chunks.pop_front().map(|chunk| chunk.counted_bytes)
    }

    /// Whether the only chunk is much larger than the incomplete block that it has to keep, with
    /// everything before that block written.
    /// `segment_base` and `written` are the active segment's: a sealed one keeps no block.
    pub(crate) fn can_shrink(&self, segment_base: i64, written: u64) -> bool {
        self.chunks.len() == 1
            && self.chunks.front().is_some_and(|only| {
                only.segment_base == segment_base
                    && only.counted_bytes > 0
                    && only.end > block_floor(only.end)
                    && block_floor(only.end) <= written
            })
    }

    /// Replaces the only chunk by its incomplete last block. Answers the memory given back.
    pub(crate) fn shrink(&mut self, log_end_offset: i64) -> usize {
        assert_eq!(self.chunks.len(), 1, "only a single chunk is shrunk");
        let Some(old) = self.chunks.pop_front() else {
            return 0;
        };
        let start = block_floor(old.end);
        let mut buffer = AppendBuf::with_capacity(BLOCK_BYTES);
        buffer
            .append(&old.as_bytes()[(start - old.start) as usize..(old.end - old.start) as usize]);
        let freed = old.counted_bytes;
        let charge = old.charge.map(|mut charge| {
            charge.resize(BLOCK_BYTES);
            charge
        });
        self.grown_bytes = 0;
        self.chunks.push_back(Chunk {
            segment_base: old.segment_base,
            start,
            batches_from: old.end,
            first_offset: log_end_offset,
            end: old.end,
            counted_bytes: 0,
            bytes: ChunkBytes::Open(buffer),
            charge,
        });
        freed
    }

    /// Drops everything; answers the memory it had. For truncation, which restores the tail after.
    pub(crate) fn clear(&mut self) -> usize {
        self.grown_bytes = 0;
        self.chunks.drain(..).map(|chunk| chunk.counted_bytes).sum()
    }

    /// Drops chunks of segments below `segment_base`; answers their memory.
    pub(crate) fn drop_below(&mut self, segment_base: i64) -> usize {
        let below = self
            .chunks
            .partition_point(|chunk| chunk.segment_base < segment_base);
        self.chunks
            .drain(..below)
            .map(|chunk| chunk.counted_bytes)
            .sum()
    }

    /// The chunk in which the batch that holds `offset` begins, if it is in memory.
    pub(crate) fn holding_offset(&self, offset: i64) -> Option<usize> {
        self.chunks
            .partition_point(|chunk| chunk.first_offset <= offset)
            .checked_sub(1)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Chunk> {
        self.chunks.get(at)
    }

    /// Asserts I1 and I2 against the log's end.
    pub(crate) fn check_invariants(&self, segment_base: i64, end: u64) {
        for (chunk, next) in self.chunks.iter().zip(self.chunks.iter().skip(1)) {
            if chunk.segment_base == next.segment_base {
                assert_eq!(next.start, block_floor(chunk.end), "tail chunks have a gap");
                assert_eq!(next.batches_from, chunk.end, "tail chunks overlap");
            } else {
                assert!(
                    chunk.segment_base < next.segment_base,
                    "tail chunks out of order"
                );
            }
            assert!(
                matches!(chunk.bytes, ChunkBytes::Sealed(_)),
                "only the last chunk is open"
            );
        }
        if let Some(last) = self.chunks.back()
            && last.segment_base == segment_base
        {
            assert_eq!(last.end, end, "the tail ends elsewhere than the log");
        } else {
            assert!(
                block_floor(end) == end,
                "an incomplete block is not in memory"
            );
        }
    }
}
