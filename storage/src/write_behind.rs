//! The write-behind: one task per storage that decides which logs are written when, deletes files
//! whose record is durable, and starts checkpoints.
//!
//! *Place*: woken by appends, commits and finished work; starts a bounded number of short tasks.
//! *Core*: the storage's shard. *Invariants*: **I1** at most `write_behind_concurrency` logs are
//! written at one time, one task each, so that no log's writes hold up another's. **I2** one
//! checkpoint at a time. *Limits*: a log is written when it has `write_behind_bytes`, when a full
//! block is `write_behind_age_ms` old, when all together pass `dirty_bytes_max`, or when memory for
//! new chunks runs out; never by a timer of its own.

use std::rc::Rc;
use std::time::Duration;

use runtime::dir;
use runtime::task::{Class, spawn};
use runtime::time::{timeout, wall_clock_ms};

use crate::directory::sync_dir;
use crate::engine::{Engine, Removal};
use crate::error::StorageError;
use crate::log_id::logs_dir;
use crate::partition_log::Log;
use crate::storage::Storage;
use crate::tasks::{Task, TaskKind};

/// The write-behind sleeps at most so long while something is unwritten.
const TICK: Duration = Duration::from_secs(1);
/// And so long when nothing is: others may fill the disk.
const IDLE_TICK: Duration = Duration::from_secs(10);

/// Runs until the storage is closed or offline.
pub(crate) async fn run(storage: Storage) {
    let engine = Rc::clone(storage.engine());
    loop {
        if engine.is_offline() || engine.is_closing.get() {
            return;
        }
        let measured = engine.space.measure(|| engine.dirty_bytes()).await;
        match measured {
            Ok(true) => engine.progress.notify_waiters(),
            Ok(false) => {}
            Err(error) if error.is_shortage() => engine.space.note_short(&error),
            Err(error) => {
                engine.fail(&error);
                return;
            }
        }
        start_removals(&engine);
        // Where a write has just found no space, only what frees some is done.
        if engine.space.may_write() {
            start_writes(&engine);
            if engine.wants_checkpoint() {
                start_checkpoint(&storage);
            }
            if engine.tasks.is_idle() {
                engine.space.note_written();
            }
        }
        // Only ages and space are waited for by time; everything else wakes.
        let is_idle = engine.queues.aging.borrow().is_empty();
        let patience = if is_idle { IDLE_TICK } else { TICK };
        let patience = engine.space.next_measurement().unwrap_or(patience);
        let _ = timeout(patience, engine.wake.notified()).await;
    }
}

fn start_writes(engine: &Rc<Engine>) {
    while engine.tasks.count(TaskKind::Write) < engine.config.write_behind_concurrency {
        let Some(log) = next_log(engine) else { return };
        let task = Task::begin(engine, TaskKind::Write);
        spawn(Class::Storage, async move {
            // An error is dealt with there: it has taken the storage offline, unless it is a shortage.
            match log.write_behind().await {
                Ok(()) => log.engine.space.note_written(),
                Err(error) if error.is_shortage() => log.queue_flush(),
                Err(_) => {}
            }
            drop(task);
        })
        .detach();
    }
}

/// The log to write next: one that asked for it, else the oldest if there is a reason.
fn next_log(engine: &Engine) -> Option<Rc<Log>> {
    let asking = engine.queues.flush.borrow().len();
    for _ in 0..asking {
        let Some(entry) = engine.queues.flush.borrow_mut().pop_front() else {
            break;
        };
        let Some(log) = entry.upgrade() else { continue };
        if log.is_in_file_work() {
            // Its turn comes when that has ended, which wakes us; a task that waits helps nobody.
            engine.queues.flush.borrow_mut().push_back(entry);
            continue;
        }
        log.note_flush_taken();
        return Some(log);
    }
    let mut aging = engine.queues.aging.borrow_mut();
    let is_pressed =
        engine.dirty_bytes() > engine.config.dirty_bytes_max || engine.is_memory_wanted.get();
    let due_ms = wall_clock_ms() - engine.config.write_behind_age_ms;
    while let Some((since_ms, log)) = aging.front() {
        if !is_pressed && *since_ms > due_ms {
            return None;
        }
        let log = log.upgrade();
        aging.pop_front();
        if let Some(log) = log {
            log.note_aged();
            if log.has_writable() {
                return Some(log);
            }
        }
    }
    // Nothing is left that could be written.
    engine.is_memory_wanted.set(false);
    None
}

fn start_checkpoint(storage: &Storage) {
    let Some(turn) = Task::try_checkpoint_turn(storage.engine()) else {
        return;
    };
    let storage = storage.clone();
    spawn(Class::Storage, async move {
        // An error has taken the storage offline, or the disk is full and it is made later.
        let _ = storage.checkpoint_in_turn(turn).await;
    })
    .detach();
}

fn start_removals(engine: &Rc<Engine>) {
    let durable = engine.journal.durable_sequence();
    while engine.tasks.count(TaskKind::Removal) < engine.config.write_behind_concurrency {
        let mut removals = engine.removals.borrow_mut();
        if removals
            .front()
            .is_none_or(|removal| removal.sequence > durable)
        {
            return;
        }
        let Some(removal) = removals.pop_front() else {
            return;
        };
        let task = Task::begin(engine, TaskKind::Removal);
        spawn(Class::Background, async move {
            remove_until_done(&removal).await;
            drop(task);
        })
        .detach();
    }
}

/// Repeats a removal until it is done; a failure that is not waited out takes the storage offline.
async fn remove_until_done(removal: &Removal) {
    let engine = &removal.log.engine;
    while !engine.is_offline() {
        match remove(removal).await {
            Ok(()) => return engine.space.note_freed(),
            Err(error) => {
                if let Err(error) = engine.wait_out(error).await {
                    engine.fail(&error);
                }
            }
        }
    }
}

/// Deletes the files of a removal, durably. Files that are gone already are fine: a replay repeats
/// what was decided.
async fn remove(removal: &Removal) -> Result<(), StorageError> {
    let log = &removal.log;
    let engine = &log.engine;
    // Nobody writes to a file that is being deleted, or makes it anew. The cleaner notices at once.
    while removal.segments.is_none() && log.is_in_cleaning.get() {
        engine.progress.notified().await;
    }
    let _work = log.file_work().await;
    if let Some(segments) = &removal.segments {
        return log.remove_segment_files(segments).await;
    }
    engine.files.forget_log(log.incarnation);
    engine.read_cache.forget_log(log.incarnation);
    let (log_dir, logs_dir) = (log.dir(), logs_dir(&engine.data_dir));
    let exists = dir::exists(&log_dir).await;
    if exists.map_err(|e| StorageError::io("look for", &log_dir, e))? {
        let removed = dir::remove_dir_all(&log_dir).await;
        removed.map_err(|e| StorageError::io("delete", &log_dir, e))?;
    }
    sync_dir(&logs_dir).await
}
