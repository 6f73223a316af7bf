//! What a log knows of its idempotent producers: their epochs and their newest batches, to tell a
//! new batch from a duplicate and from one out of order.
//!
//! *Place*: one per partition log, asked before an append and told by it (and by replay, which must
//! do the same). *Invariants*: **I1** a producer's batches are of its current epoch, at most
//! [`BATCHES_MAX`], in append order. *Limits*: producers silent for
//! `producer_expiration_ms` are forgotten. *Source*: KIP-98, KIP-360; a client keeps at most five
//! requests in flight, so five batches are enough to recognise any retry.

use std::collections::HashMap;

use crate::codec::{FieldReader, PutField, TooShort};
use crate::segment::batch_header::{BatchHeader, NONE};

/// Newest batches remembered of each producer.
pub(crate) const BATCHES_MAX: usize = 5;
/// Bytes of the smallest encoded producer.
const PRODUCER_BYTES_MIN: usize = 31;

/// What a log says to a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// The next batch of this producer (or its first one here).
    New,
    /// The batch is in the log already; answer with these and append nothing.
    Duplicate {
        /// Offset of the original's first record.
        base_offset: i64,
        /// Offset of the original's last record, inclusive.
        last_offset: i64,
        /// The original's greatest timestamp, ms.
        timestamp: i64,
    },
    /// A batch is missing in between, or this one is too old to be recognised.
    OutOfOrder {
        /// The sequence that should come next.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// A newer instance of this producer has written here.
    StaleEpoch {
        /// Its epoch.
        current: i16,
    },
}

/// What a log tells of one of its producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSummary {
    /// Its id.
    pub producer_id: i64,
    /// Its current epoch.
    pub epoch: i16,
    /// Sequence of the last record of its current epoch; −1: none.
    pub last_sequence: i32,
    /// Greatest timestamp that it wrote, ms; −1: none.
    pub last_timestamp: i64,
}

/// The last that a producer wrote into a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastWrite {
    /// A batch of records.
    Data {
        /// Offset of its last record.
        last_offset: i64,
    },
    /// Of this epoch nothing but transaction markers.
    Marker {
        /// The epoch.
        epoch: i16,
    },
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerBatch {
    first_sequence: i32,
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Epoch of the transaction coordinator that wrote the last control batch; −1: none.
    coordinator_epoch: i32,
    /// First offset of the transaction that is open; −1: none.
    transaction_first_offset: i64,
    last_timestamp: i64,
    batches: Batches,
}

/// Up to [`BATCHES_MAX`] batches, oldest first, without an allocation of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batches {
    count: usize,
    kept: [ProducerBatch; BATCHES_MAX],
}

const NO_BATCH: ProducerBatch = ProducerBatch {
    first_sequence: -1,
    last_sequence: -1,
    last_offset: -1,
    offset_delta: 0,
    timestamp: NONE,
};

impl Batches {
    const EMPTY: Batches = Batches {
        count: 0,
        kept: [NO_BATCH; BATCHES_MAX],
    };

    fn as_slice(&self) -> &[ProducerBatch] {
        &self.kept[..self.count]
    }

    fn push(&mut self, batch: ProducerBatch) {
        if self.count == BATCHES_MAX {
            self.kept.rotate_left(1);
            self.count -= 1;
        }
        self.kept[self.count] = batch;
        self.count += 1;
    }
}

