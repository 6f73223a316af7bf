//! One segment of a partition log: its extent, its times, its index, and how much of it is in its
//! file.
//!
//! *Place*: a partition log is a list of these; the write-behind moves `written` and `synced`.
//! *Invariants*: **I1** `synced ≤ written`; both are multiples of a block, or, once a sealed
//! segment's last block has been written, its exact length. **I2** bytes at and above `written` are in
//! memory (tail chunks). **I3** bytes below `synced` survive power loss; nothing else in the file
//! counts.

pub(crate) mod batch_header;
pub(crate) mod files;
pub(crate) mod index_file;
pub(crate) mod offset_index;

use batch_header::{BatchHeader, NONE};
use offset_index::OffsetIndex;
use runtime::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// `position` rounded down to a block.
pub(crate) fn block_floor(position: u64) -> u64 {
    position - position % BLOCK
}

/// `position` rounded up to a block.
pub(crate) fn block_ceil(position: u64) -> u64 {
    position.next_multiple_of(BLOCK)
}

/// Which file a segment's batches are in. Two segments of a log never have the same name, one
/// after the other, while anything of the first may still be read or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// Offset from which the segment may hold records.
    pub(crate) base_offset: i64,
    /// 0: as it was appended; each compaction gives a greater one.
    pub(crate) version: u32,
}

/// What is durable of a segment besides its bytes: its line in a checkpoint entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentExtent {
    /// Offset from which the segment may hold records.
    pub(crate) base_offset: i64,
    /// Which writing of its file it is (see [`SegmentName`]).
    pub(crate) version: u32,
    /// Bytes of its batches.
    pub(crate) bytes: u64,
    /// Greatest timestamp of its batches; −1: none.
    pub(crate) max_timestamp: i64,
    /// Base offset of the first batch with that timestamp.
    pub(crate) max_timestamp_batch: i64,
    /// Greatest timestamp of its first batch: its age for rolling. −1: no batch.
    pub(crate) first_timestamp: i64,
    /// Broker's time of the last append, ms.
    pub(crate) last_append_ms: i64,
}

impl SegmentExtent {
    pub(crate) fn name(&self) -> SegmentName {
        SegmentName {
            base_offset: self.base_offset,
            version: self.version,
        }
    }

    /// Takes the timestamps of the segment's next batch in. One without records (compaction keeps
    /// such for what its header says) has none that a lookup could find.
    pub(crate) fn note_timestamps(&mut self, batch: &BatchHeader, is_first: bool) {
        if is_first {
            self.first_timestamp = batch.max_timestamp;
        }
        if batch.greatest_timestamp() > self.max_timestamp {
            self.max_timestamp = batch.max_timestamp;
            self.max_timestamp_batch = batch.base_offset;
        }
    }

    /// The time by which retention judges the segment: the smaller of what producers say and what
    /// the broker saw, so that a timestamp in the future cannot pin the log.
    pub(crate) fn retention_time_ms(&self) -> i64 {
        if self.max_timestamp == NONE {
            self.last_append_ms
        } else {
            self.max_timestamp.min(self.last_append_ms)
        }
    }
}

/// A segment in memory.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) extent: SegmentExtent,
    pub(crate) index: OffsetIndex,
    /// Every byte below is in the file (not necessarily durable).
    pub(crate) written: u64,
    /// Every byte below is durable in the file.
    pub(crate) synced: u64,
    /// Space allocated in the file, as far as it is known.
    pub(crate) allocated: u64,
    /// Index blocks in the index file; unknown after a start until the index is loaded.
    pub(crate) index_blocks: Option<u32>,
    /// Whether the directory entry of the file is durable.
    pub(crate) is_linked: bool,
    /// The `.producers` file that is still to be written for this segment.
    pub(crate) producer_snapshot: Option<Box<[u8]>>,
}

impl Segment {
    /// An empty segment that nothing on disk belongs to yet.
    pub(crate) fn new(base_offset: i64, now_ms: i64) -> Self {
        Segment {
            extent: SegmentExtent {
                base_offset,
                version: 0,
                bytes: 0,
                max_timestamp: NONE,
                max_timestamp_batch: NONE,
                first_timestamp: NONE,
                last_append_ms: now_ms,
            },
            index: OffsetIndex::starting_at(0),
            written: 0,
            synced: 0,
            allocated: 0,
            index_blocks: Some(0),
            is_linked: false,
            producer_snapshot: None,
        }
    }

    /// Whether some of what was written to its file is not durable yet.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.synced < self.written
    }

    /// A segment of which the file holds everything below `durable`.
    pub(crate) fn restored(extent: SegmentExtent, durable: u64) -> Self {
        assert!(
            durable <= extent.bytes,
            "{durable} durable bytes of {extent:?}"
        );
        Segment {
            extent,
            index: OffsetIndex::starting_at(extent.bytes),
            written: durable,
            synced: durable,
            allocated: block_ceil(durable),
            index_blocks: if extent.bytes == 0 { Some(0) } else { None },
            is_linked: durable > 0,
            producer_snapshot: None,
        }
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.extent.base_offset
    }

    pub(crate) fn name(&self) -> SegmentName {
        self.extent.name()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.extent.bytes
    }

    /// Bytes that are in memory only.
    pub(crate) fn unwritten(&self) -> u64 {
        self.extent.bytes.saturating_sub(self.written)
    }

    /// Bytes that a power loss would take from the file.
    pub(crate) fn unsynced(&self) -> u64 {
        self.extent.bytes.saturating_sub(self.synced)
    }

    /// Whether nothing is left to do for the file of a segment that ends where this one does: all of it is
    /// written, and what was allocated beyond it is cut off.
    pub(crate) fn is_finished(&self) -> bool {
        self.unwritten() == 0 && self.allocated <= block_ceil(self.extent.bytes)
    }

    /// Up to where the file can be written now: full blocks, or everything if no more is to come.
    pub(crate) fn writable_to(&self, is_sealed: bool) -> u64 {
        if is_sealed {
            self.extent.bytes
        } else {
            block_floor(self.extent.bytes)
        }
    }

    /// Takes a batch in at the segment's end.
    pub(crate) fn note(&mut self, batch: &BatchHeader, now_ms: i64) {
        let position = self.extent.bytes;
        self.index.note(
            self.extent.base_offset,
            batch,
            position,
            self.extent.max_timestamp,
        );
        self.extent.note_timestamps(batch, position == 0);
        self.extent.last_append_ms = self.extent.last_append_ms.max(now_ms);
        self.extent.bytes += batch.bytes;
    }

    /// Everything is in the file for good.
    pub(crate) fn note_durable(&mut self) {
        (self.written, self.synced) = (self.extent.bytes, self.extent.bytes);
        // An empty one has no file yet.
        self.is_linked |= self.extent.bytes > 0;
        self.producer_snapshot = None;
    }

    pub(crate) fn check_invariants(&self) {
        assert!(
            self.synced <= self.written,
            "segment {}: synced beyond written",
            self.extent.base_offset
        );
        let end = block_ceil(self.extent.bytes);
        assert!(
            self.written <= end,
            "segment {}: written {} beyond its end",
            self.extent.base_offset,
            self.written
        );
        for position in [self.written, self.synced] {
            let valid = position.is_multiple_of(BLOCK) || position == self.extent.bytes;
            assert!(
                valid,
                "segment {}: {position} is no block boundary",
                self.extent.base_offset
            );
        }
    }
}
