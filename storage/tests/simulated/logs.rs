//! Logs by themselves: creation and deletion, rolling, retention, epochs, sequences, backpressure.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::MemoryBudget;
use runtime::sim::Disk;
use runtime::task::{Class, spawn};
use runtime::time::{now, sleep, wall_clock_ms};
use storage::{LogConfig, SequenceCheck, Storage, StorageConfig, StorageError};

use crate::batches::Spec;
use crate::world::{
    DATA_DIR, append, append_in_epoch, append_many, log_id, open, read_all, run, small_config,
    small_log, try_open,
};

#[test]
fn logs_are_created_found_deleted_and_created_again() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let again = storage.create_log(log_id(1), small_log()).await;
        assert!(
            matches!(again, Err(StorageError::LogExists { .. })),
            "{again:?}"
        );
        assert!(storage.delete_log(log_id(1)).await.expect("delete"));
        assert!(!storage.delete_log(log_id(1)).await.expect("delete"));
        assert!(matches!(
            log.append(&Spec::new(1, 1, 1).build(), 0, 0),
            Err(StorageError::LogDeleted)
        ));
        assert!(matches!(
            log.read(0, 1, 1).await,
            Err(StorageError::LogDeleted)
        ));
        let new = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        assert_ne!(new.incarnation(), log.incarnation());
        assert_eq!(storage.logs().len(), 1);
    });
}

#[test]
fn an_append_assigns_offsets_and_the_durable_end_follows() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let told = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&told);
        storage.on_durable(move |log| {
            noted
                .borrow_mut()
                .push((log.id().partition, log.durable_end_offset()));
        });
        let two = [Spec::new(1, 3, 10).build(), Spec::new(2, 2, 10).build()].concat();
        let first = log.append(&two, 0, wall_clock_ms()).expect("append");
        let second = log
            .append(&Spec::new(3, 1, 10).build(), 0, wall_clock_ms())
            .expect("append");
        assert_eq!((first.base_offset, first.last_offset), (0, 4));
        assert_eq!((second.base_offset, second.last_offset), (5, 5));
        assert!(first.sequence < second.sequence);
        assert_eq!((log.durable_end_offset(), log.log_end_offset()), (0, 6));
        storage.committed(second.sequence).await.expect("commit");
        assert_eq!((log.durable_end_offset(), log.log_end_offset()), (6, 6));
        assert_eq!(told.borrow().last(), Some(&(1, 6)));
    });
}

#[test]
fn batches_that_do_not_add_up_are_refused_and_nothing_is_appended() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let good = Spec::new(1, 2, 100).build();
        let mut old = good.clone();
        old[16] = 1;
        let cut = good[..good.len() - 1].to_vec();
        let second_cut = [good.clone(), cut.clone()].concat();
        for bad in [Vec::new(), vec![0; 30], old, cut, second_cut] {
            let result = log.append(&bad, 0, 0);
            assert!(
                matches!(result, Err(StorageError::BadBatch { .. })),
                "{result:?}"
            );
        }
        let large = Spec::new(1, 1, 200 << 10).build();
        assert!(matches!(
            log.append(&large, 0, 0),
            Err(StorageError::BatchTooLarge { .. })
        ));
        assert_eq!(log.log_end_offset(), 0);
    });
}

#[test]
fn segments_roll_by_size_and_by_time() {
    run(&Disk::new(), async {
        let storage = open().await;
        let config = LogConfig {
            segment_bytes: 10_000,
            segment_ms: 1000,
            ..small_log()
        };
        let log = storage.create_log(log_id(1), config).await.expect("create");
        for number in 0..3 {
            append(
                &storage,
                &log,
                Spec {
                    timestamp: 5000,
                    ..Spec::new(number, 1, 4000)
                },
            )
            .await;
        }
        assert_eq!(log.segment_count(), 2, "12 KB in segments of 10");
        append(
            &storage,
            &log,
            Spec {
                timestamp: 6001,
                ..Spec::new(4, 1, 10)
            },
        )
        .await;
        assert_eq!(
            log.segment_count(),
            3,
            "a record 1,001 ms after the segment's first"
        );
        assert!(log.roll(wall_clock_ms()).expect("roll").is_some());
        assert!(
            log.roll(wall_clock_ms()).expect("roll").is_none(),
            "an empty segment is not rolled"
        );
    });
}

