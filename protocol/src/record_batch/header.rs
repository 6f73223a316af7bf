//! The fixed part of a v2 batch: field positions, attribute bits and the raw accessors.
//!
//! Place: the only file that knows where a field lies; the view, the patches and the builder use it.

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Bytes up to and including the batch length field, which counts what follows it.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only batch format served.
pub const MAGIC: i8 = 2;
/// Producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch without a producer id.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch without a producer id.
pub const NO_SEQUENCE: i32 = -1;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;

pub(super) const BASE_OFFSET_AT: usize = 0;
pub(super) const BATCH_LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The CRC covers from here to the end of the batch.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const RECORD_COUNT_AT: usize = 57;

const _: () = assert!(RECORD_COUNT_AT + 4 == HEADER_BYTES);
const _: () = assert!(BATCH_LENGTH_AT + 4 == LENGTH_PREFIX_BYTES);

pub(super) const CODEC_MASK: i16 = 0b111;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Whose clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// Each record carries its creator's time.
    #[default]
    CreateTime,
    /// All records have the batch's max timestamp, set by the broker.
    LogAppendTime,
}

/// The header's bytes; a batch slice at least this long.
pub(super) type Header = [u8; HEADER_BYTES];

macro_rules! field_reader {
    ($name:ident, $type:ty, $bytes:literal) => {
        /// Reads a big-endian field. `at` is always one of the constants above.
        #[inline]
        pub(super) fn $name(header: &Header, at: usize) -> $type {
            let mut raw = [0; $bytes];
            raw.copy_from_slice(&header[at..at + $bytes]);
            <$type>::from_be_bytes(raw)
        }
    };
}

field_reader!(i16_at, i16, 2);
field_reader!(i32_at, i32, 4);
field_reader!(u32_at, u32, 4);
field_reader!(i64_at, i64, 8);

/// Writes a big-endian field into a batch. `at` is always one of the constants above.
#[inline]
pub(super) fn put<const N: usize>(batch: &mut [u8], at: usize, value: [u8; N]) {
    batch[at..at + N].copy_from_slice(&value);
}
