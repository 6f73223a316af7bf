//! Tests of record batches: golden bytes, faults one by one, properties, the oracle.

mod faults;
mod oracle;
mod properties;
mod reading;

use super::*;
use crate::compression::{Codec, DecompressContext};

/// A batch of `count` small records with keys, values and a header each.
fn batch(options: BatchOptions, count: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for index in 0..count {
        let key = format!("key-{index}");
        let value = vec![index as u8; 40 + index as usize % 60];
        let headers: [HeaderRef<'_>; 2] = [(b"a", Some(b"1")), (b"b", None)];
        builder.push(
            1_700_000_000_000 + i64::from(index % 5),
            Some(key.as_bytes()),
            Some(&value),
            &headers,
        );
    }
    builder.build().unwrap()
}

fn check(bytes: &[u8]) -> Result<BatchSummary, BatchError> {
    check_with(bytes, &ValidateLimits::default())
}

fn check_with(bytes: &[u8], limits: &ValidateLimits) -> Result<BatchSummary, BatchError> {
    validate(
        &BatchView::parse(bytes)?,
        limits,
        &mut ValidateScratch::default(),
    )
}

/// Overwrites bytes and makes the CRC right again.
fn tampered(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
    bytes[at..at + with.len()].copy_from_slice(with);
    patch::write_crc(&mut bytes);
    bytes
}

/// One batch whose single record body is `body` behind its length varint, CRC right.
fn batch_of_raw_records(records: &[u8], record_count: i32) -> Vec<u8> {
    let mut bytes = batch(BatchOptions::default(), 1);
    bytes.truncate(HEADER_BYTES);
    bytes.extend_from_slice(records);
    let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
    header::put(&mut bytes, header::BATCH_LENGTH_AT, length.to_be_bytes());
    header::put(
        &mut bytes,
        header::RECORD_COUNT_AT,
        record_count.to_be_bytes(),
    );
    header::put(
        &mut bytes,
        header::LAST_OFFSET_DELTA_AT,
        (record_count - 1).to_be_bytes(),
    );
    patch::write_crc(&mut bytes);
    bytes
}
