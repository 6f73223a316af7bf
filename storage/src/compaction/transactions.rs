//! What compaction has to know of transactions: which data was aborted, and which markers have
//! outlived the data that they decided about.
//!
//! *Place*: [`Outcomes`] are gathered ahead of a round that meets transactional batches; one
//! [`Markers`] follows each pass over the log from its beginning. *Source*: KIP-98; Kafka's cleaner,
//! `CleanedTransactionMetadata`.

use std::collections::{HashMap, HashSet};

use crate::segment::batch_header::BatchHeader;

/// What a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Abort,
    Commit,
    /// Of a kind that says nothing about a transaction.
    Other,
}

impl Marker {
    /// Reads the key of a control record: version (2), type (2).
    pub(crate) fn from_key(key: Option<&[u8]>) -> Self {
        match key {
            Some([_, _, 0, 0, ..]) => Marker::Abort,
            Some([_, _, 0, 1, ..]) => Marker::Commit,
            Some(_) | None => Marker::Other,
        }
    }
}

/// The aborted transactions of a part of a log.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// First offset of each producer's open transaction.
    open: HashMap<i64, i64>,
    /// Producer, first offset, offset of the marker; ascending by the last.
    aborted: Vec<(i64, i64, i64)>,
}

impl Outcomes {
    /// Notes the next batch; `marker`: what it says if it is a control batch.
    pub(crate) fn note(&mut self, batch: &BatchHeader, marker: Option<Marker>) {
        match marker {
            None if batch.is_transactional() => {
                self.open
                    .entry(batch.producer_id)
                    .or_insert(batch.base_offset);
            }
            None | Some(Marker::Other) => {}
            Some(Marker::Commit) => {
                self.open.remove(&batch.producer_id);
            }
            Some(Marker::Abort) => {
                if let Some(first) = self.open.remove(&batch.producer_id) {
                    self.aborted
                        .push((batch.producer_id, first, batch.base_offset));
                }
            }
        }
    }

    /// Whether a batch belongs to a transaction that was aborted.
    pub(crate) fn is_aborted(&self, batch: &BatchHeader) -> bool {
        if !batch.is_transactional() || batch.is_control() {
            return false;
        }
        // Markers below the batch decided about others.
        let above = self
            .aborted
            .partition_point(|(_, _, marker)| *marker < batch.base_offset);
        self.aborted[above..].iter().any(|(producer, first, _)| {
            *producer == batch.producer_id && *first <= batch.base_offset
        })
    }
}

/// Follows a pass over the log, to tell which markers have no data left.
#[derive(Debug, Default)]
pub(crate) struct Markers {
    /// Producers of transactional batches met since their last marker.
    with_data: HashSet<i64>,
}

impl Markers {
    /// Notes a batch of data, whether or not it is dropped in this pass: its marker stays as long.
    pub(crate) fn note_data(&mut self, batch: &BatchHeader) {
        if batch.is_transactional() {
            self.with_data.insert(batch.producer_id);
        }
    }

    /// Whether nothing is left of what `marker` decided about; `None`: the batch has lost its record.
    pub(crate) fn is_spent(&mut self, batch: &BatchHeader, marker: Option<Marker>) -> bool {
        match marker {
            None => true,
            Some(Marker::Abort | Marker::Commit) => !self.with_data.remove(&batch.producer_id),
            Some(Marker::Other) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;

    fn batch(producer_id: i64, base_offset: i64, attributes: i16) -> BatchHeader {
        BatchHeader {
            base_offset,
            bytes: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta: 1,
            base_timestamp: 5,
            max_timestamp: 5,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 2,
        }
    }

    fn data(producer_id: i64, base_offset: i64) -> BatchHeader {
        batch(producer_id, base_offset, TRANSACTIONAL)
    }

    fn control(producer_id: i64, base_offset: i64) -> BatchHeader {
        batch(producer_id, base_offset, TRANSACTIONAL | CONTROL)
    }

    #[test]
    fn interleaved_transactions_are_told_apart() {
        let mut outcomes = Outcomes::default();
        outcomes.note(&data(1, 0), None);
        outcomes.note(&data(2, 2), None);
        outcomes.note(&batch(3, 4, 0), None);
        outcomes.note(&control(1, 6), Some(Marker::Abort));
        outcomes.note(&data(1, 7), None);
        outcomes.note(&control(2, 9), Some(Marker::Abort));
        outcomes.note(&control(1, 10), Some(Marker::Commit));
        let aborted: Vec<i64> = [
            data(1, 0),
            data(2, 2),
            batch(3, 4, 0),
            data(1, 7),
            data(2, 12),
        ]
        .iter()
        .filter(|batch| outcomes.is_aborted(batch))
        .map(|batch| batch.base_offset)
        .collect();
        assert_eq!(aborted, [0, 2]);
        assert!(!outcomes.is_aborted(&control(1, 6)));
    }

    #[test]
    fn a_marker_is_spent_when_its_data_is_gone() {
        let mut markers = Markers::default();
        markers.note_data(&data(1, 0));
        assert!(!markers.is_spent(&control(1, 2), Some(Marker::Commit)));
        assert!(markers.is_spent(&control(1, 3), Some(Marker::Commit)));
        assert!(markers.is_spent(&control(2, 4), Some(Marker::Abort)));
        assert!(!markers.is_spent(&control(2, 5), Some(Marker::Other)));
        assert!(markers.is_spent(&control(2, 6), None));
    }

    #[test]
    fn control_keys_are_read() {
        assert_eq!(Marker::from_key(Some(&[0, 0, 0, 0])), Marker::Abort);
        assert_eq!(Marker::from_key(Some(&[0, 0, 0, 1])), Marker::Commit);
        assert_eq!(Marker::from_key(Some(&[0, 0, 0, 4])), Marker::Other);
        assert_eq!(Marker::from_key(Some(&[0])), Marker::Other);
        assert_eq!(Marker::from_key(None), Marker::Other);
    }
}
