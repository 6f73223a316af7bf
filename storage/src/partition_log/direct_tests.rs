//! What direct appends wait for, and what does not wait for them. Those of recovery are in
//! `storage/tests/simulated/direct.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::sim::{Disk, Simulation};
use runtime::task::{Class, spawn, yield_now};
use runtime::time::{now, sleep, timeout};
use runtime::{MemoryBudget, dir};

use super::*;
use crate::journal::JournalConfig;
use crate::{Storage, StorageConfig};

const LARGE: usize = 10_000;
/// Space that a log has ahead, for a good number of large batches.
const AHEAD_BYTES: u64 = 300_000;
/// Longer than anything takes that does not wait for something else.
const LONG: Duration = Duration::from_mins(1);

fn config() -> StorageConfig {
    StorageConfig {
        journal: JournalConfig {
            file_bytes: 1 << 20,
            files_max: 8,
            group_bytes_max: 256 << 10,
        },
        allocate_from_bytes: 4 << 10,
        direct_bytes_min: 8 << 10,
        // A large batch has a chunk for itself, and a chunk is one write.
        chunk_bytes_max: 16 << 10,
        ..StorageConfig::default()
    }
}

fn run(disk: &Disk, program: impl Future<Output = ()> + 'static) {
    Simulation::new(1).disk(disk).run(program).value();
}

async fn open(config: StorageConfig) -> Storage {
    let budget = MemoryBudget::new(64 << 20);
    let opened = Storage::open(Path::new("/data"), 0, config, budget).await;
    opened.expect("open").0
}

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, None, Some(&vec![7; bytes]), &[]);
    builder.build().expect("a batch")
}

fn append(log: &PartitionLog, bytes: usize) -> Sequence {
    let appended = log.append(&batch(bytes), 0, 0);
    appended.expect("append").sequence
}

/// Begins some large appends that go direct; answers the last one's sequence.
fn append_some(log: &PartitionLog) -> Sequence {
    let before = direct_bytes(log);
    let sequences: Vec<_> = (0..8).map(|_| append(log, LARGE)).collect();
    assert!(direct_bytes(log) - before >= 8 * LARGE as u64);
    sequences[7]
}

fn direct_bytes(log: &PartitionLog) -> u64 {
    log.log.engine.direct_bytes.get()
}

async fn log_with_space(storage: &Storage, partition: u32) -> PartitionLog {
    let topic = [1; 16];
    let config = LogConfig {
        may_use_reserve: true,
        ..LogConfig::default()
    };
    let created = storage.create_log(LogId { topic, partition }, config).await;
    let log = created.expect("create");
    while log.log.state.borrow().active().allocated < log.size_bytes() + AHEAD_BYTES {
        let committed = storage.committed(append(&log, 60_000)).await;
        committed.expect("commit");
        log.log.write_behind().await.expect("write");
    }
    log
}

/// D3: what was begun is durable before who waits for the log's files gets them; what comes in between goes
/// through the journal.
#[test]
fn others_get_the_files_when_what_was_begun_is_durable() {
    run(&Disk::new(), async {
        let storage = open(config()).await;
        let log = log_with_space(&storage, 0).await;
        let last = append_some(&log);
        let before = direct_bytes(&log);
        let slow = Rc::clone(&log.log);
        let slow = spawn(Class::Storage, async move {
            let _work = slow.file_work().await;
            sleep(LONG).await;
        });
        while !log.log.is_file_work_wanted() {
            yield_now().await;
        }
        append(&log, LARGE);
        assert_eq!(direct_bytes(&log), before, "no more are begun");
        let begun = now();
        storage.committed(last).await.expect("commit");
        assert!(begun.elapsed() < LONG, "the others come after it");
        slow.await.expect("no panic");
    });
}

/// D3: what can be made anew is written when there is space, and no append waits for it.
#[test]
fn what_is_derived_and_finds_no_space_holds_up_no_append() {
    let disk = Disk::new();
    let full = disk.clone();
    run(&disk, async move {
        let storage = open(config()).await;
        let log = log_with_space(&storage, 0).await;
        let name = log.log.state.borrow().active().name();
        let due = |segment: &mut crate::segment::Segment| {
            segment.producer_snapshot = Some([1_u8; 10].into());
        };
        log.log.with_segment(name.base_offset, due);
        full.set_capacity(full.used_bytes());
        let committed = storage.committed(append_some(&log));
        let committed = timeout(LONG, committed).await;
        committed.expect("in time").expect("commit");
        let producers = log.log.path_of(name, FileKind::Producers);
        assert!(!dir::exists(&producers).await.expect("look"), "no space");
        full.set_capacity(u64::MAX);
        sleep(LONG).await;
        assert!(dir::exists(&producers).await.expect("look"), "later");
    });
}

/// Small batches wait for what is on its way straight to segments: that is bounded.
#[test]
fn bytes_on_their_way_are_bounded() {
    run(&Disk::new(), async {
        let bounded = StorageConfig {
            direct_bytes_max: 35_000,
            ..config()
        };
        let storage = open(bounded).await;
        let log = log_with_space(&storage, 0).await;
        for _ in 0..3 {
            assert!(log.has_room(LARGE));
            append(&log, LARGE);
        }
        assert!(!log.has_room(LARGE), "a fourth one");
        let refused = log.append(&batch(LARGE), 0, 0);
        assert!(matches!(refused, Err(StorageError::NoRoom)), "{refused:?}");
        assert!(log.has_room(100), "a small one waits for three");
        // One that is larger than the bound waits until it is alone.
        for bytes in [LARGE, 40_000] {
            let before = direct_bytes(&log);
            let room = timeout(LONG, log.reserve(bytes)).await;
            room.expect("in time").expect("room");
            let sequence = append(&log, bytes);
            assert!(direct_bytes(&log) > before, "it goes direct, too");
            storage.committed(sequence).await.expect("commit");
        }
    });
}

/// A direct write goes to space that the log had: the disk may be as full as before.
#[test]
fn a_direct_write_does_not_end_a_full_disk() {
    run(&Disk::new(), async {
        let storage = open(config()).await;
        let log = log_with_space(&storage, 0).await;
        let space = &log.log.engine.space;
        let (operation, path) = ("write", PathBuf::from("/data"));
        space.note_out(&StorageError::DiskFull { operation, path });
        let last = append_some(&log);
        storage.committed(last).await.expect("commit");
        assert!(space.is_out());
    });
}

/// Polls of tasks in a run in which so many logs have so many large appends at a time.
fn polls(logs: u32, appends: usize) -> u64 {
    let program = async move {
        let storage = open(config()).await;
        let mut all = Vec::new();
        for partition in 0..logs {
            all.push(log_with_space(&storage, partition).await);
        }
        for _ in 0..appends {
            for log in &all {
                append(log, LARGE);
            }
            sleep(Duration::from_micros(200)).await;
        }
        let last = log_end(&storage);
        storage.committed(last).await.expect("commit");
    };
    let outcome = Simulation::new(1).run(program);
    let steps = outcome.steps;
    outcome.value();
    steps
}

fn log_end(storage: &Storage) -> Sequence {
    storage.journal().last_sequence()
}

/// The writes of a log wake nobody who waits for those of another one.
#[test]
fn the_work_of_many_logs_is_the_sum_of_theirs() {
    let of = |logs| polls(logs, 10) - polls(logs, 0);
    let (few, many) = (of(4), of(16));
    assert!(many < 6 * few, "{many} polls for 16 logs, {few} for 4");
}
