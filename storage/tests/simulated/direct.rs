//! Large appends that go straight to their segment: one test for each rule (`docs/storage-format.md`, "Direct
//! appends"). Each fails when its rule is taken out of the code; `crash` has them in random work.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::Disk;
use runtime::sim::disk::{Fault, OpKind};
use runtime::task::{Class, JoinHandle, spawn};
use runtime::time::{sleep, timeout, wall_clock_ms};
use storage::{LogConfig, PartitionLog, Sequence, Storage, StorageConfig, StorageError};

use crate::batches::{Spec, stored};
use crate::world::{
    append, first_log_segment, log_id, read_all, run, small_config, small_log, try_open,
};

const LARGE: usize = 10_000;

fn direct_config() -> StorageConfig {
    StorageConfig {
        allocate_from_bytes: 4 << 10,
        direct_bytes_min: 8 << 10,
        ..small_config()
    }
}

fn long_log() -> LogConfig {
    LogConfig {
        segment_bytes: 512 << 10,
        retention_bytes: None,
        ..small_log()
    }
}

async fn open() -> Storage {
    let (storage, _) = try_open(direct_config()).await.expect("open");
    storage.update_config(log_id(1), long_log());
    storage
}

/// A log whose active segment has space ahead, and what it holds.
async fn log_with_space(storage: &Storage) -> (PartitionLog, Vec<u8>) {
    let log = storage.create_log(log_id(1), long_log()).await;
    let log = log.expect("create");
    let mut all = Vec::new();
    // Each write behind makes more space than it takes, until there is plenty.
    for number in 1000..1026 {
        all.extend(append(storage, &log, Spec::new(number, 1, 4000)).await);
        sleep(Duration::from_secs(40)).await;
    }
    assert_eq!(storage.counts().direct_bytes, 0, "small ones do not");
    (log, all)
}

/// Begins an append of `bytes`; answers what is stored.
async fn begin(log: &PartitionLog, number: u64, bytes: usize) -> (Sequence, Vec<u8>) {
    let batch = Spec::new(number, 1, bytes).build();
    log.reserve(batch.len()).await.expect("room");
    let appended = log.append(&batch, 0, wall_clock_ms()).expect("append");
    (appended.sequence, stored(&batch, appended.base_offset, 0))
}

/// The bytes of log 1, if it is there.
async fn log_bytes(storage: &Storage) -> Option<Vec<u8>> {
    let log = storage.log(log_id(1))?;
    let upto = log.log_end_offset();
    Some(read_all(&log, 20_000, upto).await.expect("readable"))
}

async fn expect_log(expected: Vec<u8>) {
    let storage = open().await;
    let found = log_bytes(&storage).await.expect("log 1");
    assert_eq!(found.len(), expected.len(), "bytes of the log");
    assert!(found == expected, "content of the log");
    // And it goes on from there.
    let log = storage.log(log_id(1)).expect("log 1");
    let more = append(&storage, &log, Spec::new(9000, 1, LARGE)).await;
    let found = log_bytes(&storage).await.expect("log 1");
    assert!(
        found == [expected, more].concat(),
        "content after another append"
    );
    storage.close().await.expect("close");
}

/// What this is for: the bytes of large batches are written once.
#[test]
fn large_batches_are_written_once() {
    let disk = Disk::new();
    let all = run(&disk, async {
        let storage = open().await;
        let (log, mut all) = log_with_space(&storage).await;
        let before = (storage.counts(), storage.journal().counts().bytes_written);
        for number in 0..8 {
            all.extend(append(&storage, &log, Spec::new(number, 1, LARGE)).await);
        }
        let direct = storage.counts().direct_bytes;
        assert!(direct >= 8 * LARGE as u64, "{direct} bytes went direct");
        let written = storage.counts().segment_bytes - before.0.segment_bytes;
        assert!(
            written >= direct - 4096,
            "all but the last block is in the segment"
        );
        let journaled = storage.journal().counts().bytes_written - before.1;
        assert!(
            journaled < direct * 9 / 10,
            "{journaled} bytes in the journal"
        );
        assert!(
            written + journaled < direct * 2,
            "{written} + {journaled} of {direct}"
        );
        all
    });
    for seed in 0..10 {
        run(&disk.crash(seed), expect_log(all.clone()));
    }
}

