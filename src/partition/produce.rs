//! Appending one partition's batch for Produce: fences, validation, producer state, the log.
//!
//! Place: `handlers/produce` calls [`append`] on the owner, and waits for durability itself.
//! Source: Kafka's produce rules (KIP-98 for producer ids and sequences).

use std::borrow::Cow;

use cluster::configs::{TimestampType, TopicConfig};
use protocol::error_code::ErrorCode;
use protocol::record_batch::{
    BatchError, BatchErrorKind, BatchSummary, BatchView, ValidateLimits, set_log_append_time,
    set_max_timestamp, validate,
};
use storage::{SequenceCheck, StorageError};

use super::log_dirs::DirIndex;
use super::replica::Replica;
use super::shard::Shard;
use crate::metrics;

/// Why a batch was refused: the code, and for people what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Code for the client.
    pub code: ErrorCode,
    /// What was wrong and what is allowed.
    pub message: String,
    /// Position in the batch of the record that is to blame, if it is one.
    pub record_index: Option<i32>,
}

impl Refused {
    /// A refusal that is not about one record.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            record_index: None,
        }
    }
}

/// What the request that carries a batch asks for.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// acks=all: `min.insync.replicas` must be met.
    pub needs_all_replicas: bool,
    /// Not with acks=0: somebody waits for what was appended, if the topic does.
    pub waits_for_disk: bool,
    /// Produce v7 and later may use zstd.
    pub is_zstd_allowed: bool,
}

/// What an append came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Offset of the batch's first record.
    pub base_offset: i64,
    /// Append time if the topic stamps its records, or −1.
    pub log_append_time: i64,
    /// First offset of the log.
    pub log_start_offset: i64,
    /// The log directory that it is in.
    pub dir: DirIndex,
    /// Journal sequence of that directory to wait for before the producer is told, or `None` if it need not wait.
    pub sequence: Option<storage::Sequence>,
}

/// Validates `records` and appends them; the caller waits for durability.
///
/// Waits only while the shard's memory or journal has no room, or behind batches of this partition that do.
pub async fn append(
    shard: &Shard,
    replica: &Replica,
    records: &[u8],
    rules: Rules,
) -> Result<Accepted, Refused> {
    let config = replica.config();
    if rules.needs_all_replicas && config.min_insync_replicas > 1 {
        let message = format!(
            "min.insync.replicas is {} and the partition has 1 in-sync replica",
            config.min_insync_replicas
        );
        return Err(Refused::new(ErrorCode::NotEnoughReplicas, message));
    }
    let now_ms = runtime::time::wall_clock_ms();
    let (batch, summary) = check_batch(shard, &config, records, rules, now_ms)?;
    let records = stamp(&config, records, &batch, &summary, now_ms);
    let turn = replica.turn().await;
    let appended = loop {
        while !replica.log.has_room(records.len()) {
            let room = replica.log.reserve(records.len()).await;
            room.map_err(|error| refuse_append(shard, &error))?;
        }
        // From here to the append nothing is awaited: what is checked stays true.
        if let Some(duplicate) = check_producer(shard, replica, &batch)? {
            return Ok(duplicate);
        }
        let epoch = replica.leader_epoch();
        match replica.log.append(&records, epoch, now_ms) {
            Ok(appended) => break appended,
            Err(StorageError::NoRoom) => runtime::task::yield_now().await,
            Err(error) => return Err(refuse_append(shard, &error)),
        }
    };
    drop(turn);
    metrics::add(
        &shard.metrics.records_in,
        u64::try_from(summary.record_count).unwrap_or(0),
    );
    metrics::add(&shard.metrics.record_bytes_in, records.len() as u64);
    if !replica.is_durable() {
        replica.wake_fetches();
    }
    Ok(Accepted {
        base_offset: appended.base_offset,
        log_append_time: appended.log_append_time,
        log_start_offset: replica.log.log_start_offset(),
        dir: replica.dir,
        sequence: replica.is_durable().then_some(appended.sequence),
    })
}

/// The batch with the broker's time where the topic wants it, and with a true largest timestamp:
/// retention and lookups by time rest on the header. Copies only if something has to change.
fn stamp<'a>(
    config: &TopicConfig,
    records: &'a [u8],
    batch: &BatchView<'_>,
    summary: &BatchSummary,
    now_ms: i64,
) -> Cow<'a, [u8]> {
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        let mut stamped = records.to_vec();
        set_log_append_time(&mut stamped, now_ms);
        return stamped.into();
    }
    if summary.max_timestamp != batch.max_timestamp() {
        let mut corrected = records.to_vec();
        set_max_timestamp(&mut corrected, summary.max_timestamp);
        return corrected.into();
    }
    records.into()
}

