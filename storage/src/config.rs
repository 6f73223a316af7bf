//! Settings of a shard's storage and of one log, with defaults and bounds.
//!
//! *Place*: the broker fills them from its own configuration and from topic configs; validated at
//! [`crate::Storage::open`]. *Limits*: every queue, buffer and cache of this crate is bounded by a
//! setting named here or in the journal's configuration.

use crate::error::StorageError;
use crate::journal::JournalConfig;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Settings of one shard's storage.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The journal's own settings.
    pub journal: JournalConfig,
    /// A log with so many unwritten bytes is written behind at once. 4 KiB – 64 MiB.
    pub write_behind_bytes: u64,
    /// A full block waits so long, in ms, before it is written even if nothing else asks for it.
    pub write_behind_age_ms: i64,
    /// Logs being written behind or synced at one time. 1 – 256.
    pub write_behind_concurrency: usize,
    /// Unwritten bytes over all logs above which the oldest are written at once.
    pub dirty_bytes_max: u64,
    /// Memory for unwritten bytes and for the newest batches of all logs together.
    pub cache_bytes_max: u64,
    /// Memory for what catch-up readers read from disk, read-ahead included.
    pub read_cache_bytes_max: u64,
    /// Size of one catch-up read, a power of two from 4 KiB to 8 MiB.
    pub read_window_bytes: u64,
    /// Greatest chunk a busy log gathers in. A power of two from 4 KiB to 16 MiB.
    pub chunk_bytes_max: u64,
    /// Whether batches that come from disk are checked against their CRC before they are served.
    pub verify_cold_reads: bool,
    /// Unsynced bytes of one log that a checkpoint carries rather than having them synced.
    pub checkpoint_tail_bytes_max: u64,
    /// Logs that a checkpoint syncs one by one; more are synced with their whole file system.
    pub checkpoint_file_syncs_max: usize,
    /// Percentage of the journal in use from which a checkpoint is made at the latest: of a few logs earlier. 1 – 90.
    pub checkpoint_journal_percent: u8,
    /// Segment and index files kept open.
    pub open_files_max: usize,
    /// Segments below this size get no space ahead of their writes: a log with little in it is small on disk.
    /// Above it a write that lengthens the file costs the kernel a thread and a wait. From 4 KiB.
    pub allocate_from_bytes: u64,
    /// Batches from this size on are written straight to their segment, where it has space allocated.
    /// From 4 KiB.
    pub direct_bytes_min: u64,
    /// Bytes on their way straight to segments behind which small batches wait in the journal: more go when those
    /// are committed. A larger batch goes alone.
    pub direct_bytes_max: u64,
    /// Greatest step by which the space of a busy segment is allocated ahead.
    pub allocate_step_bytes_max: u64,
    /// With less free space than this a warning is given; at most a fifth of the file system counts.
    pub warn_bytes: u64,
    /// With less free space than this appends are paced; at most a tenth of the file system counts.
    pub throttle_bytes: u64,
    /// Free space that appends leave alone: for checkpoints, journal files and deletions. At most a
    /// twentieth of the file system counts.
    pub reserve_bytes: u64,
    /// How fast the scrubber reads, in bytes a second; 0: as fast as it can.
    pub scrub_bytes_per_second: u64,
    /// Sealed segments are read again and checked once in so long, in ms; 0: never.
    pub scrub_period_ms: u64,
    /// Shards that share the file system; each admits its part of what is free.
    pub shards: u32,
    /// A producer that was silent for so long, in ms, is forgotten by retention.
    pub producer_expiration_ms: i64,
    /// Memory for the keys of one compaction round; less when the budget has none. From 4 KiB.
    pub cleaner_map_bytes_max: usize,
    /// Bytes that compaction reads and writes in a second. From 4 KiB.
    pub cleaner_io_bytes_per_second: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            journal: JournalConfig::default(),
            write_behind_bytes: 256 * KIB,
            write_behind_age_ms: 30_000,
            write_behind_concurrency: 8,
            dirty_bytes_max: 64 * MIB,
            cache_bytes_max: 128 * MIB,
            read_cache_bytes_max: 32 * MIB,
            read_window_bytes: 256 * KIB,
            chunk_bytes_max: MIB,
            verify_cold_reads: true,
            checkpoint_tail_bytes_max: 16 * KIB,
            checkpoint_file_syncs_max: 64,
            checkpoint_journal_percent: 40,
            open_files_max: 512,
            allocate_from_bytes: 64 * KIB,
            direct_bytes_min: 128 * KIB,
            direct_bytes_max: 8 * MIB,
            allocate_step_bytes_max: 64 * MIB,
            warn_bytes: 10 * 1024 * MIB,
            throttle_bytes: 2 * 1024 * MIB,
            reserve_bytes: 256 * MIB,
            scrub_bytes_per_second: MIB,
            scrub_period_ms: 0,
            shards: 1,
            producer_expiration_ms: 86_400_000,
            cleaner_map_bytes_max: 16 << 20,
            cleaner_io_bytes_per_second: 64 * MIB,
        }
    }
}

