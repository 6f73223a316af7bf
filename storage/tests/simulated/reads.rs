//! Reading: from memory and from disk, whole batches within bounds, by time, and never what is damaged.

use std::time::Duration;

use protocol::compression::Codec;
use runtime::sim::Disk;
use runtime::task::{Class, spawn};
use runtime::time::{now, sleep, wall_clock_ms};
use storage::{LogConfig, PartitionLog, Storage, StorageConfig, StorageError, TimestampOffset};

use crate::batches::Spec;
use crate::world::{
    append, append_many, first_log_segment, log_file, log_id, open, read_all, run, small_config,
    small_log, try_open,
};

fn one_segment() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 30,
        retention_bytes: None,
        ..small_log()
    }
}

/// A log with 40 batches of two records and about 3 KB, all of it on disk and out of memory.
async fn cold_log(config: StorageConfig) -> (Storage, PartitionLog, Vec<Vec<u8>>) {
    let storage = open().await;
    let log = storage
        .create_log(log_id(1), one_segment())
        .await
        .expect("create");
    let mut batches = Vec::new();
    for number in 0..40 {
        batches.push(append(&storage, &log, Spec::new(number, 2, 1500)).await);
    }
    storage.close().await.expect("close");
    let (storage, _) = try_open(config).await.expect("open");
    let log = storage.log(log_id(1)).expect("log 1");
    (storage, log, batches)
}

async fn read(log: &PartitionLog, offset: i64, bytes_max: usize, upto: i64) -> (Vec<u8>, i64) {
    let result = log.read(offset, bytes_max, upto).await.expect("read");
    let bytes: Vec<u8> = result
        .slices
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect();
    assert_eq!(bytes.len(), result.bytes);
    (bytes, result.next_offset)
}

/// The same answers whether the batches are in memory or on disk.
async fn check_bounds(log: &PartitionLog, batches: &[Vec<u8>]) {
    let one = batches[0].len();
    // The batch that holds the offset, even if the offset lies inside it.
    assert_eq!(read(log, 11, 1, 80).await, (batches[5].clone(), 12));
    // At least one batch, however small the bound; else no more than the bound.
    assert_eq!(read(log, 0, 0, 80).await, (batches[0].clone(), 2));
    assert_eq!(
        read(log, 0, 3 * one + 10, 80).await,
        (batches[..3].concat(), 6)
    );
    // Nothing that reaches the caller's bound, not even the first batch.
    assert_eq!(read(log, 4, 1 << 20, 9).await, (batches[2..4].concat(), 8));
    assert_eq!(read(log, 8, 1 << 20, 9).await, (Vec::new(), 8));
    assert_eq!(read(log, 80, 1 << 20, 80).await, (Vec::new(), 80));
    for offset in [-1, 81] {
        let result = log.read(offset, 10, 80).await;
        let expected = matches!(
            result,
            Err(StorageError::OffsetOutOfRange {
                log_start: 0,
                log_end: 80,
                ..
            })
        );
        assert!(expected, "{result:?}");
    }
}

#[test]
fn reads_from_memory_keep_their_bounds() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), one_segment())
            .await
            .expect("create");
        let mut batches = Vec::new();
        for number in 0..40 {
            batches.push(append(&storage, &log, Spec::new(number, 2, 1500)).await);
        }
        assert!(
            log.try_read(0, 1, 80).is_some(),
            "newest batches are in memory"
        );
        check_bounds(&log, &batches).await;
    });
}

#[test]
fn reads_from_disk_keep_their_bounds() {
    run(&Disk::new(), async {
        let (_storage, log, batches) = cold_log(small_config()).await;
        assert!(
            log.try_read(0, 1, 80).is_none(),
            "nothing is in memory after a start"
        );
        check_bounds(&log, &batches).await;
        for bytes_max in [1, 4000, 9000, 1 << 20] {
            let bytes = read_all(&log, bytes_max, 80).await.expect("read");
            assert!(bytes == batches.concat(), "content read by {bytes_max}");
        }
    });
}

