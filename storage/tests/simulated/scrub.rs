//! The scrubber: it reads every sealed segment at its pace, names damage, and changes nothing.

use std::time::Duration;

use runtime::sim::Disk;
use runtime::sim::disk::{Fault, OpKind};
use runtime::time::sleep;
use storage::{PartitionLog, Storage, StorageConfig, StorageError};

use crate::world::{
    append_many, first_log_segment, log_id, read_all, run, small_config, small_log, try_open,
};

const HOUR: Duration = Duration::from_hours(1);

fn scrubbing() -> StorageConfig {
    StorageConfig {
        scrub_period_ms: 24 * 3_600_000,
        scrub_bytes_per_second: 8 << 10,
        ..small_config()
    }
}

/// Two logs of several segments, on disk and closed.
async fn fill() {
    let (storage, _) = try_open(small_config()).await.expect("open");
    for number in [1, 2] {
        let log = storage
            .create_log(log_id(number), small_log())
            .await
            .expect("create");
        append_many(&storage, &log, 0..40, 4000).await;
    }
    storage.close().await.expect("close");
}

async fn open_scrubbing() -> (Storage, Vec<PartitionLog>) {
    let (storage, _) = try_open(scrubbing()).await.expect("open");
    let logs = storage.logs();
    (storage, logs)
}

#[test]
fn every_sealed_segment_is_read_once_a_period_at_its_pace() {
    let disk = Disk::new();
    run(&disk, fill());
    let seen = disk.clone();
    run(&disk, async move {
        let (storage, logs) = open_scrubbing().await;
        let sealed: usize = logs.iter().map(|log| log.segment_count() - 1).sum();
        assert!(sealed >= 4);
        // Until the journal has its files.
        sleep(Duration::from_secs(1)).await;
        let (reads, mutations) = (seen.counts().reads, seen.counts().mutations());
        assert!(
            storage.counts().scrubbed_segments < 2,
            "one read, then a pause"
        );
        sleep(HOUR).await;
        assert_eq!(storage.counts().scrubbed_segments, sealed as u64);
        assert!(seen.counts().reads > reads);
        assert_eq!(seen.counts().mutations(), mutations, "it changes nothing");
        sleep(22 * HOUR).await;
        assert_eq!(storage.counts().scrubbed_segments, sealed as u64);
        sleep(3 * HOUR).await;
        assert_eq!(storage.counts().scrubbed_segments, 2 * sealed as u64);
        assert_eq!(storage.counts().corruptions, 0);
        storage.close().await.expect("close");
    });
}

#[test]
fn damage_is_counted_kept_and_only_its_batch_is_refused() {
    let disk = Disk::new();
    run(&disk, fill());
    disk.corrupt(&first_log_segment(0), 9000..9001);
    let damaged = disk.read(&first_log_segment(0));
    run(&disk, async {
        let (storage, logs) = open_scrubbing().await;
        sleep(HOUR).await;
        assert_eq!(storage.counts().corruptions, 1);
        // A reader is refused, and counted; the other log's readers go on.
        let refused = read_all(&logs[0], 1000, logs[0].log_end_offset()).await;
        assert!(matches!(refused, Err(StorageError::Corruption { .. })));
        assert_eq!(storage.counts().corruptions, 2);
        read_all(&logs[1], 1000, logs[1].log_end_offset())
            .await
            .expect("the other log");
        storage.close().await.expect("close");
    });
    assert!(
        disk.read(&first_log_segment(0)) == damaged,
        "nothing is changed"
    );
}

/// The file of a deleted segment took its space until the walk over it had ended, at its pace.
#[test]
fn a_deleted_segment_is_let_go_at_once() {
    let disk = Disk::new();
    run(&disk, fill());
    let seen = disk.clone();
    run(&disk, async move {
        let config = StorageConfig {
            scrub_bytes_per_second: 1,
            ..scrubbing()
        };
        let (storage, _) = try_open(config).await.expect("open");
        sleep(Duration::from_mins(1)).await;
        for log in storage.logs() {
            storage.delete_log(log.id()).await.expect("delete");
        }
        sleep(Duration::from_secs(2)).await;
        let used = seen.used_bytes();
        sleep(24 * HOUR).await;
        assert_eq!(used, seen.used_bytes(), "nothing had to be waited for");
        assert_eq!(storage.counts().scrubbed_segments, 0);
        storage.close().await.expect("close");
    });
}

/// The length of a damaged batch says nothing about where the next one is.
#[test]
fn a_damaged_length_is_one_damage_and_ends_the_walk() {
    let disk = Disk::new();
    run(&disk, fill());
    let path = first_log_segment(0);
    let mut bytes = disk.read(&path).expect("the segment");
    // The third byte of the second batch's length: it ends in the midst of another one, many blocks on.
    let second = 12 + usize::from(u16::from_be_bytes([bytes[10], bytes[11]]));
    bytes[second + 10] ^= 0x40;
    disk.write(&path, &bytes);
    run(&disk, async {
        let (storage, _) = open_scrubbing().await;
        sleep(HOUR).await;
        assert_eq!(storage.counts().corruptions, 1);
        storage.close().await.expect("close");
    });
}

/// Segments that go while they are read are no damage.
#[test]
fn a_segment_that_is_deleted_under_the_scrubber_is_no_damage() {
    for delay_ms in (0..40_000).step_by(1000) {
        let disk = Disk::new();
        run(&disk, fill());
        run(&disk, async move {
            let (storage, logs) = open_scrubbing().await;
            sleep(Duration::from_millis(delay_ms)).await;
            logs[0].advance_log_start(60).expect("delete records");
            storage.delete_log(logs[1].id()).await.expect("delete");
            sleep(HOUR).await;
            assert_eq!(storage.counts().corruptions, 0, "after {delay_ms} ms");
            storage.close().await.expect("close");
        });
    }
}

/// A file that cannot be opened for want of descriptors is looked at in the next round.
#[test]
fn a_shortage_of_descriptors_is_no_damage() {
    let disk = Disk::new();
    run(&disk, fill());
    let short = disk.clone();
    run(&disk, async move {
        let (storage, logs) = open_scrubbing().await;
        let sealed: usize = logs.iter().map(|log| log.segment_count() - 1).sum();
        short.fail_one_in(OpKind::Open, 1, Fault::Emfile);
        sleep(HOUR).await;
        let before = storage.counts().scrubbed_segments;
        assert!(before < sealed as u64, "some could not be opened");
        assert_eq!(storage.counts().corruptions, 0);
        short.heal();
        sleep(25 * HOUR).await;
        assert_eq!(storage.counts().scrubbed_segments, before + sealed as u64);
        storage.close().await.expect("close");
    });
}