/// The producers of one log. Empty for most logs: then it owns no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Every producer, by ascending id.
    pub(crate) fn summaries(&self) -> Vec<ProducerSummary> {
        let summary = |(id, producer): (&i64, &Producer)| ProducerSummary {
            producer_id: *id,
            epoch: producer.epoch,
            last_sequence: producer
                .batches
                .as_slice()
                .last()
                .map_or(-1, |batch| batch.last_sequence),
            last_timestamp: producer.last_timestamp,
        };
        let mut summaries: Vec<_> = self.by_id.iter().map(summary).collect();
        summaries.sort_unstable_by_key(|producer| producer.producer_id);
        summaries
    }

    /// What to do with a batch of `producer_id` whose records have these sequences (inclusive).
    pub(crate) fn check(
        &self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        last_sequence: i32,
    ) -> SequenceCheck {
        let Some(producer) = self.by_id.get(&producer_id) else {
            return SequenceCheck::New;
        };
        if epoch < producer.epoch {
            return SequenceCheck::StaleEpoch {
                current: producer.epoch,
            };
        }
        let batches = producer.batches.as_slice();
        if epoch > producer.epoch {
            return in_order(0, first_sequence);
        }
        let same = |batch: &&ProducerBatch| {
            batch.first_sequence == first_sequence && batch.last_sequence == last_sequence
        };
        if let Some(batch) = batches.iter().rev().find(same) {
            return SequenceCheck::Duplicate {
                base_offset: batch.last_offset - i64::from(batch.offset_delta),
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            };
        }
        match batches.last() {
            // The epoch is known from a control batch only: any first sequence may follow.
            None => SequenceCheck::New,
            Some(last) => in_order(next_sequence(last.last_sequence), first_sequence),
        }
    }

    /// Notes an appended batch. Batches without a producer id change nothing.
    pub(crate) fn note(&mut self, batch: &BatchHeader) {
        if batch.producer_id == NONE {
            return;
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert(Producer {
            epoch: batch.producer_epoch,
            coordinator_epoch: -1,
            transaction_first_offset: NONE,
            last_timestamp: NONE,
            batches: Batches::EMPTY,
        });
        if batch.producer_epoch > producer.epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches = Batches::EMPTY;
        }
        producer.last_timestamp = producer.last_timestamp.max(batch.max_timestamp);
        if batch.is_control() {
            producer.transaction_first_offset = NONE;
            return;
        }
        if batch.is_transactional() && producer.transaction_first_offset == NONE {
            producer.transaction_first_offset = batch.base_offset;
        }
        producer.batches.push(ProducerBatch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
    }

    /// First offset of the oldest transaction that is open.
    pub(crate) fn first_open_transaction(&self) -> Option<i64> {
        let open = self
            .by_id
            .values()
            .map(|producer| producer.transaction_first_offset);
        open.filter(|offset| *offset != NONE).min()
    }

    /// For each producer what is the last that it wrote: compaction has to keep it.
    pub(crate) fn last_writes(&self) -> HashMap<i64, LastWrite> {
        let last_write = |(id, producer): (&i64, &Producer)| {
            let batch = producer.batches.as_slice().last();
            let write = match batch {
                Some(batch) => LastWrite::Data {
                    last_offset: batch.last_offset,
                },
                None => LastWrite::Marker {
                    epoch: producer.epoch,
                },
            };
            (*id, write)
        };
        self.by_id.iter().map(last_write).collect()
    }

    /// Forgets producers without an open transaction that wrote nothing since `before_ms`.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction_first_offset != NONE || producer.last_timestamp >= before_ms
        });
        if self.by_id.is_empty() {
            self.by_id = HashMap::new();
        }
    }

    pub(crate) fn encode(&self, to: &mut Vec<u8>) {
        to.put_count(self.by_id.len());
        for (id, producer) in &self.by_id {
            to.put_i64(*id);
            to.put_i16(producer.epoch);
            to.put_i32(producer.coordinator_epoch);
            to.put_i64(producer.transaction_first_offset);
            to.put_i64(producer.last_timestamp);
            to.put_u8(producer.batches.count as u8);
            for batch in producer.batches.as_slice() {
                to.put_i32(batch.first_sequence);
                to.put_i32(batch.last_sequence);
                to.put_i64(batch.last_offset);
                to.put_i32(batch.offset_delta);
                to.put_i64(batch.timestamp);
            }
        }
    }

    pub(crate) fn decode(from: &mut FieldReader<'_>) -> Result<Self, TooShort> {
        let count = from.count(PRODUCER_BYTES_MIN)?;
        let mut by_id = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = from.i64()?;
            by_id.insert(id, decode_producer(from)?);
        }
        Ok(Producers { by_id })
    }
}

