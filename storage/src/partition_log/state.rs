//! The state of one partition log and its transitions, without any I/O: the same code runs for a
//! client's append and for the replay of its journal record.
//!
//! *Place*: inside [`super::Log`], and alone during recovery. *Invariants*: **I1**
//! `log_start ≤ durable_end ≤ log_end`. **I2** there is at least one segment; their bases ascend
//! strictly; the last one takes the appends. **I3** offsets of batches ascend; a batch begins at
//! the log end of its time. **I4** bytes that are not in segment files are in the tail chunks.

use runtime::Slice;

use super::leader_epochs::LeaderEpochs;
use super::producer_snapshot;
use super::producers::Producers;
use super::read_hints::ReadHints;
use super::tail_chunks::TailChunks;
use crate::engine::Eviction;
use crate::segment::batch_header::{BatchHeader, HEADER_BYTES};
use crate::segment::{Segment, SegmentName, block_floor};

/// What a transition took out of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Segments whose files are to be deleted.
    pub(crate) segments: Vec<SegmentName>,
    /// Bytes that were to be written and now need not be.
    pub(crate) unwritten_bytes: u64,
    /// Memory of tail chunks given back.
    pub(crate) chunk_bytes: u64,
}

/// The state of a log.
pub(crate) struct LogState {
    /// First offset that may be read.
    pub(crate) log_start: i64,
    /// Offset of the next record.
    pub(crate) log_end: i64,
    /// Everything below is in the journal or in segments for good.
    pub(crate) durable_end: i64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) chunks: TailChunks,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
    pub(crate) read_hints: ReadHints,
    /// Below this offset compaction has been: no key has two records there.
    pub(crate) cleaned_to: i64,
    /// Counts truncations: what was found out before one says nothing after it.
    pub(crate) truncations: u64,
}

impl LogState {
    /// An empty log that begins at offset 0.
    pub(crate) fn new(now_ms: i64) -> Self {
        LogState {
            log_start: 0,
            log_end: 0,
            durable_end: 0,
            segments: vec![Segment::new(0, now_ms)],
            chunks: TailChunks::default(),
            epochs: LeaderEpochs::default(),
            producers: Producers::default(),
            read_hints: ReadHints::default(),
            cleaned_to: 0,
            truncations: 0,
        }
    }

    /// The segment that takes the appends.
    pub(crate) fn active(&self) -> &Segment {
        self.segments
            .last()
            .expect("a log has at least one segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .last_mut()
            .expect("a log has at least one segment")
    }

    /// Index of the segment that may hold `offset` (≥ the first segment's base).
    pub(crate) fn segment_for(&self, offset: i64) -> usize {
        self.segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .saturating_sub(1)
    }

    /// Index of the segment whose base offset is `base`, if the log still has it.
    pub(crate) fn segment_at(&self, base: i64) -> Option<usize> {
        self.segments
            .binary_search_by_key(&base, Segment::base_offset)
            .ok()
    }

    /// Index of the segment with this very name, if the log still has it.
    pub(crate) fn segment_named(&self, name: SegmentName) -> Option<usize> {
        self.segment_at(name.base_offset)
            .filter(|at| self.segments[*at].name() == name)
    }

    pub(crate) fn is_sealed(&self, segment: usize) -> bool {
        segment + 1 < self.segments.len()
    }

    /// Bytes of all segments.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// Index of the first segment with bytes that are not in its file yet, or whose file is too long.
    pub(crate) fn first_unfinished(&self) -> usize {
        // Segments are written in order, so only the last few can be unfinished.
        let last = self.segments.len() - 1;
        let unfinished = self.segments[..last]
            .iter()
            .rev()
            .take_while(|segment| !segment.is_finished())
            .count();
        last - unfinished
    }

    /// Bytes that are in memory only.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.segments[self.first_unfinished()..]
            .iter()
            .map(Segment::unwritten)
            .sum()
    }

    /// Appends one batch whose header has its final offsets and epoch; `body` is what follows the
    /// header. The tail must have room for it.
    pub(crate) fn append(
        &mut self,
        batch: &BatchHeader,
        header: &[u8; HEADER_BYTES],
        body: &[u8],
        now_ms: i64,
    ) {
        assert_eq!(
            batch.base_offset, self.log_end,
            "a batch begins at the log end"
        );
        assert_eq!(
            batch.bytes,
            (HEADER_BYTES + body.len()) as u64,
            "a batch is as long as it says"
        );
        if batch.leader_epoch >= 0 {
            self.epochs.begin(batch.leader_epoch, batch.base_offset);
        }
        self.chunks.append([header, body]);
        self.active_mut().note(batch, now_ms);
        self.producers.note(batch);
        self.log_end = batch.next_offset();
        debug_assert!(self.check_invariants());
    }