/// A batch larger than a read window, and larger than a chunk.
#[test]
fn batches_larger_than_windows_and_chunks_are_read_whole() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), one_segment())
            .await
            .expect("create");
        let mut expected = Vec::new();
        for number in 0..6 {
            expected.extend(append(&storage, &log, Spec::new(number, 1, 70_000)).await);
            expected.extend(append(&storage, &log, Spec::new(number, 1, 100)).await);
        }
        assert!(read_all(&log, 1000, 12).await.expect("warm") == expected);
        storage.close().await.expect("close");
        let storage = open().await;
        let log = storage.log(log_id(1)).expect("log 1");
        assert!(read_all(&log, 1000, 12).await.expect("cold") == expected);
    });
}

/// Readers of the same range at the same time cost one disk read for each window.
#[test]
fn concurrent_readers_share_disk_reads() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let (_storage, log, batches) = cold_log(small_config()).await;
        let before = seen.counts().reads;
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let log = log.clone();
                spawn(
                    Class::Network,
                    async move { read_all(&log, 20_000, 80).await },
                )
            })
            .collect();
        for reader in readers {
            let bytes = reader.await.expect("reader").expect("read");
            assert!(bytes == batches.concat());
        }
        let windows = (batches.concat().len() as u64).div_ceil(8 << 10);
        let reads = seen.counts().reads - before;
        assert!(
            reads <= 2 * windows,
            "{reads} reads of {windows} windows by 10 readers"
        );
    });
}

/// What the next read of a sequential reader wants is in memory before it comes, also where it is more than a window.
#[test]
fn a_sequential_reader_waits_for_no_disk() {
    run(&Disk::new(), async {
        // Less than the log, of which the first read sees all: it has no index of it.
        let config = StorageConfig {
            read_cache_bytes_max: 64 << 10,
            ..small_config()
        };
        let (_storage, log, _) = cold_log(config).await;
        let (mut offset, mut waits) = (0, Vec::new());
        while offset < 80 {
            let begun = now();
            (_, offset) = read(&log, offset, 12_000, 80).await;
            waits.push(begun.elapsed());
            sleep(Duration::from_secs(1)).await;
        }
        assert!(waits.len() > 8, "{waits:?}");
        assert!(!waits[0].is_zero(), "{waits:?}");
        // The second read shows that it is a sequential reader.
        assert!(waits[2..].iter().all(Duration::is_zero), "{waits:?}");
    });
}

/// Damage on disk is reported with file and position, and never served; undamaged batches are.
#[test]
fn damaged_batches_are_never_served() {
    let disk = Disk::new();
    let damaged = disk.clone();
    run(&disk, async move {
        let (storage, log, batches) = cold_log(small_config()).await;
        storage.checkpoint().await.expect("checkpoint");
        let position = batches[..20].concat().len() as u64;
        damaged.corrupt(&first_log_segment(0), position + 600..position + 700);
        for bytes_max in [position as usize, usize::MAX] {
            let (bytes, next_offset) = read(&log, 0, bytes_max, 80).await;
            assert!(bytes == batches[..20].concat() && next_offset == 40);
        }
        match log.read(40, 1, 80).await {
            Err(StorageError::Corruption {
                file, position: at, ..
            }) => {
                assert_eq!((file, at), (first_log_segment(0), position));
            }
            other => panic!("a damaged batch was served: {other:?}"),
        }
        assert_eq!(read(&log, 42, 1, 80).await.0, batches[21]);
    });
}

/// A segment file that should be there and is not is damage, and is named.
#[test]
fn a_missing_segment_file_is_damage() {
    let disk = Disk::new();
    run(&disk, async {
        let (_storage, log, _) = cold_log(small_config()).await;
        let path = first_log_segment(0);
        runtime::dir::remove_file(&path).await.expect("remove");
        match log.read(0, 1, 80).await {
            Err(StorageError::Corruption { file, .. }) => assert_eq!(file, path),
            other => panic!("a segment that is gone was read: {other:?}"),
        }
    });
}

