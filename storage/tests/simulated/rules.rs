//! One test for each rule that recovery stands on (DESIGN §4.7, as far as it concerns logs). Each fails
//! when its rule is taken out of the code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::crc32c;
use runtime::sim::disk::{Fault, OpKind};
use runtime::sim::{Disk, Random};
use runtime::task::{Class, spawn};
use runtime::time::{sleep, wall_clock_ms};
use storage::{LogConfig, SequenceCheck, StorageError};

use crate::batches::Spec;
use crate::world::{
    append, append_in_epoch, append_many, first_log_segment, log_id, open, read_all, run,
    run_until_crash, small_config, small_log, try_open,
};

fn checkpoint_file(copy: &str) -> PathBuf {
    Path::new("/data/shards/0").join(format!("checkpoint.{copy}"))
}

/// Opens log 1 and compares all its bytes.
async fn expect_log(expected: Vec<u8>) {
    let storage = open().await;
    let log = storage.log(log_id(1)).expect("log 1");
    let found = read_all(&log, 10_000, log.log_end_offset())
        .await
        .expect("read");
    assert_eq!(found.len(), expected.len(), "bytes of the log");
    assert!(found == expected, "content of the log");
    storage.close().await.expect("close");
}

/// Incarnations: a log that is made again under the same id has nothing of the old one, wherever the
/// old one's records and files are.
#[test]
fn a_recreated_log_has_no_records_and_no_files_of_the_old_one() {
    for seed in 0..12 {
        let disk = Disk::new();
        let expected = run(&disk, async move {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            append_many(&storage, &log, 0..20, 6000).await;
            if seed % 2 == 0 {
                storage.checkpoint().await.expect("checkpoint");
            }
            storage.delete_log(log_id(1)).await.expect("delete");
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create again");
            append_many(&storage, &log, 100..104, 6000).await
        });
        let after = if seed % 3 == 0 {
            disk.kill()
        } else {
            disk.crash(seed)
        };
        run(&after, expect_log(expected));
    }
}

/// Checkpoints: a record at or below an entry's applied sequence is in the entry, and not applied again.
#[test]
fn records_that_a_checkpoint_has_applied_are_not_applied_again() {
    let disk = Disk::new();
    let expected = run(&disk, async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let mut all = append_many(&storage, &log, 0..5, 3000).await;
        storage.checkpoint().await.expect("checkpoint");
        all.extend(append_many(&storage, &log, 5..7, 3000).await);
        all
    });
    run(&disk.crash(3), async {
        let (storage, report) = try_open(small_config()).await.expect("open");
        assert_eq!(
            report.records_applied, 2,
            "only what came after the checkpoint"
        );
        storage.close().await.expect("close");
        expect_log(expected).await;
    });
}

/// Checkpoints: replay does not resurrect what a truncation cut.
#[test]
fn replay_does_not_resurrect_what_was_truncated() {
    for seed in 0..12 {
        let disk = Disk::new();
        let expected = run(&disk, async move {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            let mut kept = append_many(&storage, &log, 0..9, 5000).await;
            if seed % 2 == 0 {
                storage.checkpoint().await.expect("checkpoint");
            }
            append_many(&storage, &log, 9..14, 5000).await;
            log.truncate(18).await.expect("truncate");
            kept.extend(append_in_epoch(&storage, &log, Spec::new(50, 3, 1500), 4).await);
            kept
        });
        run(&disk.crash(seed), expect_log(expected));
    }
}

/// Checkpoints: one that meets a truncation, whose log it takes as it was before, leaves the truncation's
/// records in the journal.
#[test]
fn a_checkpoint_amid_a_truncation_keeps_its_records() {
    for seed in 0..200 {
        let disk = Disk::new();
        let program = async move {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            let kept = append_many(&storage, &log, 0..6, 3000).await;
            append_many(&storage, &log, 6..9, 3000).await;
            // Both copies of the table are there, and nothing has to be written for the cut.
            for _ in 0..2 {
                log.roll(wall_clock_ms()).expect("roll");
                storage.checkpoint().await.expect("checkpoint");
            }
            let cut = spawn(Class::Storage, async move { log.truncate(12).await });
            sleep(Duration::from_micros(seed * 20)).await;
            storage.checkpoint().await.expect("checkpoint");
            cut.await.expect("no panic").expect("truncate");
            kept
        };
        let expected = run_until_crash(&disk, seed, program).expect("no crash");
        run(&disk.crash(seed), expect_log(expected));
    }
}

