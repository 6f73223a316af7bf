//! Recovery: the newest checkpoint table, and on it the journal's records in order.
//!
//! *Place*: [`crate::Storage::open`]. *Invariants*: **I1** a record is applied to a log exactly when
//! its sequence is above the log's applied one, by the same transition that made it the first time;
//! its offsets and positions must be the log's. **I2** a record of an unknown incarnation is put
//! aside and must be followed by that incarnation's `Delete`. **I3** nothing on disk is changed while
//! records are read. *Limits*: memory for the bytes of the replayed part of the journal, which
//! checkpoints keep small; no segment is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use runtime::{AppendBuf, MemoryBudget};

use crate::checkpoint::entry;
use crate::checkpoint::table::Table;
use crate::codec::{FieldReader, TooShort};
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::journal::{RecordView, Sequence};
use crate::log_id::{LogId, incarnation_counter};
use crate::partition_log::state::LogState;
use crate::partition_log::swap::Swap;
use crate::partition_log::tail_chunks::ChunkMemory;
use crate::segment::batch_header::{BadHeader, BatchHeader, HEADER_BYTES};
use crate::segment::{Segment, SegmentName, block_floor};

/// A log while its records are replayed.
pub(crate) struct RecoveredLog {
    pub(crate) id: LogId,
    pub(crate) incarnation: u64,
    applied: u64,
    pub(crate) state: LogState,
    /// The entry that a `Truncate` record to come replaces the state by.
    cut: Option<Vec<u8>>,
    /// Segments whose files have to go (again).
    pub(crate) dropped_segments: Vec<SegmentName>,
}

/// What a start did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Logs that are there now.
    pub logs: usize,
    /// Journal records that were applied.
    pub records_applied: u64,
    /// Bytes of batches among them.
    pub bytes_applied: u64,
    /// Deleted logs whose files were removed now.
    pub deletions_finished: usize,
    /// Bytes at the journal's end that no valid group held: written, never answered.
    pub journal_bytes_cut: u64,
}

/// Replays a shard's journal on its table.
pub(crate) struct Recovery {
    logs: BTreeMap<u64, RecoveredLog>,
    /// Logs that a replayed record deleted.
    pub(crate) deleted: Vec<RecoveredLog>,
    /// Incarnations that some record named, but neither the table nor a `Create`.
    unknown: BTreeSet<u64>,
    pub(crate) next_incarnation_counter: u64,
    /// The newest sequence that any entry of the table had applied.
    applied_max: u64,
    /// The sequence that the next record must have.
    next_sequence: u64,
    pub(crate) report: RecoveryReport,
    journal_dir: PathBuf,
    budget: MemoryBudget,
    chunk_bytes_max: usize,
    now_ms: i64,
}

impl Recovery {
    pub(crate) fn new(
        table: Table,
        journal_dir: PathBuf,
        config: &StorageConfig,
        budget: MemoryBudget,
        now_ms: i64,
    ) -> Self {
        let mut next_incarnation_counter = table.header.next_incarnation_counter;
        let mut logs = BTreeMap::new();
        let mut applied_max = 0;
        for entry in table.entries {
            let entry::LogEntry {
                id,
                incarnation,
                applied,
                state,
            } = entry;
            next_incarnation_counter =
                next_incarnation_counter.max(incarnation_counter(incarnation) + 1);
            applied_max = applied_max.max(applied);
            let log = RecoveredLog {
                id,
                incarnation,
                applied,
                state,
                cut: None,
                dropped_segments: Vec::new(),
            };
            logs.insert(incarnation, log);
        }
        Recovery {
            logs,
            deleted: Vec::new(),
            unknown: BTreeSet::new(),
            next_incarnation_counter,
            applied_max,
            next_sequence: table.header.replay_from,
            report: RecoveryReport::default(),
            journal_dir,
            budget,
            chunk_bytes_max: config.chunk_bytes_max as usize,
            now_ms,
        }
    }

