//! Changing the number of shards of a data directory: table entries move, files do not.
//!
//! *Place*: at start, before any storage is opened. *Durability*: one rename, `shards` to
//! `shards.old`, is the switch; what a crash leaves before and after it is in
//! `docs/storage-format.md`, "Changing the shard count". *Invariants*: **I1** every old table says
//! everything (its journal nothing) before entries are read from it. **I2** no incarnation that an
//! old shard gave out is given out again.

use std::path::{Path, PathBuf};

use runtime::MemoryBudget;
use runtime::dir;
use runtime::time::wall_clock_ms;

use super::entry::{self, EntryOwner, LogEntry};
use super::table::{self, TableHeader, TableWriter, TablesFound};
use crate::config::StorageConfig;
use crate::directory::sync_dir;
use crate::error::StorageError;
use crate::log_id::{LogId, logs_dir};
use crate::storage::Storage;

/// Memory that opening one old shard may use.
const BUDGET_BYTES: usize = 1 << 30;

struct ShardDirs {
    current: PathBuf,
    next: PathBuf,
    old: PathBuf,
}

impl ShardDirs {
    fn of(data_dir: &Path) -> Self {
        let dir = |name: &str| data_dir.join(name);
        ShardDirs {
            current: dir("shards"),
            next: dir("shards.next"),
            old: dir("shards.old"),
        }
    }
}

async fn exists(path: &Path) -> Result<bool, StorageError> {
    dir::exists(path)
        .await
        .map_err(|e| StorageError::io("look for", path, e))
}

async fn rename(from: &Path, to: &Path, data_dir: &Path) -> Result<(), StorageError> {
    dir::rename(from, to)
        .await
        .map_err(|e| StorageError::io("rename", from, e))?;
    sync_dir(data_dir).await
}

/// Refuses a data directory in which a switch was begun and not ended.
pub(crate) async fn check_not_switching(data_dir: &Path) -> Result<(), StorageError> {
    if exists(&ShardDirs::of(data_dir).old).await? {
        return Err(StorageError::ShardsSwitching {
            data_dir: data_dir.to_path_buf(),
        });
    }
    Ok(())
}

/// The number of shards that a data directory holds; `None`: it is new. Finishes a switch that a
/// crash interrupted. To be called before any storage is opened.
///
/// # Errors
/// [`StorageError::Io`]; [`StorageError::Corruption`] when `shards` is not numbered from 0 without gap, or is not
/// there although `logs` is.
pub async fn shard_count_on_disk(data_dir: &Path) -> Result<Option<u32>, StorageError> {
    let dirs = ShardDirs::of(data_dir);
    if exists(&dirs.old).await? {
        if !exists(&dirs.current).await? {
            rename(&dirs.next, &dirs.current, data_dir).await?;
        }
        remove_dir(&dirs.old, data_dir).await?;
    }
    if !exists(&dirs.current).await? {
        check_no_logs(data_dir, &dirs).await?;
        return Ok(None);
    }
    // A killed process may have renamed it and not synced: it has to be durable before there are logs.
    sync_dir(data_dir).await?;
    let entries = dir::read_dir(&dirs.current).await;
    let entries = entries.map_err(|e| StorageError::io("read directory", &dirs.current, e))?;
    let mut shards: Vec<u32> = entries
        .iter()
        .filter_map(|entry| entry.name.parse().ok())
        .collect();
    shards.sort_unstable();
    let count = shards.len() as u32;
    if !shards.iter().copied().eq(0..count) {
        let expected = format!("directories 0 to {}", count.saturating_sub(1));
        return Err(StorageError::corruption(
            &dirs.current,
            0,
            expected,
            format!("{shards:?}"),
        ));
    }
    if count == 0 {
        check_no_logs(data_dir, &dirs).await?;
    }
    Ok((count > 0).then_some(count))
}

/// Refuses logs without the tables and journals that say what is in them. A shard makes `logs` when `shards` is
/// durable, so no crash leaves them alone.
async fn check_no_logs(data_dir: &Path, dirs: &ShardDirs) -> Result<(), StorageError> {
    let logs = logs_dir(data_dir);
    if !exists(&logs).await? {
        return Ok(());
    }
    let expected = "a directory for each shard, as there are logs (restore it from a backup)";
    Err(StorageError::corruption(&dirs.current, 0, expected, "none"))
}

async fn remove_dir(path: &Path, parent: &Path) -> Result<(), StorageError> {
    dir::remove_dir_all(path)
        .await
        .map_err(|e| StorageError::io("delete", path, e))?;
    sync_dir(parent).await
}

