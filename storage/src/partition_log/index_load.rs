//! Completing a segment's index: from its file as far as that goes, then by walking the segment.
//!
//! *Place*: before a lookup that memory cannot answer, so a start reads no index at all.
//! *Invariants*: **I1** the last entry taken from the file is checked against the batch it points
//! to; if that is wrong the whole segment is walked instead. **I2** damage ends a walk, not a lookup: what stands
//! before it is found by the entries before it, and who comes for what is behind walks into it. *Limits*: `INDEXES_IN_MEMORY_MAX` of
//! sealed segments over all logs; the oldest is let go and loaded again when asked for.

use std::rc::Rc;

use runtime::BLOCK_BYTES;

use super::Log;
use super::walk::{Walk, WalkFrom};
use crate::error::StorageError;
use crate::segment::batch_header::NONE;
use crate::segment::files::FileKind;
use crate::segment::index_file::{BLOCK_ENTRIES, BlockOwner, decode_block};
use crate::segment::offset_index::{INTERVAL_BYTES, IndexEntry, OffsetIndex};
use crate::segment::{Segment, SegmentName};

/// Indexes of sealed segments kept in memory; one is at most 512 KiB (a 2 GiB segment).
const INDEXES_IN_MEMORY_MAX: usize = 64;

/// What has to be loaded.
#[derive(Clone, Copy)]
struct Incomplete {
    segment: SegmentName,
    truncations: u64,
    complete_from: u64,
}

impl Log {
    /// Completes a segment's index unless what is in memory `is_enough`.
    ///
    /// # Errors
    /// Those of reading the segment. A damaged index file is no error.
    pub(super) async fn complete_index(
        self: &Rc<Self>,
        segment_base: i64,
        is_enough: impl Fn(&OffsetIndex) -> bool,
    ) -> Result<(), StorageError> {
        let needed = |segment: &Segment| {
            !segment.index.is_complete()
                && segment.bytes() > INTERVAL_BYTES
                && !is_enough(&segment.index)
        };
        let incomplete = {
            let state = self.state.borrow();
            let segment = state.segment_at(segment_base).map(|at| &state.segments[at]);
            let Some(segment) = segment.filter(|segment| needed(segment)) else {
                return Ok(());
            };
            let complete_from = segment.index.complete_from();
            Incomplete {
                segment: segment.name(),
                truncations: state.truncations,
                complete_from,
            }
        };
        let mut entries = self.read_index_file(incomplete.segment).await;
        entries.retain(|entry| u64::from(entry.position) < incomplete.complete_from);
        let blocks = (entries.len() / BLOCK_ENTRIES) as u32;
        let walked = match self.walk_index(incomplete, entries).await {
            Ok(Some(entries)) => Some((entries, blocks)),
            Ok(None) | Err(StorageError::Corruption { .. }) => {
                // The file's last entry points at no such batch: trust the segment alone.
                self.walk_index(incomplete, Vec::new())
                    .await?
                    .map(|entries| (entries, 0))
            }
            Err(error) => return Err(error),
        };
        if let Some((entries, blocks)) = walked {
            self.install_index(incomplete, entries, blocks);
        }
        Ok(())
    }

    /// The entries of the valid blocks at the beginning of the index file.
    async fn read_index_file(&self, segment: SegmentName) -> Vec<IndexEntry> {
        let mut entries = Vec::new();
        let Ok(file) = self.open_named(segment, FileKind::Index).await else {
            return entries;
        };
        let Ok(bytes) = file.size().await else {
            return entries;
        };
        let owner = BlockOwner {
            incarnation: self.incarnation,
            segment_base: segment.base_offset,
        };
        let blocks = u32::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(u32::MAX);
        for number in 0..blocks {
            let Ok(block) = file
                .read_at(u64::from(number) * BLOCK_BYTES as u64, BLOCK_BYTES)
                .await
            else {
                break;
            };
            if !decode_block(owner, number, &block, &mut entries) {
                break;
            }
        }
        entries
    }

    /// Walks from the last of `entries` to where memory's index begins. `None`: the last entry is
    /// wrong, or the segment changed meanwhile.
    async fn walk_index(
        self: &Rc<Self>,
        incomplete: Incomplete,
        entries: Vec<IndexEntry>,
    ) -> Result<Option<Vec<IndexEntry>>, StorageError> {
        let Incomplete {
            segment,
            truncations,
            complete_from,
        } = incomplete;
        let segment_base = segment.base_offset;
        let last = entries.last().copied();
        let position = last.map_or(0, |entry| u64::from(entry.position));
        let mut max_timestamp = last.map_or(NONE, |entry| entry.max_timestamp_before);
        let mut expected = last.map(|entry| segment_base + i64::from(entry.relative_offset));
        let mut index = OffsetIndex::with_entries(entries);
        let mut walk = Walk::new(
            self,
            WalkFrom {
                segment,
                position,
                truncations,
            },
        );
        while walk.position() < complete_from {
            let batch = match walk.peek().await {
                Ok(Ok(batch)) => batch,
                Ok(Err(_)) => return Ok(None),
                Err(StorageError::Corruption { .. }) if last.is_none() => break,
                Err(error) => return Err(error),
            };
            if expected
                .take()
                .is_some_and(|offset| offset != batch.base_offset)
            {
                return Ok(None);
            }
            index.note(segment_base, &batch, walk.position(), max_timestamp);
            max_timestamp = max_timestamp.max(batch.greatest_timestamp());
            walk.advance(&batch, walk.position() + batch.bytes);
        }
        Ok(Some(index.entries().to_vec()))
    }

    fn install_index(
        self: &Rc<Self>,
        incomplete: Incomplete,
        entries: Vec<IndexEntry>,
        blocks: u32,
    ) {
        let mut state = self.state.borrow_mut();
        let Some(at) = state.segment_named(incomplete.segment) else {
            return;
        };
        let is_same = state.truncations == incomplete.truncations
            && state.segments[at].index.complete_from() == incomplete.complete_from;
        if !is_same {
            return;
        }
        let segment = &mut state.segments[at];
        segment.index.complete_with(entries);
        segment.index_blocks = Some(blocks);
        drop(state);
        self.note_index_in_memory(incomplete.segment.base_offset);
    }

    /// Enters a segment's index into the list of those in memory, and lets the oldest go.
    pub(super) fn note_index_in_memory(&self, segment_base: i64) {
        let mut in_memory = self.engine.queues.indexes.borrow_mut();
        in_memory.push_back((self.weak(), segment_base));
        if in_memory.len() <= INDEXES_IN_MEMORY_MAX {
            return;
        }
        let Some((log, segment_base)) = in_memory.pop_front() else {
            return;
        };
        drop(in_memory);
        let is_kept = log
            .upgrade()
            .is_some_and(|log| !log.unload_index(segment_base));
        if is_kept {
            self.engine
                .queues
                .indexes
                .borrow_mut()
                .push_back((log, segment_base));
        }
    }

    /// Gives the memory of an index back; `false` when it is in use. The active segment's is.
    fn unload_index(&self, segment_base: i64) -> bool {
        let Ok(mut state) = self.state.try_borrow_mut() else {
            return false;
        };
        let Some(at) = state.segment_at(segment_base) else {
            return true;
        };
        if !state.is_sealed(at) {
            return false;
        }
        let segment = &mut state.segments[at];
        segment.index.unload(segment.extent.bytes);
        segment.index_blocks = None;
        true
    }
}