    /// Takes in a batch that is in its segment already, durably, as everything before it is; but for the
    /// incomplete block `tail` that it ends in. As if the state had been read from a checkpoint table.
    pub(crate) fn append_extent(&mut self, batch: &BatchHeader, tail: &[u8], now_ms: i64) {
        assert_eq!(
            batch.base_offset, self.log_end,
            "a batch begins at the log end"
        );
        if batch.leader_epoch >= 0 {
            self.epochs.begin(batch.leader_epoch, batch.base_offset);
        }
        self.active_mut().note(batch, now_ms);
        self.producers.note(batch);
        self.log_end = batch.next_offset();
        let last = self.segments.len() - 1;
        for segment in self.segments[..last].iter_mut().rev() {
            if segment.unsynced() == 0 {
                break;
            }
            *segment = Segment::restored(segment.extent, segment.bytes());
        }
        let durable = block_floor(self.active().bytes());
        *self.active_mut() = Segment::restored(self.active().extent, durable);
        self.chunks.clear();
        let (segment_base, tail) = (self.active().base_offset(), Slice::from(tail.to_vec()));
        self.chunks
            .restore(segment_base, durable, tail, self.log_end);
        debug_assert!(self.check_invariants());
    }

    /// Seals the active segment and begins a new one at the log end. An empty active segment is
    /// kept: nothing changes, and the answer is `false`.
    pub(crate) fn roll(&mut self, incarnation: u64, now_ms: i64) -> bool {
        if self.active().bytes() == 0 {
            return false;
        }
        let segment_base = self.active().base_offset();
        self.chunks.seal_segment(segment_base);
        let mut segment = Segment::new(self.log_end, now_ms);
        if !self.producers.is_empty() {
            let snapshot = producer_snapshot::encode(incarnation, self.log_end, &self.producers);
            segment.producer_snapshot = Some(snapshot.into_boxed_slice());
        }
        self.segments.push(segment);
        assert!(self.check_invariants());
        true
    }

    /// Moves the log start up to `offset` (≤ durable end) and drops the segments wholly below it.
    /// Their files may go once the record is durable.
    pub(crate) fn advance_log_start(&mut self, offset: i64) -> Dropped {
        assert!(
            offset <= self.durable_end,
            "log start {offset} beyond the durable end {}",
            self.durable_end
        );
        let mut dropped = Dropped::default();
        if offset <= self.log_start {
            return dropped;
        }
        self.log_start = offset;
        self.epochs.truncate_start(offset);
        for segment in self.segments.drain(..self.segment_for(offset)) {
            dropped.unwritten_bytes += segment.unwritten();
            dropped.segments.push(segment.name());
        }
        dropped.chunk_bytes = self.chunks.drop_below(self.segments[0].base_offset()) as u64;
        assert!(self.check_invariants());
        dropped
    }

    /// Takes over from the state before a truncation what is true of the files still: whether
    /// their names are durable, and the indexes of segments that were not touched.
    pub(crate) fn keep_file_state(&mut self, before: LogState) {
        let last = self.segments.len() - 1;
        for (at, old) in before.segments.into_iter().enumerate() {
            let Some(segment) = self.segments.get_mut(at) else {
                break;
            };
            assert_eq!(
                segment.base_offset(),
                old.base_offset(),
                "a truncation keeps the first segments"
            );
            segment.is_linked = old.is_linked;
            if at < last {
                (segment.index, segment.index_blocks) = (old.index, old.index_blocks);
                segment.allocated = old.allocated;
                segment.producer_snapshot = old.producer_snapshot;
            }
        }
    }

    /// Gives back the memory of the oldest chunk that counts, if it has been written.
    pub(crate) fn evict_chunk(&mut self) -> Eviction {
        loop {
            let (active_base, active_written) =
                (self.active().base_offset(), self.active().written);
            if self.chunks.iter().all(|chunk| chunk.counted_bytes == 0) {
                return Eviction::Gone;
            }
            if self.chunks.can_shrink(active_base, active_written) {
                let bytes = self.chunks.shrink(self.log_end) as u64;
                debug_assert!(self.check_invariants());
                return Eviction::Freed { bytes };
            }
            let segments = &self.segments;
            let written_of = |base: i64| {
                let found = segments.binary_search_by_key(&base, Segment::base_offset);
                found.map_or(u64::MAX, |at| segments[at].written)
            };
            let freed = self.chunks.evict_oldest(written_of);
            debug_assert!(self.check_invariants());
            match freed {
                // One of a single block makes no room.
                Some(0) => {}
                Some(bytes) => {
                    return Eviction::Freed {
                        bytes: bytes as u64,
                    };
                }
                None => return Eviction::Needed,
            }
        }
    }

    /// Asserts I1, I2 and I4. Always true, so that it can stand in a `debug_assert!`.
    pub(crate) fn check_invariants(&self) -> bool {
        assert!(
            self.log_start <= self.durable_end && self.durable_end <= self.log_end,
            "offsets out of order: start {}, durable end {}, end {}",
            self.log_start,
            self.durable_end,
            self.log_end
        );
        assert!(
            self.segments
                .is_sorted_by(|a, b| a.base_offset() < b.base_offset()),
            "segments out of order"
        );
        let active = self.active();
        assert!(
            active.base_offset() <= self.log_end,
            "the active segment begins beyond the log end"
        );
        active.check_invariants();
        self.chunks
            .check_invariants(active.base_offset(), active.bytes());
        true
    }
}
