//! Cutting the beginning of a log: by order (`DeleteRecords`) and by age and size (retention).
//!
//! *Place*: `DeleteRecords`; the broker's periodic sweep calls [`PartitionLog::enforce_retention`].
//! *Invariants*: **I1** only whole segments are dropped, oldest first, never the active one: when
//! all of it has expired it is rolled first. **I2** no segment with records that are not durable yet
//! is dropped. **I3** which segments go is decided by [`judge`] alone, which is also what is told
//! ([`PartitionLog::explain_retention`]). **I4** files go after the `LogStart` record is durable.
//! *Source*: KIP-107; Kafka's `retention.ms`, `retention.bytes`.

use super::retention_rules::{Judgement, LogBounds, SegmentFacts, judge};
use super::state::LogState;
use super::{Log, PartitionLog};
use crate::engine::Removal;
use crate::error::StorageError;
use crate::journal::{RecordView, Sequence};
use crate::segment::{Segment, SegmentName};

/// What a retention sweep did to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionOutcome {
    /// Segments dropped.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The log start offset afterwards.
    pub log_start_offset: i64,
}

/// A segment, and what retention says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRetention {
    /// Offset from which it may hold records.
    pub base_offset: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Greatest timestamp of its first batch, ms; −1: none.
    pub first_timestamp: i64,
    /// Greatest timestamp of its batches, ms; −1: none.
    pub max_timestamp: i64,
    /// Broker's time of the last append, ms.
    pub last_append_ms: i64,
    /// The time that its age is counted from, ms: the smaller of the two above.
    pub age_from_ms: i64,
    /// Whether it goes, why, and when.
    pub judgement: Judgement,
}

impl PartitionLog {
    /// What [`Self::enforce_retention`] would do with each segment at `now_ms`, and why; oldest first.
    pub fn explain_retention(&self, now_ms: i64) -> Vec<SegmentRetention> {
        let config = self.config();
        let state = self.log.state.borrow();
        let judged = judge(&facts(&state), bounds(&state), &config, now_ms);
        let segments = state.segments.iter().zip(judged);
        segments
            .map(|(segment, judgement)| SegmentRetention {
                base_offset: segment.base_offset(),
                bytes: segment.bytes(),
                first_timestamp: segment.extent.first_timestamp,
                max_timestamp: segment.extent.max_timestamp,
                last_append_ms: segment.extent.last_append_ms,
                age_from_ms: segment.extent.retention_time_ms(),
                judgement,
            })
            .collect()
    }

    /// Moves the log start offset up to `offset` (`DeleteRecords`). `None`: it is there already.
    /// Segments wholly below are deleted once the record is durable.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] above the durable end; [`StorageError::Offline`],
    /// [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub fn advance_log_start(&self, offset: i64) -> Result<Option<Sequence>, StorageError> {
        self.log.check_changeable()?;
        let mut state = self.log.state.borrow_mut();
        if offset > state.durable_end {
            let (log_start, log_end) = (state.log_start, state.log_end);
            return Err(StorageError::OffsetOutOfRange {
                offset,
                log_start,
                log_end,
            });
        }
        Ok(self.log.cut_start(&mut state, offset))
    }

    /// Drops what retention by time and by size no longer keeps, and forgets idempotent producers
    /// that were silent for long.
    ///
    /// # Errors
    /// [`StorageError::Offline`], [`StorageError::LogDeleted`], [`StorageError::LogBusy`].
    pub fn enforce_retention(&self, now_ms: i64) -> Result<RetentionOutcome, StorageError> {
        self.log.check_changeable()?;
        let config = self.config();
        let mut state = self.log.state.borrow_mut();
        state
            .producers
            .expire(now_ms - self.log.engine.config.producer_expiration_ms);
        let judged = judge(&facts(&state), bounds(&state), &config, now_ms);
        let drop_count = judged.iter().take_while(|one| one.fate.goes()).count();
        if drop_count == state.segments.len() {
            let rolled = self.log.roll(&mut state, now_ms);
            assert!(rolled.is_some(), "a segment that goes has records");
        }
        let mut outcome = RetentionOutcome {
            log_start_offset: state.log_start,
            ..RetentionOutcome::default()
        };
        if let Some(keep_from) = state.segments.get(drop_count).filter(|_| drop_count > 0) {
            let offset = keep_from.base_offset();
            outcome.segments = drop_count;
            outcome.bytes = state.segments[..drop_count]
                .iter()
                .map(Segment::bytes)
                .sum();
            self.log.cut_start(&mut state, offset);
            outcome.log_start_offset = state.log_start;
        }
        Ok(outcome)
    }
}

/// What the rules see of a log.
fn facts(state: &LogState) -> Vec<SegmentFacts> {
    let ends = state.segments.iter().skip(1).map(Segment::base_offset);
    let ends = ends.chain([state.log_end]);
    let segments = state.segments.iter().zip(ends);
    segments
        .map(|(segment, end_offset)| SegmentFacts {
            end_offset,
            bytes: segment.bytes(),
            age_from_ms: segment.extent.retention_time_ms(),
        })
        .collect()
}

fn bounds(state: &LogState) -> LogBounds {
    LogBounds {
        log_start: state.log_start,
        durable_end: state.durable_end,
    }
}

impl Log {
    /// Advances the log start to `offset`, journals it, and hands dropped files to be removed.
    fn cut_start(&self, state: &mut LogState, offset: i64) -> Option<Sequence> {
        if offset <= state.log_start {
            return None;
        }
        let dropped = state.advance_log_start(offset);
        let record = RecordView::LogStart {
            incarnation: self.incarnation,
            offset,
        };
        let sequence = self.engine.journal.append(record);
        self.engine.remove_dirty(dropped.unwritten_bytes);
        self.engine.release_chunk_bytes(dropped.chunk_bytes);
        if !dropped.segments.is_empty() {
            self.remove_segments(dropped.segments, sequence);
        }
        Some(sequence)
    }

    /// Has the files of `segments` deleted once `sequence` is durable.
    pub(crate) fn remove_segments(&self, segments: Vec<SegmentName>, sequence: Sequence) {
        let Some(log) = self.me.upgrade() else { return };
        self.engine.queue_removal(Removal {
            sequence,
            log,
            segments: Some(segments),
        });
    }
}