/// What was appended to a log, and how much of it was acknowledged.
#[derive(Default)]
struct Life {
    /// Everything that was appended, in order.
    all: Vec<u8>,
    acknowledged_bytes: usize,
}

impl Life {
    /// A log with space ahead, all of which is acknowledged.
    async fn begin(life: &Rc<RefCell<Self>>) -> (Storage, PartitionLog) {
        let storage = open().await;
        let (log, all) = log_with_space(&storage).await;
        let acknowledged_bytes = all.len();
        life.replace(Life {
            all,
            acknowledged_bytes,
        });
        (storage, log)
    }

    /// Appends a batch, and notes when it is acknowledged.
    async fn append(
        life: &Rc<RefCell<Self>>,
        storage: &Storage,
        log: &PartitionLog,
        number: u64,
        bytes: usize,
    ) -> JoinHandle<()> {
        let (sequence, bytes) = begin(log, number, bytes).await;
        life.borrow_mut().all.extend(bytes);
        let end = life.borrow().all.len();
        let (storage, life) = (storage.clone(), Rc::clone(life));
        spawn(Class::Storage, async move {
            storage.committed(sequence).await.expect("commit");
            life.borrow_mut().acknowledged_bytes = end;
        })
    }
}

/// Appends of all sizes, several in flight.
async fn mixed_life(life: Rc<RefCell<Life>>, delay_ms: u64) {
    let (storage, log) = Life::begin(&life).await;
    let mut waiting = Vec::new();
    for number in 0..30 {
        let bytes = [LARGE, 300, 2 * LARGE, LARGE, 5000][number as usize % 5];
        waiting.push(Life::append(&life, &storage, &log, number, bytes).await);
        if number % 4 == 3 {
            sleep(Duration::from_millis(delay_ms)).await;
        }
        if number == 11 {
            log.roll(wall_clock_ms()).expect("roll");
        }
    }
    for wait in waiting {
        wait.await.expect("no panic");
    }
    let direct = storage.counts().direct_bytes;
    assert!(direct > 8 * LARGE as u64, "{direct} bytes went direct");
}

/// Large appends, each begun while writes and syncs of those before it are in flight.
async fn overlapping_life(life: Rc<RefCell<Life>>, delay_us: u64) {
    let (storage, log) = Life::begin(&life).await;
    let mut waiting = Vec::new();
    for number in 0..16 {
        waiting.push(Life::append(&life, &storage, &log, number, LARGE).await);
        sleep(Duration::from_micros(delay_us)).await;
    }
    for wait in waiting {
        wait.await.expect("no panic");
    }
    let direct = storage.counts().direct_bytes;
    assert!(direct >= 8 * LARGE as u64, "{direct} bytes went direct");
}

/// Loses power at each operation of a life: what was acknowledged before is there, and what was not leaves nothing
/// behind that could be taken for data.
fn expect_survival(program: impl AsyncFnOnce(Rc<RefCell<Life>>) + 'static) {
    let life = Rc::new(RefCell::new(Life::default()));
    let disk = Disk::new();
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let (seen, noted) = (Rc::clone(&pictures), Rc::clone(&life));
    disk.observe_mutations(move |disk| {
        let acknowledged = noted.borrow().acknowledged_bytes;
        if acknowledged > 0 {
            seen.borrow_mut().push((disk, acknowledged));
        }
    });
    run(&disk, program(Rc::clone(&life)));
    let all = life.borrow().all.clone();
    assert!(pictures.borrow().len() > 15, "operations were seen");
    for (seed, (disk, acknowledged)) in (0..).zip(pictures.take()) {
        let all = all.clone();
        let disk = if seed % 4 == 0 {
            disk.kill()
        } else {
            disk.crash(seed)
        };
        run(&disk, async move {
            let storage = open().await;
            let found = log_bytes(&storage).await.expect("log 1");
            assert!(found.len() >= acknowledged, "operation {seed}");
            assert!(all.starts_with(&found), "operation {seed}");
            drop(storage);
            expect_log(found).await;
        });
    }
}

