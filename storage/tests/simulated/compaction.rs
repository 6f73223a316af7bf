//! Compaction on the simulated disk: random keyed work with the cleaner beside it, stopped at every
//! operation; reads during swaps; logs that cannot be read; what a million commits leave.
//!
//! What must hold: every record that is there is the one that was appended at its offset, in order; the
//! newest record of each key is there, unless it is a tombstone. `STREAMBUS_SEEDS=n` runs *n* times as
//! many random ones.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use protocol::compression::{Codec, DecompressContext};
use protocol::record_batch::{BatchBuilder, BatchOptions, BatchView, Batches};
use runtime::sim::disk::{Fault, OpKind};
use runtime::sim::{Disk, Random};
use runtime::task::{Class, spawn};
use runtime::time::{sleep, wall_clock_ms};
use storage::{Cleaned, CompactionConfig, LogConfig, PartitionLog, Storage, StorageError};

use crate::world::{log_id, open, run, run_until_crash, small_config, try_open};

/// Key, and value unless it is a tombstone.
type KeyValue = (String, Option<String>);

/// What is in a log, by offset.
type Records = BTreeMap<i64, KeyValue>;

fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 12 << 10,
        retention_ms: None,
        compaction: Some(CompactionConfig {
            min_cleanable_dirty_ratio: 0.0,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 400,
        }),
        ..LogConfig::default()
    }
}

fn batch(codec: Codec, producer: Option<(i64, i32)>, records: &[KeyValue]) -> Vec<u8> {
    let (producer_id, base_sequence) = producer.unwrap_or((-1, -1));
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        producer_id,
        producer_epoch: if producer.is_some() { 0 } else { -1 },
        base_sequence,
        ..BatchOptions::default()
    });
    for (key, value) in records {
        let value = value.as_ref().map(String::as_bytes);
        builder.push(wall_clock_ms(), Some(key.as_bytes()), value, &[]);
    }
    builder.build().expect("a batch of test records")
}

fn key_value(key: u64, value: &str) -> KeyValue {
    (format!("key {key}"), Some(value.to_owned()))
}

/// Every record from the log start to the log end.
async fn records(log: &PartitionLog) -> Result<Records, StorageError> {
    records_by(log, 9000).await
}

/// Reads at most `bytes_max` at a time, but always a batch.
async fn records_by(log: &PartitionLog, bytes_max: usize) -> Result<Records, StorageError> {
    let mut found = Records::new();
    let mut offset = log.log_start_offset();
    let mut newest = -1;
    while offset < log.log_end_offset() {
        let read = log.read(offset, bytes_max, i64::MAX).await?;
        if read.bytes == 0 {
            break;
        }
        let bytes: Vec<u8> = read
            .slices
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        for view in Batches::new(&bytes) {
            let view = view.expect("whole batches");
            view.check_crc().expect("an intact batch");
            note_records(&view, &mut newest, &mut found);
        }
        assert!(read.next_offset > offset, "no progress at {offset}");
        offset = read.next_offset;
    }
    found.retain(|offset, _| *offset >= log.log_start_offset());
    Ok(found)
}

fn note_records(view: &BatchView<'_>, newest: &mut i64, found: &mut Records) {
    let mut buffer = Vec::new();
    let mut context = DecompressContext::default();
    let all = view.records(&mut context, &mut buffer, 1 << 20);
    for record in all.expect("a readable batch") {
        let record = record.expect("a readable record");
        assert!(record.offset > *newest, "offsets ascend");
        *newest = record.offset;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let key_value = (text(record.key.expect("a key")), record.value.map(text));
        found.insert(record.offset, key_value);
    }
}

/// What is wrong with a log that was given `expected`, if anything.
fn difference(expected: &Records, found: &Records) -> Option<String> {
    for (offset, record) in found {
        if expected.get(offset) != Some(record) {
            return Some(format!(
                "{offset} is {record:?}, not {:?}",
                expected.get(offset)
            ));
        }
    }
    let mut newest = BTreeMap::new();
    for (offset, (key, value)) in expected {
        newest.insert(key, (offset, value));
    }
    for (key, (offset, value)) in newest {
        if value.is_some() && !found.contains_key(offset) {
            return Some(format!("the newest record of {key}, at {offset}, is gone"));
        }
        let older = found
            .iter()
            .find(|(at, (other, _))| other == key && *at < offset);
        if let Some((older, _)) = older.filter(|_| !found.contains_key(offset)) {
            return Some(format!(
                "{key} was deleted at {offset}, and {older} is back"
            ));
        }
    }
    None
}

