//! One cleaning round of one log: a first pass over its dirty part notes the newest offset of every
//! key, a second one rewrites its segments without the records that are not newest.
//!
//! *Place*: called by the [`super::Cleaner`]. *Invariants*: **I1** nothing changes in the log before a
//! rewritten segment is durable, name included; then its files are swapped by one journal record.
//! **I2** a log that changes meanwhile (retention, truncation, deletion) ends the round, which has
//! then done whole swaps or nothing. *Limits*: a group of segments is rewritten together, as long as
//! what comes of it stays below `segment.bytes`. *Source*: `docs/storage-format.md`, "Compaction".

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use protocol::record_batch::BatchView;
use runtime::Charge;

use super::cleanable::Cleanable;
use super::filter::{DECOMPRESSED_BYTES_MAX, Filter, Rules, Scratch};
use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::output::OutputSegment;
use super::source::SegmentSource;
use super::transactions::Outcomes;
use super::{Cleaner, Counted};
use crate::checkpoint::entry::SegmentPosition;
use crate::config::{CompactionConfig, SEGMENT_BYTES_LIMIT};
use crate::directory::sync_dir;
use crate::error::StorageError;
use crate::partition_log::producers::LastWrite;
use crate::partition_log::swap::Swap;
use crate::partition_log::{Log, sync_logs_dir};
use crate::segment::{Segment, SegmentExtent, SegmentName};

/// Segments rewritten into one, at most: what a swap's record names and what is read for nothing when the
/// log changes meanwhile.
const GROUP_SEGMENTS_MAX: usize = 256;

/// The least memory for keys with which a round is begun.
const MAP_BYTES_MIN: usize = 64 << 10;

/// Why a round ended early.
#[derive(Debug)]
pub(super) enum Ended {
    /// The log is not what it was, or is not to be worked on now.
    Changed,
    /// There is no memory for the map.
    NoMemory,
    /// There is no space for a rewritten segment beside the one that is there.
    NoSpace,
    /// Something could not be read or written.
    Failed(StorageError),
}

impl From<StorageError> for Ended {
    fn from(error: StorageError) -> Self {
        Ended::Failed(error)
    }
}

/// A log in the middle of a round.
pub(super) struct Round<'a> {
    cleaner: &'a Cleaner,
    log: &'a Rc<Log>,
    config: &'a CompactionConfig,
    plan: Cleanable,
    now_ms: i64,
    /// The log's segments below the plan's end, as they were when the round began.
    extents: Vec<SegmentExtent>,
    truncations: u64,
    /// Base offset from which on nothing was swapped yet.
    swapped_to: Cell<i64>,
    last_writes: HashMap<i64, LastWrite>,
    /// Greatest size of a rewritten segment.
    segment_bytes: u64,
}

