//! Cutting the beginning of a log: by order (`DeleteRecords`) and by age and size (retention).
//!
//! *Place*: `DeleteRecords`; the broker's periodic sweep calls [`PartitionLog::enforce_retention`].
//! *Invariants*: **I1** only whole segments are dropped, oldest first, never the active one: when
//! all of it has expired it is rolled first. **I2** no segment with records that are not durable yet
//! is dropped. **I3** a segment's age is judged by the smaller of its records' greatest timestamp and
//! the time of its last append: a timestamp in the future cannot pin the log. **I4** files go after
//! the `LogStart` record is durable. *Source*: KIP-107; Kafka's `retention.ms`, `retention.bytes`.

use super::state::LogState;
use super::{Log, PartitionLog};
use crate::config::LogConfig;
use crate::engine::Removal;
use crate::error::StorageError;
use crate::journal::{RecordView, Sequence};
use crate::segment::Segment;

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

impl PartitionLog {
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
        let has_all_expired = state
            .segments
            .iter()
            .all(|segment| has_expired(&config, segment.extent.retention_time_ms(), now_ms));
        if has_all_expired && state.active().bytes() > 0 && state.durable_end == state.log_end {
            self.log.roll(&mut state, now_ms);
        }
        let drop_count = droppable(&state, &config, now_ms);
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

fn has_expired(config: &LogConfig, time_ms: i64, now_ms: i64) -> bool {
    config
        .retention_ms
        .is_some_and(|retention_ms| now_ms.saturating_sub(time_ms) > retention_ms)
}

/// How many of the oldest segments retention no longer keeps.
fn droppable(state: &LogState, config: &LogConfig, now_ms: i64) -> usize {
    let mut excess = config
        .retention_bytes
        .map_or(0, |keep| state.size_bytes().saturating_sub(keep));
    let mut count = 0;
    for (segment, next) in state.segments.iter().zip(state.segments.iter().skip(1)) {
        let is_excess = excess > 0 && excess >= segment.bytes();
        let is_below_start = next.base_offset() <= state.log_start;
        let is_old = has_expired(config, segment.extent.retention_time_ms(), now_ms);
        let is_durable = next.base_offset() <= state.durable_end;
        if !is_durable || !(is_excess || is_old || is_below_start) {
            break;
        }
        excess = excess.saturating_sub(segment.bytes());
        count += 1;
    }
    count
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
    pub(super) fn remove_segments(&self, segments: Vec<i64>, sequence: Sequence) {
        let Some(log) = self.me.upgrade() else { return };
        self.engine.queue_removal(Removal {
            sequence,
            log,
            segments: Some(segments),
        });
    }
}
