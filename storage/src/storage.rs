//! One shard's storage on one data directory: its journal, its table of logs, and the logs.
//!
//! *Place*: the broker opens one per shard and data directory and keeps it until close. *Core*: the
//! shard that opened it. *Invariants*: **I1** a log is in the table of at most one shard; at most
//! one incarnation of a [`LogId`] is there at a time. **I2** creation and deletion are answered when
//! their record is durable. *Durability*: see `docs/storage-format.md`. *Limits*: `StorageConfig`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use runtime::MemoryBudget;
use runtime::dir::{self, DiskSpace, FileSystem};
use runtime::task::{Class, spawn};
use runtime::time::wall_clock_ms;

use crate::cache::ReadCacheCounts;
use crate::checkpoint::table::{self, Table, TableHeader, TableWriter, TablesFound};
use crate::checkpoint::{self, CheckpointPlan};
use crate::compaction::{Candidate, Cleaned, Cleaner, CleanerCounts};
use crate::config::{LogConfig, StorageConfig};
use crate::directory::sync_dir;
use crate::engine::{Engine, Removal};
use crate::error::StorageError;
use crate::journal::{Journal, RecordView, Sequence};
use crate::log_id::{LogId, incarnation, logs_dir, shard_dir};
use crate::partition_log::state::LogState;
use crate::partition_log::{Condition, Log, PartitionLog};
use crate::recovery::{RecoveredLog, Recovery, RecoveryReport};
use crate::scrub;
use crate::space::SpaceStage;
use crate::tasks::{Task, TaskKind};
use crate::write_behind;

/// One shard's storage. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Storage {
    shared: Rc<Shared>,
}

struct Shared {
    engine: Rc<Engine>,
    cleaner: Cleaner,
    logs: RefCell<BTreeMap<LogId, Rc<Log>>>,
    next_incarnation_counter: Cell<u64>,
    /// Generation of the newest table on disk.
    generation: Cell<u64>,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageCounts {
    /// Logs in the table.
    pub logs: usize,
    /// Bytes that are in memory and the journal only.
    pub dirty_bytes: u64,
    /// Memory of unwritten bytes and newest batches.
    pub chunk_bytes: u64,
    /// Bytes written to segments behind appends or by them, since the start.
    pub segment_bytes: u64,
    /// Bytes of batches that went to their segment and not through the journal.
    pub direct_bytes: u64,
    /// Checkpoint tables written since the data directory was made.
    pub checkpoints: u64,
    /// What catch-up readers use.
    pub read_cache: ReadCacheCounts,
    /// What compaction has done.
    pub cleaner: CleanerCounts,
    /// Damaged places that reads and the scrubber have met since the start.
    pub corruptions: u64,
    /// Segments that the scrubber has read since the start.
    pub scrubbed_segments: u64,
    /// Bytes of them.
    pub scrubbed_bytes: u64,
}

impl Storage {
    /// Opens the storage of `shard` under `data_dir`, making it if it is not there, and recovers
    /// what the last process left. Logs have default settings until
    /// [`Self::update_config`].
    ///
    /// # Errors
    /// [`StorageError::InvalidSetting`]; [`StorageError::FormatVersion`] and
    /// [`StorageError::Corruption`], after which nothing on disk has been changed;
    /// [`StorageError::FileSystems`]; [`StorageError::ShardsSwitching`] when a change of the shard count was interrupted;
    /// [`StorageError::Io`], [`StorageError::DiskFull`], [`StorageError::Journal`].
    pub async fn open(
        data_dir: &Path,
        shard: u32,
        config: StorageConfig,
        budget: MemoryBudget,
    ) -> Result<(Storage, RecoveryReport), StorageError> {
        config.validate()?;
        checkpoint::migrate::check_not_switching(data_dir).await?;
        let shard_dir = shard_dir(data_dir, shard);
        let table = read_or_make_table(data_dir, &shard_dir, shard).await?;
        let header = table.header;
        check_one_file_system(data_dir, &shard_dir).await?;
        let copy = table::copy_path(&shard_dir, header.generation);
        let file_system = FileSystem::open(&copy).await;
        let file_system = file_system.map_err(|e| StorageError::io("open", &copy, e))?;
        let journal_dir = shard_dir.join("journal");
        let mut recovery = Recovery::new(
            table,
            journal_dir.clone(),
            &config,
            budget.clone(),
            wall_clock_ms(),
        );
        let replay_from = Sequence::from(header.replay_from);
        let mut visit = |sequence, record: RecordView<'_>| recovery.apply(sequence, record);
        let (journal, replayed) = Journal::open(
            &journal_dir,
            config.journal.clone(),
            replay_from,
            &mut visit,
        )
        .await?;
        recovery.report.journal_bytes_cut = replayed.bytes_cut;
        let engine = Rc::new(Engine::new(
            data_dir.to_path_buf(),
            shard,
            config,
            budget,
            journal,
            file_system,
        ));
        let started = Self::start(&engine, recovery, header.generation).await;
        if started.is_err() {
            engine.abandon().await;
        }
        started
    }

