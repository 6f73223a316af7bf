//! Which leader epoch wrote which offsets of a log.
//!
//! *Place*: one per partition log; asked by `OffsetForLeaderEpoch` and by a follower that has to find
//! where it diverged. *Invariants*: **I1** epochs ascend strictly; **I2** start offsets ascend
//! strictly. *Source*: KIP-101, KIP-279.

use crate::codec::{FieldReader, PutField, TooShort};

/// "No epoch" and "no offset" in Kafka's answers.
const UNDEFINED: (i32, i64) = (-1, -1);

/// An epoch and the first offset that it may have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: i32,
    pub(crate) start_offset: i64,
}

/// The epochs of a log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// The epochs, oldest first, with their first offsets.
    pub(crate) fn entries(&self) -> Vec<(i32, i64)> {
        let starts = self.starts.iter();
        starts
            .map(|start| (start.epoch, start.start_offset))
            .collect()
    }

    /// The newest epoch, if any.
    pub(crate) fn latest(&self) -> Option<i32> {
        self.starts.last().map(|start| start.epoch)
    }

    /// Notes that `epoch` begins at `start_offset`. Answers whether that was news: an epoch not
    /// above the latest is not. An epoch that wrote nothing is replaced by its successor.
    pub(crate) fn begin(&mut self, epoch: i32, start_offset: i64) -> bool {
        if self.latest().is_some_and(|latest| epoch <= latest) {
            return false;
        }
        self.starts
            .retain(|start| start.start_offset < start_offset);
        self.starts.push(EpochStart {
            epoch,
            start_offset,
        });
        self.check_invariants();
        true
    }

    /// The greatest epoch at or below `epoch`, and the offset after the last that it (or an earlier
    /// one) wrote; `(-1, -1)` when `epoch` is newer than all or none is known.
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        let above = self.starts.partition_point(|start| start.epoch <= epoch);
        match (
            above.checked_sub(1).and_then(|at| self.starts.get(at)),
            self.starts.get(above),
        ) {
            (Some(floor), Some(next)) => (floor.epoch, next.start_offset),
            (Some(floor), None) if floor.epoch == epoch => (epoch, log_end_offset),
            (None, Some(next)) => (epoch, next.start_offset),
            (Some(_) | None, None) => UNDEFINED,
        }
    }

    /// Forgets what lies at or above the new log end.
    pub(crate) fn truncate_end(&mut self, log_end_offset: i64) {
        self.starts
            .retain(|start| start.start_offset < log_end_offset);
    }

    /// Forgets epochs that ended below the new log start; the one that spans it begins there.
    pub(crate) fn truncate_start(&mut self, log_start_offset: i64) {
        let above = self
            .starts
            .partition_point(|start| start.start_offset <= log_start_offset);
        if let Some(spanning) = above.checked_sub(1) {
            self.starts.drain(..spanning);
            self.starts[0].start_offset = log_start_offset;
        }
        self.check_invariants();
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_count(self.starts.len());
        for start in &self.starts {
            to.put_i32(start.epoch);
            to.put_i64(start.start_offset);
        }
    }

    pub(crate) fn decode(from: &mut FieldReader<'_>) -> Result<Self, TooShort> {
        let count = from.count(12)?;
        let starts = (0..count)
            .map(|_| {
                Ok(EpochStart {
                    epoch: from.i32()?,
                    start_offset: from.i64()?,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(LeaderEpochs { starts })
    }

    /// Whether I1 and I2 hold; asserted after changes, and asked of what was read from disk.
    pub(crate) fn is_ordered(&self) -> bool {
        self.starts
            .is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset)
    }

    fn check_invariants(&self) {
        assert!(
            self.is_ordered(),
            "leader epochs out of order: {:?}",
            self.starts
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for &(epoch, start_offset) in starts {
            epochs.begin(epoch, start_offset);
        }
        epochs
    }

    #[test]
    fn end_offset_is_where_the_next_epoch_begins() {
        let epochs = epochs(&[(2, 10), (4, 20), (5, 35)]);
        let check = |epoch, expected| assert_eq!(epochs.end_offset_for(epoch, 50), expected);
        check(1, (1, 10));
        check(2, (2, 20));
        check(3, (2, 20));
        check(4, (4, 35));
        check(5, (5, 50));
        check(6, UNDEFINED);
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 9), UNDEFINED);
    }

    #[test]
    fn an_epoch_without_records_is_replaced() {
        assert_eq!(epochs(&[(1, 0), (2, 7), (3, 7)]), epochs(&[(1, 0), (3, 7)]));
        assert!(!epochs(&[(3, 7)]).begin(3, 9));
    }

    #[test]
    fn truncation_from_both_ends() {
        let mut cut = epochs(&[(1, 0), (2, 10), (3, 20)]);
        cut.truncate_end(20);
        assert_eq!(cut, epochs(&[(1, 0), (2, 10)]));
        cut.truncate_start(12);
        assert_eq!(cut, epochs(&[(2, 12)]));
    }

    #[test]
    fn codec_round_trip() {
        let epochs = epochs(&[(1, 0), (2, 10), (3, 20)]);
        let mut bytes = Vec::new();
        epochs.encode(&mut bytes);
        assert_eq!(
            LeaderEpochs::decode(&mut FieldReader::new(&bytes)),
            Ok(epochs)
        );
        assert!(LeaderEpochs::decode(&mut FieldReader::new(&bytes[..9])).is_err());
    }
}
