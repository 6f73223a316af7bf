//! Checkpoints: making the journal's records superfluous by writing down what they led to.
//!
//! *Place*: run by the write-behind when the journal fills, and at close. *Durability*: the steps and
//! what a crash between them leaves are in `docs/storage-format.md`, "Writing a table".
//! *Invariants*: **I1** an entry counts only when everything it does not carry is durable in
//! segments, when its applied sequence is durable in the journal, and when deletions decided
//! before it was encoded have been carried out. **I2** the journal is released only through what
//! every entry has applied. *Limits*: logs are encoded [`LOGS_A_SLICE`] at a time, then others run;
//! [`CALM_WORKERS`] logs are synced at one time, `write_behind_concurrency` when the journal fills.

pub(crate) mod entry;
pub(crate) mod migrate;
pub(crate) mod table;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use runtime::task::{Class, spawn, yield_now};
use runtime::time::wall_clock_ms;

use crate::engine::Engine;
use crate::error::StorageError;
use crate::log_id::shard_dir;
use crate::partition_log::written::Written;
use crate::partition_log::{Condition, Log, sync_logs_dir};
use entry::{EntryOwner, SegmentPosition};
use table::{TableHeader, TableWriter};

/// Logs encoded without giving way to other tasks: about 100 µs for ordinary ones.
const LOGS_A_SLICE: usize = 64;

/// Logs that are written at one time while the journal has room.
const CALM_WORKERS: usize = 3;

/// What has to be durable in segments before the table counts.
type SyncList = VecDeque<(Rc<Log>, SegmentPosition)>;

/// Which table is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointPlan {
    pub(crate) generation: u64,
    pub(crate) next_incarnation_counter: u64,
}

/// Writes a table of `logs` as they are, and lets the journal go through what it covers.
///
/// # Errors
/// Of the writes; the caller takes the storage offline.
pub(crate) async fn write(
    engine: &Rc<Engine>,
    logs: Vec<Rc<Log>>,
    plan: CheckpointPlan,
) -> Result<TableHeader, StorageError> {
    engine.check_online()?;
    engine.note_checkpoint();
    // Now, before anything is waited for: `logs` has every log that a smaller record made.
    let next_sequence = engine.last_sequence_value() + 1;
    let shard_dir = shard_dir(&engine.data_dir, engine.shard);
    let mut writer = TableWriter::open(&shard_dir, plan.generation).await?;
    let Encoded {
        replay_from,
        sync_list,
    } = encode_logs(engine, &logs, &mut writer, next_sequence).await?;
    let encoded_through = engine.last_sequence();
    sync_logs(engine, sync_list).await?;
    sync_logs_dir(engine).await?;
    // What an entry has applied, and what made a synced log skip segments it no longer has, must
    // not be lost itself; nor may files that were to be deleted outlive the last record of that.
    engine
        .committed(engine.last_sequence().max(encoded_through))
        .await?;
    engine.wait_for_removals().await?;
    writer.finish_body().await?;
    engine.check_online()?;
    let header = writer
        .publish(TableHeader {
            generation: plan.generation,
            shard: engine.shard,
            log_count: 0,
            body_bytes: 0,
            body_crc: 0,
            replay_from,
            next_incarnation_counter: plan.next_incarnation_counter,
            written_ms: wall_clock_ms(),
        })
        .await?;
    engine.release_journal_below(replay_from);
    table::allocate_next(&shard_dir, &header).await;
    Ok(header)
}

/// What the entries of a table rely on.
struct Encoded {
    /// Every record below is in every entry (I2).
    replay_from: u64,
    sync_list: SyncList,
}