/// D1, D2, amid all that else is done with a log.
#[test]
fn an_acknowledged_direct_append_survives_a_power_loss_at_any_operation() {
    for delay_ms in [0, 1, 20] {
        expect_survival(async move |life| mixed_life(life, delay_ms).await);
    }
}

/// D1, D2: a sync covers what was written when it began, and a durable write itself, when all before it was durable.
#[test]
fn overlapping_direct_appends_survive_a_power_loss_at_any_operation() {
    for delay_us in [10, 50, 100, 150, 200, 300, 400, 600, 1000] {
        expect_survival(async move |life| overlapping_life(life, delay_us).await);
    }
}

/// D2: a direct append rests on blocks that were written behind before it, and never synced.
#[test]
fn what_was_written_behind_is_synced_before_a_direct_append_counts() {
    let disk = Disk::new();
    let all = run(&disk, async {
        let storage = open().await;
        let (log, mut all) = log_with_space(&storage).await;
        all.extend(append(&storage, &log, Spec::new(1, 1, LARGE)).await);
        all
    });
    for seed in 0..40 {
        run(&disk.crash(seed), expect_log(all.clone()));
    }
}

/// D4: positions from before a truncation say nothing about what is written after it.
#[test]
fn a_direct_append_after_a_truncation_waits_for_its_own_blocks() {
    let acknowledged = Rc::new(RefCell::new(None));
    let disk = Disk::new();
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let (seen, noted) = (Rc::clone(&pictures), Rc::clone(&acknowledged));
    disk.observe_mutations(move |disk| {
        if let Some(all) = &*noted.borrow() {
            seen.borrow_mut().push((disk, Vec::clone(all)));
        }
    });
    run(&disk, async move {
        let storage = open().await;
        let (log, mut all) = log_with_space(&storage).await;
        let end = log.log_end_offset();
        for number in 0..6 {
            append(&storage, &log, Spec::new(number, 1, LARGE)).await;
        }
        log.truncate(end).await.expect("truncate");
        for number in 10..13 {
            // The cut took the space with it.
            all.extend(append(&storage, &log, Spec::new(number, 1, 4000)).await);
            sleep(Duration::from_secs(40)).await;
        }
        let before = storage.counts().direct_bytes;
        for number in 20..23 {
            all.extend(append(&storage, &log, Spec::new(number, 1, LARGE)).await);
            *acknowledged.borrow_mut() = Some(all.clone());
        }
        assert!(storage.counts().direct_bytes > before, "direct again");
    });
    assert!(!pictures.borrow().is_empty(), "operations were seen");
    for (seed, (disk, acknowledged)) in (0..).zip(pictures.take()) {
        run(&disk.crash(seed), async move {
            let storage = open().await;
            let found = log_bytes(&storage).await.expect("log 1");
            assert!(found.starts_with(&acknowledged), "operation {seed}");
        });
    }
}

/// A truncation into what went direct: replay does not bring the rest back.
#[test]
fn a_truncation_into_a_direct_append_is_replayed() {
    for seed in 0..12 {
        let disk = Disk::new();
        let all = run(&disk, async move {
            let storage = open().await;
            let (log, mut all) = log_with_space(&storage).await;
            let end = log.log_end_offset();
            all.extend(append(&storage, &log, Spec::new(1, 1, LARGE)).await);
            append(&storage, &log, Spec::new(2, 1, LARGE)).await;
            append(&storage, &log, Spec::new(3, 1, 200)).await;
            log.truncate(end + 1).await.expect("truncate");
            all.extend(append(&storage, &log, Spec::new(4, 1, 700)).await);
            if seed % 2 == 0 {
                all.extend(append(&storage, &log, Spec::new(5, 1, LARGE)).await);
            }
            all
        });
        run(&disk.crash(seed), expect_log(all));
    }
}