fn decode_producer(from: &mut FieldReader<'_>) -> Result<Producer, TooShort> {
    let mut producer = Producer {
        epoch: from.i16()?,
        coordinator_epoch: from.i32()?,
        transaction_first_offset: from.i64()?,
        last_timestamp: from.i64()?,
        batches: Batches::EMPTY,
    };
    for _ in 0..from.u8()? {
        producer.batches.push(ProducerBatch {
            first_sequence: from.i32()?,
            last_sequence: from.i32()?,
            last_offset: from.i64()?,
            offset_delta: from.i32()?,
            timestamp: from.i64()?,
        });
    }
    Ok(producer)
}

fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX {
        0
    } else {
        sequence + 1
    }
}

fn in_order(expected: i32, found: i32) -> SequenceCheck {
    if expected == found {
        SequenceCheck::New
    } else {
        SequenceCheck::OutOfOrder { expected, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(
        producer_epoch: i16,
        base_sequence: i32,
        base_offset: i64,
        records: i32,
    ) -> BatchHeader {
        BatchHeader {
            base_offset,
            bytes: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 5,
            max_timestamp: 5,
            producer_id: 1,
            producer_epoch,
            base_sequence,
            record_count: records,
        }
    }

    fn producers(batches: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for batch in batches {
            producers.note(batch);
        }
        producers
    }

    #[test]
    fn a_retry_of_any_of_the_last_five_batches_is_a_duplicate() {
        let batches: Vec<_> = (0..7)
            .map(|n| batch(0, n * 3, i64::from(n) * 3, 3))
            .collect();
        let producers = producers(&batches);
        for n in 2..7 {
            let duplicate = SequenceCheck::Duplicate {
                base_offset: i64::from(n) * 3,
                last_offset: i64::from(n) * 3 + 2,
                timestamp: 5,
            };
            assert_eq!(producers.check(1, 0, n * 3, n * 3 + 2), duplicate);
        }
        assert_eq!(
            producers.check(1, 0, 3, 5),
            SequenceCheck::OutOfOrder {
                expected: 21,
                found: 3
            }
        );
        assert_eq!(producers.check(1, 0, 21, 25), SequenceCheck::New);
    }

    #[test]
    fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
        let mut producers = producers(&[batch(3, 0, 0, 2)]);
        assert_eq!(
            producers.check(1, 2, 2, 3),
            SequenceCheck::StaleEpoch { current: 3 }
        );
        assert_eq!(
            producers.check(1, 4, 2, 3),
            SequenceCheck::OutOfOrder {
                expected: 0,
                found: 2
            }
        );
        assert_eq!(producers.check(1, 4, 0, 1), SequenceCheck::New);
        producers.note(&batch(4, 0, 2, 2));
        assert_eq!(producers.check(1, 4, 2, 3), SequenceCheck::New);
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(Producers::default().check(9, 0, 17, 18), SequenceCheck::New);
    }

    #[test]
    fn sequences_wrap_around() {
        let producers = producers(&[batch(0, i32::MAX - 1, 0, 2)]);
        assert_eq!(producers.check(1, 0, 0, 4), SequenceCheck::New);
    }

    #[test]
    fn summaries_tell_the_current_epoch_and_its_last_sequence() {
        let mut control = batch(8, -1, 5, 1);
        (control.producer_id, control.attributes) = (0, 0x30);
        let producers = producers(&[batch(3, 0, 0, 2), batch(4, 0, 2, 3), control]);
        let told = |producer_id, epoch, last_sequence| ProducerSummary {
            producer_id,
            epoch,
            last_sequence,
            last_timestamp: 5,
        };
        assert_eq!(producers.summaries(), [told(0, 8, -1), told(1, 4, 2)]);
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut producers = producers(&[batch(0, 0, 0, 1)]);
        producers.expire(5);
        assert_eq!(producers.len(), 1);
        producers.expire(6);
        assert!(producers.is_empty());
    }

    #[test]
    fn codec_round_trip() {
        let producers = producers(&[batch(0, 0, 0, 1), batch(0, 1, 1, 4), batch(1, 0, 5, 1)]);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(
            Producers::decode(&mut FieldReader::new(&bytes)),
            Ok(producers)
        );
        assert!(Producers::decode(&mut FieldReader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}