/// Makes the directories of the `count` shards of a new data directory at once: a crash leaves all or none, so
/// that a missing one is damage. To be called before any storage is opened.
///
/// # Errors
/// [`StorageError::Io`], [`StorageError::DiskFull`].
pub async fn make_shards(data_dir: &Path, count: u32) -> Result<(), StorageError> {
    let (aside, current) = (data_dir.join("shards.new"), data_dir.join("shards"));
    if exists(&aside).await? {
        remove_dir(&aside, data_dir).await?;
    }
    for shard in 0..count {
        let path = aside.join(shard.to_string());
        dir::create_dir_all(&path)
            .await
            .map_err(|e| StorageError::io("create directory", &path, e))?;
    }
    sync_dir(&aside).await?;
    rename(&aside, &current, data_dir).await
}

/// Hands the logs of `old_count` shards over to `new_count`: each goes to shard `assign(id)`. No
/// storage of the directory may be open.
///
/// # Errors
/// [`StorageError::ShardCount`] when the directory does not hold `old_count` shards; those of
/// [`Storage::open`] and [`Storage::close`]. After an error the old shards are as they were.
///
/// # Panics
/// If `assign` answers a shard that is not below `new_count`.
pub async fn migrate_shards(
    data_dir: &Path,
    old_count: u32,
    new_count: u32,
    config: &StorageConfig,
    assign: impl Fn(LogId) -> u32,
) -> Result<(), StorageError> {
    let found = shard_count_on_disk(data_dir).await?.unwrap_or(0);
    if found != old_count {
        return Err(StorageError::ShardCount {
            data_dir: data_dir.to_path_buf(),
            found,
            stated: old_count,
        });
    }
    let dirs = ShardDirs::of(data_dir);
    if exists(&dirs.next).await? {
        remove_dir(&dirs.next, data_dir).await?;
    }
    let mut entries = Vec::new();
    let mut next_incarnation_counter = 1;
    for shard in 0..old_count {
        let (storage, _) = Storage::open(
            data_dir,
            shard,
            config.clone(),
            MemoryBudget::new(BUDGET_BYTES),
        )
        .await?;
        // Closing does without a checkpoint on a full disk; the move does not: it leaves the journal.
        storage.checkpoint().await?;
        storage.close().await?;
        let shard_dir = dirs.current.join(shard.to_string());
        if let TablesFound::Newest { table, .. } = table::read_newest(&shard_dir, shard).await? {
            next_incarnation_counter =
                next_incarnation_counter.max(table.header.next_incarnation_counter);
            entries.extend(table.entries);
        }
    }
    for shard in 0..new_count {
        let moved = entries.iter().filter(|entry| {
            let to = assign(entry.id);
            assert!(
                to < new_count,
                "log {} was assigned to shard {to} of {new_count}",
                entry.id
            );
            to == shard
        });
        write_table(
            &dirs.next.join(shard.to_string()),
            shard,
            next_incarnation_counter,
            moved,
        )
        .await?;
    }
    sync_dir(&dirs.next).await?;
    sync_dir(data_dir).await?;
    // The switch.
    rename(&dirs.current, &dirs.old, data_dir).await?;
    shard_count_on_disk(data_dir).await.map(|_| ())
}

async fn write_table(
    shard_dir: &Path,
    shard: u32,
    next_incarnation_counter: u64,
    entries: impl Iterator<Item = &LogEntry>,
) -> Result<(), StorageError> {
    dir::create_dir_all(shard_dir)
        .await
        .map_err(|e| StorageError::io("create directory", shard_dir, e))?;
    let mut writer = TableWriter::open(shard_dir, 1).await?;
    let mut bytes = Vec::new();
    for LogEntry {
        id,
        incarnation,
        state,
        ..
    } in entries
    {
        bytes.clear();
        let owner = EntryOwner {
            id: *id,
            incarnation: *incarnation,
            applied: 0,
        };
        let to_sync = entry::encode(owner, state, u64::MAX, &mut bytes);
        assert_eq!(
            to_sync, None,
            "a table that was read carries what is not in segments"
        );
        writer.put(&bytes, 1).await?;
    }
    writer.finish_body().await?;
    let header = TableHeader {
        generation: 1,
        shard,
        log_count: 0,
        body_bytes: 0,
        body_crc: 0,
        replay_from: 1,
        next_incarnation_counter,
        written_ms: wall_clock_ms(),
    };
    writer.publish(header).await.map(|_| ())
}