/// D4: a log is deleted amid a direct append: it is there with everything that its journal says, or gone.
#[test]
fn a_deletion_waits_for_direct_appends() {
    for step in 0..40 {
        let disk = Disk::new();
        let pictures = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&pictures);
        run(&disk.clone(), async move {
            let storage = open().await;
            let (log, _) = log_with_space(&storage).await;
            disk.observe_mutations(move |disk| seen.borrow_mut().push(disk));
            // Its groups are written one by one, so that the deletion is in another one than the first appends.
            for number in 0..6 {
                drop(begin(&log, number, LARGE).await);
                sleep(Duration::from_micros(step * 10)).await;
            }
            assert!(storage.delete_log(log_id(1)).await.expect("delete"));
            sleep(Duration::from_secs(1)).await;
        });
        for (seed, disk) in (0..).zip(pictures.take()) {
            run(&disk.crash(seed), async move {
                // Reading panics where a batch is damaged.
                drop(log_bytes(&open().await).await);
            });
        }
    }
}

/// A write for which there is no room is done again, and holds nothing up for ever.
#[test]
fn a_direct_write_without_room_is_done_again() {
    for nth in 0..12 {
        let disk = Disk::new();
        let planned = disk.clone();
        let all = run(&disk, async move {
            let storage = open().await;
            let (log, mut all) = log_with_space(&storage).await;
            planned.fail_nth(OpKind::Write, nth, Fault::Enospc);
            for number in 0..8 {
                let result = begin(&log, number, LARGE).await;
                storage.committed(result.0).await.expect("commit");
                all.extend(result.1);
                // The space is measured again before anything else is admitted.
                sleep(Duration::from_secs(5)).await;
            }
            all
        });
        run(&disk.crash(nth), expect_log(all));
    }
}

/// A failed direct write or sync takes the storage offline: nothing that rests on it is acknowledged.
#[test]
fn a_failed_direct_write_is_acknowledged_to_nobody() {
    // One by one, and each while those before it are in flight.
    let (alone, overlapping) = (Duration::from_secs(1), Duration::from_micros(100));
    let writes = |gap| (0..6).map(move |nth| (OpKind::Write, nth, gap));
    let syncs = (0..3).map(|nth| (OpKind::Sync, nth, overlapping));
    let faults = writes(alone).chain(writes(overlapping)).chain(syncs);
    for (kind, nth, gap) in faults {
        let disk = Disk::new();
        let planned = disk.clone();
        let acknowledged = run(&disk, async move {
            let storage = open().await;
            let (log, mut all) = log_with_space(&storage).await;
            planned.fail_nth(kind, nth, Fault::Eio);
            let mut waiting = Vec::new();
            for number in 0..8 {
                let batch = Spec::new(number, 1, LARGE).build();
                if log.reserve(batch.len()).await.is_err() {
                    break;
                }
                let Ok(appended) = log.append(&batch, 0, wall_clock_ms()) else {
                    break;
                };
                waiting.push((batch, appended));
                sleep(gap).await;
            }
            for (batch, appended) in waiting {
                match storage.committed(appended.sequence).await {
                    Ok(()) => all.extend(stored(&batch, appended.base_offset, 0)),
                    Err(error) => {
                        let is_told = matches!(
                            error,
                            StorageError::Offline { .. } | StorageError::Journal(_)
                        );
                        assert!(is_told, "{error}");
                    }
                }
            }
            let is_offline = storage.check_online().is_err();
            assert!(is_offline, "offline after {kind:?} {nth}");
            all
        });
        run(&disk.crash(nth), async move {
            let found = log_bytes(&open().await).await.expect("log 1");
            assert!(found.starts_with(&acknowledged), "{kind:?} {nth}");
        });
    }
}