/// Encodes the entries of `logs`, all there were at `next_sequence`, a slice at a time.
async fn encode_logs(
    engine: &Rc<Engine>,
    logs: &[Rc<Log>],
    writer: &mut TableWriter,
    next_sequence: u64,
) -> Result<Encoded, StorageError> {
    let mut replay_from = next_sequence;
    let mut sync_list = SyncList::new();
    let mut bytes = Vec::new();
    for slice in logs.chunks(LOGS_A_SLICE) {
        bytes.clear();
        let mut count = 0;
        for log in slice {
            let applied = match log.condition.get() {
                Condition::Deleted => continue,
                Condition::Open | Condition::Truncating(None) => engine.last_sequence_value(),
                Condition::Truncating(Some(first)) => Engine::value_before(first),
            };
            // A log amid a truncation that began before this table needs its records once more.
            replay_from = replay_from.min(applied + 1);
            let owner = EntryOwner {
                id: log.id,
                incarnation: log.incarnation,
                applied,
            };
            let tail_bytes_max = engine.config.checkpoint_tail_bytes_max;
            if let Some(to) = entry::encode(owner, &log.state.borrow(), tail_bytes_max, &mut bytes)
            {
                sync_list.push_back((Rc::clone(log), to));
            }
            count += 1;
        }
        writer.put(&bytes, count).await?;
        yield_now().await;
    }
    Ok(Encoded {
        replay_from,
        sync_list,
    })
}

/// Syncs what the entries rely on: each log by itself, or all at once when they are many.
async fn sync_logs(engine: &Rc<Engine>, sync_list: SyncList) -> Result<(), StorageError> {
    let one_by_one = async |log: &Rc<Log>, to| log.sync_to(to).await;
    if sync_list.len() <= engine.config.checkpoint_file_syncs_max {
        return each(engine, sync_list, one_by_one).await;
    }
    let logs = sync_list.clone();
    each(engine, logs, async |log, _| log.write_behind().await).await?;
    let logs = sync_list.iter().map(|(log, _)| log);
    let written: Vec<Written> = logs.filter_map(Log::written_unsynced).collect();
    let synced = engine.file_system.sync().await;
    let is_synced = synced.map_err(|e| StorageError::io("syncfs", &engine.data_dir, e))?;
    if !is_synced {
        return each(engine, sync_list, one_by_one).await;
    }
    // Offline, nothing was written: then nothing may be said to be synced.
    engine.check_online()?;
    written.into_iter().for_each(Written::note_synced);
    Ok(())
}

/// Does `work` for every log that is not deleted: a few at a time, so that appends hardly notice, and more when the
/// journal may be full before the end.
async fn each<W>(engine: &Rc<Engine>, sync_list: SyncList, work: W) -> Result<(), StorageError>
where
    W: AsyncFn(&Rc<Log>, SegmentPosition) -> Result<(), StorageError> + Copy + 'static,
{
    let sync_list = Rc::new(RefCell::new(sync_list));
    work_off(engine, &sync_list, Pace::Calm, work).await?;
    work_off(engine, &sync_list, Pace::Hurried, work).await
}

/// How a list of logs is worked off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// With [`CALM_WORKERS`], for as long as there is time.
    Calm,
    /// As fast as the write-behind may, to the end.
    Hurried,
}

async fn work_off<W>(
    engine: &Rc<Engine>,
    sync_list: &Rc<RefCell<SyncList>>,
    pace: Pace,
    work: W,
) -> Result<(), StorageError>
where
    W: AsyncFn(&Rc<Log>, SegmentPosition) -> Result<(), StorageError> + Copy + 'static,
{
    let workers_max = engine.config.write_behind_concurrency;
    let workers = match pace {
        Pace::Calm => workers_max.min(CALM_WORKERS),
        Pace::Hurried => workers_max,
    };
    let workers = workers.min(sync_list.borrow().len());
    let mut running = Vec::with_capacity(workers);
    for _ in 0..workers {
        let (engine, sync_list) = (Rc::clone(engine), Rc::clone(sync_list));
        running.push(spawn(Class::Storage, async move {
            while pace == Pace::Hurried || !engine.is_checkpoint_hurried() {
                let next = sync_list.borrow_mut().pop_front();
                let Some((log, to)) = next else { break };
                if log.condition.get() != Condition::Deleted {
                    work(&log, to).await?;
                }
            }
            Ok(())
        }));
    }
    let mut first_error = Ok(());
    for worker in running {
        let result = match worker.await {
            Ok(result) => result,
            Err(_) => Err(StorageError::Offline {
                reason: "a checkpoint task failed".to_owned(),
            }),
        };
        first_error = first_error.and(result);
    }
    first_error
}
