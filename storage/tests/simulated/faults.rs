//! Failing operations at every place of a random history: what a full disk refuses is done later, what
//! fails takes the storage offline once, and nothing that was acknowledged is lost either way.
//!
//! `STREAMBUS_FAULT_STRIDE` (default 5) set to 1 lets every operation fail in turn, `STREAMBUS_FAULT_SEEDS`
//! (default 2) tries more histories.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::disk::{Fault, OpCounts, OpKind};
use runtime::sim::{Disk, Simulation};
use runtime::task::{Class, spawn};
use runtime::time::{sleep, timeout, wall_clock_ms};
use storage::{LogConfig, SpaceStage, StorageConfig, StorageError, make_shards};

use crate::batches::Spec;
use crate::model::{Exactness, Past};
use crate::work::{Scope, Shards, SharedPast, Worker};
use crate::world::{
    DATA_DIR, append, first_log_segment, log_id, open, run, small_config, small_log, try_open,
};

const STEPS: usize = 120;

fn new_past() -> SharedPast {
    Rc::new(RefCell::new(Past::new(1)))
}

async fn first_start() -> Shards {
    make_shards(Path::new(DATA_DIR), 1).await.expect("make");
    Shards::open(1).await.expect("open")
}

/// Works on; what a full disk refuses is left, after a while, for the next step.
async fn work(worker: &mut Worker, shards: &mut Shards, steps: usize) -> Result<(), StorageError> {
    for _ in 0..steps {
        match worker.step(shards).await {
            Ok(()) => {}
            Err(StorageError::SpaceExhausted { .. } | StorageError::DiskFull { .. }) => {
                sleep(Duration::from_millis(1500)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Operations of a kind in a whole history without faults.
fn count(kind: OpKind, seed: u64) -> u64 {
    let disk = Disk::new();
    run(&disk, async move {
        let mut shards = first_start().await;
        let mut worker = Worker::new(seed, &new_past(), Scope::OneHonestStart);
        work(&mut worker, &mut shards, STEPS).await.expect("work");
    });
    let OpCounts {
        reads,
        writes,
        syncs,
        metadata,
        opens,
    } = disk.counts();
    match kind {
        OpKind::Read => reads,
        OpKind::Write => writes,
        OpKind::Sync => syncs,
        OpKind::Metadata => metadata,
        OpKind::Open => opens,
    }
}

/// Runs `check` for operations of the kind, a stride apart, of several histories.
fn at_operations(kind: OpKind, check: impl Fn(u64, u64) + std::panic::RefUnwindSafe) {
    let setting = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let stride = setting("STREAMBUS_FAULT_STRIDE", 5);
    let mut points = 0;
    for seed in 1..=setting("STREAMBUS_FAULT_SEEDS", 2) {
        for point in (seed % stride..count(kind, seed)).step_by(stride as usize) {
            std::panic::catch_unwind(|| check(seed, point)).unwrap_or_else(|panic| {
                eprintln!("failed: {kind:?} {point} of history {seed}");
                std::panic::resume_unwind(panic)
            });
            points += 1;
        }
    }
    assert!(points > 0, "no operation failed");
    eprintln!("{kind:?}: {points} places");
}

#[test]
fn a_write_without_space_is_done_later_and_nothing_is_lost() {
    at_operations(OpKind::Write, |seed, point| {
        let past = new_past();
        let (disk, inner) = (Disk::new(), past.clone());
        let planned = disk.clone();
        run(&disk, async move {
            let mut shards = first_start().await;
            planned.fail_nth(OpKind::Write, point, Fault::Enospc);
            let mut worker = Worker::new(seed, &inner, Scope::OneHonestStart);
            work(&mut worker, &mut shards, STEPS).await.expect("work");
            let online = shards.of(0).check_online();
            online.expect("a full disk is waited out");
            worker.compare(&shards).await.expect("compare");
            shards.close().await.expect("close");
            inner.borrow_mut().acknowledge_all();
        });
        recover(&disk.crash(point), &past);
    });
}

/// Space ahead of writes, new files and directories: what only helps is gone without, what is needed is
/// tried again.
#[test]
fn files_that_find_no_space_are_made_later_and_nothing_is_lost() {
    at_operations(OpKind::Metadata, |seed, point| {
        check_fault(OpKind::Metadata, Fault::Enospc, seed, point);
    });
}

#[test]
fn a_failed_operation_takes_the_storage_offline_once_and_loses_nothing() {
    for kind in [OpKind::Write, OpKind::Sync, OpKind::Metadata] {
        at_operations(kind, |seed, point| {
            check_fault(kind, Fault::Eio, seed, point);
        });
    }
}

/// A sector that cannot be read is the loss of what was in it, not of the directory.
#[test]
fn a_failed_read_fails_what_needed_it_and_nothing_else() {
    at_operations(OpKind::Read, |seed, point| {
        check_fault(OpKind::Read, Fault::Eio, seed, point);
    });
}

/// One operation fails; if that took the storage offline it stays so. The next start has everything.
fn check_fault(kind: OpKind, fault: Fault, seed: u64, point: u64) {
    let past = new_past();
    let (disk, inner) = (Disk::new(), past.clone());
    let planned = disk.clone();
    run(&disk, async move {
        let mut shards = first_start().await;
        planned.fail_nth(kind, point, fault);
        let mut worker = Worker::new(seed, &inner, Scope::OneHonestStart);
        let worked = work(&mut worker, &mut shards, STEPS).await;
        let storage = shards.of(0);
        let is_online = storage.check_online().is_ok();
        assert!(kind != OpKind::Read || is_online, "{worked:?}");
        if !is_online {
            let late = storage.begin_create_log(log_id(9), small_log());
            assert!(matches!(late, Err(StorageError::Offline { .. })));
        }
    });
    disk.heal();
    recover(&disk.crash(point), &past);
    recover(&disk.kill(), &past);
}

/// What is there after the next start is the history up to some change, all that was acknowledged at least.
fn recover(disk: &Disk, past: &SharedPast) {
    let past = Rc::new(RefCell::new(past.borrow().clone()));
    run(disk, async move {
        let recovered = crate::recover::recover(&past, 1, Exactness::Whole).await;
        recovered.expect("a start after the fault");
    });
}

/// No byte is free for a while, in the middle of work: nothing is lost, and all goes on by itself after.
#[test]
fn a_disk_that_is_full_for_a_while_is_waited_out() {
    for seed in 1..=12 {
        let past = new_past();
        let (disk, inner) = (Disk::new(), past.clone());
        let full = disk.clone();
        run(&disk, async move {
            let mut shards = first_start().await;
            let mut worker = Worker::new(seed, &inner, Scope::OneHonestStart);
            for _ in 0..4 {
                work(&mut worker, &mut shards, 30).await.expect("work");
                full.set_capacity(full.used_bytes());
                let worked = work(&mut worker, &mut shards, 15).await;
                worked.expect("work on a full disk");
                full.set_capacity(u64::MAX);
                sleep(Duration::from_secs(12)).await;
                let (stage, _) = shards.of(0).space();
                assert_eq!(stage, SpaceStage::Normal, "it is seen by itself");
            }
            worker.compare(&shards).await.expect("compare");
            shards.close().await.expect("close");
            inner.borrow_mut().acknowledge_all();
        });
        recover(&disk.crash(seed), &past);
    }
}

/// A broker starts with no byte free, reads, and makes room by deleting.
#[test]
fn a_start_on_a_full_disk_reads_deletes_and_then_appends() {
    let disk = Disk::new();
    disk.set_capacity(8 << 20);
    let content = run(&disk, async {
        let storage = open().await;
        let config = LogConfig {
            retention_bytes: None,
            ..small_log()
        };
        let mut content = Vec::new();
        for number in [1, 2] {
            let log = storage.create_log(log_id(number), config.clone()).await;
            let log = log.expect("create");
            for at in 0..200 {
                content.extend(append(&storage, &log, Spec::new(at, 1, 5000)).await);
            }
        }
        content
    });
    // Killed, and then somebody else takes the rest of the disk.
    let disk = disk.kill();
    disk.set_capacity(disk.used_bytes());
    let after = run(&disk, async move {
        let storage = open().await;
        let mut read = Vec::new();
        for log in storage.logs() {
            let upto = log.log_end_offset();
            read.extend(
                crate::world::read_all(&log, 20_000, upto)
                    .await
                    .expect("read"),
            );
        }
        let log = storage.log(log_id(1)).expect("log 1");
        let batch = Spec::new(900, 1, 5000).build();
        let refused = log.reserve(batch.len()).await;
        assert!(
            matches!(refused, Err(StorageError::SpaceExhausted { .. })),
            "{refused:?}"
        );
        storage.delete_log(log_id(2)).await.expect("delete");
        sleep(Duration::from_secs(3)).await;
        append(&storage, &log, Spec::new(900, 1, 5000)).await;
        storage.close().await.expect("close");
        read
    });
    assert!(after == content, "everything acknowledged is read");
}

/// Consumers commit while others clean up: their log goes on where ordinary ones are refused, and for a
/// while, in the journal, where not even the reserve is left.
#[test]
fn commits_go_on_from_the_reserve() {
    let disk = Disk::new();
    disk.set_capacity(64 << 20);
    let full = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            warn_bytes: u64::MAX,
            throttle_bytes: u64::MAX,
            reserve_bytes: u64::MAX,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let config = LogConfig {
            may_use_reserve: true,
            ..small_log()
        };
        let commits = storage.create_log(log_id(1), config).await.expect("create");
        let others = storage.create_log(log_id(2), small_log()).await;
        let others = others.expect("create");
        // The journal makes its files ahead; then somebody else takes all but a part of the reserve.
        sleep(Duration::from_secs(5)).await;
        let others_bytes = (62 << 20) - full.used_bytes();
        full.write(Path::new("/others"), &vec![1; others_bytes as usize]);
        sleep(Duration::from_secs(12)).await;
        assert_eq!(storage.space().0, SpaceStage::Refuse);
        assert!(others.reserve(300).await.is_err());
        for number in 0..300 {
            append(&storage, &commits, Spec::new(number, 1, 500)).await;
        }
        full.set_capacity(full.used_bytes());
        for number in 300..310 {
            append(&storage, &commits, Spec::new(number, 1, 500)).await;
        }
        assert!(others.reserve(300).await.is_err());
        storage.close().await.expect("close");
    });
}

#[test]
fn appends_are_paced_before_they_are_refused() {
    let disk = Disk::new();
    disk.set_capacity(64 << 20);
    run(&disk, async move {
        let config = StorageConfig {
            warn_bytes: u64::MAX,
            throttle_bytes: u64::MAX,
            reserve_bytes: 64 << 10,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        assert_eq!(storage.pace(1 << 20), Duration::ZERO, "there is enough");
        let config = LogConfig {
            retention_bytes: None,
            ..small_log()
        };
        let log = storage.create_log(log_id(1), config).await.expect("create");
        let mut number = 0;
        while storage.space().0 < SpaceStage::Throttle {
            append(&storage, &log, Spec::new(number, 1, 14_000)).await;
            sleep(Duration::from_millis(10)).await;
            number += 1;
            assert!(number < 10_000, "the disk fills up");
        }
        assert_eq!(
            storage.pace(40 << 10),
            Duration::ZERO,
            "the first has its turn"
        );
        let wait = storage.pace(40 << 10);
        assert!(wait > Duration::ZERO, "the second waits for it");
        assert!(wait <= Duration::from_secs(1));
        storage.close().await.expect("close");
    });
}

/// A stop waited for space in the journal, and an append for memory was never told of it.
#[test]
fn a_close_on_a_full_disk_ends_and_loses_nothing_that_was_acknowledged() {
    let disk = Disk::new();
    let full = disk.clone();
    let (created, content) = run(&disk, async move {
        let storage = open().await;
        let log = storage.create_log(log_id(1), small_log()).await;
        let log = log.expect("create");
        let content = append(&storage, &log, Spec::new(1, 1, 5000)).await;
        // The journal makes its files ahead; then nothing is left.
        sleep(Duration::from_secs(5)).await;
        full.set_capacity(full.used_bytes());
        let created = Rc::new(RefCell::new(0));
        let (creator, count) = (storage.clone(), created.clone());
        let refused = spawn(Class::Storage, async move {
            for number in 2.. {
                creator.create_log(log_id(number), small_log()).await?;
                *count.borrow_mut() = number;
            }
            Ok::<(), StorageError>(())
        });
        while storage.journal().has_room(1) {
            sleep(Duration::from_secs(1)).await;
        }
        full.fail_one_in(OpKind::Write, 1, Fault::Enospc);
        sleep(Duration::from_secs(5)).await;
        assert!(!refused.is_finished(), "a full disk is waited out");
        let append = spawn(Class::Storage, async move { log.reserve(5000).await });
        timeout(Duration::from_secs(5), storage.close())
            .await
            .expect("a close ends")
            .expect_err("a record was not written");
        refused.await.expect("no panic").expect_err("it is told");
        append.await.expect("no panic").expect_err("so is this one");
        (created.take(), content)
    });
    disk.heal();
    disk.set_capacity(u64::MAX);
    run(&disk.crash(1), async move {
        let storage = open().await;
        let logs = storage.logs();
        assert_eq!(logs.len() as u32, created, "each that was answered");
        let log = storage.log(log_id(1)).expect("log 1");
        let found = crate::world::read_all(&log, 20_000, 1).await;
        assert!(found.expect("read") == content);
    });
}

/// Producer states beside the segments that a log of an idempotent producer has in the end, when one
/// write found no space.
fn producer_files(batches: u64, point: Option<u64>) -> (Vec<std::path::PathBuf>, u64) {
    let disk = Disk::new();
    let planned = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        let config = LogConfig {
            retention_bytes: None,
            ..small_log()
        };
        let log = storage.create_log(log_id(1), config).await.expect("create");
        if let Some(point) = point {
            planned.fail_nth(OpKind::Write, point, Fault::Enospc);
        }
        for number in 0..batches {
            let spec = Spec {
                producer: Some((7, 0, number as i32)),
                ..Spec::new(number, 1, 4000)
            };
            while log.reserve(5000).await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
            append(&storage, &log, spec).await;
        }
        sleep(Duration::from_secs(30)).await;
        storage.close().await.expect("close");
    });
    let files = disk.files().into_iter();
    let is_states = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "producers");
    (files.filter(is_states).collect(), disk.counts().writes)
}

/// What is derived from a segment was written with its next bytes or never.
#[test]
fn derived_files_that_find_no_space_are_written_later() {
    // The last segment of some of these gets a single write.
    for batches in 11..16 {
        let (expected, writes) = producer_files(batches, None);
        for point in 0..writes {
            let (found, _) = producer_files(batches, Some(point));
            assert_eq!(found, expected, "write {point} of {batches} batches");
        }
    }
    assert!(!producer_files(15, None).0.is_empty());
}

/// No file and no directory can be opened for a while: what was to be written or removed is, after.
#[test]
fn a_shortage_of_descriptors_is_waited_out() {
    for kind in [OpKind::Open, OpKind::Metadata] {
        let disk = Disk::new();
        let inner = disk.clone();
        let content = run(&disk, async move {
            let storage = open().await;
            let config = LogConfig {
                retention_bytes: None,
                ..small_log()
            };
            let kept = storage.create_log(log_id(1), config.clone()).await;
            let kept = kept.expect("create");
            let gone = storage.create_log(log_id(2), config).await.expect("create");
            let mut content = Vec::new();
            for number in 0..20 {
                content.extend(append(&storage, &kept, Spec::new(number, 1, 5000)).await);
                append(&storage, &gone, Spec::new(number, 1, 5000)).await;
            }
            storage.checkpoint().await.expect("checkpoint");
            let before = inner.used_bytes();
            inner.fail_one_in(kind, 1, Fault::Emfile);
            storage.delete_log(log_id(2)).await.expect("delete");
            for number in 20..30 {
                content.extend(append(&storage, &kept, Spec::new(number, 1, 5000)).await);
            }
            sleep(Duration::from_secs(20)).await;
            inner.heal();
            sleep(Duration::from_secs(20)).await;
            storage.checkpoint().await.expect("all that was put off");
            assert!(inner.used_bytes() < before, "{kind:?}: the log is removed");
            storage.close().await.expect("close");
            content
        });
        assert!(after_power_loss(&disk) == content, "{kind:?}");
    }
}

/// What is in log 1 after a loss of power.
fn after_power_loss(disk: &Disk) -> Vec<u8> {
    run(&disk.crash(1), async {
        let log = open().await.log(log_id(1)).expect("log 1");
        let read = crate::world::read_all(&log, 20_000, log.log_end_offset()).await;
        read.expect("read")
    })
}

/// A truncation that is journaled has to be made in the files, too: for want of a descriptor the files kept
/// what was cut, or the directory went offline.
#[test]
fn a_truncation_waits_out_a_shortage_of_descriptors() {
    for kind in [OpKind::Open, OpKind::Metadata] {
        let disk = Disk::new();
        let inner = disk.clone();
        let content = run(&disk, async move {
            let storage = open().await;
            let config = LogConfig {
                retention_bytes: None,
                ..small_log()
            };
            let log = storage.create_log(log_id(1), config).await.expect("create");
            let mut content = Vec::new();
            for number in 0..30 {
                content.push(append(&storage, &log, Spec::new(number, 1, 5000)).await);
            }
            log.roll(wall_clock_ms()).expect("roll");
            storage.checkpoint().await.expect("checkpoint");
            inner.fail_one_in(kind, 1, Fault::Emfile);
            let cutting = log.clone();
            let cut = spawn(Class::Storage, async move { cutting.truncate(5).await });
            sleep(Duration::from_secs(5)).await;
            assert!(!cut.is_finished(), "{kind:?}: it is waited out");
            inner.heal();
            cut.await.expect("no panic").expect("truncate");
            content.truncate(5);
            let kept = content.concat().len() / 4096 * 4096;
            let file = inner.read(&first_log_segment(0));
            assert_eq!(file.map(|file| file.len()), Some(kept), "{kind:?}");
            content.push(append(&storage, &log, Spec::new(50, 1, 5000)).await);
            storage.close().await.expect("close");
            content.concat()
        });
        assert!(after_power_loss(&disk) == content, "{kind:?}");
    }
}

/// The states of producers whose records are all gone are in a snapshot only: that it cannot be opened for want of a
/// descriptor made a truncation forget them.
#[test]
fn a_truncation_waits_for_the_snapshot_of_producers() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        let log = storage.create_log(log_id(1), small_log()).await;
        let log = log.expect("create");
        let spec = Spec {
            producer: Some((7, 0, 0)),
            ..Spec::new(0, 1, 5000)
        };
        append(&storage, &log, spec).await;
        for number in 1..30 {
            append(&storage, &log, Spec::new(number, 1, 5000)).await;
        }
        storage.checkpoint().await.expect("checkpoint");
        log.advance_log_start(15).expect("delete records");
        storage.checkpoint().await.expect("checkpoint");
        let is_known = || log.check_sequence(7, 0, 0, 0) != storage::SequenceCheck::New;
        assert!(is_known(), "the producer is known while the log is open");
        inner.fail_one_in(OpKind::Open, 1, Fault::Emfile);
        let cutting = log.clone();
        let cut = spawn(Class::Storage, async move { cutting.truncate(28).await });
        sleep(Duration::from_secs(5)).await;
        inner.heal();
        cut.await.expect("no panic").expect("truncate");
        assert!(is_known(), "a truncation forgot a producer");
        storage.close().await.expect("close");
    });
}

