//! One shard's journal and its partition logs on one disk.
//!
//! *Place*: below the broker's data plane, above `runtime`; it has never heard of topics or brokers.
//! *Core*: everything here lives on the shard that opened it. *Durability*: what is answered as done
//! is in the journal, durably; the formats and what a crash leaves between any two steps are in
//! `docs/storage-format.md`.

#![deny(unsafe_code)]

mod cache;
mod checkpoint;
mod codec;
mod compaction;
mod config;
mod directory;
mod engine;
mod error;
mod growth;
pub mod journal;
mod log_id;
pub mod offline;
mod partition_log;
mod read_ahead;
mod recovery;
mod scrub;
mod segment;
mod space;
mod storage;
mod tasks;
mod write_behind;

pub use cache::ReadCacheCounts;
pub use checkpoint::migrate::{make_shards, migrate_shards, shard_count_on_disk};
pub use compaction::{Candidate, Cleaned, CleanerCounts};
pub use config::{
    CompactionConfig, LogConfig, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_LIMIT, StorageConfig,
};
pub use error::StorageError;
pub use journal::Sequence;
pub use log_id::LogId;
pub use partition_log::{
    Appended, Fate, Judgement, PartitionLog, ProducerSummary, ReadResult, RetentionOutcome,
    SegmentRetention, SequenceCheck, TimestampOffset,
};
pub use recovery::RecoveryReport;
pub use space::SpaceStage;
pub use storage::{Storage, StorageCounts};
