//! Checkpoints of so many logs that their file system is synced once for all of them.

use runtime::sim::Disk;
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
