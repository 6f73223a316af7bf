//! Putting rewritten segments in the place of those that they were made from.
//!
//! *Place*: the last step of a compaction, and the replay of its `Compact` record. *Invariants*: **I1**
//! a swap replaces neighbouring sealed segments; the first new one has the first old one's base
//! offset, no new one reaches beyond the old ones. **I2** when the record is made, every segment up to
//! the last replaced, old or new, is durable in its file. **I3** old files go when the record is
//! durable. *Source*: `docs/storage-format.md`, "Compaction".

use super::Log;
use super::read_hints::ReadHints;
use super::state::{Dropped, LogState};
use crate::checkpoint::entry::{SEGMENT_BYTES, decode_extent, encode_extent};
use crate::codec::{FieldReader, PutField, TooShort};
use crate::journal::{RecordView, Sequence};
use crate::segment::{Segment, SegmentExtent};

/// Which segments go, and what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    /// Base offset of the first segment that goes.
    pub(crate) first: i64,
    /// Base offset of the last one.
    pub(crate) last: i64,
    /// Below this offset no key has two records any more.
    pub(crate) cleaned_to: i64,
    /// What comes, ascending, at least one.
    pub(crate) extents: Vec<SegmentExtent>,
}

impl Swap {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28 + self.extents.len() * SEGMENT_BYTES);
        bytes.put_i64(self.first);
        bytes.put_i64(self.last);
        bytes.put_i64(self.cleaned_to);
        bytes.put_count(self.extents.len());
        for extent in &self.extents {
            encode_extent(extent, &mut bytes);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, TooShort> {
        let mut from = FieldReader::new(bytes);
        let (first, last, cleaned_to) = (from.i64()?, from.i64()?, from.i64()?);
        let count = from.count(SEGMENT_BYTES)?;
        let extents = (0..count)
            .map(|_| decode_extent(&mut from))
            .collect::<Result<_, _>>()?;
        if from.remaining() > 0 {
            return Err(TooShort);
        }
        Ok(Swap {
            first,
            last,
            cleaned_to,
            extents,
        })
    }
}

impl LogState {
    /// Whether `swap` can be made here (I1): a record that says otherwise is not of this log.
    pub(crate) fn takes(&self, swap: &Swap) -> bool {
        let (Some(first), Some(last)) = (self.segment_at(swap.first), self.segment_at(swap.last))
        else {
            return false;
        };
        let Some(next) = self.segments.get(last + 1) else {
            return false;
        };
        let extents = &swap.extents;
        first <= last
            && extents.first().map(|extent| extent.base_offset) == Some(swap.first)
            && extents.is_sorted_by(|a, b| a.base_offset < b.base_offset)
            && extents
                .last()
                .is_some_and(|extent| extent.base_offset < next.base_offset())
            && swap.cleaned_to >= self.cleaned_to
            && swap.cleaned_to <= next.base_offset().max(self.cleaned_to)
    }

    /// Makes a swap that this log [takes](Self::takes); `come` are the segments of its extents.
    pub(crate) fn swap_segments(&mut self, swap: &Swap, come: Vec<Segment>) -> Dropped {
        assert!(self.takes(swap), "a swap that is not of this log: {swap:?}");
        assert!(
            come.iter()
                .map(|segment| segment.extent)
                .eq(swap.extents.iter().copied()),
            "other segments than the swap names"
        );
        assert!(
            come.iter().all(|segment| segment.unsynced() == 0),
            "a rewritten segment is not durable"
        );
        let first = self.segment_for(swap.first);
        let last = self.segment_for(swap.last);
        let mut dropped = Dropped::default();
        // By I2; a replay may have them in memory from their appends.
        for segment in &mut self.segments[..first] {
            dropped.unwritten_bytes += segment.unwritten();
            segment.note_durable();
        }
        let kept_from = self.segments[last + 1].base_offset();
        for gone in self.segments.splice(first..=last, come) {
            dropped.unwritten_bytes += gone.unwritten();
            dropped.segments.push(gone.name());
        }
        dropped.chunk_bytes = self.chunks.drop_below(kept_from) as u64;
        self.read_hints = ReadHints::default();
        self.cleaned_to = swap.cleaned_to;
        assert!(self.check_invariants());
        dropped
    }
}