    /// Puts the recovered logs in place, finishes deletions, starts the write-behind.
    async fn start(
        engine: &Rc<Engine>,
        recovery: Recovery,
        generation: u64,
    ) -> Result<(Storage, RecoveryReport), StorageError> {
        recovery.check_end(engine.last_sequence_value())?;
        let (recovered, deleted, mut report, next_incarnation_counter) = recovery.finish()?;
        let storage = Storage {
            shared: Rc::new(Shared {
                engine: Rc::clone(engine),
                cleaner: Cleaner::new(engine),
                logs: RefCell::default(),
                next_incarnation_counter: Cell::new(next_incarnation_counter),
                generation: Cell::new(generation),
            }),
        };
        let weak = Rc::downgrade(engine);
        engine.journal.on_commit(move |durable| {
            if let Some(engine) = weak.upgrade() {
                engine.on_committed(durable);
            }
        });
        let replayed_through = engine.last_sequence();
        for log in deleted {
            let log = Log::new(
                engine,
                log.id,
                log.incarnation,
                log.state,
                LogConfig::default(),
            );
            log.condition.set(Condition::Deleted);
            report.deletions_finished += 1;
            engine.queue_removal(Removal {
                sequence: replayed_through,
                log,
                segments: None,
            });
        }
        for recovered in recovered {
            storage.adopt(recovered).await?;
        }
        engine.space.measure(|| engine.dirty_bytes()).await?;
        spawn(Class::Storage, write_behind::run(storage.clone())).detach();
        if engine.config.scrub_period_ms > 0 {
            spawn(Class::Background, scrub::run(storage.clone())).detach();
        }
        Ok((storage, report))
    }

    async fn adopt(&self, recovered: RecoveredLog) -> Result<(), StorageError> {
        let engine = self.engine();
        let RecoveredLog {
            id,
            incarnation,
            state,
            mut dropped_segments,
            ..
        } = recovered;
        // Begun again after a truncation: the file's content is not looked at, but it is in use.
        dropped_segments.retain(|name| state.segment_named(*name).is_none());
        let log = Log::new(engine, id, incarnation, state, LogConfig::default());
        log.adopt_recovered();
        if !dropped_segments.is_empty() {
            log.remove_segment_files(&dropped_segments).await?;
        }
        if let Some(other) = self.shared.logs.borrow_mut().insert(id, log) {
            let shard_dir = shard_dir(&engine.data_dir, engine.shard);
            let found = format!(
                "incarnations {:016x} and {incarnation:016x}",
                other.incarnation
            );
            return Err(StorageError::corruption(
                &shard_dir,
                0,
                format!("one incarnation of log {id}"),
                found,
            ));
        }
        Ok(())
    }

    /// Creates an empty log; answers when that is durable.
    ///
    /// # Errors
    /// [`StorageError::LogExists`]; [`StorageError::Offline`], [`StorageError::Journal`].
    ///
    /// # Cancel safety
    /// The log may exist if the future is dropped.
    pub async fn create_log(
        &self,
        id: LogId,
        config: LogConfig,
    ) -> Result<PartitionLog, StorageError> {
        let (log, sequence) = self.begin_create_log(id, config)?;
        self.committed(sequence).await?;
        Ok(log)
    }

