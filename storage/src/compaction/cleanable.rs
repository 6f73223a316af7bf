//! How much of a log is dirty, and whether that is worth a cleaning round.
//!
//! *Place*: asked for every compacted log before each round; pure. *Invariants*: **I1** never the active
//! segment, nothing that is not stable (replicated, durable, its transaction decided), whole segments
//! only. *Source*: Kafka's `LogCleanerManager`, `cleanableOffsets`, `maxCompactionDelay` (KIP-58,
//! KIP-354).

use crate::config::CompactionConfig;
use crate::partition_log::state::LogState;
use crate::segment::batch_header::NONE;

/// The part of a log that a round would clean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cleanable {
    /// Below this offset no key has two records.
    pub(crate) first_dirty: i64,
    /// Base offset of the first segment that is left alone.
    pub(crate) upto: i64,
    /// Bytes of segments below the first dirty offset.
    pub(crate) clean_bytes: u64,
    /// Bytes of segments with something dirty.
    pub(crate) dirty_bytes: u64,
    /// Some record has been dirty for longer than `max.compaction.lag.ms`.
    pub(crate) is_overdue: bool,
}

impl Cleanable {
    /// What part of the log is dirty, 0 to 1.
    pub(crate) fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes) as f64
    }

    /// Whether the log is to be cleaned now.
    pub(crate) fn is_due(&self, config: &CompactionConfig) -> bool {
        self.is_overdue || self.dirty_ratio() > config.min_cleanable_dirty_ratio
    }
}

/// What can be cleaned of a log whose records below `stable_end` are there for good. `None`: nothing.
pub(crate) fn cleanable(
    state: &LogState,
    config: &CompactionConfig,
    stable_end: i64,
    now_ms: i64,
) -> Option<Cleanable> {
    let open = state.producers.first_open_transaction();
    let stable_end = stable_end
        .min(state.durable_end)
        .min(open.unwrap_or(i64::MAX));
    let first_dirty = state.cleaned_to.max(state.log_start);
    let mut found = Cleanable {
        first_dirty,
        upto: first_dirty,
        clean_bytes: 0,
        dirty_bytes: 0,
        is_overdue: false,
    };
    let sealed = state.segments.iter().zip(state.segments.iter().skip(1));
    for (segment, next) in sealed {
        let extent = &segment.extent;
        if next.base_offset() <= first_dirty {
            found.clean_bytes += extent.bytes;
            continue;
        }
        let is_young = config.min_compaction_lag_ms > 0
            && extent.retention_time_ms() > now_ms.saturating_sub(config.min_compaction_lag_ms);
        if next.base_offset() > stable_end || is_young {
            break;
        }
        let first = extent.first_timestamp;
        found.is_overdue |=
            first > NONE && first < now_ms.saturating_sub(config.max_compaction_lag_ms);
        found.dirty_bytes += extent.bytes;
        found.upto = next.base_offset();
    }
    (found.dirty_bytes > 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;

    const CONFIG: CompactionConfig = CompactionConfig {
        min_cleanable_dirty_ratio: 0.5,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: 1000,
    };

    /// Segments of 100 bytes and ten records; segment n was written at time 1,000 n.
    fn state() -> LogState {
        let mut state = LogState::new(0);
        let segment = |n: i64| {
            let mut extent = Segment::new(n * 10, n * 1000).extent;
            extent.bytes = if n == 4 { 0 } else { 100 };
            (extent.max_timestamp, extent.first_timestamp) = (n * 1000, n * 1000);
            Segment::restored(extent, extent.bytes)
        };
        state.segments = (0..5).map(segment).collect();
        (state.log_end, state.durable_end) = (40, 40);
        state
    }

    #[test]
    fn all_but_the_active_segment_is_dirty_at_first() {
        let found = cleanable(&state(), &CONFIG, 40, 10_000).unwrap();
        assert_eq!((found.first_dirty, found.upto), (0, 40));
        assert_eq!((found.clean_bytes, found.dirty_bytes), (0, 400));
        assert!(found.is_due(&CONFIG));
    }

    #[test]
    fn the_ratio_decides_unless_the_lag_is_over() {
        let mut state = state();
        state.cleaned_to = 20;
        let found = cleanable(&state, &CONFIG, 40, 10_000).unwrap();
        assert_eq!((found.clean_bytes, found.dirty_bytes), (200, 200));
        assert!(!found.is_due(&CONFIG));
        let hurried = CompactionConfig {
            max_compaction_lag_ms: 7_999,
            ..CONFIG
        };
        let found = cleanable(&state, &hurried, 40, 10_000).unwrap();
        assert!(found.is_due(&hurried), "segment 2 is older than the lag");
        state.cleaned_to = 40;
        assert_eq!(cleanable(&state, &hurried, 40, 10_000), None);
    }

    #[test]
    fn what_is_not_stable_or_too_young_is_left_alone() {
        let upto = |stable_end, lag| {
            let config = CompactionConfig {
                min_compaction_lag_ms: lag,
                ..CONFIG
            };
            cleanable(&state(), &config, stable_end, 4_000).map(|found| found.upto)
        };
        assert_eq!(upto(39, 0), Some(30));
        assert_eq!(upto(9, 0), None);
        assert_eq!(upto(40, 1_500), Some(30));
        assert_eq!(upto(40, 4_001), None);
    }
}