#[test]
fn retention_by_size_keeps_at_least_what_is_asked_for() {
    run(&Disk::new(), async {
        let storage = open().await;
        let config = LogConfig {
            segment_bytes: 10_000,
            retention_bytes: Some(25_000),
            ..small_log()
        };
        let log = storage.create_log(log_id(1), config).await.expect("create");
        append_many(&storage, &log, 0..20, 4000).await;
        let outcome = log.enforce_retention(wall_clock_ms()).expect("retention");
        assert!(outcome.segments > 0);
        assert!(
            (25_000..35_000).contains(&log.size_bytes()),
            "{} bytes",
            log.size_bytes()
        );
        assert_eq!(log.log_start_offset(), outcome.log_start_offset);
        let bytes = read_all(&log, 5000, log.log_end_offset())
            .await
            .expect("read");
        assert_eq!(bytes.len() as u64, log.size_bytes());
    });
}

/// Whatever limits a log has, a sweep drops what was said to go, and nothing else.
#[test]
fn retention_does_what_it_explains() {
    for (retention_ms, retention_bytes) in [
        (Some(60_000), None),
        (None, Some(25_000)),
        (Some(60_000), Some(25_000)),
        (Some(0), Some(0)),
        (None, None),
    ] {
        run(&Disk::new(), async move {
            let storage = open().await;
            let config = LogConfig {
                segment_bytes: 10_000,
                retention_ms,
                retention_bytes,
                ..small_log()
            };
            let log = storage.create_log(log_id(1), config).await.expect("create");
            append_many(&storage, &log, 0..20, 4000).await;
            for later_ms in [0, 59_000, 3_600_000] {
                let now_ms = wall_clock_ms() + later_ms;
                let told = log.explain_retention(now_ms);
                assert_eq!(told.len(), log.segment_count());
                let going: Vec<_> = told
                    .iter()
                    .filter(|one| one.judgement.fate.goes())
                    .collect();
                let stays = told.iter().find(|one| !one.judgement.fate.goes());
                let start = stays.map_or(log.log_end_offset(), |first| first.base_offset);
                let outcome = log.enforce_retention(now_ms).expect("retention");
                assert_eq!(outcome.segments, going.len(), "{told:?}");
                assert_eq!(
                    outcome.bytes,
                    going.iter().map(|one| one.bytes).sum::<u64>()
                );
                assert_eq!(outcome.log_start_offset, start, "{told:?}");
                let left = log.explain_retention(now_ms);
                assert!(
                    left.iter().all(|one| !one.judgement.fate.goes()),
                    "{left:?}"
                );
            }
        });
    }
}

/// A timestamp in the future does not pin the log: the time of the append counts if it is smaller.
#[test]
fn retention_by_time_is_not_fooled_by_future_timestamps() {
    run(&Disk::new(), async {
        let storage = open().await;
        let config = LogConfig {
            segment_bytes: 10_000,
            retention_ms: Some(60_000),
            retention_bytes: None,
            ..small_log()
        };
        let log = storage.create_log(log_id(1), config).await.expect("create");
        let year_ms = 365 * 86_400_000;
        let now_ms = wall_clock_ms();
        for number in 0..6 {
            append(
                &storage,
                &log,
                Spec {
                    timestamp: now_ms + year_ms,
                    ..Spec::new(number, 1, 4000)
                },
            )
            .await;
        }
        assert_eq!(
            log.enforce_retention(now_ms + 59_000)
                .expect("retention")
                .segments,
            0
        );
        let outcome = log
            .enforce_retention(now_ms + 3_600_000)
            .expect("retention");
        assert_eq!(
            outcome.log_start_offset, 6,
            "all of it, the active segment after a roll"
        );
        assert_eq!(
            (
                log.log_start_offset(),
                log.log_end_offset(),
                log.size_bytes()
            ),
            (6, 6, 0)
        );
        append(&storage, &log, Spec::new(9, 1, 100)).await;
        assert_eq!(log.log_end_offset(), 7);
    });
}

#[test]
fn deleted_segments_leave_the_disk() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append_many(&storage, &log, 0..40, 6000).await;
        let sequence = log.advance_log_start(70).expect("advance").expect("news");
        storage.committed(sequence).await.expect("commit");
        storage.checkpoint().await.expect("checkpoint");
        let segments = seen
            .files()
            .iter()
            .filter(|path| path.extension().is_some_and(|kind| kind == "log"))
            .count();
        assert_eq!(segments, log.segment_count());
        assert!(log.segment_count() <= 2);
        storage.delete_log(log_id(1)).await.expect("delete");
        storage.checkpoint().await.expect("checkpoint");
        assert!(
            !seen
                .files()
                .iter()
                .any(|path| path.starts_with("/data/logs")),
            "{:?}",
            seen.files()
        );
    });
}

#[test]
fn the_log_start_never_passes_the_durable_end() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        log.append(&Spec::new(1, 5, 10).build(), 0, 0)
            .expect("append");
        assert!(matches!(
            log.advance_log_start(1),
            Err(StorageError::OffsetOutOfRange { .. })
        ));
        assert!(log.advance_log_start(0).expect("nothing to do").is_none());
    });
}