    /// Applies one record.
    ///
    /// # Errors
    /// [`StorageError::Corruption`] when it does not follow from what came before.
    pub(crate) fn apply(
        &mut self,
        sequence: Sequence,
        record: RecordView<'_>,
    ) -> Result<(), StorageError> {
        let sequence = u64::from(sequence);
        self.check_follows(sequence)?;
        self.next_sequence = sequence + 1;
        let incarnation = record.incarnation();
        self.next_incarnation_counter = self
            .next_incarnation_counter
            .max(incarnation_counter(incarnation) + 1);
        if let RecordView::Create {
            topic, partition, ..
        } = record
        {
            self.create(sequence, incarnation, LogId { topic, partition });
            return Ok(());
        }
        let Some(log) = self.logs.get_mut(&incarnation) else {
            // The table was made after this log's deletion: its `Delete` must be ahead (I2).
            match record {
                RecordView::Delete { .. } => self.unknown.remove(&incarnation),
                _ => self.unknown.insert(incarnation),
            };
            return Ok(());
        };
        if sequence <= log.applied {
            return Ok(());
        }
        log.applied = sequence;
        self.report.records_applied += 1;
        if let RecordView::Delete { .. } = record {
            let deleted = self.logs.remove(&incarnation);
            self.deleted.extend(deleted);
            return Ok(());
        }
        let memory = ReplayMemory {
            budget: &self.budget,
            chunk_bytes_max: self.chunk_bytes_max,
        };
        let applied = log.apply(record, &memory, self.now_ms);
        match applied {
            Ok(bytes) => {
                self.report.bytes_applied += bytes;
                Ok(())
            }
            Err(Mismatch {
                field,
                expected,
                found,
            }) => {
                let expected = format!(
                    "record {sequence} of log {} with {field} {expected}",
                    log.id
                );
                Err(StorageError::corruption(
                    &self.journal_dir,
                    0,
                    expected,
                    found,
                ))
            }
        }
    }

    /// The journal must reach back to the table, without a gap: otherwise a newer table had
    /// released what is missing, and that one is damaged.
    fn check_follows(&self, sequence: u64) -> Result<(), StorageError> {
        if sequence == self.next_sequence {
            return Ok(());
        }
        let expected = format!(
            "record {} (the newest checkpoint table must be damaged; restore the shard's directory from a backup)",
            self.next_sequence
        );
        let found = format!("record {sequence}");
        Err(StorageError::corruption(
            &self.journal_dir,
            0,
            expected,
            found,
        ))
    }

    /// Checks that the journal, whose newest record has `last_sequence`, was replayed to its end and
    /// reaches as far as the table.
    ///
    /// # Errors
    /// [`StorageError::Corruption`].
    pub(crate) fn check_end(&self, last_sequence: u64) -> Result<(), StorageError> {
        self.check_follows(last_sequence + 1)?;
        if last_sequence < self.applied_max {
            let expected = format!(
                "records through {}, which the checkpoint has applied",
                self.applied_max
            );
            return Err(StorageError::corruption(
                &self.journal_dir,
                0,
                expected,
                last_sequence,
            ));
        }
        Ok(())
    }

    fn create(&mut self, sequence: u64, incarnation: u64, id: LogId) {
        let is_known = self.logs.contains_key(&incarnation) || self.unknown.contains(&incarnation);
        // Known from the table: this record is in it already.
        if is_known {
            return;
        }
        self.report.records_applied += 1;
        let state = LogState::new(self.now_ms);
        let log = RecoveredLog {
            id,
            incarnation,
            applied: sequence,
            state,
            cut: None,
            dropped_segments: Vec::new(),
        };
        self.logs.insert(incarnation, log);
    }

    /// Checks that every log that was met is known.
    ///
    /// # Errors
    /// [`StorageError::Corruption`] when records of an unknown incarnation were met and no `Delete`.
    pub(crate) fn check_known(&self) -> Result<(), StorageError> {
        if let Some(incarnation) = self.unknown.first() {
            let expected =
                "every record's log incarnation in the checkpoint table, or its Delete record";
            return Err(StorageError::corruption(
                &self.journal_dir,
                0,
                expected,
                format!("incarnation {incarnation:016x}"),
            ));
        }
        Ok(())
    }

    /// The logs as they are, whether or not the replay came to its end.
    pub(crate) fn into_logs(self) -> Vec<RecoveredLog> {
        self.logs.into_values().collect()
    }

    /// Ends the replay.
    ///
    /// # Errors
    /// Those of [`Self::check_known`].
    pub(crate) fn finish(
        self,
    ) -> Result<(Vec<RecoveredLog>, Vec<RecoveredLog>, RecoveryReport, u64), StorageError> {
        self.check_known()?;
        let mut report = self.report;
        report.logs = self.logs.len();
        Ok((
            self.logs.into_values().collect(),
            self.deleted,
            report,
            self.next_incarnation_counter,
        ))
    }
}