    /// Creates an empty log that exists for good once the answered sequence is durable: for
    /// creating many with one wait.
    ///
    /// # Errors
    /// As [`Self::create_log`].
    pub fn begin_create_log(
        &self,
        id: LogId,
        config: LogConfig,
    ) -> Result<(PartitionLog, Sequence), StorageError> {
        let engine = self.engine();
        engine.check_online()?;
        if self.shared.logs.borrow().contains_key(&id) {
            return Err(StorageError::LogExists {
                log: id.to_string(),
            });
        }
        let counter = self.shared.next_incarnation_counter.get();
        self.shared.next_incarnation_counter.set(counter + 1);
        let incarnation = incarnation(counter, engine.shard);
        let log = Log::new(
            engine,
            id,
            incarnation,
            LogState::new(wall_clock_ms()),
            config,
        );
        let record = RecordView::Create {
            incarnation,
            topic: id.topic,
            partition: id.partition,
        };
        let sequence = engine.journal.append(record);
        self.shared.logs.borrow_mut().insert(id, Rc::clone(&log));
        Ok((PartitionLog::from(log), sequence))
    }

    /// The log named `id`.
    pub fn log(&self, id: LogId) -> Option<PartitionLog> {
        self.shared
            .logs
            .borrow()
            .get(&id)
            .cloned()
            .map(PartitionLog::from)
    }

    /// Number of logs.
    pub fn log_count(&self) -> usize {
        self.shared.logs.borrow().len()
    }

    /// All logs, by id.
    pub fn logs(&self) -> Vec<PartitionLog> {
        self.shared
            .logs
            .borrow()
            .values()
            .cloned()
            .map(PartitionLog::from)
            .collect()
    }

    /// Puts settings into force for a log; `false` when there is no such log.
    pub fn update_config(&self, id: LogId, config: LogConfig) -> bool {
        let logs = self.shared.logs.borrow();
        let Some(log) = logs.get(&id) else {
            return false;
        };
        *log.config.borrow_mut() = Rc::new(config);
        true
    }

    /// Deletes a log; answers when that is durable. Its files are removed after that. `false`: there
    /// is no such log.
    ///
    /// # Errors
    /// [`StorageError::LogBusy`] amid a truncation; [`StorageError::Offline`],
    /// [`StorageError::Journal`].
    pub async fn delete_log(&self, id: LogId) -> Result<bool, StorageError> {
        let engine = self.engine();
        let find = || self.shared.logs.borrow().get(&id).cloned();
        let Some(log) = find() else { return Ok(false) };
        log.check_changeable()?;
        log.bar_direct().await?;
        // It may have been deleted meanwhile, and made again.
        if find().is_none_or(|found| !Rc::ptr_eq(&found, &log)) {
            return Ok(false);
        }
        log.check_changeable().inspect_err(|_| log.unbar_direct())?;
        let sequence = engine.journal.append(RecordView::Delete {
            incarnation: log.incarnation,
        });
        self.shared.logs.borrow_mut().remove(&id);
        log.condition.set(Condition::Deleted);
        log.release_memory();
        engine.queue_removal(Removal {
            sequence,
            log,
            segments: None,
        });
        self.committed(sequence).await?;
        Ok(true)
    }

    /// Waits until the journal is durable through `sequence`.
    ///
    /// # Errors
    /// [`StorageError::Journal`], [`StorageError::Offline`].
    pub async fn committed(&self, sequence: Sequence) -> Result<(), StorageError> {
        self.engine().committed(sequence).await
    }

    /// The newest sequence through which the journal is durable.
    pub fn durable_sequence(&self) -> Sequence {
        self.engine().journal.durable_sequence()
    }

