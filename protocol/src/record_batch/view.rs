//! One record batch seen in place, and the iterator over the batches of a byte slice.
//!
//! Place: parsing checks only the frame (length and magic); `validate` checks the rest.

use super::error::BatchError;
use super::header::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT,
    CODEC_MASK, CONTROL_BIT, CRC_AT, DELETE_HORIZON_BIT, HEADER_BYTES, Header,
    LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_PREFIX_BYTES, LOG_APPEND_TIME_BIT, MAGIC,
    MAGIC_AT, MAX_TIMESTAMP_AT, NO_PRODUCER_ID, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT,
    TRANSACTIONAL_BIT, TimestampType, i16_at, i32_at, i64_at, u32_at,
};
use super::record::RecordIter;
use crate::compression::{self, Codec, DecompressContext};
use crate::crc32c;

/// A view of one v2 batch (invariant I1 of the module).
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    header: &'a Header,
    bytes: &'a [u8],
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BatchView")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("batch_bytes", &self.batch_bytes())
            .field("attributes", &self.attributes())
            .field("record_count", &self.record_count())
            .finish_non_exhaustive()
    }
}

/// The length of the batch that `bytes` starts with, header included.
///
/// # Errors
/// As [`BatchView::split_first`], but a batch that ends after `bytes` is no error here.
fn peek_batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    let needed = MAGIC_AT + 1;
    let cut = BatchError::Truncated {
        needed,
        available: bytes.len(),
    };
    let prefix = bytes.first_chunk::<{ MAGIC_AT + 1 }>().ok_or(cut)?;
    let mut length = [0; 4];
    length.copy_from_slice(&prefix[BATCH_LENGTH_AT..LENGTH_PREFIX_BYTES]);
    let batch_length = i32::from_be_bytes(length);
    let magic = prefix[MAGIC_AT].cast_signed();
    if magic != MAGIC {
        return Err(BatchError::MagicUnsupported { magic });
    }
    usize::try_from(batch_length)
        .ok()
        .map(|length| length.saturating_add(LENGTH_PREFIX_BYTES))
        .filter(|bytes| *bytes >= HEADER_BYTES)
        .ok_or(BatchError::LengthInvalid { batch_length })
}

impl<'a> BatchView<'a> {
    /// Splits the first batch off `bytes`; returns it and what follows.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::LengthInvalid`], [`BatchError::MagicUnsupported`].
    pub fn split_first(bytes: &'a [u8]) -> Result<(BatchView<'a>, &'a [u8]), BatchError> {
        let needed = peek_batch_bytes(bytes)?;
        let cut = BatchError::Truncated {
            needed,
            available: bytes.len(),
        };
        let (batch, rest) = bytes.split_at_checked(needed).ok_or(cut.clone())?;
        let header = batch.first_chunk::<HEADER_BYTES>().ok_or(cut)?;
        Ok((
            BatchView {
                header,
                bytes: batch,
            },
            rest,
        ))
    }

    /// Views `bytes` as exactly one batch.
    ///
    /// # Errors
    /// As [`BatchView::split_first`]; bytes after the batch are [`BatchError::LengthInvalid`].
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let (view, rest) = BatchView::split_first(bytes)?;
        if rest.is_empty() {
            Ok(view)
        } else {
            let batch_length = i32_at(view.header, BATCH_LENGTH_AT);
            Err(BatchError::LengthInvalid { batch_length })
        }
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the whole batch, header included.
    pub fn batch_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What follows the header: the records, or one compressed block.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> i64 {
        i64_at(self.header, BASE_OFFSET_AT)
    }

    /// Offset of the last record (inclusive).
    pub fn last_offset(&self) -> i64 {
        self.base_offset()
            .wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Leader epoch under which the batch was appended.
    pub fn partition_leader_epoch(&self) -> i32 {
        i32_at(self.header, LEADER_EPOCH_AT)
    }

    /// The CRC-32C that the header states.
    pub fn crc(&self) -> u32 {
        u32_at(self.header, CRC_AT)
    }

    /// The CRC-32C of the bytes it covers.
    pub fn compute_crc(&self) -> u32 {
        crc32c::crc32c(self.bytes.get(ATTRIBUTES_AT..).unwrap_or_default())
    }

    /// Checks the CRC.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.crc(), self.compute_crc());
        if stored == computed {
            Ok(())
        } else {
            Err(BatchError::CrcMismatch { stored, computed })
        }
    }

    /// The attribute bits.
    pub fn attributes(&self) -> i16 {
        i16_at(self.header, ATTRIBUTES_AT)
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::CodecUnknown`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = (self.attributes() & CODEC_MASK) as u8;
        Codec::from_id(id).ok_or(BatchError::CodecUnknown { id })
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records (transaction markers).
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon set by compaction.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON_BIT != 0
    }

    /// Last offset minus base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32_at(self.header, LAST_OFFSET_DELTA_AT)
    }

    /// The timestamp that records' deltas count from, in milliseconds.
    pub fn base_timestamp(&self) -> i64 {
        i64_at(self.header, BASE_TIMESTAMP_AT)
    }

    /// The largest timestamp of the records, in milliseconds, as the header states it.
    pub fn max_timestamp(&self) -> i64 {
        i64_at(self.header, MAX_TIMESTAMP_AT)
    }

    /// Producer id, [`NO_PRODUCER_ID`] if none.
    pub fn producer_id(&self) -> i64 {
        i64_at(self.header, PRODUCER_ID_AT)
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// Producer epoch.
    pub fn producer_epoch(&self) -> i16 {
        i16_at(self.header, PRODUCER_EPOCH_AT)
    }

    /// Sequence number of the first record.
    pub fn base_sequence(&self) -> i32 {
        i32_at(self.header, BASE_SEQUENCE_AT)
    }

    /// Sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        let last = self.base_sequence().wrapping_add(self.last_offset_delta());
        if self.base_sequence() >= 0 {
            last & i32::MAX
        } else {
            self.base_sequence()
        }
    }

    /// Number of records, as the header states it.
    pub fn record_count(&self) -> i32 {
        i32_at(self.header, RECORD_COUNT_AT)
    }

    /// Iterates the records. Compressed ones are decompressed into `buffer` (cleared first, at most
    /// `decompressed_bytes_max` bytes), others are borrowed from the batch.
    ///
    /// # Errors
    /// [`BatchError::CodecUnknown`], [`BatchError::Compression`].
    pub fn records<'b>(
        &self,
        context: &mut DecompressContext,
        buffer: &'b mut Vec<u8>,
        decompressed_bytes_max: usize,
    ) -> Result<RecordIter<'b>, BatchError>
    where
        'a: 'b,
    {
        let codec = self.codec()?;
        let plain = if codec == Codec::None {
            self.payload()
        } else {
            buffer.clear();
            let limit = decompressed_bytes_max;
            compression::decompress(codec, self.payload(), context, limit, buffer)?;
            buffer.as_slice()
        };
        Ok(RecordIter::new(self, plain))
    }
}

/// Iterates the batches of a byte slice; ends after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// Over the batches that lie one behind the other in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes }
    }

    /// What was not iterated yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchView::split_first(self.rest) {
            Ok((view, rest)) => {
                self.rest = rest;
                Some(Ok(view))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
