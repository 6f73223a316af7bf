//! Random work on a few logs of one or more shards, noted in the model while it is done. Half of the logs are
//! compacted, half of these deleted from, too.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use protocol::compression::Codec;
use protocol::record_batch::BatchView;
use runtime::MemoryBudget;
use runtime::sim::Random;
use runtime::task::{Class, spawn, yield_now};
use runtime::time::{sleep, wall_clock_ms};
use storage::{LogConfig, PartitionLog, Storage, StorageConfig, StorageError, migrate_shards};

use crate::batches::{Spec, stored};
use crate::compacted::{compaction, is_compacted, records_of};
use crate::model::{Change, Exactness, History, ModelBatch, ModelState, Past, apply, difference};
use crate::world::{DATA_DIR, log_id, small_config, small_log};

const LOGS: u32 = 4;
const SHARDS_MAX: u32 = 3;
/// Keys in a compacted log.
const KEYS: u64 = 8;

/// A past that is looked at from outside of the simulation.
pub(crate) type SharedPast = Rc<RefCell<Past>>;

/// Journal files of eight groups or so: everything is recycled again and again.
pub(crate) fn crash_config() -> StorageConfig {
    let mut config = small_config();
    config.journal.file_bytes = 64 << 10;
    config.journal.group_bytes_max = 16 << 10;
    // A good part of the batches goes straight to the segments.
    config.write_behind_bytes = 4 << 10;
    config.allocate_from_bytes = 4 << 10;
    config.direct_bytes_min = 4 << 10;
    config.cleaner_map_bytes_max = 4 << 10;
    config
}

fn crash_log(log: u32) -> LogConfig {
    let plain = LogConfig {
        segment_bytes: 80 << 10,
        retention_bytes: Some(160 << 10),
        ..small_log()
    };
    if !is_compacted(log) {
        return plain;
    }
    LogConfig {
        segment_bytes: 24 << 10,
        retention_bytes: (log % 2 == 1).then_some(64 << 10),
        compaction: Some(compaction()),
        ..plain
    }
}

/// The open storages of all shards; log n belongs to shard n modulo their number.
pub(crate) struct Shards {
    storages: Vec<Storage>,
}

impl Shards {
    /// Opens all of them at the same time, as a broker does.
    pub(crate) async fn open(count: u32) -> Result<Shards, StorageError> {
        let opening: Vec<_> = (0..count)
            .map(|shard| spawn(Class::Storage, open_shard(shard)))
            .collect();
        let mut storages = Vec::new();
        for opened in opening {
            storages.push(opened.await.expect("a start does not panic")?);
        }
        let shards = Shards { storages };
        for log in shards.logs() {
            let storage = shards.of(log.id().partition);
            assert!(storage.update_config(log.id(), crash_log(log.id().partition)));
        }
        Ok(shards)
    }

    pub(crate) fn of(&self, log: u32) -> &Storage {
        &self.storages[log as usize % self.storages.len()]
    }

    pub(crate) fn logs(&self) -> Vec<PartitionLog> {
        self.storages.iter().flat_map(Storage::logs).collect()
    }

    pub(crate) async fn close(&self) -> Result<(), StorageError> {
        for storage in &self.storages {
            storage.close().await?;
        }
        Ok(())
    }
}

async fn open_shard(shard: u32) -> Result<Storage, StorageError> {
    let budget = MemoryBudget::new(64 << 20);
    let opened = Storage::open(Path::new(DATA_DIR), shard, crash_config(), budget).await;
    opened.map(|(storage, _)| storage)
}

/// Hands the logs of `from` shards over to `to`.
pub(crate) async fn change_shard_count(from: u32, to: u32) -> Result<(), StorageError> {
    let assign = move |id: storage::LogId| id.partition % to;
    migrate_shards(Path::new(DATA_DIR), from, to, &crash_config(), assign).await
}

/// Which kinds of work are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// No orderly restarts in between: the disk lies, and they may be refused.
    OneStart,
    /// No orderly restarts in between: what fails is looked at while it runs.
    OneHonestStart,
}

/// Random work, noted in a past.
pub(crate) struct Worker {
    random: Random,
    past: SharedPast,
    /// The state after the whole past.
    state: ModelState,
    next_number: u64,
    scope: Scope,
    /// A round of compaction runs beside.
    is_cleaning: Rc<Cell<bool>>,
}

impl Worker {
    pub(crate) fn new(seed: u64, past: &SharedPast, scope: Scope) -> Self {
        let mut random = Random::new(seed);
        Worker {
            state: past.borrow().state(),
            // Nobody else's content.
            next_number: random.next_u64() >> 16,
            random,
            past: Rc::clone(past),
            scope,
            is_cleaning: Rc::default(),
        }
    }