impl Log {
    /// Makes a swap and journals it. `None`: the log is no longer what the swap was made for. `from`:
    /// the segments as they were read; `truncations`: the log's count of them then.
    pub(crate) fn swap_segments(
        &self,
        swap: &Swap,
        come: Vec<Segment>,
        from: &[SegmentExtent],
        truncations: u64,
    ) -> Option<Sequence> {
        self.check_changeable().ok()?;
        let mut state = self.state.borrow_mut();
        let first = state.segment_at(swap.first)?;
        let current = state.segments.get(first..first + from.len())?;
        let is_same = current
            .iter()
            .map(|segment| segment.extent)
            .eq(from.iter().copied());
        if !is_same || state.truncations != truncations || !state.takes(swap) {
            return None;
        }
        let is_durable = state.segments[..first + from.len()]
            .iter()
            .all(|segment| segment.unsynced() == 0);
        assert!(
            is_durable,
            "a segment below a swap is not durable in its file"
        );
        let dropped = state.swap_segments(swap, come);
        let record = RecordView::Compact {
            incarnation: self.incarnation,
            swap: &swap.encode(),
        };
        let sequence = self.engine.journal.append(record);
        self.engine.release_chunk_bytes(dropped.chunk_bytes);
        self.remove_segments(dropped.segments, sequence);
        drop(state);
        for extent in &swap.extents {
            self.note_index_in_memory(extent.base_offset);
        }
        Some(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(base_offset: i64, version: u32, bytes: u64) -> SegmentExtent {
        let mut extent = Segment::new(base_offset, 7).extent;
        (extent.version, extent.bytes) = (version, bytes);
        extent
    }

    fn swap() -> Swap {
        Swap {
            first: 0,
            last: 20,
            cleaned_to: 25,
            extents: vec![extent(0, 1, 400), extent(12, 1, 0)],
        }
    }

    fn state() -> LogState {
        let mut state = LogState::new(0);
        state.segments = [(0, 500), (10, 500), (20, 4096), (30, 0)]
            .map(|(base, bytes)| Segment::restored(extent(base, 0, bytes), bytes))
            .into();
        (state.log_end, state.durable_end) = (30, 30);
        state
    }

    #[test]
    fn a_swap_survives_its_encoding() {
        let encoded = swap().encode();
        assert_eq!(Swap::decode(&encoded), Ok(swap()));
        for cut in 0..encoded.len() {
            assert_eq!(Swap::decode(&encoded[..cut]), Err(TooShort), "{cut}");
        }
    }

    #[test]
    fn segments_are_replaced_and_their_files_named() {
        let mut state = state();
        let come = swap().extents.into_iter();
        let come = come
            .map(|extent| Segment::restored(extent, extent.bytes))
            .collect();
        let dropped = state.swap_segments(&swap(), come);
        let names: Vec<_> = dropped
            .segments
            .iter()
            .map(|name| (name.base_offset, name.version))
            .collect();
        assert_eq!(names, [(0, 0), (10, 0), (20, 0)]);
        let bases: Vec<_> = state.segments.iter().map(Segment::base_offset).collect();
        assert_eq!(bases, [0, 12, 30]);
        assert_eq!(state.cleaned_to, 25);
    }

    #[test]
    fn a_swap_of_another_log_is_not_taken() {
        let check = |change: fn(&mut Swap)| {
            let mut changed = swap();
            change(&mut changed);
            assert!(!state().takes(&changed), "{changed:?}");
        };
        assert!(state().takes(&swap()));
        check(|swap| swap.first = 5);
        check(|swap| swap.last = 30);
        check(|swap| swap.extents.clear());
        check(|swap| swap.extents[1].base_offset = 30);
        check(|swap| swap.extents[0].base_offset = 1);
        check(|swap| swap.extents.reverse());
        check(|swap| swap.cleaned_to = 31);
        check(|swap| (swap.first, swap.last) = (20, 0));
    }
}
