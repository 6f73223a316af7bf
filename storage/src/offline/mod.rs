//! Looking into a data directory while no broker uses it: what it holds, and what of it is damaged.
//!
//! *Place*: `streambus log`. *Core*: any executor thread. *Invariants*: **I1** nothing is changed but by
//! [`repair_index`] when it is told to write. **I2** damage ends the part that it is in and is reported as an
//! [`Item::Damage`]; everything else is looked at all the same. **I3** what is found is what a start
//! would find: the same table, the same replay. *Limits*: one window of a file, or one batch, and the
//! live part of one shard's journal in memory.

mod log;
mod repair;
pub(crate) mod segment;

use std::path::{Path, PathBuf};

use runtime::{MemoryBudget, OpenMode, dir};

use crate::checkpoint::table::{self, TablesFound};
use crate::config::StorageConfig;
use crate::error::StorageError;
use crate::journal::{Journal, RecordView, Sequence};
use crate::log_id::{LogId, shard_dir};
use crate::partition_log::ProducerSummary;
use crate::recovery::{RecoveredLog, Recovery};
pub use repair::repair_index;
pub use segment::BatchInfo;

/// One thing that was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// The table that a shard's start would use.
    Checkpoint {
        /// The shard.
        shard: u32,
        /// Its number among the tables of the shard.
        generation: u64,
        /// Its logs.
        logs: usize,
        /// The first record that a start replays.
        replay_from: u64,
        /// When it was written, ms since 1970.
        written_ms: i64,
        /// The other copy is not whole: a crash came while it was written, or it is damaged.
        other_is_invalid: bool,
    },
    /// What a start would replay of a shard's journal.
    Journal {
        /// The shard.
        shard: u32,
        /// Records from the table's `replay_from` on.
        records: u64,
        /// The newest record.
        last_sequence: u64,
        /// Written and never answered: cut by the next start.
        bytes_cut: u64,
    },
    /// A log, as a start would find it.
    Log(&'a LogInfo),
    /// A segment of the log before.
    Segment {
        /// Its file.
        path: &'a Path,
        /// Offset of its first record.
        base_offset: i64,
        /// Its bytes, wherever they are.
        bytes: u64,
        /// Those in the file; the others are in the checkpoint table and the journal.
        file_bytes: u64,
    },
    /// A batch of the segment before.
    Batch(&'a BatchInfo<'a>),
    /// Index blocks of the segment before.
    Index {
        /// The index file.
        path: &'a Path,
        /// Blocks that it should hold.
        blocks: u64,
        /// Those of them that are missing or not right; a missing file is no damage.
        wrong: u64,
        /// They were written anew.
        is_repaired: bool,
    },
    /// The data of a log that was looked at alone ends here; what follows, if anything, is not known to be data.
    End {
        /// The file.
        path: &'a Path,
        /// Where in it.
        position: u64,
    },
    /// Bytes that are not what was written there, or a file that cannot be read.
    Damage {
        /// The file.
        file: &'a Path,
        /// Where in it.
        position: u64,
        /// What should be there.
        expected: &'a str,
        /// What is there.
        found: &'a str,
    },
}

/// What is known of a log.
#[derive(Clone, Debug)]
pub struct LogInfo {
    /// Its name.
    pub id: LogId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its directory.
    pub dir: PathBuf,
    /// First offset that may be read, and the next record's offset; none for a log that is looked at alone.
    pub offsets: Option<(i64, i64)>,
    /// Leader epochs and their first offsets.
    pub epochs: Vec<(i32, i64)>,
    /// Producers remembered.
    pub producers: Vec<ProducerSummary>,
    /// Segments.
    pub segments: usize,
}

/// Receives what is found, in order.
pub type Sink<'s> = dyn FnMut(Item<'_>) + 's;

