//! Which segments retention no longer keeps, and why each of the others is still here.
//!
//! *Place*: pure; [`super::PartitionLog::enforce_retention`] deletes by it and
//! [`super::PartitionLog::explain_retention`] tells it, so that they cannot disagree.
//! *Invariants*: **I1** what goes is a prefix of the log. **I2** a segment's age is counted from the smaller
//! of its records' greatest timestamp and the time of its last append: a timestamp in the future cannot pin
//! the log. **I3** the active segment goes by age alone, and only with all before it (it is rolled first);
//! a limit by size would take what was written last. *Source*: Kafka's `retention.ms`, `retention.bytes`.

use crate::config::LogConfig;

/// A segment as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    /// Offset at which the next segment begins, or the log ends.
    pub(crate) end_offset: i64,
    /// Bytes of its batches.
    pub(crate) bytes: u64,
    /// The time that its age is counted from, ms.
    pub(crate) age_from_ms: i64,
}

/// Where the log begins for readers, and how far it is durable (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogBounds {
    pub(crate) log_start: i64,
    pub(crate) durable_end: i64,
}

/// What becomes of a segment at the next sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes: its records were deleted by order (`DeleteRecords`).
    GoesBelowLogStart,
    /// It goes: it is older than `retention.ms`.
    GoesByAge,
    /// It goes: the log is larger than `retention.bytes` by all of it.
    GoesBySize,
    /// It stays: some of its records are not durable yet.
    StaysNotDurable,
    /// It stays: a segment before it does, and a log has no holes.
    StaysBehindOlder,
    /// It stays: it takes the appends, and its records are not old enough.
    StaysActive,
    /// It stays: neither limit is reached.
    StaysWithinLimits,
    /// It stays: no limit applies to this log.
    StaysWithoutLimits,
}

impl Fate {
    /// Whether the segment goes at the next sweep.
    pub fn goes(self) -> bool {
        match self {
            Self::GoesBelowLogStart | Self::GoesByAge | Self::GoesBySize => true,
            Self::StaysNotDurable
            | Self::StaysBehindOlder
            | Self::StaysActive
            | Self::StaysWithinLimits
            | Self::StaysWithoutLimits => false,
        }
    }
}

/// What retention says of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it.
    pub fate: Fate,
    /// First moment, in ms, at which it goes by age, if nothing is appended to it: it and all before it
    /// are then older than `retention.ms`. `None`: never.
    pub goes_by_age_at_ms: Option<i64>,
    /// Bytes that must be appended until the limit by size takes it; 0 when it does. `None`: never, or not
    /// while it is active.
    pub goes_by_size_after_bytes: Option<u64>,
}

/// Judges all segments of a log, oldest first; the last one is active.
pub(crate) fn judge(
    segments: &[SegmentFacts],
    bounds: LogBounds,
    config: &LogConfig,
    now_ms: i64,
) -> Vec<Judgement> {
    let size: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut judgements = Vec::with_capacity(segments.len());
    let (mut through, mut all_go) = (0_u64, true);
    let mut youngest_ms = i64::MIN;
    for (index, segment) in segments.iter().enumerate() {
        let is_active = index + 1 == segments.len();
        through = through.saturating_add(segment.bytes);
        youngest_ms = youngest_ms.max(segment.age_from_ms);
        let after_bytes = config
            .retention_bytes
            .filter(|_| !is_active)
            .map(|keep| keep.saturating_add(through).saturating_sub(size));
        let is_old = expires_at(config, segment.age_from_ms).is_some_and(|at_ms| at_ms <= now_ms);
        let fate = if segment.end_offset > bounds.durable_end {
            Fate::StaysNotDurable
        } else if is_active {
            // One without records has nothing to give.
            active_fate(is_old && segment.bytes > 0)
        } else if segment.end_offset <= bounds.log_start {
            Fate::GoesBelowLogStart
        } else if is_old {
            Fate::GoesByAge
        } else if after_bytes == Some(0) {
            Fate::GoesBySize
        } else {
            fate_without_cause(config)
        };
        let fate = if fate.goes() && !all_go {
            Fate::StaysBehindOlder
        } else {
            fate
        };
        all_go &= fate.goes();
        judgements.push(Judgement {
            fate,
            goes_by_age_at_ms: expires_at(config, youngest_ms),
            goes_by_size_after_bytes: after_bytes,
        });
    }
    judgements
}

/// First moment at which something of that time is older than `retention.ms`.
fn expires_at(config: &LogConfig, age_from_ms: i64) -> Option<i64> {
    let retention_ms = config.retention_ms?;
    age_from_ms.checked_add(retention_ms)?.checked_add(1)
}

fn active_fate(goes: bool) -> Fate {
    if goes {
        Fate::GoesByAge
    } else {
        Fate::StaysActive
    }
}