/// One change of the log, as durable as its journal record.
#[derive(Clone, Debug)]
enum Change {
    Append(i64, Vec<KeyValue>),
    LogStart(i64),
    Truncate(i64),
}

#[derive(Clone, Default)]
struct History {
    changes: RefCell<Vec<Change>>,
    acknowledged: Cell<usize>,
    /// Records below are never taken back.
    stable_end: Cell<i64>,
}

/// What is in the log after a history.
#[derive(Default)]
struct State {
    start: i64,
    end: i64,
    records: Records,
    /// Base offsets.
    batches: BTreeSet<i64>,
}

impl History {
    fn state_after(&self, count: usize) -> State {
        let mut state = State::default();
        for change in &self.changes.borrow()[..count] {
            match change {
                Change::Append(base, records) => {
                    for (at, record) in records.iter().enumerate() {
                        state.records.insert(base + at as i64, record.clone());
                    }
                    state.end = base + records.len() as i64;
                    state.batches.insert(*base);
                }
                Change::LogStart(offset) => state.start = state.start.max(*offset),
                Change::Truncate(to) => {
                    state.end = *to;
                    state.records.retain(|offset, _| offset < to);
                    state.batches.retain(|offset| offset < to);
                }
            }
        }
        let start = state.start;
        state.records.retain(|offset, _| *offset >= start);
        state
    }

    fn push(&self, change: Change) {
        self.changes.borrow_mut().push(change);
    }

    async fn acknowledge(
        &self,
        storage: &Storage,
        sequence: storage::Sequence,
    ) -> Result<(), StorageError> {
        let count = self.changes.borrow().len();
        storage.committed(sequence).await?;
        self.acknowledged.set(self.acknowledged.get().max(count));
        Ok(())
    }

    fn acknowledge_all(&self) {
        self.acknowledged.set(self.changes.borrow().len());
    }
}

