//! Opens what a shard has in each data directory.
//!
//! Place: `shard_main`, at start. A further directory that cannot be opened is offline; the first one has to be
//! there. Memory and open files of a shard are shared out between its directories.

use std::sync::Arc;

use runtime::BLOCK_BYTES;
use runtime::budget::MemoryBudget;
use runtime::task::{self, Class};
use storage::{
    LogId, Storage, StorageConfig, StorageError, make_shards, migrate_shards, shard_count_on_disk,
};

use super::data_dirs::{DataDir, tell_offline};
use crate::config::Config;
use crate::partition::log_dirs::{LogDir, LogDirs};
use crate::partition::table::{PartitionKey, owner};

/// Smallest memory budget of a shard.
const BUDGET_BYTES_MIN: u64 = 64 << 20;
/// Smallest part of it that a directory's caches are made for.
const DIR_BYTES_MIN: u64 = 8 << 20;

/// Brings the data directories to this number of shards before any of them opens one. Answers which of them are
/// there.
pub(super) async fn bring_to_shard_count(
    config: &Config,
    data_dirs: &[DataDir],
    shards: usize,
) -> Result<Arc<[DataDir]>, String> {
    let mut brought = data_dirs.to_vec();
    for (index, dir) in brought.iter_mut().enumerate() {
        if dir.offline.is_some() {
            continue;
        }
        let result = bring_dir(config, dir, data_dirs.len(), shards).await;
        match result.map_err(|error| error.to_string()) {
            Ok(()) => {}
            Err(error) if index == 0 => return Err(error),
            Err(error) => {
                tell_offline(&dir.path, &error);
                dir.offline = Some(error);
            }
        }
    }
    Ok(brought.into())
}

async fn bring_dir(
    config: &Config,
    dir: &DataDir,
    dirs: usize,
    shards: usize,
) -> Result<(), StorageError> {
    let Some(present) = shard_count_on_disk(&dir.path).await? else {
        return make_shards(&dir.path, shards as u32).await;
    };
    if present as usize == shards {
        return Ok(());
    }
    let directory = dir.path.display();
    tracing::info!(%directory, from = present, to = shards, "the number of shards changes");
    let assign = |id: LogId| {
        let topic = protocol::primitives::Uuid(id.topic);
        let partition = id.partition as i32;
        owner(PartitionKey { topic, partition }, shards) as u32
    };
    let storage_config = storage_config(
        config,
        dir,
        budget_bytes(config, 1),
        Share { shards: 1, dirs },
    );
    migrate_shards(&dir.path, present, shards as u32, &storage_config, assign).await
}

/// Opens shard `id` of `shards` in every data directory that is there, all side by side: each disk replays its own
/// journal.
pub(super) async fn open(
    config: &Config,
    data_dirs: &[DataDir],
    id: usize,
    shards: usize,
    budget: &MemoryBudget,
) -> Result<LogDirs, String> {
    let share = Share {
        shards,
        dirs: data_dirs.len(),
    };
    let opening = data_dirs.iter().map(|dir| {
        let storage_config = storage_config(config, dir, budget.limit(), share);
        let opening = open_storage(dir.clone(), id, storage_config, budget.clone());
        task::spawn(Class::Storage, opening)
    });
    let opening: Vec<_> = opening.collect();
    let mut storages = Vec::with_capacity(data_dirs.len());
    for opening in opening {
        let storage = opening.await;
        storages.push(storage.unwrap_or_else(|failed| Err(failed.to_string())));
    }
    if let Some(Err(error)) = storages.first() {
        return Err(error.clone());
    }
    let dirs = data_dirs.iter().zip(storages).map(|(dir, storage)| {
        if let (Err(error), None) = (&storage, &dir.offline) {
            tell_offline(&dir.path, error);
        }
        LogDir::new(dir.path.clone(), storage)
    });
    let opened = LogDirs::new(id, dirs.collect());
    match opened.find_twice() {
        None => Ok(opened),
        Some((id, [one, other])) => Err(format!(
            "both {} and {} have the log {id}; one of them was forgotten and came back: take it out of \
             node.further_data_dirs",
            one.display(),
            other.display()
        )),
    }
}

async fn open_storage(
    dir: DataDir,
    id: usize,
    config: StorageConfig,
    budget: MemoryBudget,
) -> Result<Storage, String> {
    if let Some(reason) = dir.offline {
        return Err(reason);
    }
    let opened = Storage::open(&dir.path, id as u32, config, budget).await;
    let (storage, report) = opened.map_err(|error| error.to_string())?;
    let directory = dir.path.display();
    tracing::info!(shard = id, %directory, ?report, "storage recovered");
    Ok(storage)
}

/// This shard's part of the memory budget.
pub(super) fn budget_bytes(config: &Config, shards: usize) -> usize {
    let total = match config.memory_budget_bytes {
        0 => machine_memory_bytes() / 4,
        bytes => bytes,
    };
    usize::try_from((total / shards as u64).max(BUDGET_BYTES_MIN)).unwrap_or(usize::MAX)
}

/// Files that a shard may keep open at least.
const OPEN_FILES_MIN: usize = 64;

/// Memory of this machine, as the kernel tells it; 4 GiB if it does not.
fn machine_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(4 << 30, |kib| kib * 1024)
}

/// Descriptors that this process may have open, as the kernel tells it; 1,024 if it does not.
fn descriptors_max() -> usize {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1_024)
}

/// Between how many the machine is shared out.
#[derive(Debug, Clone, Copy)]
struct Share {
    shards: usize,
    dirs: usize,
}

/// 0 in the settings: no batch is so large.
fn direct_bytes_min(config: &Config) -> u64 {
    match config.storage.direct_bytes_min {
        0 => u64::MAX,
        bytes => bytes.max(BLOCK_BYTES as u64),
    }
}

fn storage_config(
    config: &Config,
    dir: &DataDir,
    budget_bytes: usize,
    Share { shards, dirs }: Share,
) -> StorageConfig {
    let open_files_max = match config.storage.open_files_max {
        0 => descriptors_max() / 2,
        files => files,
    };
    let budget = ((budget_bytes / dirs) as u64).max(DIR_BYTES_MIN);
    let mut storage = StorageConfig {
        dirty_bytes_max: config.storage.dirty_bytes_max.min(budget / 4),
        direct_bytes_min: direct_bytes_min(config),
        cache_bytes_max: budget / 2,
        read_cache_bytes_max: budget / 8,
        verify_cold_reads: config.storage.verify_cold_reads,
        scrub_period_ms: config.storage.scrub_period_ms,
        scrub_bytes_per_second: config.storage.scrub_bytes_per_second,
        open_files_max: (open_files_max / shards / dirs).max(OPEN_FILES_MIN),
        cleaner_map_bytes_max: config.compaction.map_bytes,
        cleaner_io_bytes_per_second: config.compaction.io_bytes_per_second,
        warn_bytes: config.storage.disk_warn_bytes,
        throttle_bytes: config.storage.disk_throttle_bytes,
        reserve_bytes: config.storage.disk_reserve_bytes,
        shards: (shards * dir.on_file_system) as u32,
        ..StorageConfig::default()
    };
    storage.journal.file_bytes = config.storage.journal_file_bytes;
    storage.journal.files_max = config.storage.journal_files_max;
    storage
}