/// D3: while others work on the log's files, its large appends do not hold up everybody's group.
#[test]
fn appends_go_through_the_journal_while_others_have_the_files() {
    let mut through_journal = 0;
    for delay_us in 0..40 {
        let disk = Disk::new();
        through_journal += run(&disk, async move {
            let storage = open().await;
            let (log, _) = log_with_space(&storage).await;
            let beside = storage.clone();
            let checkpoint = spawn(Class::Storage, async move { beside.checkpoint().await });
            sleep(Duration::from_micros(delay_us * 20)).await;
            let (sequence, _) = begin(&log, 1, LARGE).await;
            let is_direct = storage.counts().direct_bytes > 0;
            storage.committed(sequence).await.expect("commit");
            checkpoint.await.expect("no panic").expect("checkpoint");
            u32::from(!is_direct)
        });
    }
    assert!(
        (1..40).contains(&through_journal),
        "{through_journal} of 40"
    );
}

/// A log with so much of everything that its direct writes come to an end only when they give way.
async fn log_that_never_pauses() -> (Storage, PartitionLog) {
    let mut config = direct_config();
    config.journal.file_bytes = 4 << 20;
    config.journal.group_bytes_max = 1 << 20;
    config.cache_bytes_max = 16 << 20;
    let (storage, _) = try_open(config).await.expect("open");
    let log_config = LogConfig {
        segment_bytes: 64 << 20,
        ..long_log()
    };
    let log = storage.create_log(log_id(1), log_config).await;
    let log = log.expect("create");
    // As much is allocated ahead as there is.
    for number in 1000..1050 {
        append(&storage, &log, Spec::new(number, 1, 60_000)).await;
    }
    sleep(Duration::from_secs(40)).await;
    (storage, log)
}

/// A checkpoint gets at the files of a log that never stops writing direct.
#[test]
fn a_checkpoint_ends_amid_direct_appends() {
    let disk = Disk::new();
    run(&disk, async {
        let (storage, log) = log_that_never_pauses().await;
        let before = storage.counts();
        for number in 0..20 {
            begin(&log, number, LARGE).await;
        }
        let begun = storage.counts().direct_bytes - before.direct_bytes;
        assert!(begun >= 20 * LARGE as u64, "{begun} bytes went direct");
        let beside = storage.clone();
        let checkpoint = spawn(Class::Storage, async move { beside.checkpoint().await });
        for number in 20.. {
            let before = storage.counts().direct_bytes;
            begin(&log, number, LARGE).await;
            if storage.counts().direct_bytes == before {
                break;
            }
            assert!(number < 400, "the checkpoint does not get its turn");
            // Sooner than such a write ends: there are always more on their way.
            sleep(Duration::from_micros(20)).await;
        }
        checkpoint.await.expect("no panic").expect("checkpoint");
        assert!(storage.counts().checkpoints > before.checkpoints);
    });
}

/// D3: without a free byte what was begun is made durable, whatever else of its log is to be written; and so is the
/// deletion that makes room.
#[test]
fn a_full_disk_holds_up_nothing_that_was_begun() {
    let disk = Disk::new();
    let full = disk.clone();
    let all = run(&disk, async move {
        let storage = open().await;
        let other = storage.create_log(log_id(2), long_log()).await;
        let other = other.expect("create");
        for number in 0..10 {
            append(&storage, &other, Spec::new(number, 1, 4000)).await;
        }
        let (log, mut all) = log_with_space(&storage).await;
        full.set_capacity(full.used_bytes());
        let (sequence, bytes) = begin(&log, 1, LARGE).await;
        all.extend(bytes);
        assert!(storage.counts().direct_bytes > 0, "it goes direct");
        // A later segment, whose file has no space.
        log.roll(wall_clock_ms()).expect("roll");
        for number in 2..6 {
            all.extend(begin(&log, number, 4000).await.1);
        }
        let minute = Duration::from_mins(1);
        let committed = timeout(minute, storage.committed(sequence)).await;
        committed.expect("in time").expect("commit");
        let deleted = timeout(minute, storage.delete_log(log_id(2))).await;
        assert!(deleted.expect("in time").expect("delete"));
        full.set_capacity(u64::MAX);
        sleep(minute).await;
        all
    });
    for seed in 0..4 {
        run(&disk.crash(seed), expect_log(all.clone()));
    }
}