/// Cleans again and again, as the broker does.
async fn keep_cleaning(storage: Storage, history: Rc<History>) {
    while storage.check_online().is_ok() {
        if let Some(log) = storage.log(log_id(1)) {
            clean(&storage, &log, history.stable_end.get()).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn clean(storage: &Storage, log: &PartitionLog, stable_end: i64) -> Cleaned {
    storage
        .clean_next([(log.clone(), stable_end)].into_iter())
        .await
}

struct Worker {
    random: Random,
    history: Rc<History>,
    next_value: u64,
    next_sequence: i32,
}

impl Worker {
    fn new(seed: u64, history: &Rc<History>) -> Self {
        let next_value = history.changes.borrow().len() as u64 * 1000;
        Worker {
            random: Random::new(seed),
            history: Rc::clone(history),
            next_value,
            next_sequence: 0,
        }
    }

    async fn work(&mut self, mut storage: Storage, steps: usize) -> Result<(), StorageError> {
        spawn(
            Class::Background,
            keep_cleaning(storage.clone(), Rc::clone(&self.history)),
        )
        .detach();
        for _ in 0..steps {
            let log = storage.log(log_id(1)).expect("the log");
            match self.random.below(100) {
                0..70 => self.append(&storage, &log).await?,
                70..76 => drop(log.roll(wall_clock_ms())?),
                76..82 => self.history.stable_end.set(log.durable_end_offset()),
                82..86 => self.truncate(&log).await?,
                86..88 => self.advance_log_start(&storage, &log).await?,
                88..90 => storage.checkpoint().await?,
                90..92 => self.reopen(&mut storage).await?,
                92..96 => self.compare(&log).await?,
                _ => sleep(Duration::from_millis(self.random.below(500))).await,
            }
        }
        let log = storage.log(log_id(1)).expect("the log");
        self.compare(&log).await?;
        storage.close().await?;
        self.history.acknowledge_all();
        Ok(())
    }

    async fn append(&mut self, storage: &Storage, log: &PartitionLog) -> Result<(), StorageError> {
        let count = 1 + self.random.below(4);
        let records: Vec<KeyValue> = (0..count).map(|_| self.record()).collect();
        let codec = Codec::ALL[self.random.index(Codec::ALL.len())];
        let producer = self.random.chance(1, 4).then(|| {
            self.next_sequence += count as i32;
            (7, self.next_sequence - count as i32)
        });
        let bytes = batch(codec, producer, &records);
        log.reserve(bytes.len()).await?;
        let appended = log.append(&bytes, 0, wall_clock_ms())?;
        self.history
            .push(Change::Append(appended.base_offset, records));
        if self.random.chance(1, 2) {
            self.history.acknowledge(storage, appended.sequence).await?;
        }
        Ok(())
    }

    fn record(&mut self) -> KeyValue {
        self.next_value += 1;
        let key = format!("key {}", self.random.below(12));
        let value = self.random.chance(5, 6).then(|| {
            let mut value = format!("{};", self.next_value);
            let bytes = self.random.below(1500) as usize;
            value.extend((0..bytes).map(|_| char::from(b'a' + self.random.below(26) as u8)));
            value
        });
        (key, value)
    }

    async fn truncate(&mut self, log: &PartitionLog) -> Result<(), StorageError> {
        let end = log.log_end_offset();
        let to = end - self.random.below(12) as i64;
        let state = self
            .history
            .state_after(self.history.changes.borrow().len());
        // Into the middle of a batch takes all of it: the model cuts between batches only.
        if to < self.history.stable_end.get().max(state.start) || !state.batches.contains(&to) {
            return Ok(());
        }
        self.history.push(Change::Truncate(to));
        log.truncate(to).await?;
        self.history.acknowledge_all();
        Ok(())
    }

    async fn advance_log_start(
        &mut self,
        storage: &Storage,
        log: &PartitionLog,
    ) -> Result<(), StorageError> {
        let (start, stable) = (log.log_start_offset(), self.history.stable_end.get());
        let offset = start + self.random.below((stable - start).max(0) as u64 / 2 + 1) as i64;
        if let Some(sequence) = log.advance_log_start(offset)? {
            self.history.push(Change::LogStart(offset));
            self.history.acknowledge(storage, sequence).await?;
        }
        Ok(())
    }

    async fn reopen(&mut self, storage: &mut Storage) -> Result<(), StorageError> {
        storage.close().await?;
        self.history.acknowledge_all();
        let (opened, report) = try_open(small_config()).await?;
        assert_eq!(
            report.records_applied, 0,
            "nothing is replayed after a close"
        );
        opened.update_config(log_id(1), compacted());
        *storage = opened;
        spawn(
            Class::Background,
            keep_cleaning(storage.clone(), Rc::clone(&self.history)),
        )
        .detach();
        Ok(())
    }

    async fn compare(&mut self, log: &PartitionLog) -> Result<(), StorageError> {
        let found = records(log).await?;
        let state = self
            .history
            .state_after(self.history.changes.borrow().len());
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (state.start, state.end)
        );
        assert_eq!(difference(&state.records, &found), None, "while running");
        Ok(())
    }
}

async fn first_life(seed: u64, history: Rc<History>, steps: usize) {
    let storage = open().await;
    storage
        .create_log(log_id(1), compacted())
        .await
        .expect("create");
    let mut worker = Worker::new(seed, &history);
    worker.work(storage, steps).await.expect("work");
}

/// Opens, finds the state that was recovered, and goes on from there.
async fn later_life(seed: u64, history: Rc<History>, steps: usize) {
    let (storage, _) = try_open(small_config())
        .await
        .expect("a disk after a crash can be opened");
    let Some(log) = storage.log(log_id(1)) else {
        assert_eq!(history.acknowledged.get(), 0, "the log is gone");
        return;
    };
    storage.update_config(log.id(), compacted());
    let found = records(&log).await.expect("readable");
    let ends = (log.log_start_offset(), log.log_end_offset());
    let mut differences = Vec::new();
    let count = history.changes.borrow().len();
    let recovered = (history.acknowledged.get()..=count).rev().find(|count| {
        let state = history.state_after(*count);
        let wrong = difference(&state.records, &found);
        let is_same = ends == (state.start, state.end) && wrong.is_none();
        differences.push(format!("{count}: {:?} {wrong:?}", (state.start, state.end)));
        is_same
    });
    let Some(recovered) = recovered else {
        panic!(
            "{ends:?} is no state of the history:\n{}",
            differences.join("\n")
        );
    };
    history.changes.borrow_mut().truncate(recovered);
    history.acknowledge_all();
    history
        .stable_end
        .set(history.stable_end.get().min(log.log_end_offset()));
    let mut worker = Worker::new(seed, &history);
    worker
        .work(storage, steps)
        .await
        .expect("work after recovery");
}

#[derive(Clone, Copy, Debug)]
enum Stop {
    PowerLoss,
    Kill,
}

/// The disk and the history in the middle of every operation of a run.
fn pictures(seed: u64) -> Vec<(Disk, History)> {
    let history = Rc::new(History::default());
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let disk = Disk::new();
    let (seen, noted) = (Rc::clone(&pictures), Rc::clone(&history));
    disk.observe_mutations(move |disk| seen.borrow_mut().push((disk, History::clone(&noted))));
    run(&disk, first_life(seed, history, 120));
    pictures.take()
}

/// What is left of a picture is recovered, stopped once more, and recovered again.
fn recover_twice((disk, history): (Disk, History), seed: u64, stop: Stop) {
    let end = |disk: Disk, seed| match stop {
        Stop::PowerLoss => disk.crash(seed),
        Stop::Kill => disk.kill(),
    };
    let history = Rc::new(history);
    let disk = end(disk, seed);
    disk.crash_after(Random::new(seed).below(120));
    run_until_crash(&disk, seed, later_life(seed, Rc::clone(&history), 25));
    run(&end(disk, seed), later_life(seed + 1, history, 10));
}

/// How many times as many random runs.
fn seeds() -> u64 {
    let seeds = std::env::var("STREAMBUS_SEEDS");
    seeds.map_or(1, |seeds| seeds.parse().expect("a number of seeds"))
}

fn check(stop: Stop) {
    let mut points = 0;
    for seed in 1..=4 * seeds() {
        for (point, picture) in pictures(seed).into_iter().enumerate() {
            let recovery =
                AssertUnwindSafe(|| recover_twice(picture, seed << 20 | point as u64, stop));
            catch_unwind(recovery).unwrap_or_else(|panic| {
                eprintln!("failed: seed {seed}, point {point}, {stop:?}");
                resume_unwind(panic)
            });
            points += 1;
        }
    }
    eprintln!("compaction, {stop:?}: {points} crash points");
    assert!(points > 500, "{points} crash points");
}

#[test]
fn a_compacted_log_survives_a_power_loss_at_any_operation() {
    check(Stop::PowerLoss);
}

#[test]
fn a_compacted_log_survives_a_kill_at_any_operation() {
    check(Stop::Kill);
}

#[test]
fn random_keyed_work_agrees_with_the_model() {
    for seed in 100..100 + 6 * seeds() {
        eprintln!("seed {seed}");
        run(&Disk::new(), first_life(seed, Rc::default(), 500));
    }
}

/// Appends `count` batches of one record; keys repeat after `keys`.
async fn fill(storage: &Storage, log: &PartitionLog, count: u64, keys: u64) {
    fill_from(storage, log, 0..count, keys).await;
}

async fn fill_from(
    storage: &Storage,
    log: &PartitionLog,
    numbers: std::ops::Range<u64>,
    keys: u64,
) {
    for number in numbers {
        let value = format!("{number};{}", "v".repeat(900));
        let bytes = batch(Codec::None, None, &[key_value(number % keys, &value)]);
        log.reserve(bytes.len()).await.expect("room");
        let appended = log.append(&bytes, 0, wall_clock_ms()).expect("append");
        storage.committed(appended.sequence).await.expect("commit");
    }
}

#[test]
fn a_round_leaves_one_record_of_each_key_and_few_segments() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), compacted())
            .await
            .expect("create");
        fill(&storage, &log, 199, 10).await;
        sleep(Duration::from_millis(5)).await;
        fill_from(&storage, &log, 199..200, 10).await;
        let (size, segments) = (log.size_bytes(), log.segment_count());
        log.roll(wall_clock_ms()).expect("roll");
        assert_eq!(clean(&storage, &log, 200).await, Cleaned::Log(log_id(1)));
        assert_eq!(clean(&storage, &log, 200).await, Cleaned::Nothing);
        let found = records(&log).await.expect("readable");
        assert_eq!(
            found.keys().copied().collect::<Vec<_>>(),
            (190..200).collect::<Vec<_>>()
        );
        assert!(
            log.size_bytes() < size / 15,
            "{} bytes of {size}",
            log.size_bytes()
        );
        assert!(
            log.segment_count() < 4,
            "{} segments of {segments}",
            log.segment_count()
        );
        let counts = storage.counts().cleaner;
        assert_eq!((counts.rounds, counts.failures), (1, 0));
        assert!(
            counts.bytes_read > size && counts.bytes_dropped > size / 2,
            "{counts:?}"
        );
        // The gap is skipped by lookups, too.
        let newest = log
            .max_timestamp_offset()
            .await
            .expect("lookup")
            .expect("a record");
        assert_eq!(newest.offset, 199);
        let first = log
            .offset_for_timestamp(0)
            .await
            .expect("lookup")
            .expect("a record");
        assert_eq!(first.offset, 190);
        storage.close().await.expect("close");
    });
}