/// Where one segment ends and what it is.
#[derive(Clone, Copy)]
struct Part {
    extent: SegmentExtent,
    /// Base offset of the segment after it.
    end: i64,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        cleaner: &'a Cleaner,
        log: &'a Rc<Log>,
        config: &'a CompactionConfig,
        plan: Cleanable,
        now_ms: i64,
    ) -> Self {
        let state = log.state.borrow();
        let below = state
            .segments
            .iter()
            .take_while(|segment| segment.base_offset() < plan.upto);
        Round {
            cleaner,
            log,
            config,
            plan,
            now_ms,
            extents: below.map(|segment| segment.extent).collect(),
            truncations: state.truncations,
            swapped_to: Cell::new(i64::MIN),
            last_writes: state.producers.last_writes(),
            segment_bytes: log.config.borrow().segment_bytes.min(SEGMENT_BYTES_LIMIT),
        }
    }

    /// Cleans the log as far as its keys find room.
    pub(super) async fn run(&self) -> Result<Counted, Ended> {
        self.check()?;
        self.sync_segments().await?;
        let (mut map, _charge) = self.new_map().ok_or(Ended::NoMemory)?;
        let mut outcomes = None;
        self.fill(&mut map, &mut outcomes).await?;
        let map = map;
        let outcomes = outcomes.unwrap_or_default();
        let parts: Vec<Part> = self
            .parts()
            .filter(|part| part.extent.base_offset < map.end())
            .collect();
        let Some(last) = parts.last() else {
            return Err(Ended::Changed);
        };
        let mut filter = Filter::new(Rules {
            map: &map,
            outcomes: &outcomes,
            last_writes: &self.last_writes,
            round_end: last.end,
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
        });
        let mut counted = Counted::default();
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let (taken, outputs) = self.rewrite_group(rest, &mut filter, &mut counted).await?;
            let (group, after) = rest.split_at(taken);
            rest = after;
            let cleaned_to = if rest.is_empty() {
                map.end()
            } else {
                self.log.state.borrow().cleaned_to
            };
            self.swap(group, outputs, cleaned_to).await?;
            self.swapped_to
                .set(group.last().map_or(i64::MIN, |part| part.end));
            counted.segments += group.len() as u64;
        }
        counted.records_without_key = filter.without_key;
        Ok(counted)
    }

    fn parts(&self) -> impl Iterator<Item = Part> {
        let ends = self.extents.iter().skip(1).map(|extent| extent.base_offset);
        let ends = ends.chain([self.plan.upto]);
        let parts = self.extents.iter().zip(ends);
        parts.map(|(extent, end)| Part {
            extent: *extent,
            end,
        })
    }

    /// Whether the round may go on.
    fn check(&self) -> Result<(), Ended> {
        let is_same = self.log.state.borrow().truncations == self.truncations;
        if is_same && self.log.check_changeable().is_ok() && !self.cleaner.is_stopping() {
            Ok(())
        } else {
            Err(Ended::Changed)
        }
    }

    /// Waits until `bytes` of I/O are paid for.
    async fn spend(&self, bytes: u64) -> Result<(), Ended> {
        self.cleaner
            .pace
            .spend(bytes, || self.check().is_err())
            .await;
        self.check()
    }

    /// Makes everything that is read durable in its file.
    async fn sync_segments(&self) -> Result<(), Ended> {
        let Some(last) = self.extents.last() else {
            return Err(Ended::Changed);
        };
        let to = SegmentPosition {
            segment_base: last.base_offset,
            position: last.bytes,
        };
        self.log.sync_to(to).await.map_err(Ended::Failed)
    }

    /// A map with room for all that is dirty, as far as its bound and the shard's memory allow.
    fn new_map(&self) -> Option<(OffsetMap, Charge)> {
        let engine = &self.log.engine;
        let records = self.plan.upto.abs_diff(self.plan.first_dirty);
        let wanted = usize::try_from(OffsetMap::bytes_for(records)).unwrap_or(usize::MAX);
        let bound = engine.config.cleaner_map_bytes_max.max(2 * SLOT_BYTES);
        let mut bytes = wanted.min(bound);
        loop {
            if let Some(charge) = engine.charge_evicting(bytes) {
                return Some((OffsetMap::new(bytes, self.plan.first_dirty), charge));
            }
            if bytes <= MAP_BYTES_MIN {
                return None;
            }
            bytes /= 2;
        }
    }

    /// The first pass: notes the keys of the dirty part until there is no room for more.
    async fn fill(
        &self,
        map: &mut OffsetMap,
        outcomes: &mut Option<Outcomes>,
    ) -> Result<(), Ended> {
        let mut scratch = Scratch::default();
        for part in self.parts().filter(|part| part.end > self.plan.first_dirty) {
            let mut source = SegmentSource::new(self.log, part.extent);
            loop {
                self.pay_read(&source).await?;
                let Some((batch, bytes)) = self.judge(source.next().await)? else {
                    break;
                };
                if batch.next_offset() <= map.end() {
                    continue;
                }
                if batch.is_transactional() && !batch.is_control() && outcomes.is_none() {
                    let from = part.extent.base_offset;
                    *outcomes = Some(
                        self.log
                            .transaction_outcomes(from)
                            .await?
                            .ok_or(Ended::Changed)?,
                    );
                }
                let is_aborted = outcomes.as_ref().is_some_and(|all| all.is_aborted(&batch));
                if !batch.is_control() && !is_aborted {
                    let noted = note_keys(bytes, map, &mut scratch);
                    let has_room =
                        noted.map_err(|error| source.corrupt_batch("a readable batch", error))?;
                    if !has_room {
                        return Ok(());
                    }
                }
                map.advance(batch.next_offset().max(map.end()));
            }
            map.advance(part.end.max(map.end()));
        }
        Ok(())
    }

    async fn pay_read(&self, source: &SegmentSource) -> Result<(), Ended> {
        match source.wants_read() {
            0 => {
                runtime::task::yield_if_needed().await;
                Ok(())
            }
            bytes => {
                self.cleaner.counts.note_read(bytes);
                self.spend(bytes).await
            }
        }
    }

    /// Takes what failed because the log changed meanwhile for that, and not for damage.
    fn judge<T>(&self, result: Result<T, StorageError>) -> Result<T, Ended> {
        result.map_err(|error| {
            let state = self.log.state.borrow();
            let unswapped = self.extents.iter();
            let is_there = unswapped
                .filter(|extent| extent.base_offset >= self.swapped_to.get())
                .all(|extent| state.segment_named(extent.name()).is_some());
            drop(state);
            if is_there && self.check().is_ok() {
                Ended::Failed(error)
            } else {
                Ended::Changed
            }
        })
    }

    /// The second pass over as many of `parts` as go together; answers how many, and the segments
    /// that are to come in their place, durable but for their names.
    async fn rewrite_group(
        &self,
        parts: &[Part],
        filter: &mut Filter<'_>,
        counted: &mut Counted,
    ) -> Result<(usize, Vec<OutputSegment>), Ended> {
        let version = parts
            .iter()
            .take(GROUP_SEGMENTS_MAX)
            .map(|part| part.extent.version)
            .max();
        let mut group = Group {
            round: self,
            version: version.unwrap_or(0) + 1,
            outputs: Vec::new(),
        };
        group.begin(parts[0].extent.base_offset, &parts[0]);
        let mut taken = 0;
        for part in parts.iter().take(GROUP_SEGMENTS_MAX) {
            if taken > 0 && !group.may_take(part) {
                break;
            }
            if let Err(ended) = group.rewrite(part, filter, counted).await {
                group.discard().await;
                return Err(ended);
            }
            taken += 1;
        }
        Ok((taken, group.outputs))
    }

    /// Puts `outputs` in the place of `parts`.
    async fn swap(
        &self,
        parts: &[Part],
        mut outputs: Vec<OutputSegment>,
        cleaned_to: i64,
    ) -> Result<(), Ended> {
        let swapped = self.try_swap(parts, &mut outputs, cleaned_to).await;
        if swapped.is_err() {
            for output in outputs {
                output.discard().await;
            }
        }
        let sequence = swapped?;
        // One group's old files at a time wait to be removed.
        let committed = self.log.engine.committed(sequence).await;
        committed.map_err(Ended::Failed)
    }

    async fn try_swap(
        &self,
        parts: &[Part],
        outputs: &mut [OutputSegment],
        cleaned_to: i64,
    ) -> Result<crate::journal::Sequence, Ended> {
        let mut come: Vec<Segment> = Vec::with_capacity(outputs.len());
        for output in outputs {
            come.push(self.judge(output.finish().await)?);
        }
        self.check()?;
        let synced = sync_dir(&self.log.dir()).await;
        self.judge(self.log.settle(synced))?;
        let synced = sync_logs_dir(&self.log.engine).await;
        self.log.settle(synced)?;
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            return Err(Ended::Changed);
        };
        let swap = Swap {
            first: first.extent.base_offset,
            last: last.extent.base_offset,
            cleaned_to,
            extents: come.iter().map(|segment| segment.extent).collect(),
        };
        let from: Vec<SegmentExtent> = parts.iter().map(|part| part.extent).collect();
        if self.cleaner.is_stopping() {
            return Err(Ended::Changed);
        }
        let swapped = self.log.swap_segments(&swap, come, &from, self.truncations);
        swapped.ok_or(Ended::Changed)
    }
}