/// The same where nothing but the opening of the file that is cut can fail: it was left as it was.
#[test]
fn a_cut_within_a_segment_waits_for_a_descriptor() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            cache_bytes_max: 8 << 20,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let log = storage.create_log(log_id(1), small_log()).await;
        let log = log.expect("create");
        let mut kept = 0;
        for number in 0..8 {
            let batch = append(&storage, &log, Spec::new(number, 1, 5000)).await;
            kept += if number < 3 { batch.len() } else { 0 };
        }
        // Their files push out that of log 1, which is read from memory.
        for number in 2..40 {
            let other = storage.create_log(log_id(number), small_log()).await;
            append(&storage, &other.expect("create"), Spec::new(1, 1, 9000)).await;
        }
        storage.checkpoint().await.expect("checkpoint");
        inner.fail_one_in(OpKind::Open, 1, Fault::Emfile);
        let cut = spawn(Class::Storage, async move { log.truncate(3).await });
        sleep(Duration::from_secs(5)).await;
        assert!(!cut.is_finished(), "it is waited out");
        inner.heal();
        cut.await.expect("no panic").expect("truncate");
        let file = inner.read(&first_log_segment(0));
        let bytes = file.map(|file| file.len());
        assert_eq!(bytes, Some(kept / 4096 * 4096));
        storage.close().await.expect("close");
    });
}

