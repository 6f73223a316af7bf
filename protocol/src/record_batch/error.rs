//! What can be wrong with a record batch, and which kind of refusal each fault deserves.
//!
//! Place: returned by everything in `record_batch`; the broker's edge maps [`BatchErrorKind`] to
//! Kafka's error codes.

use thiserror::Error;

use crate::compression::{Codec, CompressionError};

/// A fault of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end inside the batch (in a fetch response: a legal cut at the end).
    #[error("batch cut short: needs {needed} bytes, has {available}")]
    Truncated {
        /// Bytes the batch needs, as far as known.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The batch length field is smaller than a header or negative.
    #[error("batch length {batch_length} is impossible")]
    LengthInvalid {
        /// The field's value.
        batch_length: i32,
    },
    /// An old or unknown message format.
    #[error("message format {magic} is not supported, only 2")]
    MagicUnsupported {
        /// The magic byte.
        magic: i8,
    },
    /// The bytes are not those that were sent.
    #[error("crc is {computed:#010x}, the batch says {stored:#010x}")]
    CrcMismatch {
        /// The CRC-32C in the header.
        stored: u32,
        /// The CRC-32C of the bytes.
        computed: u32,
    },
    /// The batch is larger than its topic allows.
    #[error("batch of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Attributes name a codec that does not exist.
    #[error("compression codec {id} does not exist")]
    CodecUnknown {
        /// The codec bits.
        id: u8,
    },
    /// The codec may not be used in a request of this version (zstd before Produce v7).
    #[error("compression codec {} is not allowed here", codec.name())]
    CodecNotAllowed {
        /// The codec.
        codec: Codec,
    },
    /// The compressed records are broken or expand beyond the limit.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Count and offset range disagree, or the batch is empty.
    #[error("record count {record_count} does not fit last offset delta {last_offset_delta}")]
    CountInvalid {
        /// Record count in the header.
        record_count: i32,
        /// Last offset delta in the header.
        last_offset_delta: i32,
    },
    /// A record is malformed.
    #[error("record {index}: {fault}")]
    Record {
        /// Position of the record in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// Bytes follow the last record.
    #[error("bytes remain after {record_count} records")]
    BytesRemain {
        /// Record count in the header.
        record_count: i32,
    },
    /// A record's timestamp lies outside what its topic allows.
    #[error("record {index}: timestamp {timestamp} is outside {earliest}..={latest}")]
    TimestampOutOfRange {
        /// Position of the record in the batch, from 0.
        index: i32,
        /// Its timestamp in milliseconds.
        timestamp: i64,
        /// Earliest timestamp allowed.
        earliest: i64,
        /// Latest timestamp allowed.
        latest: i64,
    },
    /// A producer claimed log append time, which is the broker's to set.
    #[error("producers may not set log append time")]
    TimestampTypeInvalid,
    /// A producer sent a control batch.
    #[error("producers may not write control batches")]
    ControlNotAllowed,
    /// Producer id, epoch, sequence and the transactional bit do not fit together.
    #[error(
        "producer id {producer_id}, epoch {producer_epoch}, sequence {base_sequence} do not fit"
    )]
    ProducerInvalid {
        /// Producer id in the header.
        producer_id: i64,
        /// Producer epoch in the header.
        producer_epoch: i16,
        /// Base sequence in the header.
        base_sequence: i32,
    },
}

impl BatchError {
    /// Position in the batch of the record that is at fault, if it is one record.
    pub fn record_index(&self) -> Option<i32> {
        match self {
            Self::Record { index, .. } | Self::TimestampOutOfRange { index, .. } => Some(*index),
            _ => None,
        }
    }
}

/// What can be wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// The records end inside it.
    #[error("cut short")]
    CutShort,
    /// A varint of more than its maximum bytes.
    #[error("varint too long")]
    VarintTooLong,
    /// The record's own length is negative or impossible.
    #[error("length {0} is impossible")]
    LengthInvalid(i32),
    /// Its fields end before or after its length.
    #[error("fields do not fill its length")]
    LengthMismatch,
    /// A key, value or header would end after the record.
    #[error("a field is longer than the record")]
    FieldTooLong,
    /// The header count is negative or more than the record can hold.
    #[error("header count {0} is impossible")]
    HeaderCountInvalid(i32),
    /// A header key is null.
    #[error("a header key is null")]
    HeaderKeyNull,
    /// Offsets do not count up by one from the base offset.
    #[error("offset delta {0} is not the next one")]
    OffsetDelta(i32),
    /// The topic is compacted and the record has no key.
    #[error("compacted topics need a key")]
    KeyMissing,
}

/// The refusals Kafka knows for a batch; named as its error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchErrorKind {
    /// `CORRUPT_MESSAGE` (2).
    CorruptMessage,
    /// `MESSAGE_TOO_LARGE` (10).
    MessageTooLarge,
    /// `INVALID_TIMESTAMP` (32).
    InvalidTimestamp,
    /// `UNSUPPORTED_FOR_MESSAGE_FORMAT` (43).
    UnsupportedForMessageFormat,
    /// `UNSUPPORTED_COMPRESSION_TYPE` (76).
    UnsupportedCompressionType,
    /// `INVALID_RECORD` (87).
    InvalidRecord,
}

impl BatchError {
    /// Which of Kafka's refusals this fault gets.
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            BatchError::Truncated { .. }
            | BatchError::LengthInvalid { .. }
            | BatchError::CrcMismatch { .. }
            | BatchError::Compression(CompressionError::Corrupt { .. }) => {
                BatchErrorKind::CorruptMessage
            }
            // A smaller batch may pass, and this code makes producers split theirs.
            BatchError::TooLarge { .. }
            | BatchError::Compression(CompressionError::TooLarge { .. }) => {
                BatchErrorKind::MessageTooLarge
            }
            BatchError::MagicUnsupported { .. } => BatchErrorKind::UnsupportedForMessageFormat,
            BatchError::CodecUnknown { .. } | BatchError::CodecNotAllowed { .. } => {
                BatchErrorKind::UnsupportedCompressionType
            }
            BatchError::TimestampOutOfRange { .. } | BatchError::TimestampTypeInvalid => {
                BatchErrorKind::InvalidTimestamp
            }
            BatchError::CountInvalid { .. }
            | BatchError::Record { .. }
            | BatchError::BytesRemain { .. }
            | BatchError::ControlNotAllowed
            | BatchError::ProducerInvalid { .. } => BatchErrorKind::InvalidRecord,
        }
    }
}