/// Appends a batch after which the segment, of `position` bytes, ends with a block.
async fn append_to_block_end(storage: &Storage, log: &PartitionLog, position: usize) -> Vec<u8> {
    let mut specs = (LARGE..).map(|bytes| Spec::new(500, 1, bytes));
    let ends_block = |spec: &Spec| (position + spec.build().len()).is_multiple_of(4096);
    let before = storage.counts().direct_bytes;
    let spec = specs.find(ends_block).expect("some length");
    let bytes = append(storage, log, spec).await;
    assert!(storage.counts().direct_bytes > before, "it went direct");
    bytes
}

/// Nothing of it is left to be written when it is sealed.
#[test]
fn a_sealed_segment_that_ends_with_a_block_is_cut_to_its_length() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let file_bytes = || seen.read(&first_log_segment(0)).expect("a file").len();
        let storage = open().await;
        let (log, mut all) = log_with_space(&storage).await;
        all.extend(append_to_block_end(&storage, &log, all.len()).await);
        assert!(file_bytes() > all.len(), "there is space ahead");
        log.roll(wall_clock_ms()).expect("roll");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(file_bytes(), all.len());
    });
}

/// A log is cut before the last batch of a sealed segment that ends with a block, at the segment's end, and behind
/// that.
#[test]
fn a_log_is_cut_around_the_end_of_a_segment_that_ends_with_a_block() {
    for (kept, settle_ms) in [(0, 0), (0, 2000), (1, 0), (1, 2000), (2, 0), (2, 2000)] {
        let disk = Disk::new();
        let all = run(&disk, async move {
            let storage = open().await;
            let (log, mut all) = log_with_space(&storage).await;
            let cut = log.log_end_offset() + kept;
            let mut batches = vec![append_to_block_end(&storage, &log, all.len()).await];
            log.roll(wall_clock_ms()).expect("roll");
            sleep(Duration::from_millis(settle_ms)).await;
            for (number, bytes) in [(2, 4000), (3, LARGE)] {
                batches.push(append(&storage, &log, Spec::new(number, 1, bytes)).await);
            }
            log.truncate(cut).await.expect("truncate");
            all.extend(batches.into_iter().take(kept as usize).flatten());
            assert!(log_bytes(&storage).await.expect("log 1") == all, "cut");
            for number in 4..8 {
                all.extend(append(&storage, &log, Spec::new(number, 1, LARGE)).await);
            }
            all
        });
        for seed in 0..6 {
            run(&disk.crash(seed), expect_log(all.clone()));
        }
    }
}

/// A stop ends, even where a direct write never finds room.
#[test]
fn a_close_ends_while_a_direct_write_waits_for_room() {
    let disk = Disk::new();
    let planned = disk.clone();
    let acknowledged = run(&disk, async move {
        let storage = open().await;
        let (log, all) = log_with_space(&storage).await;
        planned.fail_one_in(OpKind::Write, 1, Fault::Enospc);
        let waiting = begin(&log, 1, LARGE).await.0;
        sleep(Duration::from_secs(5)).await;
        storage
            .close()
            .await
            .expect_err("an append was not written");
        storage
            .committed(waiting)
            .await
            .expect_err("and is refused");
        all
    });
    run(&disk.kill(), async move {
        expect_prefix(&acknowledged).await;
    });
}

async fn expect_prefix(acknowledged: &[u8]) {
    let found = log_bytes(&open().await).await.expect("log 1");
    assert!(found.starts_with(acknowledged), "what was acknowledged");
}