/// Checkpoints: where a log ends stands in the table and the journal; a file is never scanned for it.
#[test]
fn batches_beyond_the_end_in_a_segment_file_are_not_data() {
    let disk = Disk::new();
    let expected = run(&disk, async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let all = append_many(&storage, &log, 0..3, 8000).await;
        storage.close().await.expect("close");
        all
    });
    let path = first_log_segment(0);
    let mut file = disk.read(&path).expect("the segment");
    assert!(
        file.len() < expected.len(),
        "the incomplete last block is not in the segment"
    );
    // A valid batch right behind the log's end, as an older write might have left it.
    file.truncate(expected.len() / 4096 * 4096);
    file.extend_from_slice(&expected[file.len()..]);
    file.extend(crate::batches::stored(
        &Spec::new(77, 2, 3000).build(),
        6,
        0,
    ));
    disk.write(&path, &file);
    run(&disk, async {
        let storage = open().await;
        let log = storage.log(log_id(1)).expect("log 1");
        assert_eq!(log.log_end_offset(), 6);
        let mut all = expected;
        all.extend(append_many(&storage, &log, 10..13, 9000).await);
        storage.close().await.expect("close");
        expect_log(all).await;
    });
}

/// Recycled journals: what a table counts on (blocks, file names, directory names) is durable before the
/// journal lets go of it.
#[test]
fn a_checkpoint_counts_only_when_blocks_and_names_are_durable() {
    for seed in 0..24 {
        let disk = Disk::new();
        let expected = run(&disk, async {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            let all = append_many(&storage, &log, 0..30, 7000).await;
            storage.checkpoint().await.expect("checkpoint");
            all
        });
        run(&disk.crash(seed), expect_log(expected));
    }
}