    fn note(&mut self, log: u32, change: Change) {
        apply(&mut self.state, &change);
        let mut past = self.past.borrow_mut();
        let shard = past.shard_of(log);
        past.histories[shard].push(change);
    }

    /// Everything that was done so far to the shard of `log` is durable when `wait` has ended well.
    async fn acknowledge(
        &self,
        log: u32,
        wait: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        let (shard, count) = {
            let past = self.past.borrow();
            let shard = past.shard_of(log);
            (shard, past.histories[shard].len())
        };
        wait.await?;
        self.past.borrow_mut().histories[shard].acknowledge(count);
        Ok(())
    }

    pub(crate) async fn work(
        &mut self,
        shards: &mut Shards,
        steps: usize,
    ) -> Result<(), StorageError> {
        for _ in 0..steps {
            self.step(shards).await?;
        }
        Ok(())
    }

    pub(crate) async fn step(&mut self, shards: &mut Shards) -> Result<(), StorageError> {
        let number = self.random.below(u64::from(LOGS)) as u32;
        let storage = shards.of(number).clone();
        let Some(log) = storage.log(log_id(number)) else {
            return self.create(&storage, number).await;
        };
        if self.random.chance(1, 12) {
            // Beside whatever comes next. A failure takes the storage offline, which the next step sees.
            let beside = storage.clone();
            spawn(
                Class::Storage,
                async move { drop(beside.checkpoint().await) },
            )
            .detach();
        }
        if is_compacted(number) && self.random.chance(1, 7) {
            return self.clean(&storage, number, &log).await;
        }
        match self.random.below(100) {
            0..62 => self.append(&storage, number, &log).await,
            62..66 => self.begin_epoch(&storage, number, &log).await,
            66..72 => self.advance_log_start(&storage, number, &log).await,
            72..77 => self.truncate(&storage, number, &log).await,
            77..80 => log.roll(wall_clock_ms()).map(|_| ()),
            80..86 => self.enforce_retention(number, &log),
            86..88 => self.delete(&storage, number).await,
            88..90 => storage.checkpoint().await,
            90..92 => self.restart(shards).await,
            92..95 => self.compare(shards).await,
            _ => {
                sleep(Duration::from_millis(self.random.below(3000))).await;
                Ok(())
            }
        }
    }

    async fn create(&mut self, storage: &Storage, number: u32) -> Result<(), StorageError> {
        let (log, sequence) = storage.begin_create_log(log_id(number), crash_log(number))?;
        let incarnation = log.incarnation();
        let log = number;
        self.note(number, Change::Create { log, incarnation });
        self.acknowledge(number, storage.committed(sequence)).await
    }

    async fn append(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let first_sequence = self.next_sequence(number);
        let spec = self.next_batch(number, first_sequence);
        let epoch = self.state[&number].epochs.last();
        let epoch = epoch.map_or(0, |(epoch, _)| *epoch);
        let batch = spec.build();
        let appended = loop {
            log.reserve(batch.len()).await?;
            match log.append(&batch, epoch, wall_clock_ms()) {
                // It was expected to go direct, and has to go through the journal: that has less room.
                Err(StorageError::NoRoom) => yield_now().await,
                appended => break appended?,
            }
        };
        let expected = self.state[&number].log_end;
        assert_eq!(
            appended.base_offset, expected,
            "a batch goes to the log end"
        );
        let last_sequence = first_sequence + spec.records as i32 - 1;
        let bytes = stored(&batch, appended.base_offset, epoch);
        let mut records = Vec::new();
        if is_compacted(number) {
            let view = BatchView::parse(&bytes).expect("a batch");
            records = records_of(&view).expect("records");
        }
        let batch = ModelBatch {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            bytes: bytes.into(),
            records: records.into_iter().map(Rc::new).collect(),
            producer: spec
                .producer
                .map(|(id, epoch, first)| (id, epoch, first, last_sequence)),
        };
        let log = number;
        self.note(number, Change::Append { log, batch, epoch });
        if self.random.chance(1, 2) {
            let committed = storage.committed(appended.sequence);
            self.acknowledge(number, committed).await
        } else {
            Ok(())
        }
    }

    fn next_batch(&mut self, number: u32, first_sequence: i32) -> Spec {
        self.next_number += 1;
        let records = 1 + self.random.below(5) as u32;
        let value_bytes = match self.random.below(10) {
            0..6 => self.random.below(300),
            6..8 => self.random.below(2500),
            _ => (4096 + self.random.below(8000)) / u64::from(records),
        };
        let mut spec = Spec::new(self.next_number, records, value_bytes as usize);
        spec.timestamp = wall_clock_ms();
        spec.producer = self.random.chance(1, 2).then_some((7, 0, first_sequence));
        if is_compacted(number) {
            spec.keys = Some(KEYS);
            if self.random.chance(1, 4) {
                spec.codec = Codec::ALL[self.random.index(Codec::ALL.len())];
            }
        }
        spec
    }

