//! A shard with two log directories on a simulated disk, of which one operation fails, or that is opened again
//! without one of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::metadata::{Command, Configs, Image};
use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;
use protocol::record_batch::{BatchBuilder, BatchOptions, Batches};
use runtime::Slice;
use runtime::budget::MemoryBudget;
use runtime::mailbox;
use runtime::net::{ZeroCopy, ZeroCopyMode};
use runtime::sim::disk::{Fault, OpKind};
use runtime::sim::{Disk, Simulation};
use runtime::task::{self, Class};
use runtime::time;
use storage::journal::JournalConfig;
use storage::{Storage, StorageConfig, make_shards};

use super::watch;
use crate::config;
use crate::metrics::ShardMetrics;
use crate::net::connection::Limits;
use crate::net::server::{Connections, Load};
use crate::partition::log_dirs::{LogDir, LogDirs};
use crate::partition::produce::{Refused, Rules, append};
use crate::partition::reconcile::{delete_orphans, reconcile};
use crate::partition::shard::{Parts, Shard};
use crate::partition::table::PartitionKey;

const DIRS: [&str; 2] = ["/a", "/b"];
const PARTITIONS: i32 = 4;
const ROUNDS: usize = 20;

/// Records that were acknowledged, by partition.
type Acknowledged = Rc<RefCell<BTreeMap<PartitionKey, i64>>>;

fn topic(number: u8) -> Uuid {
    Uuid([number; 16])
}

pub(in crate::partition) fn keys(number: u8) -> impl Iterator<Item = PartitionKey> {
    (0..PARTITIONS).map(move |partition| PartitionKey {
        topic: topic(number),
        partition,
    })
}

/// The metadata with topics that were made before the broker's last start, and since.
fn image(old: &[u8], new: &[u8]) -> Arc<Image> {
    let register = Command::RegisterBroker {
        id: 1,
        host: "h".to_owned(),
        port: 1,
        rack: None,
    };
    let create = |number: &u8| Command::CreateTopic {
        id: topic(*number),
        name: format!("t{number}"),
        assignments: vec![vec![1]; PARTITIONS as usize],
        configs: Configs::new(),
    };
    let mut commands = vec![register.clone()];
    commands.extend(old.iter().map(create));
    commands.push(register);
    commands.extend(new.iter().map(create));
    let mut image = Image::default();
    for command in &commands {
        image.apply(command).expect("apply");
    }
    Arc::new(image)
}

fn small() -> StorageConfig {
    StorageConfig {
        journal: JournalConfig {
            file_bytes: 128 << 10,
            files_max: 4,
            group_bytes_max: 32 << 10,
        },
        write_behind_bytes: 8 << 10,
        dirty_bytes_max: 64 << 10,
        reserve_bytes: 64 << 10,
        ..StorageConfig::default()
    }
}

async fn open_dir(path: &str, budget: &MemoryBudget) -> LogDir {
    let opened = Storage::open(Path::new(path), 0, small(), budget.clone()).await;
    let opened = opened.map(|(storage, _)| storage);
    LogDir::new(path.into(), opened.map_err(|error| error.to_string()))
}

/// Opens a shard, as a start would; those of the directories that `are_there`.
async fn open(are_there: [bool; 2]) -> Rc<Shard> {
    let budget = MemoryBudget::new(64 << 20);
    let mut dirs = Vec::new();
    for (path, is_there) in DIRS.into_iter().zip(are_there) {
        dirs.push(if is_there {
            open_dir(path, &budget).await
        } else {
            LogDir::new(path.into(), Err("not there".to_owned()))
        });
    }
    let limits = Limits {
        request_bytes_max: 1 << 20,
        requests_in_flight_max: 8,
    };
    let idle_timeout = Duration::from_mins(10);
    let zero_copy = ZeroCopy::new(ZeroCopyMode::Off, budget.clone());
    let (sender, _) = mailbox::channel(8);
    Shard::new(Parts {
        id: 0,
        config: Arc::new(config::load(None, std::iter::empty(), &[]).expect("defaults")),
        log_dirs: LogDirs::new(0, dirs),
        budget,
        connections: Connections::new(0, Load::new(1), limits, idle_timeout, zero_copy),
        metrics: Rc::new(ShardMetrics::default()),
        mailboxes: [sender].into(),
    })
}

/// Watches both directories.
fn watch_all(shard: &Rc<Shard>) {
    for dir in 0..DIRS.len() {
        let watched = watch(shard.clone(), dir);
        task::spawn(Class::Storage, async move { drop(watched.await) }).detach();
    }
}

