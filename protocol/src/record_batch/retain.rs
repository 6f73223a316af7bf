//! What is left of a batch when compaction has taken records out of it.
//!
//! Place: the log cleaner, which decides what stays; pure code.
//! Invariants: I1 base offset, last offset delta, producer fields, leader epoch and the type bits stay,
//! so that no offset and no sequence changes. I2 records keep their offsets and timestamps.
//! Source: KIP-98 (batches that only keep their producer's sequence), KIP-534 (delete horizon).

use super::builder::{Deltas, put_record};
use super::error::BatchError;
use super::header::{
    ATTRIBUTES_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT, CODEC_MASK, DELETE_HORIZON_BIT,
    HEADER_BYTES, LENGTH_PREFIX_BYTES, MAX_TIMESTAMP_AT, NO_TIMESTAMP, RECORD_COUNT_AT,
    TimestampType, put,
};
use super::patch::write_crc;
use super::record::Record;
use super::view::BatchView;
use crate::compression;

/// Appends `view`'s batch with nothing but `records` of it to `output`, compressed by the same codec.
///
/// `delete_horizon_ms` goes into the header in place of the base timestamp; without it the batch
/// keeps the one it has, if any.
///
/// # Errors
/// [`BatchError::CodecUnknown`], [`BatchError::Compression`]; `output` is as it was then.
///
/// # Panics
/// If the batch grew beyond 2 GiB.
pub fn retain_records(
    view: &BatchView<'_>,
    records: &[Record<'_>],
    delete_horizon_ms: Option<i64>,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let base_timestamp = delete_horizon_ms.unwrap_or(view.base_timestamp());
    let mut plain = Vec::new();
    for record in records {
        let deltas = Deltas {
            timestamp: record.timestamp.wrapping_sub(base_timestamp),
            offset: record.offset.wrapping_sub(view.base_offset()),
        };
        let content = (record.key, record.value);
        put_record(&mut plain, deltas, content, record.headers.clone());
    }
    let newest = records.iter().map(|record| record.timestamp).max();
    let max_timestamp = match view.timestamp_type() {
        TimestampType::CreateTime => newest.unwrap_or(view.max_timestamp()),
        TimestampType::LogAppendTime => view.max_timestamp(),
    };
    let mut attributes = view.attributes();
    if delete_horizon_ms.is_some() {
        attributes |= DELETE_HORIZON_BIT;
    }
    let start = output.len();
    let codec = view.codec()?;
    output.extend_from_slice(header_of(view));
    if let Err(error) = compression::compress(codec, &plain, output) {
        output.truncate(start);
        return Err(error.into());
    }
    let times = (base_timestamp, max_timestamp);
    finish(&mut output[start..], attributes, times, records.len());
    Ok(())
}

/// Appends the header of `view`'s batch without any record to `output`: it keeps the offsets, and the
/// producer's last sequence.
pub fn retain_header(view: &BatchView<'_>, output: &mut Vec<u8>) {
    let start = output.len();
    output.extend_from_slice(header_of(view));
    let attributes = view.attributes() & !(CODEC_MASK | DELETE_HORIZON_BIT);
    let times = (NO_TIMESTAMP, view.max_timestamp());
    finish(&mut output[start..], attributes, times, 0);
}

fn header_of<'a>(view: &BatchView<'a>) -> &'a [u8] {
    view.bytes().get(..HEADER_BYTES).unwrap_or_default()
}