#[test]
fn a_small_map_takes_more_rounds_and_leaves_the_same() {
    run(&Disk::new(), async {
        let mut config = small_config();
        config.cleaner_map_bytes_max = 4 << 10;
        let (storage, _) = try_open(config).await.expect("open");
        let log = storage
            .create_log(log_id(1), compacted())
            .await
            .expect("create");
        fill(&storage, &log, 700, 300).await;
        log.roll(wall_clock_ms()).expect("roll");
        let mut rounds = 0;
        while clean(&storage, &log, 700).await == Cleaned::Log(log_id(1)) {
            rounds += 1;
        }
        assert!(rounds > 2, "{rounds} rounds");
        let found = records(&log).await.expect("readable");
        assert_eq!(found.len(), 300);
        storage.close().await.expect("close");
    });
}

#[test]
fn readers_finish_while_segments_are_swapped() {
    for seed in 0..20 {
        run(&Disk::new(), async move {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), compacted())
                .await
                .expect("create");
            fill(&storage, &log, 150, 7).await;
            storage.close().await.expect("close");
            // Nothing is in memory: readers wait for the disk while segments are swapped.
            let storage = open().await;
            let log = storage.log(log_id(1)).expect("the log");
            assert!(storage.update_config(log_id(1), compacted()));
            let mut readers = Vec::new();
            for reader in 0..24 {
                let log = log.clone();
                readers.push(spawn(Class::Network, async move {
                    sleep(Duration::from_micros(seed * 70 + reader * 210)).await;
                    // One batch at a time: each read leaves a hint for the next.
                    let bytes_max = if reader % 2 == 0 { 1 } else { 9000 };
                    let read = records_by(&log, bytes_max).await;
                    read.expect("a read across a swap")
                }));
            }
            clean(&storage, &log, 150).await;
            let left = records(&log).await.expect("read");
            for reader in readers {
                let found = reader.await.expect("a reader");
                // What compaction leaves was there all the time.
                let missed: Vec<_> = left.keys().filter(|o| !found.contains_key(o)).collect();
                assert!(missed.is_empty(), "seed {seed}: {missed:?} were skipped");
                let newest: Vec<_> = found.keys().rev().take(7).copied().collect();
                assert_eq!(newest, (143..150).rev().collect::<Vec<_>>(), "seed {seed}");
            }
            storage.close().await.expect("close");
        });
    }
}

