//! The model test: random work on a few logs, stopped at every operation on the disk by a power loss or
//! a kill, recovered, compared with the model, worked on again.
//!
//! What must hold: the journal orders all changes of a shard, so what is recovered is the state
//! after the first k changes for one k, and k is not below what had been answered as durable. Set
//! `STORAGE_CRASH_SEEDS` (default 2) for more histories and `STORAGE_CRASH_STRIDE` (default 7) to 1 for every crash point.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Disk, Random};
use runtime::time::{sleep, wall_clock_ms};
use storage::{PartitionLog, Storage, StorageError};

use crate::batches::{Spec, stored};
use crate::model::{Change, History, ModelBatch, ModelState, apply, difference};
use crate::world::{log_id, open, run, run_until_crash, small_config, small_log, try_open};

const LOGS: u32 = 4;
const STEPS: usize = 90;

/// Random work on a storage, noted in a history.
struct Worker {
    random: Random,
    history: Rc<RefCell<History>>,
    /// The state after the whole history.
    state: ModelState,
    next_number: u64,
}

impl Worker {
    fn new(seed: u64, history: &Rc<RefCell<History>>) -> Self {
        let state = history.borrow().state();
        let next_number = history.borrow().changes.len() as u64 * 100;
        Worker {
            random: Random::new(seed),
            history: Rc::clone(history),
            state,
            next_number,
        }
    }

    fn note(&mut self, change: Change) {
        apply(&mut self.state, &change);
        self.history.borrow_mut().push(change);
    }

    async fn acknowledge(
        &mut self,
        storage: &Storage,
        sequence: storage::Sequence,
    ) -> Result<(), StorageError> {
        let count = self.history.borrow().changes.len();
        storage.committed(sequence).await?;
        let mut history = self.history.borrow_mut();
        history.acknowledged = history.acknowledged.max(count);
        Ok(())
    }

    async fn work(&mut self, storage: &mut Storage, steps: usize) -> Result<(), StorageError> {
        for _ in 0..steps {
            self.step(storage).await?;
        }
        Ok(())
    }

    async fn step(&mut self, storage: &mut Storage) -> Result<(), StorageError> {
        let number = self.random.below(u64::from(LOGS)) as u32;
        let Some(log) = storage.log(log_id(number)) else {
            return self.create(storage, number).await;
        };
        match self.random.below(100) {
            0..64 => self.append(storage, number, &log).await,
            64..68 => self.begin_epoch(storage, number, &log).await,
            68..74 => self.advance_log_start(storage, number, &log).await,
            74..79 => self.truncate(number, &log).await,
            79..82 => log.roll(wall_clock_ms()).map(|_| ()),
            82..88 => self.enforce_retention(number, &log),
            88..90 => self.delete(storage, number).await,
            90..92 => storage.checkpoint().await,
            92..94 => self.reopen(storage).await,
            94..97 => self.compare(storage).await,
            _ => {
                sleep(Duration::from_millis(self.random.below(3000))).await;
                Ok(())
            }
        }
    }

    async fn create(&mut self, storage: &Storage, number: u32) -> Result<(), StorageError> {
        let (log, sequence) = storage.begin_create_log(log_id(number), small_log())?;
        self.note(Change::Create {
            log: number,
            incarnation: log.incarnation(),
        });
        self.acknowledge(storage, sequence).await
    }

