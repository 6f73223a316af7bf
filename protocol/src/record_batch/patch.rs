//! Changes to a batch in place: what the broker assigns when it appends.
//!
//! Invariants: I2 of the module: base offset and leader epoch lie before the CRC's range and need
//! no new CRC; the timestamp patches compute it again.
//! Callers pass one whole batch that was parsed before; a slice shorter than a header is a bug.

use super::header::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, CRC_AT, HEADER_BYTES, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT,
    MAX_TIMESTAMP_AT, put,
};
use crate::crc32c;

const _: () = assert!(BASE_OFFSET_AT + 8 <= CRC_AT && LEADER_EPOCH_AT + 4 <= CRC_AT);

/// Sets the offset of the first record; all others follow from their deltas.
///
/// # Panics
/// If `batch` is shorter than a header.
#[inline]
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    assert!(
        batch.len() >= HEADER_BYTES,
        "not a batch: {} bytes",
        batch.len()
    );
    put(batch, BASE_OFFSET_AT, base_offset.to_be_bytes());
}

/// Sets the leader epoch under which the batch is appended.
///
/// # Panics
/// If `batch` is shorter than a header.
#[inline]
pub fn set_partition_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    assert!(
        batch.len() >= HEADER_BYTES,
        "not a batch: {} bytes",
        batch.len()
    );
    put(batch, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}

/// Marks the batch as stamped by the broker at `append_time_ms` and computes the CRC again. The
/// records keep their deltas; readers take the batch's max timestamp for all of them.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], append_time_ms: i64) {
    assert!(
        batch.len() >= HEADER_BYTES,
        "not a batch: {} bytes",
        batch.len()
    );
    let low = batch[ATTRIBUTES_AT + 1] | LOG_APPEND_TIME_BIT as u8;
    put(batch, ATTRIBUTES_AT + 1, [low]);
    set_max_timestamp(batch, append_time_ms);
}

/// Sets the max timestamp (a producer may state a wrong one) and computes the CRC again.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_max_timestamp(batch: &mut [u8], max_timestamp: i64) {
    assert!(
        batch.len() >= HEADER_BYTES,
        "not a batch: {} bytes",
        batch.len()
    );
    put(batch, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes());
    write_crc(batch);
}

/// Computes the CRC of a whole batch and stores it.
pub(super) fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    put(batch, CRC_AT, crc.to_be_bytes());
}