/// A reader on its way through a segment that is swapped, whose new version ends before the place it has come
/// to, took that for the end, and missed what stays.
#[test]
fn a_place_in_a_segment_means_nothing_in_its_next_version() {
    let disk = Disk::new();
    let config = || LogConfig {
        segment_bytes: 96 << 10,
        ..compacted()
    };
    run(&disk, async move {
        let storage = open().await;
        let log = storage.create_log(log_id(1), config()).await;
        let log = log.expect("create");
        // Too small for an index: a reader walks from its beginning.
        fill(&storage, &log, 55, 3).await;
        fill_from(&storage, &log, 55..56, 1000).await;
        fill_from(&storage, &log, 56..60, 3).await;
        log.roll(wall_clock_ms()).expect("roll");
        fill_from(&storage, &log, 60..64, 3).await;
        storage.close().await.expect("close");
    });
    for delay_us in (0..12_000).step_by(60) {
        run(&disk.fork(), async move {
            let storage = open().await;
            let log = storage.log(log_id(1)).expect("the log");
            assert!(storage.update_config(log_id(1), config()));
            let reader = log.clone();
            let reading = spawn(Class::Network, async move {
                sleep(Duration::from_micros(delay_us)).await;
                reader.read(55, 1, i64::MAX).await
            });
            assert_eq!(clean(&storage, &log, 64).await, Cleaned::Log(log_id(1)));
            let read = reading.await.expect("no panic").expect("a read");
            assert_eq!(read.next_offset, 56, "the only record of its key");
        });
    }
}

