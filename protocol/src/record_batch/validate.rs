//! Checks a whole batch before the broker appends it.
//!
//! Core: every produce request on its partition's shard; the hottest protocol code beside the codec.
//! An uncompressed batch is read twice (CRC, walk of the record headers), nothing is copied; a
//! compressed one streams through a window of [`WINDOW_BYTES`].
//! Limits: `batch_bytes_max`, `decompressed_bytes_max`.
//! Source: Kafka's behaviour on produce (which fault gets which error code); KIP-98; KIP-32.

use super::error::{BatchError, RecordFault};
use super::header::{NO_TIMESTAMP, TimestampType};
use super::view::BatchView;
use super::walk::{SliceSource, Source, WindowSource, walk_record};
use crate::compression::{Codec, DecompressContext, Decompressor};

/// Window for streaming decompression.
const WINDOW_BYTES: usize = 32 * 1024;

/// Who wrote the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchOrigin {
    /// A producer: no control batches, no log append time.
    #[default]
    Client,
    /// The broker itself (coordinators, replication).
    Broker,
}

/// What a topic and a request version allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidateLimits {
    /// Most bytes of the batch as it is stored (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Most bytes its records may expand to.
    pub decompressed_bytes_max: usize,
    /// Earliest and latest record timestamp (inclusive, ms); records without one always pass.
    pub timestamps: Option<(i64, i64)>,
    /// Whether every record needs a key (compacted topics).
    pub is_key_required: bool,
    /// Whether zstd may be used (Produce v7 and later).
    pub is_zstd_allowed: bool,
    /// Who wrote the batch.
    pub origin: BatchOrigin,
}

impl Default for ValidateLimits {
    /// Kafka's defaults, and 64 MiB for decompressed records.
    fn default() -> ValidateLimits {
        ValidateLimits {
            batch_bytes_max: 1_048_588,
            decompressed_bytes_max: 64 << 20,
            timestamps: None,
            is_key_required: false,
            is_zstd_allowed: true,
            origin: BatchOrigin::Client,
        }
    }
}

/// Memory that validation keeps between batches; one per shard.
#[derive(Debug, Default)]
pub struct ValidateScratch {
    context: DecompressContext,
    window: Vec<u8>,
}

/// What validation learned from the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSummary {
    /// Number of records, at least 1.
    pub record_count: i32,
    /// Largest record timestamp in milliseconds, which the header may state wrongly (see
    /// [`super::set_max_timestamp`]).
    pub max_timestamp: i64,
    /// Offset delta of the first record with that timestamp.
    pub max_timestamp_delta: i32,
    /// Bytes of the records without compression.
    pub plain_bytes: usize,
}

/// Checks that `view` is a batch that may be appended.
///
/// # Errors
/// Every variant of [`BatchError`] but `Truncated`, `LengthInvalid` and `MagicUnsupported`, which
/// parsing the view excludes.
pub fn validate(
    view: &BatchView<'_>,
    limits: &ValidateLimits,
    scratch: &mut ValidateScratch,
) -> Result<BatchSummary, BatchError> {
    if view.batch_bytes() > limits.batch_bytes_max {
        let (bytes, limit) = (view.batch_bytes(), limits.batch_bytes_max);
        return Err(BatchError::TooLarge { bytes, limit });
    }
    view.check_crc()?;
    check_header(view, limits)?;
    let codec = view.codec()?;
    if codec == Codec::Zstd && !limits.is_zstd_allowed {
        return Err(BatchError::CodecNotAllowed { codec });
    }
    if codec == Codec::None {
        return check_records(view, limits, &mut SliceSource::new(view.payload()));
    }
    scratch.window.resize(WINDOW_BYTES, 0);
    let limit = limits.decompressed_bytes_max;
    let stream = Decompressor::open(codec, view.payload(), &mut scratch.context, limit)?;
    check_records(
        view,
        limits,
        &mut WindowSource::new(stream, &mut scratch.window, limit),
    )
}

/// Checks what the header alone shows: counts, flags, producer fields.
fn check_header(view: &BatchView<'_>, limits: &ValidateLimits) -> Result<(), BatchError> {
    let (record_count, last_offset_delta) = (view.record_count(), view.last_offset_delta());
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(BatchError::CountInvalid {
            record_count,
            last_offset_delta,
        });
    }
    if limits.origin == BatchOrigin::Client {
        if view.is_control() {
            return Err(BatchError::ControlNotAllowed);
        }
        if view.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchError::TimestampTypeInvalid);
        }
    }
    let has_epoch_and_sequence = view.producer_epoch() >= 0 && view.base_sequence() >= 0;
    let is_consistent = if view.has_producer_id() {
        // Transaction markers carry a producer but no sequence.
        has_epoch_and_sequence || view.is_control()
    } else {
        !view.is_transactional()
    };
    if is_consistent {
        Ok(())
    } else {
        Err(BatchError::ProducerInvalid {
            producer_id: view.producer_id(),
            producer_epoch: view.producer_epoch(),
            base_sequence: view.base_sequence(),
        })
    }
}

/// Walks all records: offset deltas 0, 1, 2…, timestamps in range, nothing behind the last one.
fn check_records<S: Source>(
    view: &BatchView<'_>,
    limits: &ValidateLimits,
    source: &mut S,
) -> Result<BatchSummary, BatchError> {
    let record_count = view.record_count();
    let base_timestamp = view.base_timestamp();
    // With log append time all records have the batch's time.
    let is_create_time = view.timestamp_type() == TimestampType::CreateTime;
    let (earliest, latest) = limits.timestamps.unwrap_or((i64::MIN, i64::MAX));
    let mut max_delta = i64::MIN;
    let mut max_index = 0;
    for index in 0..record_count {
        let walked = walk_record(source).map_err(|error| error.at(index))?;
        if walked.offset_delta != index {
            let fault = RecordFault::OffsetDelta(walked.offset_delta);
            return Err(BatchError::Record { index, fault });
        }
        if limits.is_key_required && !walked.has_key {
            return Err(BatchError::Record {
                index,
                fault: RecordFault::KeyMissing,
            });
        }
        if walked.timestamp_delta > max_delta {
            max_delta = walked.timestamp_delta;
            max_index = index;
        }
        let timestamp = base_timestamp.wrapping_add(walked.timestamp_delta);
        let is_in_range = timestamp >= earliest && timestamp <= latest;
        if !is_in_range && timestamp != NO_TIMESTAMP && is_create_time {
            return Err(BatchError::TimestampOutOfRange {
                index,
                timestamp,
                earliest,
                latest,
            });
        }
    }
    if !source.is_at_end().map_err(|error| error.at(record_count))? {
        return Err(BatchError::BytesRemain { record_count });
    }
    let (max_timestamp, max_timestamp_delta) = if is_create_time {
        (base_timestamp.wrapping_add(max_delta), max_index)
    } else {
        (view.max_timestamp(), 0)
    };
    let plain_bytes = source.position();
    Ok(BatchSummary {
        record_count,
        max_timestamp,
        max_timestamp_delta,
        plain_bytes,
    })
}