impl StorageConfig {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`StorageError::InvalidSetting`] names the first setting out of bounds.
    pub fn validate(&self) -> Result<(), StorageError> {
        let block = 4 * KIB;
        let power =
            |value: u64, max: u64| value.is_power_of_two() && (block..=max).contains(&value);
        let at_least_a_block = |name, value| (name, value, value >= block, "at least 4 KiB");
        let checks = [
            (
                "write_behind_bytes",
                self.write_behind_bytes,
                (block..=64 * MIB).contains(&self.write_behind_bytes),
                "4 KiB to 64 MiB",
            ),
            (
                "write_behind_concurrency",
                self.write_behind_concurrency as u64,
                (1..=256).contains(&self.write_behind_concurrency),
                "1 to 256",
            ),
            (
                "read_window_bytes",
                self.read_window_bytes,
                power(self.read_window_bytes, 8 * MIB),
                "a power of two from 4 KiB to 8 MiB",
            ),
            (
                "chunk_bytes_max",
                self.chunk_bytes_max,
                power(self.chunk_bytes_max, 16 * MIB),
                "a power of two from 4 KiB to 16 MiB",
            ),
            (
                "checkpoint_journal_percent",
                u64::from(self.checkpoint_journal_percent),
                (1..=90).contains(&self.checkpoint_journal_percent),
                "1 to 90",
            ),
            (
                "open_files_max",
                self.open_files_max as u64,
                self.open_files_max >= 8,
                "at least 8",
            ),
            (
                "checkpoint_tail_bytes_max",
                self.checkpoint_tail_bytes_max,
                (block..=MIB).contains(&self.checkpoint_tail_bytes_max),
                "4 KiB to 1 MiB",
            ),
            at_least_a_block("direct_bytes_min", self.direct_bytes_min),
            at_least_a_block("cleaner_map_bytes_max", self.cleaner_map_bytes_max as u64),
            at_least_a_block(
                "cleaner_io_bytes_per_second",
                self.cleaner_io_bytes_per_second,
            ),
            (
                "cache_bytes_max",
                self.cache_bytes_max,
                self.cache_bytes_max >= 4 * self.chunk_bytes_max,
                "at least four times chunk_bytes_max",
            ),
        ];
        match checks.into_iter().find(|(_, _, valid, _)| !valid) {
            None => Ok(()),
            Some((name, value, _, allowed)) => Err(StorageError::InvalidSetting {
                name,
                value,
                allowed,
            }),
        }
    }
}

/// Settings of one log, from its topic's configs. Not stored here: given at creation and by
/// [`crate::Storage::update_config`] after each start.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A segment is rolled before it would exceed this (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment is rolled when its records span more time than this, in ms (`segment.ms`).
    pub segment_ms: i64,
    /// Segments whose newest record is older than this, in ms, are deleted (`retention.ms`);
    /// `None`: kept.
    pub retention_ms: Option<i64>,
    /// Oldest segments are deleted while the rest is at least this large (`retention.bytes`);
    /// `None`: kept.
    pub retention_bytes: Option<u64>,
    /// Appends go on from the reserve when the disk is full: consumers commit while others clean up.
    pub may_use_reserve: bool,
    /// Of every key the newest record is kept (`cleanup.policy=compact`); `None`: all are.
    pub compaction: Option<CompactionConfig>,
}

/// How a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionConfig {
    /// Cleaned when a greater part than this, 0 to 1, is dirty (`min.cleanable.dirty.ratio`).
    pub min_cleanable_dirty_ratio: f64,
    /// Younger records than this, in ms, are left alone (`min.compaction.lag.ms`).
    pub min_compaction_lag_ms: i64,
    /// Cleaned whatever the ratio when a dirty record is older than this (`max.compaction.lag.ms`).
    pub max_compaction_lag_ms: i64,
    /// Tombstones stay for so long after the first cleaning (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

/// Kafka's default of `segment.bytes`, 1 GiB; its bound, 2³¹ − 1, is also the format's.
pub const SEGMENT_BYTES_DEFAULT: u64 = 1 << 30;
/// Positions in a segment fit an `i32`, as in Kafka.
pub const SEGMENT_BYTES_LIMIT: u64 = i32::MAX as u64;
const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            segment_ms: WEEK_MS,
            retention_ms: Some(WEEK_MS),
            retention_bytes: None,
            may_use_reserve: false,
            compaction: None,
        }
    }
}