    fn next_sequence(&self, number: u32) -> i32 {
        let batches = self.state[&number].batches.iter().rev();
        let newest = batches.clone().find_map(|batch| batch.producer);
        newest.map_or(0, |(_, _, _, last)| last + 1)
    }

    async fn begin_epoch(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let epoch = log.latest_epoch().unwrap_or(-1) + 1;
        let sequence = log.begin_epoch(epoch)?.expect("a newer epoch");
        self.note(number, Change::Epoch { log: number, epoch });
        self.acknowledge(number, storage.committed(sequence)).await
    }

    async fn advance_log_start(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.durable_end_offset());
        let offset = start + self.random.below((end - start) as u64 / 2 + 1) as i64;
        let Some(sequence) = log.advance_log_start(offset)? else {
            return Ok(());
        };
        let log = number;
        self.note(number, Change::LogStart { log, offset });
        self.acknowledge(number, storage.committed(sequence)).await
    }

    async fn truncate(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let to = end - self.random.below((end - start) as u64 / 3 + 2) as i64;
        if to < start || to >= end {
            return Ok(());
        }
        // Noted first: the call may be durable without having answered.
        self.note(number, Change::Truncate { log: number, to });
        let truncated = self.acknowledge(number, log.truncate(to)).await;
        let is_full = matches!(truncated, Err(StorageError::DiskFull { .. }));
        if is_full && storage.check_online().is_ok() {
            // There was no space for what has to be written before.
            let mut past = self.past.borrow_mut();
            let shard = past.shard_of(number);
            past.histories[shard].take_back();
            self.state = past.state();
        }
        truncated
    }

    fn enforce_retention(&mut self, number: u32, log: &PartitionLog) -> Result<(), StorageError> {
        let outcome = log.enforce_retention(wall_clock_ms())?;
        if outcome.segments > 0 {
            let (log, offset) = (number, outcome.log_start_offset);
            self.note(number, Change::LogStart { log, offset });
        }
        Ok(())
    }

    /// A round of compaction, which is waited for or runs beside whatever comes next.
    async fn clean(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        if self.is_cleaning.get() {
            return Ok(());
        }
        if self.random.chance(2, 3)
            && let Some(rolled) = log.roll(wall_clock_ms())?
        {
            self.acknowledge(number, storage.committed(rolled)).await?;
        }
        let now_ms = wall_clock_ms();
        let segments = log.explain_retention(now_ms);
        let active = segments.last().map_or(0, |active| active.base_offset);
        let upto = active.min(log.durable_end_offset());
        let change = Change::Clean {
            log: number,
            upto,
            now_ms,
        };
        self.note(number, change);
        self.is_cleaning.set(true);
        let (storage, log) = (storage.clone(), log.clone());
        let is_cleaning = Rc::clone(&self.is_cleaning);
        let round = spawn(Class::Background, async move {
            storage.clean_next([(log, upto)].into_iter()).await;
            is_cleaning.set(false);
        });
        if self.random.chance(1, 2) {
            round.await.expect("a round does not panic");
        } else {
            round.detach();
        }
        Ok(())
    }

    async fn delete(&mut self, storage: &Storage, number: u32) -> Result<(), StorageError> {
        self.note(number, Change::Delete { log: number });
        let delete = async {
            let was_there = storage.delete_log(log_id(number)).await?;
            assert!(was_there, "an existing log is deleted");
            Ok(())
        };
        self.acknowledge(number, delete).await
    }

    /// An orderly restart, perhaps with another number of shards.
    async fn restart(&mut self, shards: &mut Shards) -> Result<(), StorageError> {
        if self.scope != Scope::Everything {
            return Ok(());
        }
        shards.close().await?;
        self.past.borrow_mut().acknowledge_all();
        let before = self.past.borrow().shards();
        let after = if self.random.chance(1, 2) {
            1 + self.random.below(u64::from(SHARDS_MAX)) as u32
        } else {
            before
        };
        if after != before {
            change_shard_count(before, after).await?;
        }
        *shards = Shards::open(after).await?;
        let mut past = self.past.borrow_mut();
        let counts: Vec<_> = past.histories.iter().map(History::len).collect();
        past.settle(&counts, after);
        Ok(())
    }

    /// Compares all logs with the model.
    ///
    /// # Errors
    /// Those of a storage that is offline.
    pub(crate) async fn compare(&mut self, shards: &Shards) -> Result<(), StorageError> {
        let bytes_max = 1 + self.random.below(20_000) as usize;
        let exactness = match self.scope {
            Scope::Everything | Scope::OneHonestStart => Exactness::Whole,
            Scope::OneStart => Exactness::OrReportedDamage,
        };
        let found = difference(&shards.logs(), &self.state, bytes_max, exactness).await?;
        assert_eq!(found, None, "while running");
        Ok(())
    }
}