    /// Has `observer` called after each group commit, once for every log whose durable end moved,
    /// before those who wait for the commit are woken. It must not block, nor append.
    pub fn on_durable(&self, observer: impl Fn(&PartitionLog) + 'static) {
        self.engine().observe_durable(Rc::new(observer));
    }

    /// Why nothing is taken any more, after a failure or a close.
    pub fn check_online(&self) -> Result<(), StorageError> {
        self.engine().check_online()
    }

    /// Resolves with the reason once this storage has gone offline. A close is none.
    pub async fn failed(&self) -> String {
        self.engine().failed().await
    }

    /// Takes this storage offline because the directory failed elsewhere: on another shard.
    pub fn take_offline(&self, reason: &str) {
        self.engine().follow_offline(reason);
    }

    /// How full the disk is, and what is free of how much.
    pub fn space(&self) -> (SpaceStage, DiskSpace) {
        let space = &self.engine().space;
        (space.stage(), space.disk())
    }

    /// How long appends of `bytes` should be put off: not at all while the disk has enough space.
    pub fn pace(&self, bytes: u64) -> Duration {
        self.engine().space.pace(bytes)
    }

    /// Figures for metrics.
    pub fn counts(&self) -> StorageCounts {
        let engine = self.engine();
        StorageCounts {
            logs: self.log_count(),
            dirty_bytes: engine.dirty_bytes(),
            chunk_bytes: engine.chunk_bytes(),
            segment_bytes: engine.segment_bytes.get(),
            direct_bytes: engine.direct_bytes.get(),
            checkpoints: self.shared.generation.get(),
            read_cache: engine.read_cache.counts(),
            cleaner: self.shared.cleaner.counts(),
            corruptions: engine.corruptions.get(),
            scrubbed_segments: engine.scrubbed.segments.get(),
            scrubbed_bytes: engine.scrubbed.bytes.get(),
        }
    }

    /// The journal, for its counters.
    pub fn journal(&self) -> &Journal {
        &self.shared.engine.journal
    }

    /// Writes a checkpoint now, so that the journal has nothing older to replay. One at a time: a
    /// second call waits for the first.
    ///
    /// # Errors
    /// Of the writes, after which the storage is offline.
    pub async fn checkpoint(&self) -> Result<(), StorageError> {
        let turn = Task::wait_for_checkpoint_turn(self.engine()).await;
        self.checkpoint_in_turn(turn).await
    }

    /// [`Self::checkpoint`] for who has the turn already.
    pub(crate) async fn checkpoint_in_turn(&self, turn: Task) -> Result<(), StorageError> {
        assert_eq!(
            turn.kind(),
            TaskKind::Checkpoint,
            "another kind of task's turn"
        );
        let engine = self.engine();
        let logs: Vec<Rc<Log>> = self.shared.logs.borrow().values().cloned().collect();
        let plan = CheckpointPlan {
            generation: self.shared.generation.get() + 1,
            next_incarnation_counter: self.shared.next_incarnation_counter.get(),
        };
        let written = checkpoint::write(engine, logs, plan).await;
        if let Err(error) = &written {
            engine.forget_checkpoint();
            engine.fail_unless_short(error);
        }
        self.shared.generation.set(written?.generation);
        engine.space.note_written();
        Ok(())
    }

    /// Cleans that one of `candidates` of which the greatest part is dirty, if any is dirty enough by
    /// its topic's settings. One round at a time; to be called again and again.
    ///
    /// # Cancel safety
    /// Files of a round that is dropped are removed when the log is cleaned next.
    pub async fn clean_next(&self, candidates: impl Iterator<Item = Candidate>) -> Cleaned {
        self.shared.cleaner.clean_next(candidates).await
    }

    /// From now on nothing waits for space in the journal: what finds none is refused, unless it is
    /// durable. For who is about to close the storage and has calls in flight that are to be answered.
    pub fn begin_close(&self) {
        self.engine().journal.begin_close();
    }