/// Everything about a batch that does not depend on the log.
fn check_batch<'a>(
    shard: &Shard,
    config: &TopicConfig,
    records: &'a [u8],
    rules: Rules,
    now_ms: i64,
) -> Result<(BatchView<'a>, BatchSummary), Refused> {
    let batch = BatchView::parse(records).map_err(|error| refuse_batch(&error))?;
    let limits = ValidateLimits {
        batch_bytes_max: config.max_message_bytes,
        timestamps: allowed_timestamps(config, now_ms),
        is_key_required: config.cleanup_policy.has_compact(),
        is_zstd_allowed: rules.is_zstd_allowed,
        ..ValidateLimits::default()
    };
    let summary = validate(&batch, &limits, &mut shard.validate_scratch.borrow_mut())
        .map_err(|error| refuse_batch(&error))?;
    if batch.is_transactional() {
        let message = "transactions are not supported by this version of StreamBus";
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    Ok((batch, summary))
}

/// Earliest and latest record timestamp of the topic; none where the broker stamps them itself.
fn allowed_timestamps(config: &TopicConfig, now_ms: i64) -> Option<(i64, i64)> {
    (config.message_timestamp_type == TimestampType::CreateTime).then(|| {
        (
            now_ms.saturating_sub(config.message_timestamp_before_max_ms),
            now_ms.saturating_add(config.message_timestamp_after_max_ms),
        )
    })
}

/// Checks producer id, epoch and sequence; answers a duplicate as the original was answered.
fn check_producer(
    shard: &Shard,
    replica: &Replica,
    batch: &BatchView<'_>,
) -> Result<Option<Accepted>, Refused> {
    if batch.producer_id() < 0 {
        return Ok(None);
    }
    let (first, last) = (batch.base_sequence(), batch.last_sequence());
    let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
    match replica.log.check_sequence(id, epoch, first, last) {
        SequenceCheck::New => Ok(None),
        SequenceCheck::Duplicate {
            base_offset,
            timestamp,
            ..
        } => {
            let storage = shard.log_dirs.opened(replica.dir);
            let storage = storage.map_err(|error| refuse_append(shard, &error))?;
            let stamps = replica.config().message_timestamp_type == TimestampType::LogAppendTime;
            Ok(Some(Accepted {
                base_offset,
                log_append_time: if stamps { timestamp } else { -1 },
                log_start_offset: replica.log.log_start_offset(),
                dir: replica.dir,
                // The original may not be durable yet: its answer waits for all that is gathered now.
                sequence: replica
                    .is_durable()
                    .then(|| storage.journal().last_sequence()),
            }))
        }
        SequenceCheck::OutOfOrder { expected, found } => {
            let message = format!("sequence {found} came where {expected} was expected");
            Err(Refused::new(ErrorCode::OutOfOrderSequenceNumber, message))
        }
        SequenceCheck::StaleEpoch { current } => {
            let message = format!("producer epoch {epoch} is older than {current}");
            Err(Refused::new(ErrorCode::InvalidProducerEpoch, message))
        }
    }
}

fn refuse_batch(error: &BatchError) -> Refused {
    let code = match error.kind() {
        BatchErrorKind::CorruptMessage => ErrorCode::CorruptMessage,
        BatchErrorKind::MessageTooLarge => ErrorCode::MessageTooLarge,
        BatchErrorKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        BatchErrorKind::UnsupportedForMessageFormat => ErrorCode::UnsupportedForMessageFormat,
        BatchErrorKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
        BatchErrorKind::InvalidRecord => ErrorCode::InvalidRecord,
    };
    Refused {
        record_index: error.record_index(),
        ..Refused::new(code, error.to_string())
    }
}

fn refuse_append(shard: &Shard, error: &StorageError) -> Refused {
    if matches!(error, StorageError::SpaceExhausted { .. }) {
        metrics::add(&shard.metrics.batches_without_space, 1);
    }
    Refused::new(storage_error_code(error), error.to_string())
}

/// Maps what storage says to what a client is told. Whether a client tries again follows from the code:
/// it does for `KAFKA_STORAGE_ERROR` and `NOT_LEADER_OR_FOLLOWER`.
pub fn storage_error_code(error: &StorageError) -> ErrorCode {
    match error {
        // The disk: full, failed, or offline since it failed.
        StorageError::SpaceExhausted { .. }
        | StorageError::DiskFull { .. }
        | StorageError::Io { .. }
        | StorageError::Offline { .. }
        | StorageError::Journal(_)
        | StorageError::FormatVersion { .. } => ErrorCode::KafkaStorageError,
        StorageError::Corruption { .. } | StorageError::BadBatch { .. } => {
            ErrorCode::CorruptMessage
        }
        StorageError::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
        StorageError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        StorageError::LogDeleted => ErrorCode::UnknownTopicOrPartition,
        // It passes: an append waits for room, others may come again.
        StorageError::LogBusy | StorageError::NoRoom => ErrorCode::NotLeaderOrFollower,
        // Not while a client is served.
        StorageError::LogExists { .. }
        | StorageError::ShardsSwitching { .. }
        | StorageError::FileSystems { .. }
        | StorageError::ShardCount { .. }
        | StorageError::InvalidSetting { .. } => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use futures_lite::future::poll_once;
    use protocol::record_batch::{BatchBuilder, BatchOptions};
    use runtime::sim::Disk;
    use runtime::task::{self, Class};
    use storage::journal::JournalFailed;

    use super::super::log_dir_failure::tests::{keys, make, run};
    use super::*;

    fn numbered(sequence: i32) -> Vec<u8> {
        let mut batch = BatchBuilder::new(BatchOptions {
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: sequence,
            ..BatchOptions::default()
        });
        // Small ones find room before large ones that came first.
        let value = vec![7; if sequence % 2 == 0 { 9_000 } else { 10 }];
        batch.push(runtime::time::wall_clock_ms(), None, Some(&value), &[]);
        batch.build().expect("a batch")
    }

    /// Was: a batch that came while another one waited for room could be appended before it. Of an idempotent
    /// producer it was refused as out of order.
    #[test]
    fn batches_that_wait_for_room_keep_their_order() {
        const COUNT: i32 = 200;
        let rules = Rules {
            needs_all_replicas: true,
            waits_for_disk: true,
            is_zstd_allowed: true,
        };
        run(&Disk::new(), async move {
            let shard = make().await;
            let replica = shard.table.find(keys(1).next().expect("a key"));
            let replica = replica.expect("a replica");
            let mut waiting = Vec::new();
            for sequence in 0..COUNT {
                let (shard, replica) = (shard.clone(), replica.clone());
                let mut work = Box::pin(async move {
                    let records = numbered(sequence);
                    let accepted = append(&shard, &replica, &records, rules).await;
                    let accepted = accepted.expect("in order");
                    assert_eq!(accepted.base_offset, i64::from(sequence));
                });
                // As a shard begins what others send it.
                if poll_once(&mut work).await.is_none() {
                    waiting.push(task::spawn(Class::Network, work));
                }
            }
            assert!(!waiting.is_empty(), "all found room");
            for work in waiting {
                work.await.expect("accepted");
            }
        });
    }

    #[test]
    fn every_storage_error_has_its_code() {
        let (path, reason) = (PathBuf::new, || "test".to_owned());
        let check = |error: StorageError, expected: ErrorCode| {
            assert_eq!(storage_error_code(&error), expected, "{error:?}");
        };
        let storage = ErrorCode::KafkaStorageError;
        let io = |source: io::ErrorKind| StorageError::io("write", &path(), source.into());
        check(io(io::ErrorKind::Other), storage);
        check(io(io::ErrorKind::StorageFull), storage);
        check(StorageError::Offline { reason: reason() }, storage);
        let reason_of_journal = reason().into();
        check(
            JournalFailed {
                reason: reason_of_journal,
            }
            .into(),
            storage,
        );
        let exhausted = StorageError::SpaceExhausted {
            free_bytes: 1,
            reserve_bytes: 2,
        };
        check(exhausted, storage);
        let version = StorageError::FormatVersion {
            file: path(),
            found: 2,
            supported: 1,
        };
        check(version, storage);
        let damaged = StorageError::corruption(&path(), 0, "a", "b");
        check(damaged, ErrorCode::CorruptMessage);
        let bad = StorageError::BadBatch {
            field: "magic",
            expected: 2,
            found: 1,
        };
        check(bad, ErrorCode::CorruptMessage);
        let large = StorageError::BatchTooLarge {
            bytes: 2,
            bytes_max: 1,
        };
        check(large, ErrorCode::MessageTooLarge);
        let outside = StorageError::OffsetOutOfRange {
            offset: 9,
            log_start: 0,
            log_end: 1,
        };
        check(outside, ErrorCode::OffsetOutOfRange);
        check(StorageError::LogDeleted, ErrorCode::UnknownTopicOrPartition);
        check(StorageError::LogBusy, ErrorCode::NotLeaderOrFollower);
        check(StorageError::NoRoom, ErrorCode::NotLeaderOrFollower);
        let unknown = ErrorCode::UnknownServerError;
        check(StorageError::LogExists { log: reason() }, unknown);
        check(StorageError::ShardsSwitching { data_dir: path() }, unknown);
        let count = StorageError::ShardCount {
            data_dir: path(),
            found: 1,
            stated: 2,
        };
        check(count, unknown);
        let setting = StorageError::InvalidSetting {
            name: "x",
            value: 1,
            allowed: "2",
        };
        check(setting, unknown);
    }
}
