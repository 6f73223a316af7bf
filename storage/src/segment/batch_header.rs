//! The fixed header of a record batch v2, decoded from bytes that may have been gathered from two
//! buffers: batches on disk straddle read windows, so a view of the whole batch is not at hand here.
//!
//! *Place*: every walk over batches in this crate. *Source*: Kafka protocol guide, "Record Batch".

/// Bytes of the fixed header of a record batch.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before the field `batchLength` counts: base offset and the field itself.
const LENGTH_PREFIX_BYTES: u64 = 12;
/// Position of the first byte that the batch's CRC covers (the attributes).
pub(crate) const CRC_FROM: u64 = 21;
/// The only message format stored.
pub(crate) const MAGIC: i8 = 2;
/// "No timestamp", "no producer", "no sequence" in Kafka's fields.
pub(crate) const NONE: i64 = -1;

const TIMESTAMP_TYPE_LOG_APPEND: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A decoded batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes of the whole batch, header included.
    pub(crate) bytes: u64,
    pub(crate) leader_epoch: i32,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Decodes a header; `Err` says which field cannot be (lengths, magic, offset deltas), with
    /// what was expected and found.
    pub(crate) fn decode(header: &[u8; HEADER_BYTES]) -> Result<Self, BadHeader> {
        let batch_length = i32_at(header, 8);
        let decoded = BatchHeader {
            base_offset: i64_at(header, 0),
            bytes: LENGTH_PREFIX_BYTES.saturating_add_signed(i64::from(batch_length)),
            leader_epoch: i32_at(header, 12),
            magic: header[16] as i8,
            crc: u32::from_be_bytes(array(header, 17)),
            attributes: i16::from_be_bytes(array(header, 21)),
            last_offset_delta: i32_at(header, 23),
            base_timestamp: i64_at(header, 27),
            max_timestamp: i64_at(header, 35),
            producer_id: i64_at(header, 43),
            producer_epoch: i16::from_be_bytes(array(header, 51)),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
        };
        if decoded.magic != MAGIC {
            return Err(BadHeader {
                field: "magic",
                expected: i64::from(MAGIC),
                found: i64::from(decoded.magic),
            });
        }
        if decoded.bytes < HEADER_BYTES as u64 {
            return Err(BadHeader {
                field: "batch bytes of at least",
                expected: HEADER_BYTES as i64,
                found: i64::from(batch_length),
            });
        }
        if decoded.base_offset < 0 || decoded.last_offset_delta < 0 {
            return Err(BadHeader {
                field: "offsets of at least",
                expected: 0,
                found: decoded
                    .base_offset
                    .min(i64::from(decoded.last_offset_delta)),
            });
        }
        Ok(decoded)
    }

    /// Decodes the header at the beginning of `bytes`, if there are enough of them.
    pub(crate) fn decode_prefix(bytes: &[u8]) -> Result<Self, BadHeader> {
        match bytes.first_chunk::<HEADER_BYTES>() {
            Some(header) => Self::decode(header),
            None => Err(BadHeader {
                field: "bytes of a batch header",
                expected: HEADER_BYTES as i64,
                found: bytes.len() as i64,
            }),
        }
    }

    /// Offset of the batch's last record, inclusive.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Offset after the batch's last record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Greatest timestamp of its records; that of a batch whose records compaction has taken does not count.
    pub(crate) fn greatest_timestamp(&self) -> i64 {
        if self.record_count > 0 {
            self.max_timestamp
        } else {
            NONE
        }
    }

    /// Whether the broker's append time stands in place of the producer's timestamps.
    pub(crate) fn has_log_append_time(&self) -> bool {
        self.attributes & TIMESTAMP_TYPE_LOG_APPEND != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Sequence number of the batch's last record; sequences wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// `first` advanced by `delta`, both non-negative, wrapping from `i32::MAX` to 0 as in Kafka.
pub(crate) fn sequence_after(first: i32, delta: i32) -> i32 {
    if first < 0 {
        return first;
    }
    let sum = i64::from(first) + i64::from(delta);
    i32::try_from(sum).unwrap_or_else(|_| (sum - i64::from(i32::MAX) - 1) as i32)
}

/// A header field that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHeader {
    pub(crate) field: &'static str,
    pub(crate) expected: i64,
    pub(crate) found: i64,
}

fn array<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| header[at + index])
}

fn i32_at(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(array(header, at))
}

fn i64_at(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(array(header, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(5, 4), 9);
        assert_eq!(sequence_after(i32::MAX, 0), i32::MAX);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 5), 2);
        assert_eq!(sequence_after(-1, 5), -1);
    }

    #[test]
    fn any_bytes_decode_or_name_the_bad_field() {
        assert_eq!(
            BatchHeader::decode(&[0; HEADER_BYTES]).unwrap_err().field,
            "magic"
        );
        assert_eq!(
            BatchHeader::decode_prefix(&[0; 3]).unwrap_err().field,
            "bytes of a batch header"
        );
        let mut header = [0xff; HEADER_BYTES];
        header[16] = 2;
        assert!(BatchHeader::decode(&header).is_err());
    }
}