    /// Ends everything in order: running writes, a last checkpoint, the journal. Nothing has to be
    /// replayed at the next start. Handles to logs answer [`StorageError::Offline`] afterwards.
    ///
    /// # Errors
    /// Of the writes, but not that the disk is full, unless appends waited in the journal for that: these
    /// are refused. What was acknowledged is safe all the same, in the journal, and the next start replays it.
    pub async fn close(&self) -> Result<(), StorageError> {
        let engine = self.engine();
        engine.check_online()?;
        self.begin_close();
        engine.stops_cleaning.set(true);
        while !engine.tasks.is_idle() {
            engine.progress.notified().await;
        }
        let result = match self.checkpoint().await {
            Err(error) if error.is_shortage() => {
                tracing::warn!(%error, "no checkpoint: the next start replays the journal");
                Ok(())
            }
            result => result,
        };
        engine.is_closing.set(true);
        engine.wake.notify_one();
        let closed = engine.journal.close().await.map_err(StorageError::from);
        engine.mark_closed();
        engine.files.forget_all();
        self.shared.logs.borrow_mut().clear();
        result.and(closed)
    }

    pub(crate) fn engine(&self) -> &Rc<Engine> {
        &self.shared.engine
    }
}

/// Refuses logs on another file system than the table and the journal: a checkpoint makes them durable
/// together, and their space is measured together.
async fn check_one_file_system(data_dir: &Path, shard_dir: &Path) -> Result<(), StorageError> {
    let id = async |path: &Path| {
        let id = dir::file_system_id(path).await;
        id.map_err(|e| StorageError::io("look into", path, e))
    };
    let logs = logs_dir(data_dir);
    let is_made = dir::exists(&logs).await;
    // A change of the shard count makes tables before there are logs.
    if !is_made.map_err(|e| StorageError::io("look for", &logs, e))? {
        return Ok(());
    }
    if id(&logs).await? == id(shard_dir).await? {
        return Ok(());
    }
    let shard = shard_dir.to_path_buf();
    Err(StorageError::FileSystems { logs, shard })
}

/// The newest table. A first one is made where there is neither a table nor a journal.
async fn read_or_make_table(
    data_dir: &Path,
    shard_dir: &Path,
    shard: u32,
) -> Result<Table, StorageError> {
    let is_new = table::is_unfinished_first(shard_dir).await;
    if is_new.map_err(|e| StorageError::io("look into", shard_dir, e))? {
        return make_first_table(data_dir, shard_dir, shard).await;
    }
    match table::read_newest(shard_dir, shard).await? {
        TablesFound::Newest {
            table,
            other_is_invalid,
        } => {
            // The copy of the second generation has space before it has content.
            if other_is_invalid && table.header.generation > 1 {
                let generation = table.header.generation;
                tracing::info!(
                    shard,
                    generation,
                    "the last process ended while it wrote a checkpoint; the one before is used"
                );
            }
            Ok(table)
        }
        TablesFound::None => {
            let expected =
                "checkpoint.a or checkpoint.b beside a journal (restore them from a backup)";
            Err(StorageError::corruption(shard_dir, 0, expected, "neither"))
        }
    }
}

async fn make_first_table(
    data_dir: &Path,
    shard_dir: &Path,
    shard: u32,
) -> Result<Table, StorageError> {
    for dir in [shard_dir, &logs_dir(data_dir)] {
        dir::create_dir_all(dir)
            .await
            .map_err(|e| StorageError::io("create directory", dir, e))?;
    }
    let mut writer = TableWriter::open(shard_dir, 1).await?;
    writer.finish_body().await?;
    // Every directory on the way may have been made just now.
    for dir in [shard_dir.parent(), Some(data_dir), data_dir.parent()]
        .into_iter()
        .flatten()
    {
        sync_dir(dir).await?;
    }
    let header = TableHeader {
        generation: 1,
        shard,
        log_count: 0,
        body_bytes: 0,
        body_crc: 0,
        replay_from: 1,
        next_incarnation_counter: 1,
        written_ms: wall_clock_ms(),
    };
    let header = writer.publish(header).await?;
    table::allocate_next(shard_dir, &header).await;
    Ok(Table {
        header,
        entries: Vec::new(),
    })
}
