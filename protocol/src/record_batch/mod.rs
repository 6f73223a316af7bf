//! Record batches of format v2: viewed in place, validated, patched, iterated, built.
//!
//! ```text
//!  0 base offset i64        23 last offset delta i32     51 producer epoch i16
//!  8 batch length i32 (*)   27 base timestamp i64        53 base sequence i32
//! 12 leader epoch i32       35 max timestamp i64         57 record count i32
//! 16 magic i8 = 2           43 producer id i64           61 records (one block if compressed)
//! 17 crc u32 (**)
//! 21 attributes i16: bits 0-2 codec, 3 log append time, 4 transactional, 5 control, 6 delete horizon
//! (*) bytes after this field   (**) CRC-32C over everything from the attributes on
//! ```
//! Place: the broker's produce and fetch paths, storage, clients and tests; pure code.
//! Invariants: I1 a [`BatchView`] covers exactly one batch, whose length field agrees with its
//! slice, of magic 2. I2 only what lies before the CRC's range (base offset, leader epoch) is
//! patched without computing the CRC again. I3 no function here panics or allocates by a claimed
//! length, whatever the bytes.
//! Source: Kafka protocol guide, "Record Batch"; KIP-98.

mod builder;
mod error;
mod header;
mod patch;
mod record;
mod retain;
#[cfg(test)]
mod tests;
mod validate;
mod varint;
mod view;
mod walk;

pub use self::builder::{BatchBuilder, BatchOptions, HeaderRef};
pub use self::error::{BatchError, BatchErrorKind, RecordFault};
pub use self::header::{
    HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType,
};
pub use self::patch::{
    set_base_offset, set_log_append_time, set_max_timestamp, set_partition_leader_epoch,
};
pub use self::record::{Headers, Record, RecordIter};
pub use self::retain::{retain_header, retain_records};
pub use self::validate::{BatchOrigin, BatchSummary, ValidateLimits, ValidateScratch, validate};
pub use self::view::{BatchView, Batches};