/// Looks at everything in `dir`, a data directory or the directory of one log, which may be a copy.
///
/// # Errors
/// [`StorageError::Io`] if `dir` is neither; all other failures are reported as [`Item::Damage`].
pub async fn inspect(dir: &Path, sink: &mut Sink<'_>) -> Result<(), StorageError> {
    log::each_log(dir, sink, async |found, sink| {
        log::walk_log(found, sink).await;
    })
    .await
}

/// Reports an error as damage.
fn report(error: &StorageError, sink: &mut Sink<'_>) {
    let text;
    let (file, position, expected, found) = match error {
        StorageError::Corruption {
            file,
            position,
            expected,
            found,
        } => (file.as_path(), *position, expected.as_str(), found.as_str()),
        StorageError::Io { path, .. } => {
            text = error.to_string();
            (path.as_path(), 0, "a file that can be read", text.as_str())
        }
        StorageError::FormatVersion { file, .. } => {
            text = error.to_string();
            (file.as_path(), 0, "a known format version", text.as_str())
        }
        other => {
            text = other.to_string();
            (Path::new(""), 0, "no failure", text.as_str())
        }
    };
    sink(Item::Damage {
        file,
        position,
        expected,
        found,
    });
}

/// The logs of a shard as a start would find them; of a damaged journal, as the replay stopped.
async fn recover_shard(data_dir: &Path, shard: u32, sink: &mut Sink<'_>) -> Vec<RecoveredLog> {
    let shard_dir = shard_dir(data_dir, shard);
    if matches!(table::is_unfinished_first(&shard_dir).await, Ok(true)) {
        return Vec::new();
    }
    let (table, other_is_invalid) = match table::find_newest(&shard_dir, shard).await {
        Ok(TablesFound::Newest {
            table,
            other_is_invalid,
        }) => (table, other_is_invalid),
        Ok(TablesFound::None) => {
            let error =
                StorageError::corruption(&shard_dir, 0, "checkpoint.a or checkpoint.b", "neither");
            report(&error, sink);
            return Vec::new();
        }
        Err(error) => {
            report(&error, sink);
            return Vec::new();
        }
    };
    let header = table.header;
    sink(Item::Checkpoint {
        shard,
        generation: header.generation,
        logs: table.entries.len(),
        replay_from: header.replay_from,
        written_ms: header.written_ms,
        other_is_invalid,
    });
    let journal_dir = shard_dir.join("journal");
    let budget = MemoryBudget::new(1 << 40);
    let config = StorageConfig::default();
    let mut recovery = Recovery::new(table, journal_dir.clone(), &config, budget, 0);
    let mut visit = |sequence, record: RecordView<'_>| recovery.apply(sequence, record);
    let replay_from = Sequence::from(header.replay_from);
    match Journal::inspect(&journal_dir, replay_from, &mut visit).await {
        Ok((replayed, last)) => {
            let last_sequence = u64::from(last);
            sink(Item::Journal {
                shard,
                records: replayed.records,
                last_sequence,
                bytes_cut: replayed.bytes_cut,
            });
            if let Err(error) = recovery.check_end(last_sequence) {
                report(&error, sink);
            }
        }
        Err(error) => report(&error, sink),
    }
    if let Err(error) = recovery.check_known() {
        report(&error, sink);
    }
    recovery.into_logs()
}

/// The shards of a data directory; `None`: it is none.
async fn shards_of(data_dir: &Path) -> Option<Vec<u32>> {
    let entries = dir::read_dir(&data_dir.join("shards")).await.ok()?;
    let mut shards: Vec<u32> = entries
        .iter()
        .filter_map(|entry| entry.name.parse().ok())
        .collect();
    shards.sort_unstable();
    Some(shards)
}

/// Opens a file to be looked at.
async fn open_to_read(path: &Path) -> Result<(runtime::File, u64), StorageError> {
    let failed = |e| StorageError::io("open", path, e);
    let file = runtime::File::open(path, OpenMode::Read)
        .await
        .map_err(failed)?;
    let bytes = file.size().await.map_err(failed)?;
    Ok((file, bytes))
}