/// A reader whose segment is deleted before it gets there is told so, and not of a failed read.
#[test]
fn a_segment_that_is_deleted_under_a_reader_is_no_damage() {
    for delay_us in (0..2000).step_by(20) {
        run(&Disk::new(), async move {
            let (_storage, log, _) = cold_log(small_config()).await;
            log.roll(wall_clock_ms()).expect("roll").expect("a roll");
            let reader = log.clone();
            let reading = spawn(
                Class::Network,
                async move { reader.read(0, 100_000, 80).await },
            );
            let delay = std::time::Duration::from_micros(delay_us);
            runtime::time::sleep(delay).await;
            log.advance_log_start(80).expect("delete records");
            match reading.await.expect("no panic") {
                Ok(_) | Err(StorageError::OffsetOutOfRange { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }
}

/// Lengths that lie are caught by the walk over headers, before anything is believed.
#[test]
fn damaged_headers_are_caught() {
    for at in [0, 8, 16, 23] {
        let disk = Disk::new();
        let damaged = disk.clone();
        run(&disk, async move {
            let (_storage, log, batches) = cold_log(small_config()).await;
            let path = first_log_segment(0);
            let mut file = damaged.read(&path).expect("segment");
            let position = batches[..3].concat().len();
            file[position + at] ^= 0xa5;
            damaged.write(&path, &file);
            let mut offset = 0;
            let error = loop {
                match log.read(offset, 1, 80).await {
                    Ok(result) => offset = result.next_offset,
                    Err(error) => break error,
                }
                assert!(offset < 8, "a batch with a damaged header was served");
            };
            assert!(matches!(error, StorageError::Corruption { .. }), "{error}");
        });
    }
}

/// Without an index in memory or on disk the segment is walked for one: the walk ends at the damage, and what stands
/// before it is still served.
#[test]
fn what_stands_before_a_damaged_header_is_served_without_an_index() {
    let disk = Disk::new();
    let damaged = disk.clone();
    run(&disk, async move {
        let (storage, _) = try_open(small_config()).await.expect("open");
        let config = one_segment();
        let log = storage.create_log(log_id(1), config).await.expect("create");
        let mut batches = Vec::new();
        for number in 0..20 {
            batches.push(append(&storage, &log, Spec::new(number, 1, 20_000)).await);
        }
        storage.close().await.expect("close");
        let position = batches[..12].concat().len();
        let path = first_log_segment(0);
        let mut file = damaged.read(&path).expect("segment");
        file[position + 16] ^= 0xa5;
        damaged.write(&path, &file);

        let log = open().await.log(log_id(1)).expect("log 1");
        for offset in [11, 0, 5] {
            let batch = &batches[offset as usize];
            assert_eq!(&read(&log, offset, 1, 20).await.0, batch, "offset {offset}");
        }
        for offset in [12, 15] {
            match log.read(offset, 1, 20).await {
                Err(StorageError::Corruption { position: at, .. }) => {
                    assert_eq!(at, position as u64);
                }
                other => panic!("offset {offset} lies at or behind the damage: {other:?}"),
            }
        }
    });
}

/// A base offset lies outside of its batch's CRC: one that goes back would let the batch be skipped, or given
/// for another.
#[test]
fn a_batch_that_does_not_follow_its_predecessor_is_damage() {
    let disk = Disk::new();
    let damaged = disk.clone();
    run(&disk, async move {
        let (_storage, log, batches) = cold_log(small_config()).await;
        let path = first_log_segment(0);
        let mut file = damaged.read(&path).expect("segment");
        let position = batches[..5].concat().len();
        file[position..position + 8].copy_from_slice(&8i64.to_be_bytes());
        damaged.write(&path, &file);
        match log.read(10, 1, 80).await {
            Err(StorageError::Corruption {
                file, position: at, ..
            }) => assert_eq!((file, at), (path, position as u64)),
            other => panic!("a batch with another's offset: {other:?}"),
        }
    });
}

#[test]
fn a_missing_or_damaged_index_costs_a_walk_and_no_more() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            cache_bytes_max: 32 << 20,
            dirty_bytes_max: 16 << 20,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let log = storage
            .create_log(log_id(1), one_segment())
            .await
            .expect("create");
        // More than one block of index entries.
        for number in 0..600 {
            let batch = Spec::new(number, 1, 60_000).build();
            log.reserve(batch.len()).await.expect("room");
            log.append(&batch, 0, 0).expect("append");
        }
        storage.close().await.expect("close");
        let index = log_file(1, 1 << 16, "00000000000000000000.index");
        assert!(
            seen.read(&index).is_some_and(|file| file.len() >= 4096),
            "an index block was written"
        );
        let mut costs = Vec::new();
        for damage in 0..3 {
            match damage {
                0 => {}
                1 => seen.corrupt(&index, 100..200),
                _ => seen.write(&index, b"nonsense"),
            }
            let before = seen.counts().reads;
            let storage = open().await;
            let log = storage.log(log_id(1)).expect("log 1");
            let result = log.read(300, 1, 600).await.expect("read");
            assert_eq!(result.next_offset, 301);
            let reads = seen.counts().reads - before;
            costs.push(reads);
            storage.close().await.expect("close");
        }
        // Undamaged, only what lies behind the last full block is walked.
        assert!(
            costs[0] * 3 < costs[1] && costs[1] <= costs[2] + 2,
            "{costs:?} reads"
        );
    });
}

#[test]
fn lookups_by_time_answer_the_exact_record() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        let base = 1_700_000_000_000;
        for number in 0..60 {
            let codec = if number % 3 == 0 {
                Codec::Zstd
            } else {
                Codec::None
            };
            // Each batch has five records, a millisecond apart; batches are 100 ms apart.
            let spec = Spec {
                timestamp: base + number as i64 * 100,
                codec,
                ..Spec::new(number, 5, 600)
            };
            append(&storage, &log, spec).await;
        }
        let check = async |log: &PartitionLog| {
            for (timestamp, expected) in [
                (0, 0),
                (base + 703, 38),
                (base + 705, 40),
                (base + 5904, 299),
            ] {
                let found = log
                    .offset_for_timestamp(timestamp)
                    .await
                    .expect("lookup")
                    .expect("a record");
                let time = base + expected / 5 * 100 + expected % 5;
                assert_eq!(
                    found,
                    TimestampOffset {
                        timestamp: time,
                        offset: expected,
                        leader_epoch: 0
                    }
                );
            }
            assert_eq!(
                log.offset_for_timestamp(base + 5905).await.expect("lookup"),
                None
            );
            let newest = log
                .max_timestamp_offset()
                .await
                .expect("lookup")
                .expect("a record");
            assert_eq!((newest.timestamp, newest.offset), (base + 5904, 299));
        };
        check(&log).await;
        storage.close().await.expect("close");
        let storage = open().await;
        check(&storage.log(log_id(1)).expect("log 1")).await;
    });
}