#[test]
fn a_log_that_cannot_be_read_is_set_aside_alone_and_tried_again() {
    let disk = Disk::new();
    let faults = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        let mut logs = Vec::new();
        for number in [1, 2] {
            let log = storage
                .create_log(log_id(number), compacted())
                .await
                .expect("create");
            fill(&storage, &log, 100, 5).await;
            logs.push(log);
        }
        storage.checkpoint().await.expect("checkpoint");
        let candidates = || logs.clone().into_iter().map(|log| (log, 100));
        faults.fail_nth(OpKind::Read, 0, Fault::Eio);
        let Cleaned::NotNow(bad) = storage.clean_next(candidates()).await else {
            panic!("a log that could not be read was cleaned");
        };
        let Cleaned::Log(good) = storage.clean_next(candidates()).await else {
            panic!("the other log was not cleaned");
        };
        assert_ne!(bad, good);
        assert_eq!(storage.clean_next(candidates()).await, Cleaned::Nothing);
        let counts = storage.counts().cleaner;
        assert_eq!((counts.failures, counts.logs_set_aside), (1, 1));
        assert!(storage.check_online().is_ok());
        sleep(Duration::from_secs(61)).await;
        assert_eq!(storage.clean_next(candidates()).await, Cleaned::Log(bad));
        assert_eq!(storage.counts().cleaner.logs_set_aside, 0);
        for log in &logs {
            let newest: Vec<_> = records(log)
                .await
                .expect("readable")
                .into_keys()
                .rev()
                .take(5)
                .collect();
            assert_eq!(newest, [99, 98, 97, 96, 95]);
        }
        storage.close().await.expect("close");
    });
}

/// Files of rewritten segments on a disk.
fn rewritten_files(disk: &Disk) -> Vec<String> {
    let names = disk.files().into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_segment = path.to_str()?.contains("/logs/");
        (is_segment && name.contains('-')).then_some(name)
    });
    names.collect()
}

/// A log of 100 batches, ready for a round.
async fn filled_log() -> (Storage, PartitionLog) {
    let storage = open().await;
    let log = storage
        .create_log(log_id(1), compacted())
        .await
        .expect("create");
    fill(&storage, &log, 100, 5).await;
    storage.checkpoint().await.expect("checkpoint");
    (storage, log)
}

/// The newest record of each of the five keys of a log of so many records is there.
async fn expect_newest_five(end: i64) {
    let (storage, _) = try_open(small_config()).await.expect("open");
    let log = storage.log(log_id(1)).expect("the log");
    let found = records(&log).await.expect("readable");
    let newest: Vec<_> = found.into_keys().rev().take(5).collect();
    assert_eq!(newest, (end - 5..end).rev().collect::<Vec<_>>());
    storage.close().await.expect("close");
}