    async fn append(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        self.next_number += 1;
        let records = 1 + self.random.below(5) as u32;
        let value_bytes = match self.random.below(10) {
            0..6 => self.random.below(300),
            6..9 => self.random.below(4000),
            _ => self.random.below(14_000),
        };
        let mut spec = Spec::new(self.next_number, records, value_bytes as usize);
        let first_sequence = self.next_sequence(number);
        let producer = self.random.chance(1, 2).then_some((7, 0, first_sequence));
        spec.producer = producer;
        let epoch = self.state[&number]
            .epochs
            .last()
            .map_or(0, |(epoch, _)| *epoch);
        let batch = spec.build();
        log.reserve(batch.len()).await?;
        let appended = log.append(&batch, epoch, wall_clock_ms())?;
        let expected = self.state[&number].log_end;
        assert_eq!(
            appended.base_offset, expected,
            "a batch goes to the log end"
        );
        let last_sequence = first_sequence + records as i32 - 1;
        let batch = ModelBatch {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            bytes: stored(&batch, appended.base_offset, epoch),
            producer: producer.map(|(id, epoch, first)| (id, epoch, first, last_sequence)),
        };
        self.note(Change::Append {
            log: number,
            batch,
            epoch,
        });
        if self.random.chance(1, 2) {
            self.acknowledge(storage, appended.sequence).await
        } else {
            Ok(())
        }
    }

    fn next_sequence(&self, number: u32) -> i32 {
        let newest = self.state[&number]
            .batches
            .iter()
            .rev()
            .find_map(|batch| batch.producer);
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
        self.note(Change::Epoch { log: number, epoch });
        self.acknowledge(storage, sequence).await
    }

    async fn advance_log_start(
        &mut self,
        storage: &Storage,
        number: u32,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.durable_end_offset());
        let offset = start + self.random.below((end - start) as u64 / 2 + 1) as i64;
        if let Some(sequence) = log.advance_log_start(offset)? {
            self.note(Change::LogStart {
                log: number,
                offset,
            });
            return self.acknowledge(storage, sequence).await;
        }
        Ok(())
    }

    async fn truncate(&mut self, number: u32, log: &PartitionLog) -> Result<(), StorageError> {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let to = end - self.random.below((end - start) as u64 / 3 + 2) as i64;
        if to < start || to >= end {
            return Ok(());
        }
        // Noted first: the call may be durable without having answered.
        self.note(Change::Truncate { log: number, to });
        log.truncate(to).await?;
        self.history.borrow_mut().acknowledge_all();
        Ok(())
    }

    fn enforce_retention(&mut self, number: u32, log: &PartitionLog) -> Result<(), StorageError> {
        let outcome = log.enforce_retention(wall_clock_ms())?;
        if outcome.segments > 0 {
            self.note(Change::LogStart {
                log: number,
                offset: outcome.log_start_offset,
            });
        }
        Ok(())
    }

    async fn delete(&mut self, storage: &Storage, number: u32) -> Result<(), StorageError> {
        self.note(Change::Delete { log: number });
        assert!(
            storage.delete_log(log_id(number)).await?,
            "an existing log is deleted"
        );
        self.history.borrow_mut().acknowledge_all();
        Ok(())
    }

    async fn reopen(&mut self, storage: &mut Storage) -> Result<(), StorageError> {
        storage.close().await?;
        self.history.borrow_mut().acknowledge_all();
        let (opened, report) = try_open(small_config()).await?;
        assert_eq!(
            report.records_applied, 0,
            "nothing is replayed after a close"
        );
        *storage = opened;
        Self::configure(storage);
        Ok(())
    }

    fn configure(storage: &Storage) {
        for log in storage.logs() {
            storage.update_config(log.id(), small_log());
        }
    }

    async fn compare(&mut self, storage: &Storage) -> Result<(), StorageError> {
        let bytes_max = 1 + self.random.below(20_000) as usize;
        let found = difference(storage, &self.state, bytes_max).await;
        assert_eq!(found, None, "while running");
        Ok(())
    }
}

/// Opens, finds the k whose state was recovered, cuts the history there, and goes on working.
async fn recover_and_work(seed: u64, history: Rc<RefCell<History>>, steps: usize) {
    let (mut storage, _) = try_open(small_config())
        .await
        .expect("a disk after a crash can be opened");
    let before = history.borrow().clone();
    let matching = recovered_count(&storage, &before).await;
    history.borrow_mut().changes.truncate(matching);
    history.borrow_mut().acknowledge_all();
    let mut worker = Worker::new(seed, &history);
    Worker::configure(&storage);
    worker
        .work(&mut storage, steps)
        .await
        .expect("work after recovery");
    worker.compare(&storage).await.expect("compare");
    storage.close().await.expect("close");
    history.borrow_mut().acknowledge_all();
}

