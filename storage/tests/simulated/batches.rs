//! Record batches for tests: content that tells which batch and record it is.

use protocol::compression::Codec;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::sim::Random;

/// A batch to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Makes the content differ from all other batches'.
    pub(crate) number: u64,
    pub(crate) records: u32,
    pub(crate) value_bytes: usize,
    pub(crate) timestamp: i64,
    /// Producer id, epoch and first sequence.
    pub(crate) producer: Option<(i64, i16, i32)>,
    pub(crate) codec: Codec,
    /// Each record has one of so many keys, and some are tombstones; `None`: no key.
    pub(crate) keys: Option<u64>,
}

impl Spec {
    pub(crate) fn new(number: u64, records: u32, value_bytes: usize) -> Self {
        let timestamp = 1_700_000_000_000 + number as i64 * 10;
        Spec {
            number,
            records,
            value_bytes,
            timestamp,
            producer: None,
            codec: Codec::None,
            keys: None,
        }
    }

    /// Record n has the timestamp of the batch plus n.
    pub(crate) fn build(&self) -> Vec<u8> {
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, -1));
        let options = BatchOptions {
            codec: self.codec,
            producer_id,
            producer_epoch,
            base_sequence,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        for record in 0..self.records {
            let mut value = format!("{}/{record};", self.number).into_bytes();
            let fill = (self.number as u8)
                .wrapping_mul(31)
                .wrapping_add(record as u8);
            value.resize(self.value_bytes.max(value.len()), fill);
            let (key, is_tombstone) = self.key_of(record);
            let value = Some(value.as_slice()).filter(|_| !is_tombstone);
            let timestamp = self.timestamp + i64::from(record);
            builder.push(timestamp, key.as_deref().map(str::as_bytes), value, &[]);
        }
        builder.build().expect("a batch of test records")
    }

    /// The key of a record, and whether that is all it has.
    fn key_of(&self, record: u32) -> (Option<String>, bool) {
        let Some(keys) = self.keys else {
            return (None, false);
        };
        let mut random = Random::new((self.number << 8) + u64::from(record));
        let key = format!("key {}", random.below(keys));
        (Some(key), random.chance(1, 6))
    }
}

/// The batch as the log stores it.
pub(crate) fn stored(batch: &[u8], base_offset: i64, leader_epoch: i32) -> Vec<u8> {
    let mut stored = batch.to_vec();
    stored[0..8].copy_from_slice(&base_offset.to_be_bytes());
    stored[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    stored
}