/// What a killed process leaves: a journal to replay, files to remove.
fn killed() -> Disk {
    let disk = Disk::new();
    run(&disk, async {
        let storage = open().await;
        for number in [1, 2] {
            let log = storage.create_log(log_id(number), small_log()).await;
            let log = log.expect("create");
            for number in 0..20 {
                append(&storage, &log, Spec::new(number, 1, 5000)).await;
            }
        }
        let log = storage.log(log_id(1)).expect("log 1");
        log.advance_log_start(15).expect("delete records");
        storage.delete_log(log_id(2)).await.expect("delete");
    });
    disk.kill()
}

/// A start that failed after it had opened the journal left the journal's tasks running.
#[test]
fn a_failed_start_leaves_nothing_running() {
    let (disk, mut reasons) = (killed(), Vec::new());
    for kind in [OpKind::Open, OpKind::Sync, OpKind::Write, OpKind::Metadata] {
        for number in 0..30 {
            let again = disk.fork();
            again.fail_nth(kind, number, Fault::Eio);
            let start = async { try_open(small_config()).await.err() };
            let outcome = Simulation::new(1).disk(&again).run(start);
            let unfinished = outcome.unfinished.clone();
            let Some(error) = outcome.value() else {
                continue;
            };
            assert!(unfinished.is_empty(), "{error}: {unfinished:?}");
            reasons.push(error.to_string());
            again.heal();
            run(&again, async { open().await.close().await }).expect("the next start");
        }
    }
    for late in ["/logs/", "measure free space"] {
        let is_there = reasons.iter().any(|reason| reason.contains(late));
        assert!(is_there, "{late} in {reasons:#?}");
    }
}

/// A start does not wait for descriptors: it says which limit is to be raised.
#[test]
fn a_start_without_descriptors_names_the_limit() {
    for disk in [Disk::new(), killed()] {
        let mut refused = 0;
        for number in 0..20 {
            let again = disk.fork();
            again.fail_nth(OpKind::Open, number, Fault::Emfile);
            let error = run(&again, async { try_open(small_config()).await.err() });
            // Some are for what only helps, and some come after the start.
            let Some(error) = error else { continue };
            let error = error.to_string();
            assert!(error.contains("ulimit -n"), "{number}: {error}");
            refused += 1;
        }
        assert!(refused > 5, "{refused} starts were refused");
    }
}
