//! What is done for many logs at once: checkpoints that sync their file system once for all of them, when they are
//! made, which log is written first, and with how many writes.

use std::time::Duration;

use runtime::sim::Disk;
use runtime::time::sleep;
use storage::{Storage, StorageConfig};

use crate::world::{
    append_many, log_id, open, read_all, run, run_until_crash, small_config, small_log, try_open,
};

const LOGS: u32 = 5;
/// Full blocks, that is, bytes for segments; and more than a table carries itself.
const BATCHES: std::ops::Range<u64> = 0..6;
const BATCH_BYTES: usize = 3000;

async fn open_that_syncs_together() -> Storage {
    let config = StorageConfig {
        checkpoint_file_syncs_max: 0,
        checkpoint_tail_bytes_max: 4 << 10,
        ..small_config()
    };
    try_open(config).await.expect("open").0
}

/// Fills every log and makes a checkpoint, after which the journal is not needed for any of them. Answers
/// what was written, and how many operations of the disk that took.
async fn fill_and_checkpoint(disk: Disk) -> (Vec<Vec<u8>>, u64) {
    let storage = open_that_syncs_together().await;
    let mut written = Vec::new();
    for number in 1..=LOGS {
        let created = storage.create_log(log_id(number), small_log()).await;
        let log = created.expect("create");
        written.push(append_many(&storage, &log, BATCHES, BATCH_BYTES).await);
    }
    let operations = disk.counts().mutations();
    storage.checkpoint().await.expect("checkpoint");
    (written, operations)
}

async fn expect_logs(expected: Vec<Vec<u8>>) {
    let storage = open().await;
    for (number, bytes) in (1..=LOGS).zip(expected) {
        let log = storage.log(log_id(number)).expect("the log is there");
        let upto = log.durable_end_offset();
        let found = read_all(&log, 8 << 10, upto).await.expect("read");
        assert!(found == bytes, "log {number} is not as it was written");
    }
}

/// A checkpoint that synced the file system relies on every block and name of every log.
#[test]
fn one_sync_of_the_file_system_covers_all_logs() {
    let disk = Disk::new();
    let (written, _) = run(&disk, fill_and_checkpoint(disk.clone()));
    for seed in 0..20 {
        run(&disk.crash(seed), expect_logs(written.clone()));
    }
}

/// The same when the power fails within the checkpoint: what was acknowledged before it is in the
/// journal still, or in what was synced.
#[test]
fn any_operation_of_such_a_checkpoint_may_be_the_last() {
    let whole = Disk::new();
    let (written, first) = run(&whole, fill_and_checkpoint(whole.clone()));
    for point in first..whole.counts().mutations() {
        let disk = Disk::new();
        disk.crash_after(point);
        let ended = run_until_crash(&disk, 1, fill_and_checkpoint(disk.clone()));
        assert!(ended.is_none(), "operation {point} was not reached");
        let appended = disk.crash(point);
        run(&appended, expect_logs(written.clone()));
    }
}

/// Writes of a checkpoint of one log that gathered in chunks of at most so many bytes.
fn writes_with_chunks_of(chunk_bytes_max: u64) -> u64 {
    let disk = Disk::new();
    let counted = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            chunk_bytes_max,
            write_behind_bytes: 1 << 20,
            ..small_config()
        };
        let storage = try_open(config).await.expect("open").0;
        let created = storage.create_log(log_id(1), small_log()).await;
        let log = created.expect("create");
        append_many(&storage, &log, 0..10, BATCH_BYTES).await;
        let before = counted.counts().writes;
        storage.checkpoint().await.expect("checkpoint");
        counted.counts().writes - before
    })
}

#[test]
fn what_lies_in_several_chunks_is_one_write() {
    assert_eq!(
        writes_with_chunks_of(4 << 10),
        writes_with_chunks_of(64 << 10)
    );
}

/// With too many unwritten bytes those of the log that has waited longest are written; the others gather more.
#[test]
fn the_oldest_is_written_first() {
    let disk = Disk::new();
    let looked_at = disk.clone();
    run(&disk, async move {
        let storage = open().await;
        for number in 1..=20 {
            let created = storage.create_log(log_id(number), small_log()).await;
            append_many(&storage, &created.expect("create"), 0..1, 6000).await;
            let files = looked_at.files();
            let mut dirs = files
                .iter()
                .filter_map(|path| path.parent()?.file_name()?.to_str());
            let segment_of = |number: u32| format!("{}-", log_id(number));
            if dirs
                .clone()
                .any(|dir| (1..=3).any(|n| dir.starts_with(&segment_of(n))))
            {
                assert!(number > 5, "written before there was too much");
                assert!(!dirs.any(|dir| dir.starts_with(&segment_of(number))));
                return;
            }
        }
        panic!("none of the oldest was written");
    });
}

/// Bytes in the journal when the first checkpoint is made by itself.
fn journaled_before_a_checkpoint(logs: u32) -> u64 {
    run(&Disk::new(), async move {
        let storage = open().await;
        let first = storage.counts().checkpoints;
        let mut created = Vec::new();
        for number in 1..=logs {
            let log = storage.create_log(log_id(number), small_log()).await;
            created.push(log.expect("create"));
        }
        for log in created.iter().cycle() {
            append_many(&storage, log, 0..1, 6000).await;
            // Long enough for a checkpoint, too short for anything to be written for its age.
            sleep(Duration::from_millis(100)).await;
            if storage.counts().checkpoints > first {
                break;
            }
        }
        storage.journal().counts().bytes_written
    })
}

/// Of each of many logs a checkpoint writes little: it waits until that is more.
#[test]
fn a_checkpoint_of_many_logs_waits_longer() {
    let (few, many) = (
        journaled_before_a_checkpoint(1),
        journaled_before_a_checkpoint(10),
    );
    assert!(few * 5 / 4 < many, "{few} and {many} bytes");
}