/// A lookup by time answers no record below the log start.
#[test]
fn lookups_by_time_begin_at_the_log_start() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append_many(&storage, &log, 0..4, 2000).await;
        log.advance_log_start(3).expect("advance");
        let found = log
            .offset_for_timestamp(0)
            .await
            .expect("lookup")
            .expect("a record");
        assert_eq!(found.offset, 3);
    });
}

#[test]
fn an_empty_log_has_no_times() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        assert_eq!(log.offset_for_timestamp(0).await.expect("lookup"), None);
        assert_eq!(log.max_timestamp_offset().await.expect("lookup"), None);
        assert_eq!(log.read(0, 100, 0).await.expect("read").bytes, 0);
    });
}

/// A truncation into a batch takes all of it: the log ends in a gap, and a reader there finds nothing.
#[test]
fn a_gap_at_the_end_of_a_log_reads_as_empty() {
    run(&Disk::new(), async {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append(&storage, &log, Spec::new(1, 3, 100)).await;
        append(&storage, &log, Spec::new(2, 4, 100)).await;
        log.truncate(5).await.expect("truncate");
        for (offset, bytes) in [(0, true), (3, false), (4, false), (5, false)] {
            let read = log.read(offset, 1000, i64::MAX).await.expect("read");
            assert_eq!(read.bytes > 0, bytes, "at {offset}");
        }
        storage.close().await.expect("close");
    });
}