#[test]
fn epochs_survive_a_start() {
    let disk = Disk::new();
    run(&disk, async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append_in_epoch(&storage, &log, Spec::new(1, 4, 10), 2).await;
        let sequence = log.begin_epoch(5).expect("begin").expect("news");
        assert!(log.begin_epoch(5).expect("begin").is_none());
        storage.committed(sequence).await.expect("commit");
        append_in_epoch(&storage, &log, Spec::new(2, 4, 10), 5).await;
    });
    run(&disk.crash(1), async {
        let storage = open().await;
        let log = storage.log(log_id(1)).expect("log 1");
        assert_eq!(log.end_offset_for_epoch(2), (2, 4));
        assert_eq!(log.end_offset_for_epoch(4), (2, 4));
        assert_eq!(log.end_offset_for_epoch(5), (5, 8));
        assert_eq!(log.end_offset_for_epoch(6), (-1, -1));
    });
}

#[test]
fn a_retried_batch_is_recognised_after_a_start() {
    let disk = Disk::new();
    run(&disk, async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append(
            &storage,
            &log,
            Spec {
                producer: Some((9, 3, 0)),
                ..Spec::new(1, 4, 10)
            },
        )
        .await;
    });
    run(&disk.crash(1), async {
        let storage = open().await;
        let log = storage.log(log_id(1)).expect("log 1");
        let check = log.check_sequence(9, 3, 0, 3);
        assert!(
            matches!(
                check,
                SequenceCheck::Duplicate {
                    base_offset: 0,
                    last_offset: 3,
                    ..
                }
            ),
            "{check:?}"
        );
        assert_eq!(log.check_sequence(9, 3, 4, 4), SequenceCheck::New);
        assert_eq!(
            log.check_sequence(9, 2, 0, 3),
            SequenceCheck::StaleEpoch { current: 3 }
        );
    });
}

/// Many producers into little memory: appends wait for the write-behind, none is lost, the bound holds.
#[test]
fn appends_wait_for_memory_and_stay_within_it() {
    run(&Disk::new(), async {
        let storage = open().await;
        let mut producers = Vec::new();
        for number in 0..30 {
            let log = storage.create_log(
                log_id(number),
                LogConfig {
                    retention_bytes: None,
                    ..small_log()
                },
            );
            let log = log.await.expect("create");
            let storage = storage.clone();
            producers.push(spawn(Class::Network, async move {
                let mut expected = Vec::new();
                for batch in 0..40 {
                    let spec = Spec::new(u64::from(number) * 100 + batch, 1, 3000);
                    let bytes = spec.build();
                    let appended = loop {
                        log.reserve(bytes.len()).await.expect("room");
                        match log.append(&bytes, 0, wall_clock_ms()) {
                            Ok(appended) => break appended,
                            Err(StorageError::NoRoom) => {}
                            Err(error) => panic!("{error}"),
                        }
                    };
                    expected.extend(crate::batches::stored(&bytes, appended.base_offset, 0));
                    assert!(
                        storage.counts().chunk_bytes <= small_config().cache_bytes_max + (64 << 10)
                    );
                    if batch % 7 == 0 {
                        storage.committed(appended.sequence).await.expect("commit");
                    }
                }
                let bytes = read_all(&log, 5000, log.log_end_offset())
                    .await
                    .expect("read");
                assert!(bytes == expected, "content of log {number}");
            }));
        }
        for producer in producers {
            producer.await.expect("producer");
        }
        assert!(storage.counts().checkpoints > 2, "the journal was recycled");
        storage.close().await.expect("close");
    });
}

/// Memory that nobody has used before is dear: a fast producer gets that of the oldest batches again.
#[test]
fn the_cache_grows_by_so_much_a_second() {
    run(&Disk::new(), async {
        let config = StorageConfig {
            cache_bytes_max: 1 << 30,
            ..StorageConfig::default()
        };
        let budget = MemoryBudget::new(1 << 30);
        let opened = Storage::open(DATA_DIR.as_ref(), 0, config, budget).await;
        let (storage, _) = opened.expect("open");
        let log = storage.create_log(log_id(1), LogConfig::default());
        let log = log.await.expect("create");
        let batch = Spec::new(1, 1, 100_000).build();
        let begun = now();
        for number in 1..=2000 {
            log.reserve(batch.len()).await.expect("room");
            let appended = log.append(&batch, 0, wall_clock_ms()).expect("append");
            if number % 20 == 0 {
                storage.committed(appended.sequence).await.expect("commit");
            }
        }
        let not_written_yet = 16 << 20;
        let seconds = (now() - begun).as_secs() + 1;
        let most = (64 << 20) + seconds * (16 << 20) + not_written_yet;
        assert!(
            most < 2000 * 100_000,
            "{seconds} s: nothing had to be used again"
        );
        let held = storage.counts().chunk_bytes;
        assert!(held > 48 << 20 && held < most, "{held} bytes");
    });
}