/// A record that does not fit its log.
struct Mismatch {
    field: &'static str,
    expected: i64,
    found: i64,
}

impl From<BadHeader> for Mismatch {
    fn from(bad: BadHeader) -> Self {
        Mismatch {
            field: bad.field,
            expected: bad.expected,
            found: bad.found,
        }
    }
}

/// Where replayed bytes go.
struct ReplayMemory<'a> {
    budget: &'a MemoryBudget,
    chunk_bytes_max: usize,
}

fn expect(field: &'static str, expected: i64, found: i64) -> Result<(), Mismatch> {
    if expected == found {
        Ok(())
    } else {
        Err(Mismatch {
            field,
            expected,
            found,
        })
    }
}

/// A batch follows on what is there.
fn expect_next(state: &LogState, base_offset: i64, position: u64) -> Result<(), Mismatch> {
    expect("base offset", state.log_end, base_offset)?;
    expect("position", state.active().bytes() as i64, position as i64)
}

impl RecoveredLog {
    /// Answers the bytes of batches that were appended.
    fn apply(
        &mut self,
        record: RecordView<'_>,
        memory: &ReplayMemory<'_>,
        now_ms: i64,
    ) -> Result<u64, Mismatch> {
        let state = &mut self.state;
        match record {
            RecordView::Append {
                base_offset,
                position,
                bytes,
                ..
            } => {
                expect_next(state, base_offset, position)?;
                replay_append(state, bytes, memory, now_ms)?;
                state.durable_end = state.log_end;
                return Ok(bytes.len() as u64);
            }
            RecordView::Roll { base_offset, .. } => {
                expect("base offset", state.log_end, base_offset)?;
                state.roll(self.incarnation, now_ms);
            }
            RecordView::EpochStart {
                epoch,
                start_offset,
                ..
            } => {
                expect("start offset", state.log_end, start_offset)?;
                state.epochs.begin(epoch, start_offset);
            }
            RecordView::LogStart { offset, .. } => {
                if offset > state.log_end {
                    return Err(Mismatch {
                        field: "offset of at most",
                        expected: state.log_end,
                        found: offset,
                    });
                }
                self.dropped_segments
                    .extend(state.advance_log_start(offset).segments);
            }
            RecordView::Compact { swap, .. } => self.replay_swap(swap)?,
            RecordView::TailBlock { bytes, .. } => self.cut = Some(bytes.to_vec()),
            RecordView::Truncate { offset, .. } => self.replay_truncate(offset)?,
            RecordView::Create { .. } | RecordView::Delete { .. } => {}
            RecordView::Extent {
                base_offset,
                position,
                header,
                tail,
                ..
            } => {
                expect_next(state, base_offset, position)?;
                let bytes = replay_extent(state, header, tail, now_ms)?;
                state.durable_end = state.log_end;
                return Ok(bytes);
            }
            RecordView::Release { .. } => {
                return Err(Mismatch {
                    field: "a kind that this version writes",
                    expected: 0,
                    found: 1,
                });
            }
        }
        assert!(self.state.check_invariants());
        Ok(0)
    }

    /// Puts the segments that a compaction had rewritten in their place.
    fn replay_swap(&mut self, swap: &[u8]) -> Result<(), Mismatch> {
        let bad = |field| Mismatch {
            field,
            expected: self.state.log_end,
            found: -1,
        };
        let swap = Swap::decode(swap).map_err(|TooShort| bad("a readable swap in a log to"))?;
        if !self.state.takes(&swap) {
            return Err(bad("a swap of segments that are there in a log to"));
        }
        let come = swap.extents.iter();
        let come = come.map(|extent| Segment::restored(*extent, extent.bytes));
        let dropped = self.state.swap_segments(&swap, come.collect());
        self.dropped_segments.extend(dropped.segments);
        Ok(())
    }

    /// Replaces the state by the one that was journaled with the truncation.
    fn replay_truncate(&mut self, offset: i64) -> Result<(), Mismatch> {
        let missing = Mismatch {
            field: "a TailBlock before Truncate to",
            expected: offset,
            found: -1,
        };
        let cut = self.cut.take().ok_or(missing)?;
        let entry = entry::decode(&mut FieldReader::new(&cut));
        let Ok(entry) = entry else {
            return Err(Mismatch {
                field: "a readable TailBlock before Truncate to",
                expected: offset,
                found: -1,
            });
        };
        expect("log end offset", entry.state.log_end, offset)?;
        let kept = entry.state.active().base_offset();
        let gone = self
            .state
            .segments
            .iter()
            .map(Segment::name)
            .filter(|name| name.base_offset > kept);
        self.dropped_segments.extend(gone);
        self.state = entry.state;
        Ok(())
    }
}