/// How many changes of the history the storage holds; all that were acknowledged at least.
async fn recovered_count(storage: &Storage, history: &History) -> usize {
    let mut differences = Vec::new();
    for count in (history.acknowledged..=history.changes.len()).rev() {
        match difference(storage, &history.state_after(count), 9000).await {
            None => return count,
            Some(difference) => differences.push(format!("{count}: {difference}")),
        }
    }
    panic!(
        "no state of the history was recovered, {} acknowledged:\n{}",
        history.acknowledged,
        differences.join("\n")
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    PowerLoss,
    Kill,
    /// What is recovered after a kill may have been read by someone: a power loss must not take it.
    KillThenPowerLoss,
}

async fn first_life(seed: u64, history: Rc<RefCell<History>>, steps: usize) {
    let mut storage = open().await;
    let mut worker = Worker::new(seed, &history);
    worker.work(&mut storage, steps).await.expect("work");
    worker.compare(&storage).await.expect("compare");
    storage.close().await.expect("close");
    history.borrow_mut().acknowledge_all();
}

/// One history, stopped after `point` operations, recovered twice. `false`: it ended before.
fn crash_at(seed: u64, point: u64, stop: Stop) -> bool {
    let history = Rc::new(RefCell::new(History::default()));
    let disk = Disk::new();
    disk.crash_after(point);
    let ended =
        run_until_crash(&disk, seed, first_life(seed, Rc::clone(&history), STEPS)).is_some();
    let mut disk = match stop {
        Stop::PowerLoss => disk.crash(seed ^ point),
        Stop::Kill | Stop::KillThenPowerLoss => disk.kill(),
    };
    // The second life may be stopped as well.
    let mut random = Random::new(seed ^ point << 20);
    disk.crash_after(random.below(60));
    let second = recover_and_work(point, Rc::clone(&history), 12);
    run_until_crash(&disk, point, second);
    disk = match stop {
        Stop::PowerLoss | Stop::KillThenPowerLoss => disk.crash(point),
        Stop::Kill => disk.kill(),
    };
    run(&disk, recover_and_work(point + 1, history, 6));
    !ended
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn check(stop: Stop) {
    let stride = setting("STORAGE_CRASH_STRIDE", 7);
    let mut points = 0;
    for seed in 1..=setting("STORAGE_CRASH_SEEDS", 2) {
        let mut point = seed % stride;
        while std::panic::catch_unwind(|| crash_at(seed, point, stop)).unwrap_or_else(|panic| {
            eprintln!("failed: crash_at({seed}, {point}, {stop:?})");
            std::panic::resume_unwind(panic)
        }) {
            point += stride;
            points += 1;
        }
    }
    eprintln!("{stop:?}: {points} crash points");
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_at_any_operation() {
    check(Stop::PowerLoss);
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation() {
    check(Stop::Kill);
}

#[test]
fn what_was_recovered_after_a_kill_survives_a_power_loss() {
    check(Stop::KillThenPowerLoss);
}

/// The same without crashes, longer, with closes and reopenings in between.
#[test]
fn random_work_agrees_with_the_model() {
    for seed in 100..100 + setting("STORAGE_CRASH_SEEDS", 2) * 3 {
        let history = std::panic::AssertUnwindSafe(Rc::new(RefCell::new(History::default())));
        let lived = std::panic::catch_unwind(|| {
            run(&Disk::new(), first_life(seed, Rc::clone(&history), 400));
        });
        lived.unwrap_or_else(|panic| {
            eprintln!("failed: seed {seed}");
            std::panic::resume_unwind(panic)
        });
    }
}
