//! The sparse index of one segment: where in the segment an offset or a time is to be looked for.
//!
//! *Place*: one per segment in memory, filled by appends and by walks over the segment; persisted
//! by [`super::index_file`]. *Invariants*: **I1** entries point at first bytes of batches;
//! offsets and positions ascend strictly, timestamps do not descend; **I2** the entries are
//! complete from `complete_from` on: what lies below has to be loaded before it is asked for.
//! *Limits*: an entry per [`INTERVAL_BYTES`], 16 bytes each.

use super::batch_header::BatchHeader;

/// Least distance in bytes between two entries.
pub(crate) const INTERVAL_BYTES: u64 = 64 * 1024;

/// One entry, for the batch at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Base offset of the batch, less the segment's.
    pub(crate) relative_offset: u32,
    /// First byte of the batch in the segment.
    pub(crate) position: u32,
    /// Greatest timestamp of all earlier batches of the segment.
    pub(crate) max_timestamp_before: i64,
}

/// The index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetIndex {
    entries: Vec<IndexEntry>,
    /// Below this position entries may be missing.
    complete_from: u64,
}

impl OffsetIndex {
    /// An index without entries, complete from `complete_from` on (0: a new segment).
    pub(crate) fn starting_at(complete_from: u64) -> Self {
        OffsetIndex {
            entries: Vec::new(),
            complete_from,
        }
    }

    /// A complete index with these entries.
    pub(crate) fn with_entries(entries: Vec<IndexEntry>) -> Self {
        OffsetIndex {
            entries,
            complete_from: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete_from == 0
    }

    pub(crate) fn complete_from(&self) -> u64 {
        self.complete_from
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Notes the batch at `position`, which must come after all noted before. `max_timestamp_before`
    /// is the greatest timestamp of the segment's earlier batches.
    pub(crate) fn note(
        &mut self,
        segment_base: i64,
        batch: &BatchHeader,
        position: u64,
        max_timestamp_before: i64,
    ) {
        let last = self
            .entries
            .last()
            .map_or(self.complete_from, |entry| u64::from(entry.position));
        if position < last + INTERVAL_BYTES {
            return;
        }
        let relative_offset = u32::try_from(batch.base_offset - segment_base);
        let (Ok(relative_offset), Ok(position)) = (relative_offset, u32::try_from(position)) else {
            debug_assert!(
                false,
                "a segment is rolled before its offsets or positions pass 2^31"
            );
            return;
        };
        self.entries.push(IndexEntry {
            relative_offset,
            position,
            max_timestamp_before,
        });
    }

    /// Puts what was loaded from disk (entries for positions below `complete_from`, ascending)
    /// before what is here.
    pub(crate) fn complete_with(&mut self, mut loaded: Vec<IndexEntry>) {
        loaded.retain(|entry| u64::from(entry.position) < self.complete_from);
        loaded.append(&mut self.entries);
        self.entries = loaded;
        self.complete_from = 0;
        debug_assert!(is_ordered(&self.entries), "index entries out of order");
    }

    /// The last entry whose batch begins at or below `offset`; `None`: begin at the segment's start.
    pub(crate) fn floor_offset(&self, segment_base: i64, offset: i64) -> Option<IndexEntry> {
        let above = self
            .entries
            .partition_point(|e| segment_base + i64::from(e.relative_offset) <= offset);
        above
            .checked_sub(1)
            .and_then(|at| self.entries.get(at))
            .copied()
    }

    /// The last entry before which all timestamps are below `timestamp`.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        let above = self
            .entries
            .partition_point(|e| e.max_timestamp_before < timestamp);
        above
            .checked_sub(1)
            .and_then(|at| self.entries.get(at))
            .copied()
    }

    /// Gives the memory back; what is asked for later is loaded again. `segment_bytes`: its end.
    pub(crate) fn unload(&mut self, segment_bytes: u64) {
        *self = Self::starting_at(segment_bytes);
    }
}

/// Whether entries fulfil I1.
pub(crate) fn is_ordered(entries: &[IndexEntry]) -> bool {
    entries.is_sorted_by(|a, b| {
        a.relative_offset < b.relative_offset
            && a.position < b.position
            && a.max_timestamp_before <= b.max_timestamp_before
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            bytes: 40_000,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 9,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 10,
        }
    }

    /// Batches of 40,000 bytes and ten records, from offset 100 and position 0 on.
    fn index(from: i64, to: i64) -> OffsetIndex {
        let mut index = OffsetIndex::starting_at(from as u64 * 40_000);
        for n in from..to {
            index.note(100, &batch(100 + n * 10), n as u64 * 40_000, n * 7);
        }
        index
    }

    #[test]
    fn entries_are_an_interval_apart() {
        let positions: Vec<u32> = index(0, 7).entries().iter().map(|e| e.position).collect();
        assert_eq!(positions, [80_000, 160_000, 240_000]);
    }

    #[test]
    fn floors() {
        let index = index(0, 7);
        assert_eq!(index.floor_offset(100, 119), None);
        assert_eq!(
            index.floor_offset(100, 120).map(|e| e.position),
            Some(80_000)
        );
        assert_eq!(
            index.floor_offset(100, 9_999).map(|e| e.position),
            Some(240_000)
        );
        // Entry 160,000 has timestamps up to 28 before it.
        assert_eq!(index.floor_timestamp(28).map(|e| e.position), Some(80_000));
        assert_eq!(index.floor_timestamp(29).map(|e| e.position), Some(160_000));
    }

    #[test]
    fn a_partial_index_is_completed_from_disk() {
        let whole = index(0, 9);
        let mut partial = index(4, 9);
        assert!(!partial.is_complete());
        partial.complete_with(
            whole
                .entries()
                .iter()
                .copied()
                .filter(|e| e.position < 160_000)
                .collect(),
        );
        assert!(partial.is_complete());
        assert_eq!(
            partial.floor_offset(100, 125).map(|e| e.position),
            Some(80_000)
        );
    }
}
