//! Changing the number of shards, stopped at every operation.

use std::path::Path;

use runtime::sim::Disk;
use runtime::{MemoryBudget, dir};
use storage::{LogId, Storage, StorageError, migrate_shards, shard_count_on_disk};

use crate::batches::Spec;
use crate::world::{
    DATA_DIR, append, append_many, log_id, read_all, run, run_until_crash, small_config, small_log,
};

const LOGS: u32 = 7;

async fn open_shard(shard: u32) -> Storage {
    let opened = Storage::open(
        Path::new(DATA_DIR),
        shard,
        small_config(),
        MemoryBudget::new(64 << 20),
    )
    .await;
    opened.expect("open").0
}

fn assign(count: u32) -> impl Fn(LogId) -> u32 {
    move |id| id.partition % count
}

/// Two shards with logs; the second is not closed.
async fn make_two_shards() {
    for shard in 0..2 {
        let storage = open_shard(shard).await;
        for number in (0..LOGS).filter(|number| number % 2 == shard) {
            let log = storage
                .create_log(log_id(number), small_log())
                .await
                .expect("create");
            let first = u64::from(number) * 100;
            append_many(&storage, &log, first..first + 3 + first / 50, 3000).await;
        }
        if shard == 0 {
            storage.close().await.expect("close");
        }
    }
}

/// Every log is on its shard of `count`, with its content, and takes more.
async fn expect_shards(count: u32) {
    let mut incarnations = std::collections::BTreeSet::new();
    for shard in 0..count {
        let storage = open_shard(shard).await;
        for number in (0..LOGS).filter(|number| number % count == shard) {
            let log = storage
                .log(log_id(number))
                .unwrap_or_else(|| panic!("log {number} on shard {shard}"));
            assert!(
                incarnations.insert(log.incarnation()),
                "two logs of one incarnation"
            );
            let batches = 3 + u64::from(number) * 2;
            assert_eq!(log.log_end_offset(), batches as i64 * 2);
            let bytes = read_all(&log, 4000, log.log_end_offset())
                .await
                .expect("read");
            let first = u64::from(number) * 100;
            let expected: Vec<u8> = (first..first + batches)
                .flat_map(|n| {
                    crate::batches::stored(
                        &Spec::new(n, 2, 1500).build(),
                        (n - first) as i64 * 2,
                        0,
                    )
                })
                .collect();
            assert!(bytes == expected, "content of log {number}");
        }
        assert_eq!(
            storage.logs().len(),
            (0..LOGS).filter(|number| number % count == shard).count()
        );
        let new = storage
            .create_log(log_id(100 + shard), small_log())
            .await
            .expect("create");
        assert!(
            incarnations.insert(new.incarnation()),
            "an incarnation was given out twice"
        );
        append(&storage, &new, Spec::new(1, 1, 100)).await;
        storage.delete_log(new.id()).await.expect("delete");
        storage.close().await.expect("close");
    }
}

#[test]
fn a_change_of_the_shard_count_can_be_stopped_anywhere() {
    let before = Disk::new();
    run(&before, make_two_shards());
    let before = before.crash(5);
    for (new_count, stride) in [(3, 3), (1, 5)] {
        for point in (0..).step_by(stride) {
            let disk = before.fork();
            disk.crash_after(point);
            let migrate = async move {
                migrate_shards(
                    Path::new(DATA_DIR),
                    2,
                    new_count,
                    &small_config(),
                    assign(new_count),
                )
                .await
            };
            let ended = run_until_crash(&disk, point, migrate);
            run(&disk.crash(point), async move {
                let count = shard_count_on_disk(Path::new(DATA_DIR))
                    .await
                    .expect("count")
                    .expect("shards");
                assert!(count == 2 || count == new_count, "{count} shards");
                expect_shards(count).await;
            });
            if let Some(result) = ended {
                result.expect("migrate");
                break;
            }
        }
    }
}

#[test]
fn a_wrong_shard_count_is_refused() {
    let disk = Disk::new();
    run(&disk, make_two_shards());
    run(&disk, async {
        let result = migrate_shards(Path::new(DATA_DIR), 3, 1, &small_config(), assign(1)).await;
        assert!(matches!(
            result,
            Err(StorageError::ShardCount {
                found: 2,
                stated: 3,
                ..
            })
        ));
        expect_shards(2).await;
    });
}

#[test]
fn logs_without_shards_are_damage() {
    let disk = Disk::new();
    run(&disk, make_two_shards());
    run(&disk, async {
        let shards = Path::new(DATA_DIR).join("shards");
        dir::remove_dir_all(&shards).await.expect("remove");
        for _ in 0..2 {
            let count = shard_count_on_disk(Path::new(DATA_DIR)).await;
            assert!(
                matches!(count, Err(StorageError::Corruption { .. })),
                "{count:?}"
            );
            // An empty one says no more.
            dir::create_dir_all(&shards).await.expect("create");
        }
        let logs = Path::new(DATA_DIR).join("logs");
        dir::remove_dir_all(&logs).await.expect("remove");
        let count = shard_count_on_disk(Path::new(DATA_DIR)).await;
        assert_eq!(count.expect("nothing was there"), None);
    });
}