fn batch() -> Vec<u8> {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.push(time::wall_clock_ms(), None, Some(&[7; 3000]), &[]);
    batch.build().expect("a batch")
}

/// Appends a record and waits until it is durable.
async fn produce(shard: &Shard, key: PartitionKey) -> Result<i64, ErrorCode> {
    let replica = shard.table.find(key)?;
    let rules = Rules {
        needs_all_replicas: true,
        waits_for_disk: true,
        is_zstd_allowed: true,
    };
    let accepted = append(shard, &replica, &batch(), rules).await;
    let accepted = accepted.map_err(|Refused { code, .. }| code)?;
    let sequence = accepted.sequence.expect("an append that waits");
    let durable = shard.log_dirs.committed(accepted.dir, sequence).await;
    durable.map_err(|_| ErrorCode::KafkaStorageError)?;
    Ok(accepted.base_offset)
}

/// Which directories are online.
fn online(shard: &Shard) -> Vec<usize> {
    shard.log_dirs.online().map(|(dir, _)| dir).collect()
}

/// Produces to all partitions, again and again; those that are refused are in a directory that has failed.
async fn work(shard: Rc<Shard>, acknowledged: Acknowledged) {
    let dir_of: BTreeMap<_, _> = shard
        .table
        .replicas()
        .iter()
        .map(|one| (one.key, one.dir))
        .collect();
    for _ in 0..ROUNDS {
        for (&key, dir) in &dir_of {
            match produce(&shard, key).await {
                Ok(offset) => {
                    acknowledged.borrow_mut().insert(key, offset + 1);
                }
                Err(code) => {
                    assert_eq!(code, ErrorCode::KafkaStorageError);
                    assert!(
                        !online(&shard).contains(dir),
                        "{key:?} was refused, and directory {dir} is online"
                    );
                }
            }
            // A checkpoint from time to time, so that every kind of operation may fail.
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    let online = online(&shard);
    for (key, dir) in dir_of {
        assert_eq!(
            shard.table.is_offline(key),
            !online.contains(&dir),
            "{key:?}"
        );
        assert_eq!(
            shard.table.find(key).is_ok(),
            online.contains(&dir),
            "{key:?}"
        );
    }
    assert!(!online.is_empty(), "one operation takes one directory");
}

/// A new node with a topic.
pub(in crate::partition) async fn make() -> Rc<Shard> {
    for dir in DIRS {
        make_shards(Path::new(dir), 1).await.expect("make");
    }
    let shard = open([true, true]).await;
    watch_all(&shard);
    reconcile(shard.clone(), image(&[], &[1]))
        .await
        .expect("reconcile");
    shard
}

/// A node with a topic, on which `work` is done.
async fn first_start(acknowledged: Acknowledged) {
    let shard = make().await;
    work(shard, acknowledged).await;
}

/// A later start finds all that was acknowledged.
async fn later_start(acknowledged: BTreeMap<PartitionKey, i64>) {
    let shard = open([true, true]).await;
    assert_eq!(online(&shard), [0, 1]);
    assert!(shard.log_dirs.find_twice().is_none());
    let image = image(&[1], &[]);
    reconcile(shard.clone(), image.clone())
        .await
        .expect("reconcile");
    assert_eq!(delete_orphans(&shard, &image).await.expect("delete"), 0);
    for (key, end) in acknowledged {
        let replica = shard.table.find(key).expect("a replica");
        assert_eq!(records(&replica.log, end).await, end, "{key:?}");
    }
    for key in keys(1) {
        produce(&shard, key).await.expect("both directories serve");
    }
    shard.log_dirs.close().await.expect("close");
}

/// Records of a log below `end`.
async fn records(log: &storage::PartitionLog, end: i64) -> i64 {
    let (mut offset, mut count) = (0, 0);
    while offset < end {
        let read = log.read(offset, 1 << 20, end).await.expect("read");
        assert!(read.next_offset > offset, "nothing at {offset} of {end}");
        let slices = Slice::joined(read.slices);
        for batch in Batches::new(&slices) {
            let batch = batch.expect("a batch");
            batch.check_crc().expect("an intact batch");
            count += i64::from(batch.record_count());
        }
        offset = read.next_offset;
    }
    count
}

pub(in crate::partition) fn run<T: 'static>(
    disk: &Disk,
    program: impl Future<Output = T> + 'static,
) -> T {
    Simulation::new(1).disk(disk).run(program).value()
}

/// Any operation fails: it takes one directory, the other goes on, and nothing acknowledged is lost, in neither.
#[test]
fn a_failed_operation_takes_one_directory_and_loses_nothing() {
    for kind in [OpKind::Write, OpKind::Sync, OpKind::Metadata] {
        let mut failures = [0; 3];
        for number in 0.. {
            let disk = Disk::new();
            let acknowledged = Acknowledged::default();
            let made = run(&disk, {
                let (disk, acknowledged) = (disk.clone(), acknowledged.clone());
                async move {
                    let shard = make().await;
                    let before = disk.counts();
                    disk.fail_nth(kind, number, Fault::Eio);
                    work(shard.clone(), acknowledged).await;
                    let after = disk.counts();
                    let done = match kind {
                        OpKind::Write => after.writes - before.writes,
                        OpKind::Sync => after.syncs - before.syncs,
                        _ => after.metadata - before.metadata,
                    };
                    (online(&shard), done)
                }
            });
            let (online, done) = made;
            failures[if online.len() == 2 { 2 } else { 1 - online[0] }] += 1;
            disk.heal();
            let acknowledged = acknowledged.take();
            for disk in [disk.crash(number), disk.kill()] {
                run(&disk, later_start(acknowledged.clone()));
            }
            if done < number {
                break;
            }
        }
        let [first, second, _] = failures;
        assert!(
            first > 0,
            "{kind:?}: no fault met the first directory: {failures:?}"
        );
        assert!(
            second > 0,
            "{kind:?}: no fault met the second directory: {failures:?}"
        );
    }
}

/// A start without a directory makes nothing anew in its place, and what comes is there beside it.
#[test]
fn partitions_of_a_missing_directory_are_offline_until_it_is_back() {
    let disk = Disk::new();
    let acknowledged = Acknowledged::default();
    run(&disk, first_start(acknowledged.clone()));
    let disk = disk.crash(1);
    let later = acknowledged.clone();
    run(&disk, async move {
        let shard = open([true, false]).await;
        watch_all(&shard);
        reconcile(shard.clone(), image(&[1], &[]))
            .await
            .expect("reconcile");
        let offline = shard.table.offline();
        assert_eq!(offline.len(), 2, "{offline:?}");
        for key in keys(1) {
            let produced = produce(&shard, key).await;
            if offline.contains(&key) {
                assert_eq!(produced, Err(ErrorCode::KafkaStorageError));
            } else {
                assert_eq!(produced, Ok(later.borrow()[&key]));
                *later.borrow_mut().get_mut(&key).expect("noted") += 1;
            }
        }
        // Made by this process, so it is nowhere else.
        reconcile(shard.clone(), image(&[1], &[2]))
            .await
            .expect("reconcile");
        for key in keys(2) {
            assert_eq!(produce(&shard, key).await, Ok(0));
        }
        assert_eq!(shard.table.offline(), offline);
        reconcile(shard.clone(), image(&[], &[2]))
            .await
            .expect("reconcile");
        assert_eq!(shard.table.offline(), []);
    });
    // A copy of the metadata may be older than the logs.
    let disk = disk.kill();
    run(&disk, async move {
        let shard = open([true, true]).await;
        let image = image(&[2], &[]);
        reconcile(shard.clone(), image.clone())
            .await
            .expect("reconcile");
        assert_eq!(delete_orphans(&shard, &image).await.expect("delete"), 0);
        let dirs = shard.log_dirs.all().iter();
        let stray: Vec<_> = dirs.map(|dir| dir.stray_logs.get()).collect();
        assert_eq!(stray, [0, 2], "they are kept");
    });
    // The first topic is gone: what the directory has of it goes when it is back.
    run(&disk.kill(), async move {
        let shard = open([true, true]).await;
        let mut image = Image::clone(&image(&[1, 2], &[]));
        let deletion = Command::DeleteTopic { id: topic(1) };
        image.apply(&deletion).expect("apply");
        let image = Arc::new(image);
        reconcile(shard.clone(), image.clone())
            .await
            .expect("reconcile");
        assert_eq!(delete_orphans(&shard, &image).await.expect("delete"), 2);
        assert!(keys(2).all(|key| shard.table.find(key).is_ok_and(|replica| replica.dir == 0)));
    });
}

/// New partitions go where there are the fewest.
#[test]
fn partitions_are_spread_over_the_directories() {
    run(&Disk::new(), async {
        for dir in DIRS {
            make_shards(Path::new(dir), 1).await.expect("make");
        }
        let shard = open([true, true]).await;
        reconcile(shard.clone(), image(&[], &[1, 2, 3]))
            .await
            .expect("reconcile");
        let counts: Vec<_> = shard
            .log_dirs
            .online()
            .map(|(_, storage)| storage.log_count())
            .collect();
        assert_eq!(counts, [6, 6]);
    });
}