/// Segments being rewritten together.
struct Group<'a> {
    round: &'a Round<'a>,
    /// Version of what comes, above those of all that goes.
    version: u32,
    outputs: Vec<OutputSegment>,
}

impl Group<'_> {
    fn begin(&mut self, base_offset: i64, part: &Part) {
        let name = SegmentName {
            base_offset,
            version: self.version,
        };
        let last_append_ms = part.extent.last_append_ms;
        self.outputs
            .push(OutputSegment::new(self.round.log, name, last_append_ms));
    }

    fn newest(&mut self) -> &mut OutputSegment {
        self.outputs.last_mut().expect("a group begins with one")
    }

    /// Whether `part` still fits, even if all of it stays.
    fn may_take(&mut self, part: &Part) -> bool {
        let bytes_max = self.round.segment_bytes;
        let output = self.newest();
        output.bytes() + part.extent.bytes <= bytes_max
            && part.end - output.base_offset() <= i64::from(i32::MAX)
    }

    async fn rewrite(
        &mut self,
        part: &Part,
        filter: &mut Filter<'_>,
        counted: &mut Counted,
    ) -> Result<(), Ended> {
        let round = self.round;
        if !round.log.engine.space.has(part.extent.bytes) {
            return Err(Ended::NoSpace);
        }
        let mut source = SegmentSource::new(round.log, part.extent);
        let mut left = Vec::new();
        loop {
            round.pay_read(&source).await?;
            let Some((batch, bytes)) = round.judge(source.next().await)? else {
                return Ok(());
            };
            left.clear();
            let passed = filter.pass(&batch, bytes, &mut left);
            let stays = passed.map_err(|error| source.corrupt_batch("a readable batch", error))?;
            counted.bytes_dropped += batch.bytes.saturating_sub(left.len() as u64);
            if !stays {
                continue;
            }
            // Compressed anew, or with longer deltas, batches may have grown.
            if self.newest().bytes() + left.len() as u64 > SEGMENT_BYTES_LIMIT {
                self.begin(batch.base_offset, part);
            }
            let output = self.newest();
            output.push(&left, part.extent.last_append_ms);
            let written = round.judge(output.write_full().await)?;
            if written > 0 {
                round.log.engine.space.take(written);
                round.cleaner.counts.note_written(written);
                round.spend(written).await?;
            }
        }
    }

    async fn discard(self) {
        for output in self.outputs {
            output.discard().await;
        }
    }
}

/// Notes the keys of a batch; `false` when there was no room for all.
fn note_keys(
    bytes: &[u8],
    map: &mut OffsetMap,
    scratch: &mut Scratch,
) -> Result<bool, protocol::record_batch::BatchError> {
    let view = BatchView::parse(bytes)?;
    if view.record_count() == 0 {
        return Ok(true);
    }
    for record in view.records(
        &mut scratch.context,
        &mut scratch.plain,
        DECOMPRESSED_BYTES_MAX,
    )? {
        let record = record?;
        let key = record.key.filter(|_| record.offset >= map.end());
        if key.is_some_and(|key| !map.put(key, record.offset)) {
            return Ok(false);
        }
    }
    Ok(true)
}