/// Appends a batch that is in the segment, all but the block `tail` that it ends in.
fn replay_extent(
    state: &mut LogState,
    header: &[u8; HEADER_BYTES],
    tail: &[u8],
    now_ms: i64,
) -> Result<u64, Mismatch> {
    let batch = BatchHeader::decode(header).map_err(Mismatch::from)?;
    expect("batch base offset", state.log_end, batch.base_offset)?;
    let end = state.active().bytes() + batch.bytes;
    let incomplete = end - block_floor(end);
    expect("bytes of a tail", incomplete as i64, tail.len() as i64)?;
    if incomplete >= batch.bytes {
        return Err(Mismatch {
            field: "batch bytes of more than",
            expected: incomplete as i64,
            found: batch.bytes as i64,
        });
    }
    state.append_extent(&batch, tail, now_ms);
    Ok(batch.bytes)
}

/// Appends the batches of a record, whose headers carry their final offsets.
fn replay_append(
    state: &mut LogState,
    bytes: &[u8],
    memory: &ReplayMemory<'_>,
    now_ms: i64,
) -> Result<(), Mismatch> {
    let (segment_base, position) = (state.active().base_offset(), state.active().bytes());
    if state.chunks.room(segment_base, position) < bytes.len() {
        let capacity = state
            .chunks
            .next_capacity(position, bytes.len(), memory.chunk_bytes_max);
        // Recovery goes on even beyond the budget: the journal's live part is bounded.
        let charge = memory.budget.try_charge(capacity);
        let chunk = ChunkMemory {
            buffer: AppendBuf::with_capacity(capacity),
            charge,
        };
        state
            .chunks
            .open(chunk, segment_base, position, state.log_end);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let batch = BatchHeader::decode_prefix(rest).map_err(Mismatch::from)?;
        let whole = usize::try_from(batch.bytes)
            .ok()
            .and_then(|bytes| rest.split_at_checked(bytes));
        let too_long = Mismatch {
            field: "batch bytes within",
            expected: rest.len() as i64,
            found: batch.bytes as i64,
        };
        let (whole, after) = whole.ok_or(too_long)?;
        expect("batch base offset", state.log_end, batch.base_offset)?;
        let Some((header, body)) = whole.split_first_chunk::<HEADER_BYTES>() else {
            break;
        };
        state.append(&batch, header, body, now_ms);
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::table::TableHeader;

    const HEADER: TableHeader = TableHeader {
        generation: 1,
        shard: 0,
        log_count: 0,
        body_bytes: 0,
        body_crc: 0,
        replay_from: 10,
        next_incarnation_counter: 4,
        written_ms: 0,
    };

    fn recovery() -> Recovery {
        let table = Table {
            header: HEADER,
            entries: Vec::new(),
        };
        let config = StorageConfig::default();
        Recovery::new(
            table,
            PathBuf::from("journal"),
            &config,
            MemoryBudget::new(1 << 20),
            0,
        )
    }

    /// Applies records from sequence 10 on; answers the logs that are left.
    fn replay(records: &[RecordView<'_>]) -> Result<Vec<u64>, StorageError> {
        let mut recovery = recovery();
        for (at, record) in records.iter().enumerate() {
            recovery.apply(Sequence::from(10 + at as u64), *record)?;
        }
        recovery.check_end(9 + records.len() as u64)?;
        let (logs, ..) = recovery.finish()?;
        Ok(logs.iter().map(|log| log.incarnation).collect())
    }

    const CREATE: RecordView<'_> = RecordView::Create {
        incarnation: 7 << 16,
        topic: [1; 16],
        partition: 0,
    };
    const EPOCH: RecordView<'_> = RecordView::EpochStart {
        incarnation: 7 << 16,
        epoch: 1,
        start_offset: 0,
    };
    const DELETE: RecordView<'_> = RecordView::Delete {
        incarnation: 7 << 16,
    };

    fn is_corruption<T: std::fmt::Debug>(result: &Result<T, StorageError>) -> bool {
        matches!(result, Err(StorageError::Corruption { .. }))
    }

    /// The table was written after the log's deletion, the journal still has its records.
    #[test]
    fn a_record_of_an_unknown_log_is_dropped_only_if_its_delete_follows() {
        assert_eq!(replay(&[EPOCH, EPOCH, DELETE]).expect("replay"), []);
        let result = replay(&[EPOCH]);
        assert!(is_corruption(&result), "{result:?}");
        let result = replay(&[DELETE, EPOCH]);
        assert!(is_corruption(&result), "{result:?}");
    }

    /// A log that was encoded late has applied more than the table's replay-from says.
    #[test]
    fn records_at_or_below_the_applied_sequence_are_skipped() {
        let id = LogId {
            topic: [1; 16],
            partition: 0,
        };
        let mut state = LogState::new(0);
        state.epochs.begin(1, 0);
        let entry = entry::LogEntry {
            id,
            incarnation: 7 << 16,
            applied: 11,
            state,
        };
        let table = Table {
            header: HEADER,
            entries: vec![entry],
        };
        let config = StorageConfig::default();
        let budget = MemoryBudget::new(1 << 20);
        let mut recovery = Recovery::new(table, PathBuf::from("journal"), &config, budget, 0);
        let newer = RecordView::EpochStart {
            incarnation: 7 << 16,
            epoch: 2,
            start_offset: 0,
        };
        for (sequence, record) in [(10, CREATE), (11, EPOCH), (12, newer)] {
            recovery
                .apply(Sequence::from(sequence), record)
                .expect("apply");
        }
        assert_eq!(recovery.report.records_applied, 1);
    }

    #[test]
    fn a_log_created_in_the_journal_takes_its_records() {
        assert_eq!(replay(&[CREATE, EPOCH]).expect("replay"), [7 << 16]);
        assert_eq!(replay(&[CREATE, EPOCH, DELETE]).expect("replay"), []);
    }

    #[test]
    fn a_record_that_does_not_follow_from_the_state_is_corruption() {
        let wrong_offset = RecordView::EpochStart {
            incarnation: 7 << 16,
            epoch: 1,
            start_offset: 5,
        };
        let wrong_position = RecordView::Append {
            incarnation: 7 << 16,
            base_offset: 0,
            position: 9,
            bytes: &[],
        };
        let no_tail_block = RecordView::Truncate {
            incarnation: 7 << 16,
            offset: 0,
        };
        let mut header = [0; HEADER_BYTES];
        header[8..12].copy_from_slice(&9000i32.to_be_bytes());
        header[16] = 2;
        let extent = |base_offset, position, tail| RecordView::Extent {
            incarnation: 7 << 16,
            base_offset,
            position,
            header: &header,
            tail,
        };
        // The batch has 9,012 bytes.
        assert!(replay(&[CREATE, extent(0, 0, &[0; 820])]).is_ok());
        let wrong_extents = [
            extent(1, 0, &[0; 820]),
            extent(0, 1, &[0; 820]),
            extent(0, 0, &[0; 819]),
        ];
        let others = [wrong_offset, wrong_position, no_tail_block];
        for record in others.into_iter().chain(wrong_extents) {
            let result = replay(&[CREATE, record]);
            assert!(is_corruption(&result), "{result:?}");
        }
    }

    /// The newest table is damaged, and the journal begins where that one ended.
    #[test]
    fn a_journal_that_does_not_reach_back_to_the_table_is_corruption() {
        let mut recovery = recovery();
        let result = recovery.apply(Sequence::from(12), CREATE);
        assert!(is_corruption(&result), "{result:?}");
        assert!(is_corruption(&recovery_end(14)));
        assert!(recovery_end(9).is_ok());
    }

    fn recovery_end(last_sequence: u64) -> Result<(), StorageError> {
        recovery().check_end(last_sequence)
    }

    /// An incarnation counter is never given out twice, not even when its log is gone.
    #[test]
    fn replay_raises_the_incarnation_counter() {
        let mut recovery = recovery();
        for (sequence, record) in [(10, CREATE), (11, DELETE)] {
            recovery
                .apply(Sequence::from(sequence), record)
                .expect("apply");
        }
        let (.., next_incarnation_counter) = recovery.finish().expect("finish");
        assert_eq!(next_incarnation_counter, 8);
    }
}