/// Makes the header of `batch`, a copy of the original's, true of what follows it now.
fn finish(
    batch: &mut [u8],
    attributes: i16,
    (base_timestamp, max_timestamp): (i64, i64),
    record_count: usize,
) {
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES);
    let length = length.expect("a batch below 2 GiB does not outgrow its format by losing records");
    put(batch, BATCH_LENGTH_AT, length.to_be_bytes());
    put(batch, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(batch, BASE_TIMESTAMP_AT, base_timestamp.to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes());
    put(batch, RECORD_COUNT_AT, (record_count as i32).to_be_bytes());
    write_crc(batch);
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, BatchOptions, set_log_append_time};
    use super::*;
    use crate::compression::{Codec, DecompressContext};

    const TIME: i64 = 1_700_000_000_000;

    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: 100,
            partition_leader_epoch: 3,
            codec,
            producer_id: 9,
            producer_epoch: 1,
            base_sequence: 40,
            ..BatchOptions::default()
        });
        for number in 0..4_i64 {
            let key = format!("key {number}");
            let headers: [(&[u8], Option<&[u8]>); 1] = [(b"h", None)];
            let value = (number != 2).then_some(&b"value"[..]);
            builder.push(TIME + number, Some(key.as_bytes()), value, &headers);
        }
        builder.build().unwrap()
    }

    /// Offset, timestamp, key, value and count of headers of each record.
    type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn seen(bytes: &[u8]) -> Vec<Seen> {
        let view = BatchView::parse(bytes).unwrap();
        view.check_crc().unwrap();
        let mut buffer = Vec::new();
        let records = view
            .records(&mut DecompressContext::default(), &mut buffer, 1 << 20)
            .unwrap();
        let seen = records.map(|record| {
            let record = record.unwrap();
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            (
                record.offset,
                record.timestamp,
                owned(record.key),
                owned(record.value),
                record.headers.count(),
            )
        });
        seen.collect()
    }

    fn retained(bytes: &[u8], keep: &[usize], delete_horizon_ms: Option<i64>) -> Vec<u8> {
        let view = BatchView::parse(bytes).unwrap();
        let mut buffer = Vec::new();
        let records = view
            .records(&mut DecompressContext::default(), &mut buffer, 1 << 20)
            .unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect();
        let kept: Vec<_> = keep.iter().map(|at| records[*at].clone()).collect();
        let mut output = b"before".to_vec();
        retain_records(&view, &kept, delete_horizon_ms, &mut output).unwrap();
        assert_eq!(&output[..6], b"before");
        output.split_off(6)
    }

    #[test]
    fn records_keep_their_offsets_times_and_content_in_every_codec() {
        for codec in Codec::ALL {
            let bytes = batch(codec);
            let all = seen(&bytes);
            for horizon in [None, Some(TIME + 86_400_000)] {
                let left = retained(&bytes, &[1, 2], horizon);
                assert_eq!(seen(&left), all[1..3], "{codec:?}");
                let (before, after) = (
                    BatchView::parse(&bytes).unwrap(),
                    BatchView::parse(&left).unwrap(),
                );
                assert_eq!(after.codec().unwrap(), codec);
                assert_eq!(after.record_count(), 2);
                assert_eq!(after.max_timestamp(), TIME + 2);
                assert_eq!(after.last_offset(), before.last_offset());
                assert_eq!(after.last_sequence(), before.last_sequence());
                assert_eq!(after.partition_leader_epoch(), 3);
                assert_eq!(after.has_delete_horizon(), horizon.is_some());
                assert_eq!(after.base_timestamp(), horizon.unwrap_or(TIME));
                // A horizon that is set stays when the batch is rewritten again.
                let again = retained(&left, &[0], None);
                assert_eq!(seen(&again), all[1..2], "{codec:?}");
                assert_eq!(again[ATTRIBUTES_AT + 1], left[ATTRIBUTES_AT + 1]);
            }
        }
    }

    #[test]
    fn the_brokers_time_stays() {
        let mut bytes = batch(Codec::Zstd);
        set_log_append_time(&mut bytes, TIME + 999);
        let left = retained(&bytes, &[0], Some(5));
        assert_eq!(BatchView::parse(&left).unwrap().max_timestamp(), TIME + 999);
        assert_eq!(seen(&left), seen(&bytes)[..1]);
    }

    #[test]
    fn a_header_alone_keeps_offsets_and_sequences() {
        let bytes = batch(Codec::Gzip);
        let before = BatchView::parse(&bytes).unwrap();
        let mut left = Vec::new();
        retain_header(&before, &mut left);
        let after = BatchView::parse(&left).unwrap();
        assert_eq!(left.len(), HEADER_BYTES);
        assert_eq!(seen(&left), []);
        assert_eq!(after.base_offset(), before.base_offset());
        assert_eq!(after.last_offset(), before.last_offset());
        assert_eq!(after.last_sequence(), before.last_sequence());
        assert_eq!(after.producer_id(), before.producer_id());
        assert_eq!(after.max_timestamp(), before.max_timestamp());
        assert_eq!(after.codec().unwrap(), Codec::None);
    }
}