/// A `Compact` record counts only when the files that it names do.
#[test]
fn a_swap_is_made_of_durable_files_only() {
    let disk = Disk::new();
    run(&disk, async {
        let (storage, _) = filled_log().await;
        storage.close().await.expect("close");
    });
    for point in 0.. {
        let again = disk.fork();
        again.crash_after(point);
        let ended = run_until_crash(&again, point, async {
            let storage = open().await;
            storage.update_config(log_id(1), compacted());
            let log = storage.log(log_id(1)).expect("the log");
            assert_eq!(clean(&storage, &log, 100).await, Cleaned::Log(log_id(1)));
        });
        run(&again.crash(point), expect_newest_five(100));
        if ended.is_some() {
            assert!(point > 10, "a round of {point} operations");
            return;
        }
    }
}

#[test]
fn what_a_stopped_round_left_is_removed() {
    let mut left = 0;
    for point in 0..60 {
        let disk = Disk::new();
        let stop = disk.clone();
        run_until_crash(&disk, point, async move {
            let (storage, log) = filled_log().await;
            stop.crash_after(stop.counts().mutations() + point);
            clean(&storage, &log, 100).await;
        });
        let after = disk.kill();
        left += rewritten_files(&after).len();
        after.write(&unknown_segment(), &[7; 4096]);
        run(&after, async {
            let storage = open().await;
            let log = storage.log(log_id(1)).expect("the log");
            storage.update_config(log.id(), compacted());
            fill(&storage, &log, 30, 5).await;
            clean(&storage, &log, log.durable_end_offset()).await;
            // The old versions go when the journal has it.
            storage.close().await.expect("close");
        });
        let files = rewritten_files(&after);
        let bases: BTreeSet<&str> = files
            .iter()
            .filter_map(|name| name.split('-').next())
            .collect();
        assert_eq!(files.len(), bases.len(), "one version of each: {files:?}");
    }
    assert!(left > 10, "{left} files were left behind");
}

/// Name of a rewritten segment that the log does not have.
fn unknown_segment() -> std::path::PathBuf {
    crate::world::log_file(1, 1 << 16, &format!("{:020}-9.log", 0))
}

/// Files of a round that was dropped stayed until the next start.
#[test]
fn what_a_dropped_round_left_is_removed() {
    let (mut left, mut unknown) = (0, 0);
    for point in 0..40 {
        let disk = Disk::new();
        let seen = disk.clone();
        let was_finished = Rc::new(Cell::new(false));
        let finished = Rc::clone(&was_finished);
        left += run(&disk, async move {
            let (storage, log) = filled_log().await;
            clean(&storage, &log, 100).await;
            fill(&storage, &log, 200, 5).await;
            let end = log.durable_end_offset();
            let before = rewritten_files(&seen).len();
            let patience = Duration::from_micros(point * 400);
            let cleaned = runtime::time::timeout(patience, clean(&storage, &log, end)).await;
            finished.set(cleaned == Ok(Cleaned::Log(log_id(1))));
            // As of another round, whose names no later one uses.
            seen.write(&unknown_segment(), &[7; 4096]);
            let left = rewritten_files(&seen).len() - before;
            clean(&storage, &log, end).await;
            fill(&storage, &log, 50, 5).await;
            clean(&storage, &log, log.durable_end_offset()).await;
            storage.close().await.expect("close");
            left
        });
        let mut files = rewritten_files(&disk.kill());
        files.retain(|name| !name.ends_with("-9.log"));
        let bases: BTreeSet<&str> = files
            .iter()
            .filter_map(|name| name.split('-').next())
            .collect();
        assert_eq!(files.len(), bases.len(), "one version of each: {files:?}");
        // What lies there when the round was finished is looked for at the next start.
        let is_left = disk.files().contains(&unknown_segment());
        assert!(!is_left || was_finished.get(), "dropped after {point}");
        unknown += usize::from(!is_left);
        run(&disk.crash(point), expect_newest_five(350));
    }
    assert!(left > 3, "{left} files were left behind");
    assert!(unknown > 10, "{unknown} rounds were dropped");
}

