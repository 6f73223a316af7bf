//! A simulated machine for storage tests.

use std::future::Future;
use std::path::{Path, PathBuf};

use runtime::MemoryBudget;
use runtime::sim::{Disk, End, Simulation};
use runtime::time::wall_clock_ms;
use storage::{LogConfig, LogId, RecoveryReport, Storage, StorageConfig, StorageError};

use crate::batches::{Spec, stored};

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
        reserve_bytes: 64 << 10,
        checkpoint_tail_bytes_max: 8 << 10,
        checkpoint_file_syncs_max: 2,
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

/// Appends a batch and waits until it is durable; answers its bytes as stored.
pub(crate) async fn append(storage: &Storage, log: &storage::PartitionLog, spec: Spec) -> Vec<u8> {
    append_in_epoch(storage, log, spec, 0).await
}

pub(crate) async fn append_in_epoch(
    storage: &Storage,
    log: &storage::PartitionLog,
    spec: Spec,
    epoch: i32,
) -> Vec<u8> {
    let batch = spec.build();
    log.reserve(batch.len()).await.expect("room");
    let appended = log.append(&batch, epoch, wall_clock_ms()).expect("append");
    storage.committed(appended.sequence).await.expect("commit");
    assert_eq!(
        log.durable_end_offset(),
        log.log_end_offset(),
        "the durable end moves before the wait ends"
    );
    stored(&batch, appended.base_offset, epoch)
}

/// Appends a batch of about `bytes` for each number.
pub(crate) async fn append_many(
    storage: &Storage,
    log: &storage::PartitionLog,
    numbers: std::ops::Range<u64>,
    bytes: usize,
) -> Vec<u8> {
    let mut all = Vec::new();
    for number in numbers {
        all.extend(append(storage, log, Spec::new(number, 2, bytes / 2)).await);
    }
    all
}

/// Path of a file of a log of shard 0.
pub(crate) fn log_file(log: u32, incarnation: u64, name: &str) -> PathBuf {
    let id = log_id(log);
    Path::new(DATA_DIR).join(format!("logs/{id}-{incarnation:016x}/{name}"))
}

/// Path of a segment file of the first log that a test made.
pub(crate) fn first_log_segment(base_offset: i64) -> PathBuf {
    log_file(1, 1 << 16, &format!("{base_offset:020}.log"))
}