fn fate_without_cause(config: &LogConfig) -> Fate {
    match (config.retention_ms, config.retention_bytes) {
        (None, None) => Fate::StaysWithoutLimits,
        (_, _) => Fate::StaysWithinLimits,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(retention_ms: Option<i64>, retention_bytes: Option<u64>) -> LogConfig {
        LogConfig {
            retention_ms,
            retention_bytes,
            ..LogConfig::default()
        }
    }

    /// Segments of 10 offsets each, given as (bytes, age from).
    fn segments(those: &[(u64, i64)]) -> Vec<SegmentFacts> {
        let numbered = (0_i64..).zip(those);
        numbered
            .map(|(number, (bytes, age_from_ms))| SegmentFacts {
                end_offset: number * 10 + 10,
                bytes: *bytes,
                age_from_ms: *age_from_ms,
            })
            .collect()
    }

    const DURABLE: LogBounds = LogBounds {
        log_start: 0,
        durable_end: i64::MAX,
    };

    fn fates(
        those: &[(u64, i64)],
        bounds: LogBounds,
        config: &LogConfig,
        now_ms: i64,
    ) -> Vec<Fate> {
        let judged = judge(&segments(those), bounds, config, now_ms);
        judged.into_iter().map(|one| one.fate).collect()
    }

    #[test]
    fn a_segment_goes_by_the_first_limit_that_it_reaches() {
        use Fate::{
            GoesBelowLogStart, GoesByAge, GoesBySize, StaysActive, StaysBehindOlder,
            StaysNotDurable, StaysWithinLimits, StaysWithoutLimits,
        };
        let log = [(100, 0), (100, 50), (100, 10), (5, 60)];
        let by_age = config(Some(30), None);
        assert_eq!(
            fates(&log, DURABLE, &by_age, 30),
            [
                StaysWithinLimits,
                StaysWithinLimits,
                StaysWithinLimits,
                StaysActive
            ]
        );
        assert_eq!(
            fates(&log, DURABLE, &by_age, 31),
            [GoesByAge, StaysWithinLimits, StaysWithinLimits, StaysActive]
        );
        // The third is old enough and waits for the second.
        assert_eq!(
            fates(&log, DURABLE, &by_age, 60),
            [GoesByAge, StaysWithinLimits, StaysBehindOlder, StaysActive]
        );
        assert_eq!(fates(&log, DURABLE, &by_age, 91), [GoesByAge; 4]);
        // 305 bytes: the first goes when 205 are enough.
        let by_size = |keep| fates(&log, DURABLE, &config(None, Some(keep)), i64::MAX);
        assert_eq!(by_size(206)[0], StaysWithinLimits);
        assert_eq!(by_size(205)[..2], [GoesBySize, StaysWithinLimits]);
        assert_eq!(
            by_size(0),
            [GoesBySize, GoesBySize, GoesBySize, StaysActive]
        );
        let both = config(Some(30), Some(105));
        assert_eq!(
            fates(&log, DURABLE, &both, 31),
            [GoesByAge, GoesBySize, StaysWithinLimits, StaysActive]
        );
        let none = config(None, None);
        assert_eq!(
            fates(&log, DURABLE, &none, i64::MAX)[2..],
            [StaysWithoutLimits, StaysActive]
        );
        let deleted = LogBounds {
            log_start: 15,
            durable_end: 40,
        };
        assert_eq!(
            fates(&log, deleted, &none, 0)[..2],
            [GoesBelowLogStart, StaysWithoutLimits]
        );
        let early = LogBounds {
            log_start: 0,
            durable_end: 35,
        };
        assert_eq!(
            fates(&log, early, &by_age, 91)[2..],
            [GoesByAge, StaysNotDurable]
        );
    }

    fn any_log() -> impl Strategy<Value = (Vec<SegmentFacts>, LogBounds, LogConfig, i64)> {
        let segment = (1_u64..50, 0_i64..100);
        let limits = (prop::option::of(0_i64..100), prop::option::of(0_u64..200));
        let log = prop::collection::vec(segment, 1..8);
        (log, limits, 0_i64..90, 0_i64..90, 0_i64..250).prop_map(
            |(log, (ms, bytes), start, durable, now_ms)| {
                let bounds = LogBounds {
                    log_start: start.min(durable),
                    durable_end: durable,
                };
                (segments(&log), bounds, config(ms, bytes), now_ms)
            },
        )
    }

    proptest! {
        #[test]
        fn what_goes_is_a_prefix_and_the_active_segment_only_by_age(
            (log, bounds, config, now_ms) in any_log()
        ) {
            let judged = judge(&log, bounds, &config, now_ms);
            prop_assert_eq!(judged.len(), log.len());
            let goes = judged.iter().take_while(|one| one.fate.goes()).count();
            prop_assert!(judged[goes..].iter().all(|one| !one.fate.goes()));
            let last = judged[log.len() - 1].fate;
            prop_assert!(!last.goes() || last == Fate::GoesByAge);
            for (one, segment) in judged.iter().zip(&log).take(goes) {
                prop_assert!(segment.end_offset <= bounds.durable_end, "{:?}", one);
            }
        }

        /// What is told of the future comes true, and not a millisecond or a byte before.
        #[test]
        fn a_segment_goes_when_it_was_said_to(
            (log, _, config, now_ms) in any_log()
        ) {
            let fate = |log: &[SegmentFacts], config: &LogConfig, now_ms, index: usize| {
                judge(log, DURABLE, config, now_ms)[index].fate
            };
            for (index, one) in judge(&log, DURABLE, &config, now_ms).iter().enumerate() {
                // By age alone, the limit by size would come in between.
                let by_age = LogConfig { retention_bytes: None, ..config.clone() };
                match one.goes_by_age_at_ms {
                    Some(at_ms) => {
                        prop_assert_eq!(fate(&log, &by_age, at_ms, index), Fate::GoesByAge);
                        prop_assert!(!fate(&log, &by_age, at_ms - 1, index).goes());
                    }
                    None => prop_assert!(!fate(&log, &by_age, i64::MAX, index).goes()),
                }
                let by_size = LogConfig { retention_ms: None, ..config.clone() };
                let grown = |bytes: u64| {
                    let mut log = log.clone();
                    log.last_mut().unwrap().bytes += bytes;
                    fate(&log, &by_size, now_ms, index)
                };
                match one.goes_by_size_after_bytes {
                    Some(bytes) => {
                        prop_assert_eq!(grown(bytes), Fate::GoesBySize);
                        prop_assert!(bytes == 0 || !grown(bytes - 1).goes());
                    }
                    None => prop_assert!(!grown(1 << 40).goes()),
                }
            }
        }
    }
}
