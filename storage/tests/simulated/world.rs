//! A simulated machine for storage tests.

use std::future::Future;
use std::path::Path;

use runtime::MemoryBudget;
use runtime::sim::{Disk, End, Simulation};
use storage::{LogConfig, LogId, RecoveryReport, Storage, StorageConfig, StorageError};

pub(crate) const DATA_DIR: &str = "/data";

pub(crate) fn log_id(number: u32) -> LogId {
    LogId {
        topic: [number as u8; 16],
        partition: number,
    }
}

/// Everything small, so that short tests roll, write behind, evict and checkpoint.
pub(crate) fn small_config() -> StorageConfig {
    StorageConfig {
        journal: small_journal(),
        write_behind_bytes: 8 << 10,
        write_behind_concurrency: 3,
        dirty_bytes_max: 64 << 10,
        cache_bytes_max: 256 << 10,
        read_cache_bytes_max: 128 << 10,
        read_window_bytes: 8 << 10,
        chunk_bytes_max: 16 << 10,
        open_files_max: 8,
        checkpoint_tail_bytes_max: 8 << 10,
        ..StorageConfig::default()
    }
}

fn small_journal() -> storage::journal::JournalConfig {
    storage::journal::JournalConfig {
        file_bytes: 128 << 10,
        files_max: 4,
        group_bytes_max: 32 << 10,
    }
}

pub(crate) fn small_log() -> LogConfig {
    LogConfig {
        segment_bytes: 48 << 10,
        retention_ms: None,
        retention_bytes: Some(96 << 10),
        ..LogConfig::default()
    }
}

pub(crate) async fn try_open(
    config: StorageConfig,
) -> Result<(Storage, RecoveryReport), StorageError> {
    Storage::open(Path::new(DATA_DIR), 0, config, MemoryBudget::new(64 << 20)).await
}

pub(crate) async fn open() -> Storage {
    try_open(small_config()).await.expect("open").0
}

/// Runs a program on a disk to its end.
pub(crate) fn run<T: 'static>(disk: &Disk, program: impl Future<Output = T> + 'static) -> T {
    Simulation::new(1).disk(disk).run(program).value()
}

/// Runs a program until it ends (`Some`) or the disk's crash point comes.
pub(crate) fn run_until_crash<T: 'static>(
    disk: &Disk,
    seed: u64,
    program: impl Future<Output = T> + 'static,
) -> Option<T> {
    match Simulation::new(seed).disk(disk).run(program).end {
        End::Done(value) => Some(value),
        End::Crashed => None,
        End::Deadlock { tasks } => panic!("deadlock: {tasks} tasks wait for nothing (seed {seed})"),
        End::TooManySteps => panic!("a storage that runs in circles (seed {seed})"),
    }
}

/// All batches from the log start to `upto`, read piecemeal.
pub(crate) async fn read_all(
    log: &storage::PartitionLog,
    bytes_max: usize,
    upto: i64,
) -> Result<Vec<u8>, StorageError> {
    let mut offset = log.log_start_offset();
    let mut bytes = Vec::new();
    while offset < upto {
        let result = log.read(offset, bytes_max, upto).await?;
        assert!(result.bytes > 0, "nothing at {offset} below {upto}");
        assert!(result.next_offset > offset, "no progress at {offset}");
        bytes.extend(result.slices.iter().flat_map(|slice| slice.iter().copied()));
        offset = result.next_offset;
    }
    Ok(bytes)
}