/// Deletions: what a table no longer names is gone from the disk for good.
#[test]
fn deleted_files_do_not_come_back() {
    for seed in 0..16 {
        let disk = Disk::new();
        run(&disk, async {
            let storage = open().await;
            for number in 1..4 {
                let log = storage
                    .create_log(log_id(number), small_log())
                    .await
                    .expect("create");
                append_many(&storage, &log, 0..20, 7000).await;
            }
            storage.checkpoint().await.expect("checkpoint");
            for number in 1..4 {
                storage.delete_log(log_id(number)).await.expect("delete");
            }
            storage.checkpoint().await.expect("checkpoint");
        });
        let after = disk.crash(seed);
        run(&after, async {
            open().await.close().await.expect("close");
        });
        let left: Vec<_> = after
            .files()
            .into_iter()
            .filter(|path| path.starts_with("/data/logs"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Tail blocks: whatever is torn while a log grows, what was durable before stays.
#[test]
fn a_torn_write_never_hurts_durable_bytes() {
    for seed in 0..10 {
        for point in (0..400).step_by(17) {
            let disk = Disk::new();
            let durable = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let program = {
                let durable = std::rc::Rc::clone(&durable);
                async move {
                    let storage = open().await;
                    let log = storage
                        .create_log(log_id(1), small_log())
                        .await
                        .expect("create");
                    for number in 0..16 {
                        // Ends somewhere in a block, and the journal lets go of it.
                        let bytes = append(&storage, &log, Spec::new(number, 1, 700)).await;
                        durable.borrow_mut().extend(bytes);
                        storage.checkpoint().await.expect("checkpoint");
                    }
                }
            };
            disk.crash_after(point + seed);
            let has_ended = run_until_crash(&disk, seed, program).is_some();
            let expected = durable.take();
            run(&disk.crash(seed ^ point), async move {
                let storage = open().await;
                let Some(log) = storage.log(log_id(1)) else {
                    assert!(expected.is_empty(), "the log is gone");
                    return;
                };
                let found = read_all(&log, 5000, log.log_end_offset())
                    .await
                    .expect("read");
                assert!(
                    found.starts_with(&expected),
                    "{} of {} bytes",
                    found.len(),
                    expected.len()
                );
            });
            if has_ended {
                break;
            }
        }
    }
}

/// Pacing: a checkpoint of slow logs writes no segment and syncs nothing but itself, though each has a full
/// block that is in no segment.
#[test]
fn slow_logs_cost_no_segment_write_and_no_fdatasync() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        let mut logs = Vec::new();
        for number in 0..10 {
            let log = storage.create_log(log_id(number), small_log()).await;
            logs.push(log.expect("create"));
        }
        for bytes in [5000, 1000] {
            for (number, log) in (0..).zip(&logs) {
                append(&storage, log, Spec::new(number, 1, bytes)).await;
            }
            let before = seen.counts().syncs;
            storage.checkpoint().await.expect("checkpoint");
            let syncs = seen.counts().syncs - before;
            assert!(syncs <= 2, "{syncs} syncs");
        }
        assert_eq!(storage.counts().segment_bytes, 0, "nothing was written");
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
        assert!(!seen.files().iter().any(is_segment));
    });
}

/// Early answers: after a truncation producers are what they were before the cut, not after.
#[test]
fn a_truncation_rebuilds_producer_states() {
    let disk = Disk::new();
    let check = |log: &storage::PartitionLog| {
        let duplicate = log.check_sequence(7, 0, 4, 5);
        assert!(
            matches!(duplicate, SequenceCheck::Duplicate { base_offset: 4, .. }),
            "{duplicate:?}"
        );
        assert_eq!(log.check_sequence(7, 0, 6, 7), SequenceCheck::New);
        assert_eq!(
            log.check_sequence(7, 0, 8, 9),
            SequenceCheck::OutOfOrder {
                expected: 6,
                found: 8
            }
        );
    };
    run(&disk, async move {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        for number in 0..12 {
            let first_sequence = number as i32 * 2;
            let spec = Spec {
                producer: Some((7, 0, first_sequence)),
                ..Spec::new(number, 2, 4000)
            };
            append(&storage, &log, spec).await;
        }
        log.truncate(6).await.expect("truncate");
        check(&log);
    });
    run(&disk.crash(1), async move {
        let storage = open().await;
        check(&storage.log(log_id(1)).expect("log 1"));
    });
}

/// A failed write or fdatasync: offline at once and for good, and nothing was acknowledged wrongly.
#[test]
fn a_failed_write_or_sync_takes_the_storage_offline() {
    for seed in 0..40 {
        let disk = Disk::new();
        let planned = disk.clone();
        let acknowledged = run(&disk, async move {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            let mut random = Random::new(seed);
            let kind = if random.chance(1, 2) {
                OpKind::Write
            } else {
                OpKind::Sync
            };
            planned.fail_nth(kind, random.below(30), Fault::Eio);
            let mut acknowledged = Vec::new();
            for number in 0..60 {
                let batch = Spec::new(number, 1, 5000).build();
                let result = async {
                    log.reserve(batch.len()).await?;
                    let appended = log.append(&batch, 0, wall_clock_ms())?;
                    storage.committed(appended.sequence).await?;
                    if number % 5 == 0 {
                        storage.checkpoint().await?;
                    }
                    Ok::<_, StorageError>(crate::batches::stored(&batch, appended.base_offset, 0))
                };
                match result.await {
                    Ok(bytes) => acknowledged.extend(bytes),
                    Err(_) => break,
                }
            }
            if storage.check_online().is_err() {
                assert!(matches!(
                    log.append(&[], 0, 0),
                    Err(StorageError::Offline { .. })
                ));
                assert!(matches!(
                    storage.checkpoint().await,
                    Err(StorageError::Offline { .. })
                ));
                assert!(storage.create_log(log_id(2), small_log()).await.is_err());
            }
            acknowledged
        });
        run(&disk.crash(seed), async move {
            let storage = open().await;
            let log = storage.log(log_id(1)).expect("log 1");
            let found = read_all(&log, 5000, log.log_end_offset())
                .await
                .expect("read");
            assert!(
                found.starts_with(&acknowledged),
                "{} of {} bytes",
                found.len(),
                acknowledged.len()
            );
        });
    }
}

async fn make_checkpoints() {
    let storage = open().await;
    let log = storage
        .create_log(log_id(1), small_log())
        .await
        .expect("create");
    for round in 0..3 {
        append_many(&storage, &log, round * 10..round * 10 + 3, 3000).await;
        storage.checkpoint().await.expect("checkpoint");
    }
    storage.close().await.expect("close");
}

async fn refused() -> StorageError {
    match try_open(small_config()).await {
        Ok(_) => panic!("a damaged data directory was opened"),
        Err(error) => error,
    }
}

#[test]
fn two_damaged_checkpoints_are_refused_and_nothing_is_deleted() {
    let disk = Disk::new();
    run(&disk, make_checkpoints());
    let files = disk.files();
    disk.corrupt(&checkpoint_file("a"), 0..600);
    disk.corrupt(&checkpoint_file("b"), 4200..4300);
    run(&disk, async {
        let error = refused().await;
        assert!(matches!(&error, StorageError::Corruption { .. }), "{error}");
        assert!(
            error.to_string().contains("backup"),
            "the error says what to do: {error}"
        );
    });
    assert_eq!(disk.files(), files);
}

/// The newest table is damaged and the journal has let go of what the older one needs: opening with
/// the older one would lose data silently.
#[test]
fn a_damaged_newest_checkpoint_is_not_replaced_by_an_older_one() {
    for copy in ["a", "b"] {
        let disk = Disk::new();
        run(&disk, async {
            let storage = open().await;
            let log = storage
                .create_log(log_id(1), small_log())
                .await
                .expect("create");
            for round in 0..40 {
                append_many(&storage, &log, round * 10..round * 10 + 3, 14_000).await;
            }
            assert!(storage.counts().checkpoints > 4, "the journal was recycled");
            storage.close().await.expect("close");
        });
        disk.corrupt(&checkpoint_file(copy), 4096..4200);
        run(&disk, async {
            match try_open(small_config()).await {
                Err(error) => assert!(matches!(&error, StorageError::Corruption { .. }), "{error}"),
                Ok((storage, _)) => {
                    let log = storage.log(log_id(1)).expect("log 1");
                    assert_eq!(log.log_end_offset(), 240, "the older copy was damaged");
                }
            }
        });
    }
}

#[test]
fn an_unknown_format_version_is_refused() {
    let disk = Disk::new();
    run(&disk, make_checkpoints());
    let path = checkpoint_file("a");
    let mut file = disk.read(&path).expect("a copy");
    file[8] = 9;
    file[12..16].fill(0);
    let crc = crc32c::crc32c(&file[..4096]);
    file[12..16].copy_from_slice(&crc.to_le_bytes());
    disk.write(&path, &file);
    run(&disk, async {
        let error = refused().await;
        assert!(
            matches!(
                error,
                StorageError::FormatVersion {
                    found: 9,
                    supported: 1,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn a_journal_without_checkpoints_is_refused() {
    let disk = Disk::new();
    run(&disk, make_checkpoints());
    run(&disk, async {
        for copy in ["a", "b"] {
            runtime::dir::remove_file(&checkpoint_file(copy))
                .await
                .expect("remove");
        }
        assert!(matches!(refused().await, StorageError::Corruption { .. }));
    });
}

/// A journal file in use whose header is damaged is not taken for one that was never finished.
#[test]
fn a_damaged_journal_file_is_refused_and_kept() {
    let disk = Disk::new();
    run(&disk, async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append_many(&storage, &log, 0..3, 3000).await;
    });
    let files = disk.files();
    let path = Path::new("/data/shards/0/journal/00000000.journal");
    let mut file = disk.read(path).expect("the first journal file");
    file[0] ^= 1;
    disk.write(path, &file);
    run(&disk, async {
        assert!(matches!(refused().await, StorageError::Corruption { .. }));
    });
    assert_eq!(disk.files(), files);
}

/// A setting out of bounds is named before anything is touched.
#[test]
fn settings_out_of_bounds_are_refused() {
    let disk = Disk::new();
    run(&disk, async {
        let config = storage::StorageConfig {
            read_window_bytes: 5000,
            ..small_config()
        };
        let Err(error) = try_open(config).await else {
            panic!("opened")
        };
        assert!(
            matches!(
                error,
                StorageError::InvalidSetting {
                    name: "read_window_bytes",
                    ..
                }
            ),
            "{error}"
        );
        let _ = LogConfig::default();
    });
    assert!(disk.files().is_empty());
}