/// A close woke nobody who waited for memory.
#[test]
fn an_append_that_waits_for_memory_is_told_of_a_close() {
    let disk = Disk::new();
    let full = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            cache_bytes_max: 16 << 10,
            chunk_bytes_max: 4 << 10,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let mut logs = Vec::new();
        for number in [1, 2] {
            let config = LogConfig {
                may_use_reserve: true,
                ..small_log()
            };
            let log = storage.create_log(log_id(number), config).await;
            logs.push(log.expect("create"));
        }
        // The journal makes its files ahead. Then segments find no space: their bytes keep the memory.
        sleep(Duration::from_secs(5)).await;
        full.set_capacity(full.used_bytes());
        append(&storage, &logs[0], Spec::new(1, 1, 17_000)).await;
        let log = logs.remove(1);
        let waiting = spawn(Class::Network, async move { log.reserve(9000).await });
        sleep(Duration::from_mins(1)).await;
        assert!(!waiting.is_finished(), "there is no memory");
        storage.close().await.expect("close");
        let refused = waiting.await.expect("no panic");
        assert!(
            matches!(refused, Err(StorageError::Offline { .. })),
            "{refused:?}"
        );
    });
}

/// The shard's budget is taken by others: appends wait until they leave room.
#[test]
fn appends_wait_for_the_budget() {
    run(&Disk::new(), async {
        let budget = MemoryBudget::new(1 << 20);
        let opened = Storage::open(DATA_DIR.as_ref(), 0, small_config(), budget.clone()).await;
        let storage = opened.expect("open").0;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let others = budget.charge(1 << 20).await;
        let batch = Spec::new(1, 1, 9000).build();
        assert!(matches!(
            log.append(&batch, 0, 0),
            Err(StorageError::NoRoom)
        ));
        let waiting = {
            let (log, bytes) = (log.clone(), batch.len());
            spawn(Class::Network, async move { log.reserve(bytes).await })
        };
        runtime::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!waiting.is_finished(), "there is no room");
        drop(others);
        waiting.await.expect("task").expect("room");
        log.append(&batch, 0, 0).expect("append");
    });
}

/// A file system that fills up: appends are refused before the segments find no space, the rest
/// goes on, and appends do again when there is space.
#[test]
fn appends_are_refused_before_the_disk_is_full() {
    let disk = Disk::new();
    let full = disk.clone();
    run(&disk, async move {
        let config = storage::StorageConfig {
            reserve_bytes: 1 << 20,
            ..small_config()
        };
        full.set_capacity(4 << 20);
        let (storage, _) = try_open(config).await.expect("open");
        let log = storage
            .create_log(
                log_id(1),
                LogConfig {
                    retention_bytes: None,
                    ..small_log()
                },
            )
            .await
            .expect("create");
        let mut expected = Vec::new();
        let mut refused = 0;
        for number in 0..1000 {
            let batch = Spec::new(number, 1, 9000).build();
            let room = log.reserve(batch.len()).await;
            match room.and_then(|()| log.append(&batch, 0, wall_clock_ms())) {
                Ok(appended) => {
                    storage.committed(appended.sequence).await.expect("commit");
                    expected.extend(crate::batches::stored(&batch, appended.base_offset, 0));
                }
                Err(StorageError::SpaceExhausted { .. }) => {
                    refused += 1;
                    runtime::time::sleep(std::time::Duration::from_secs(2)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 100, "{refused} refused");
        storage.check_online().expect("online");
        let half = log.log_end_offset() / 2;
        log.advance_log_start(half).expect("advance");
        storage.checkpoint().await.expect("checkpoint");
        runtime::time::sleep(std::time::Duration::from_secs(3)).await;
        append(&storage, &log, Spec::new(2000, 1, 9000)).await;
        storage.close().await.expect("close");
    });
}

#[test]
fn ten_thousand_logs_are_created_closed_and_opened() {
    let disk = Disk::new();
    run(&disk, async {
        let config = storage::StorageConfig {
            journal: storage::journal::JournalConfig::default(),
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let mut last = None;
        for number in 0..10_000 {
            let id = storage::LogId {
                topic: [1; 16],
                partition: number,
            };
            last = Some(storage.begin_create_log(id, small_log()).expect("create").1);
        }
        storage
            .committed(last.expect("a log"))
            .await
            .expect("commit");
        storage.close().await.expect("close");
    });
    run(&disk, async {
        let storage = open().await;
        assert_eq!(storage.logs().len(), 10_000);
        assert_eq!(storage.counts().chunk_bytes, 0);
    });
}
