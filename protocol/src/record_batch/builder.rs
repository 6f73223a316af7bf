//! Builds a record batch: for clients, tests, and the broker's own records (offsets topic).
//!
//! Records are encoded as they are pushed, behind room for the header, so that an uncompressed batch
//! is finished in place. The builder can be reused: `finish_into` leaves it empty with its memory.

use super::header::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT,
    CONTROL_BIT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_PREFIX_BYTES,
    LOG_APPEND_TIME_BIT, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NO_TIMESTAMP, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT,
    TRANSACTIONAL_BIT, TimestampType, put,
};
use super::patch::write_crc;
use super::varint::{put_varint, varint_bytes};
use crate::compression::{self, Codec, CompressionError};

/// Everything of a batch's header that does not follow from its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Offset of the first record; producers write 0, the broker assigns the real one.
    pub base_offset: i64,
    /// Leader epoch; producers write -1.
    pub partition_leader_epoch: i32,
    /// Codec of the records.
    pub codec: Codec,
    /// Whose clock the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether the records are control records.
    pub is_control: bool,
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
}

impl Default for BatchOptions {
    fn default() -> BatchOptions {
        BatchOptions {
            base_offset: 0,
            partition_leader_epoch: -1,
            codec: Codec::None,
            timestamp_type: TimestampType::CreateTime,
            is_transactional: false,
            is_control: false,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
        }
    }
}

impl BatchOptions {
    fn attributes(&self) -> i16 {
        let mut attributes = i16::from(self.codec.id());
        if self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME_BIT;
        }
        if self.is_transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        if self.is_control {
            attributes |= CONTROL_BIT;
        }
        attributes
    }
}

/// A header to be written: key and value.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// Gathers records into a batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records pushed so far, uncompressed.
    plain: Vec<u8>,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> BatchBuilder {
        BatchBuilder {
            options,
            plain: vec![0; HEADER_BYTES],
            record_count: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Changes what the header will say; the records stay.
    pub fn set_options(&mut self, options: BatchOptions) {
        self.options = options;
    }

    /// Records pushed since the last finish.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Bytes of the batch so far, before compression.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// Appends a record; its offset is the base offset plus the records before it.
    ///
    /// # Panics
    /// If a key, value or header is longer than Kafka's format can say (2 GiB).
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let deltas = Deltas {
            timestamp: timestamp.wrapping_sub(self.base_timestamp),
            offset: i64::from(self.record_count),
        };
        put_record(
            &mut self.plain,
            deltas,
            (key, value),
            headers.iter().copied(),
        );
        self.record_count += 1;
    }

    /// Finishes the batch, appends it to `output`, and empties the builder for the next.
    ///
    /// # Errors
    /// [`CompressionError`] of the codec.
    ///
    /// # Panics
    /// If the batch grew beyond 2 GiB.
    pub fn finish_into(&mut self, output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let start = output.len();
        if self.options.codec == Codec::None {
            output.extend_from_slice(&self.plain);
        } else {
            output.resize(start + HEADER_BYTES, 0);
            let records = self.plain.get(HEADER_BYTES..).unwrap_or_default();
            compression::compress(self.options.codec, records, output)?;
        }
        self.write_header(&mut output[start..]);
        self.plain.truncate(HEADER_BYTES);
        self.record_count = 0;
        self.base_timestamp = NO_TIMESTAMP;
        self.max_timestamp = NO_TIMESTAMP;
        Ok(())
    }

    /// Finishes the batch.
    ///
    /// # Errors
    /// [`CompressionError`] of the codec.
    pub fn build(mut self) -> Result<Vec<u8>, CompressionError> {
        if self.options.codec == Codec::None {
            let mut batch = std::mem::take(&mut self.plain);
            self.write_header(&mut batch);
            return Ok(batch);
        }
        let mut batch = Vec::new();
        self.finish_into(&mut batch)?;
        Ok(batch)
    }

    fn write_header(&self, batch: &mut [u8]) {
        let options = &self.options;
        let length = batch.len() - LENGTH_PREFIX_BYTES;
        assert!(i32::try_from(length).is_ok(), "batch of {length} bytes");
        put(batch, BASE_OFFSET_AT, options.base_offset.to_be_bytes());
        put(batch, BATCH_LENGTH_AT, (length as i32).to_be_bytes());
        put(
            batch,
            LEADER_EPOCH_AT,
            options.partition_leader_epoch.to_be_bytes(),
        );
        put(batch, MAGIC_AT, MAGIC.to_be_bytes());
        put(batch, ATTRIBUTES_AT, options.attributes().to_be_bytes());
        put(
            batch,
            LAST_OFFSET_DELTA_AT,
            (self.record_count - 1).to_be_bytes(),
        );
        put(batch, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(batch, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(batch, PRODUCER_ID_AT, options.producer_id.to_be_bytes());
        put(
            batch,
            PRODUCER_EPOCH_AT,
            options.producer_epoch.to_be_bytes(),
        );
        put(batch, BASE_SEQUENCE_AT, options.base_sequence.to_be_bytes());
        put(batch, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        write_crc(batch);
    }
}

/// Where a record lies within its batch.
#[derive(Clone, Copy)]
pub(super) struct Deltas {
    /// Its timestamp less the batch's base timestamp.
    pub(super) timestamp: i64,
    /// Its offset less the batch's base offset.
    pub(super) offset: i64,
}

/// Appends a record: key and value, and its headers, which are counted first.
///
/// # Panics
/// If the record is longer than Kafka's format can say (2 GiB).
pub(super) fn put_record<'a>(
    output: &mut Vec<u8>,
    deltas: Deltas,
    (key, value): (Option<&[u8]>, Option<&[u8]>),
    headers: impl Iterator<Item = HeaderRef<'a>> + Clone,
) {
    let header_count = headers.clone().count();
    let header_bytes: usize = headers
        .clone()
        .map(|(key, value)| field_bytes(Some(key)) + field_bytes(value))
        .sum();
    let body_bytes = 1
        + varint_bytes(deltas.timestamp)
        + varint_bytes(deltas.offset)
        + field_bytes(key)
        + field_bytes(value)
        + varint_bytes(header_count as i64)
        + header_bytes;
    assert!(
        i32::try_from(body_bytes).is_ok(),
        "record of {body_bytes} bytes"
    );
    put_varint(output, body_bytes as i64);
    output.push(0);
    put_varint(output, deltas.timestamp);
    put_varint(output, deltas.offset);
    put_field(output, key);
    put_field(output, value);
    put_varint(output, header_count as i64);
    for (key, value) in headers {
        put_field(output, Some(key));
        put_field(output, value);
    }
}

/// Bytes of a nullable field with its length.
fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_bytes(bytes.len() as i64) + bytes.len())
}

fn put_field(output: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(output, -1),
        Some(bytes) => {
            put_varint(output, bytes.len() as i64);
            output.extend_from_slice(bytes);
        }
    }
}