/// An index that a dropped round had written was taken for that of the segment which a later round gave the
/// same name.
#[test]
fn a_rewritten_segment_has_no_index_of_a_round_that_was_dropped() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let (storage, log) = filled_log().await;
        clean(&storage, &log, 100).await;
        let file = |end| crate::world::log_file(1, 1 << 16, &format!("{:020}-2.{end}", 0));
        seen.write(&file("index"), &[7; 4096]);
        fill(&storage, &log, 100, 5).await;
        clean(&storage, &log, log.durable_end_offset()).await;
        assert!(seen.files().contains(&file("log")), "the name came back");
        assert!(!seen.files().contains(&file("index")));
        storage.close().await.expect("close");
    });
}

#[test]
fn a_damaged_log_is_set_aside_and_stays_as_it_is() {
    let disk = Disk::new();
    run(&disk, async {
        let (storage, _) = filled_log().await;
        storage.close().await.expect("close");
    });
    disk.corrupt(&crate::world::first_log_segment(0), 5000..5001);
    run(&disk, async {
        let storage = open().await;
        storage.update_config(log_id(1), compacted());
        let log = storage.log(log_id(1)).expect("the log");
        let (bytes, segments) = (log.size_bytes(), log.segment_count());
        assert_eq!(clean(&storage, &log, 100).await, Cleaned::NotNow(log_id(1)));
        assert_eq!(clean(&storage, &log, 100).await, Cleaned::Nothing);
        assert_eq!((log.size_bytes(), log.segment_count()), (bytes, segments));
        assert_eq!(storage.counts().cleaner.logs_set_aside, 1);
        assert!(storage.check_online().is_ok());
        storage.close().await.expect("close");
    });
    assert!(rewritten_files(&disk).is_empty());
}

#[test]
fn a_log_is_deleted_amid_a_round() {
    for delay_us in (0..8000).step_by(250) {
        let disk = Disk::new();
        run(&disk, async move {
            let (storage, log) = filled_log().await;
            let cleaning = storage.clone();
            let round = spawn(Class::Background, async move {
                clean(&cleaning, &log, 100).await;
            });
            sleep(Duration::from_micros(delay_us)).await;
            assert!(storage.delete_log(log_id(1)).await.expect("delete"));
            round.await.expect("the round");
            assert!(storage.check_online().is_ok());
            storage.close().await.expect("close");
        });
        assert!(rewritten_files(&disk).is_empty(), "{:?}", disk.files());
    }
}

/// `__consumer_offsets`: commits of a few hundred groups, over and over.
#[test]
fn many_commits_leave_a_small_log() {
    const COMMITS: u64 = 200_000;
    let disk = Disk::new();
    run(&disk, async {
        let mut config = small_config();
        config.cache_bytes_max = 4 << 20;
        let (storage, _) = try_open(config).await.expect("open");
        let settings = LogConfig {
            segment_bytes: 1 << 20,
            compaction: compacted().compaction.map(|compaction| CompactionConfig {
                min_cleanable_dirty_ratio: 0.5,
                ..compaction
            }),
            ..compacted()
        };
        let log = storage
            .create_log(log_id(1), settings)
            .await
            .expect("create");
        let mut appended_bytes = 0;
        for number in 0..COMMITS {
            let commit = key_value(number % 500, &format!("offset {number}, metadata"));
            let bytes = batch(Codec::None, None, &[commit]);
            appended_bytes += bytes.len() as u64;
            log.reserve(bytes.len()).await.expect("room");
            let appended = log.append(&bytes, 0, wall_clock_ms()).expect("append");
            if number % 100 == 0 {
                storage.committed(appended.sequence).await.expect("commit");
            }
            if number % 5000 == 0 {
                clean(&storage, &log, log.durable_end_offset()).await;
            }
        }
        clean(&storage, &log, log.durable_end_offset()).await;
        assert!(appended_bytes > 16 << 20, "{appended_bytes} bytes");
        assert!(
            log.size_bytes() < 3 << 20,
            "{} bytes are left",
            log.size_bytes()
        );
        storage.close().await.expect("close");
    });
    run(&disk, async {
        let storage = open().await;
        let log = storage.log(log_id(1)).expect("the log");
        let found = records(&log).await.expect("readable");
        assert!(found.len() < 30_000, "{} records to load", found.len());
        let keys: BTreeSet<&String> = found.values().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 500);
        assert_eq!(found.keys().next_back(), Some(&(COMMITS as i64 - 1)));
        storage.close().await.expect("close");
    });
}
