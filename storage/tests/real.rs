//! The storage on the real disk: what the simulated one might be too kind about (alignment, direct
//! I/O, file ends). Needs `io_uring` and a file system with direct I/O; says so and skips without.

use std::path::PathBuf;

use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::MemoryBudget;
use runtime::executor::{Topology, start_shards};
use runtime::task::yield_now;
use storage::{LogConfig, LogId, PartitionLog, Storage, StorageConfig, StorageError};

const ID: LogId = LogId {
    topic: [9; 16],
    partition: 4,
};

fn batch(number: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![number as u8; 100 + number * 37 % 9000];
    builder.push(1_700_000_000_000 + number as i64, None, Some(&value), &[]);
    builder.build().expect("a batch")
}

async fn open(dir: &std::path::Path) -> Storage {
    let config = StorageConfig {
        write_behind_bytes: 64 << 10,
        cache_bytes_max: 4 << 20,
        reserve_bytes: 0,
        ..StorageConfig::default()
    };
    let opened = Storage::open(dir, 0, config, MemoryBudget::new(64 << 20)).await;
    opened.expect("open").0
}

async fn read_values(log: &PartitionLog) -> usize {
    let mut offset = log.log_start_offset();
    let mut bytes = 0;
    while offset < log.log_end_offset() {
        let result = log
            .read(offset, 100_000, log.log_end_offset())
            .await
            .expect("read");
        bytes += result.bytes;
        offset = result.next_offset;
    }
    bytes
}

async fn append_truncate_and_read(dir: PathBuf) {
    let storage = open(&dir).await;
    let config = LogConfig {
        segment_bytes: 2 << 20,
        ..LogConfig::default()
    };
    let log = storage.create_log(ID, config).await.expect("create");
    let mut bytes = Vec::new();
    for number in 0..3000 {
        let batch = batch(number);
        log.reserve(batch.len()).await.expect("room");
        let appended = log.append(&batch, 0, 0).expect("append");
        bytes.push(batch.len());
        if number % 100 == 0 {
            storage.committed(appended.sequence).await.expect("commit");
        }
        yield_now().await;
    }
    assert!(log.segment_count() > 3);
    log.truncate(2000).await.expect("truncate");
    bytes.truncate(2000);
    let expected: usize = bytes.iter().sum();
    assert_eq!(read_values(&log).await, expected, "while running");
    storage.close().await.expect("close");

    let storage = open(&dir).await;
    let log = storage.log(ID).expect("the log");
    assert_eq!(read_values(&log).await, expected, "after a close");
    let found = log.offset_for_timestamp(1_700_000_001_500).await;
    assert_eq!(found.expect("lookup").expect("a record").offset, 1500);
    storage.delete_log(ID).await.expect("delete");
    storage.close().await.expect("close");
}

#[test]
fn a_log_lives_on_the_real_disk() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().to_path_buf();
    match start_shards(&Topology::unpinned(1), move |_| {
        append_truncate_and_read(path.clone())
    }) {
        Ok(threads) => {
            threads.join().expect("the shard");
            let left = std::fs::read_dir(dir.path().join("logs"))
                .expect("logs")
                .count();
            assert_eq!(left, 0, "a deleted log leaves nothing behind");
        }
        Err(error) => eprintln!("skipped, no io_uring here: {error}"),
    }
}

/// One checkpoint makes logs durable with their table, and one measurement is of the space of both.
#[test]
fn logs_on_another_file_system_are_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped, no /dev/shm here");
        return;
    };
    std::os::unix::fs::symlink(other.path(), dir.path().join("logs")).expect("link");
    let path = dir.path().to_path_buf();
    let refused = start_shards(&Topology::unpinned(1), move |_| {
        let path = path.clone();
        async move {
            let config = StorageConfig::default();
            let opened = Storage::open(&path, 0, config, MemoryBudget::new(64 << 20)).await;
            matches!(opened, Err(StorageError::FileSystems { .. }))
        }
    });
    match refused {
        Ok(threads) => assert_eq!(threads.join().expect("the shard"), [true]),
        Err(error) => eprintln!("skipped, no io_uring here: {error}"),
    }
}
