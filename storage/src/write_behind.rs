//! The write-behind: one task per storage that decides which logs are written when, deletes files
//! whose record is durable, and starts checkpoints.
//!
//! *Place*: woken by appends, commits and finished work; starts a bounded number of short tasks.
//! *Core*: the storage's shard. *Invariants*: **I1** at most `write_behind_concurrency` logs are
//! written at one time, one task each, so that no log's writes hold up another's. **I2** one
//! checkpoint at a time. *Limits*: a log is written when it has `write_behind_bytes`, when a full
//! block is `write_behind_age_ms` old, when all together pass `dirty_bytes_max`, or when memory for
//! new chunks runs out; never by a timer of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use runtime::dir;
use runtime::task::{Class, spawn};
use runtime::time::{timeout, wall_clock_ms};

use crate::engine::{Engine, Removal};
use crate::error::StorageError;
use crate::log_id::logs_dir;
use crate::partition_log::Log;
use crate::segment::files::FileKind;
use crate::storage::Storage;

/// The write-behind sleeps at most so long while something is unwritten.
const TICK: Duration = Duration::from_secs(1);
/// Below this share of the chunk memory free, written chunks are not enough: the oldest logs are
/// written so that theirs can go.
const MEMORY_PRESSURE_PERCENT: u64 = 75;

/// Counts of running work.
#[derive(Default)]
pub(crate) struct Running {
    writes: Cell<usize>,
    is_checkpointing: Cell<bool>,
    /// A checkpoint was started from here and has not ended.
    is_checkpoint_started: Cell<bool>,
}

impl Running {
    pub(crate) fn is_idle(&self) -> bool {
        self.writes.get() == 0 && self.may_start_checkpoint()
    }

    fn may_start_checkpoint(&self) -> bool {
        !self.is_checkpointing.get() && !self.is_checkpoint_started.get()
    }

    /// Waits until no checkpoint is being made, and takes that place.
    pub(crate) async fn checkpoint_turn(self: &Rc<Self>, engine: &Rc<Engine>) -> CheckpointTurn {
        while self.is_checkpointing.replace(true) {
            engine.progress.notified().await;
        }
        CheckpointTurn { running: Rc::clone(self), engine: Rc::clone(engine) }
    }
}

/// The right to make a checkpoint, given back when dropped.
pub(crate) struct CheckpointTurn {
    running: Rc<Running>,
    engine: Rc<Engine>,
}

impl Drop for CheckpointTurn {
    fn drop(&mut self) {
        self.running.is_checkpointing.set(false);
        self.engine.wake.notify_one();
        self.engine.progress.notify_waiters();
    }
}

/// Runs until the storage is closed or offline.
pub(crate) async fn run(storage: Storage) {
    let engine = Rc::clone(storage.engine());
    loop {
        if engine.is_offline() || engine.is_closing.get() {
            return;
        }
        start_removals(&engine);
        start_writes(&storage, &engine);
        if storage.wants_checkpoint() && storage.running().may_start_checkpoint() {
            start_checkpoint(&storage);
        }
        if engine.queues.aging.borrow().is_empty() {
            engine.wake.notified().await;
        } else {
            // Only ages are waited for by time; everything else wakes.
            let _ = timeout(TICK, engine.wake.notified()).await;
        }
    }
}

fn start_writes(storage: &Storage, engine: &Rc<Engine>) {
    while storage.running().writes.get() < engine.config.write_behind_concurrency {
        let Some(log) = next_log(engine) else { return };
        let running = Rc::clone(storage.running());
        running.writes.set(running.writes.get() + 1);
        let engine = Rc::clone(engine);
        spawn(Class::Storage, async move {
            // An error has taken the storage offline and is logged there.
            let _ = log.write_behind().await;
            running.writes.set(running.writes.get() - 1);
            engine.wake.notify_one();
            engine.progress.notify_waiters();
        })
        .detach();
    }
}

/// The log to write next: one that asked for it, else the oldest if there is a reason.
fn next_log(engine: &Engine) -> Option<Rc<Log>> {
    loop {
        let Some(log) = engine.queues.flush.borrow_mut().pop_front() else { break };
        if let Some(log) = log.upgrade() {
            log.note_flush_taken();
            return Some(log);
        }
    }
    let mut aging = engine.queues.aging.borrow_mut();
    let memory_limit = engine.config.cache_bytes_max / 100 * MEMORY_PRESSURE_PERCENT;
    let is_pressed = engine.dirty_bytes() > engine.config.dirty_bytes_max || engine.chunk_bytes() > memory_limit;
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
    None
}

fn start_checkpoint(storage: &Storage) {
    let storage = storage.clone();
    storage.running().is_checkpoint_started.set(true);
    spawn(Class::Storage, async move {
        // An error has taken the storage offline and is logged there.
        let _ = storage.checkpoint().await;
        storage.running().is_checkpoint_started.set(false);
        storage.engine().progress.notify_waiters();
    })
    .detach();
}

fn start_removals(engine: &Rc<Engine>) {
    let durable = engine.journal.durable_sequence();
    loop {
        if engine.removals_running.get() >= engine.config.write_behind_concurrency {
            return;
        }
        let mut removals = engine.removals.borrow_mut();
        if removals.front().is_none_or(|removal| removal.sequence > durable) {
            return;
        }
        let Some(removal) = removals.pop_front() else { return };
        engine.removals_running.set(engine.removals_running.get() + 1);
        let engine = Rc::clone(engine);
        spawn(Class::Background, async move {
            if let Err(error) = remove(&removal).await {
                engine.fail(&error);
            }
            engine.removals_running.set(engine.removals_running.get() - 1);
            engine.wake.notify_one();
            engine.progress.notify_waiters();
        })
        .detach();
    }
}

/// Deletes the files of a removal, durably. Files that are gone already are fine: a replay repeats
/// what was decided.
pub(crate) async fn remove(removal: &Removal) -> Result<(), StorageError> {
    let log = &removal.log;
    let engine = &log.engine;
    // Nobody writes to a file that is being deleted, or makes it anew.
    let _work = log.file_work().await;
    let log_dir = log.dir();
    if !dir::exists(&log_dir).await.map_err(|e| StorageError::io("look for", &log_dir, e))? {
        return Ok(());
    }
    let synced = match &removal.segments {
        None => {
            engine.files.forget_log(log.incarnation);
            engine.read_cache.forget_log(log.incarnation);
            let removed = dir::remove_dir_all(&log_dir).await;
            removed.map_err(|e| StorageError::io("delete", &log_dir, e))?;
            logs_dir(&engine.data_dir)
        }
        Some(segments) => {
            for segment_base in segments {
                engine.files.forget_segment(log.incarnation, *segment_base);
                remove_segment_files(log, *segment_base).await?;
            }
            log_dir
        }
    };
    dir::sync_dir(&synced).await.map_err(|e| StorageError::io("fsync directory", &synced, e))
}

async fn remove_segment_files(log: &Log, segment_base: i64) -> Result<(), StorageError> {
    for kind in FileKind::ALL {
        let path = log.file_path(segment_base, kind);
        match dir::remove_file(&path).await {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StorageError::io("delete", &path, e)),
        }
    }
    Ok(())
}
