//! Each rule of the simulated disk, seen through the face.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use crate::buffer::{AlignedBuf, BLOCK_BYTES, Slice};
use crate::file::{Durability, File, OpenMode};
use crate::sim::disk::{Disk, Fault, Latency, OpKind};
use crate::sim::{Outcome, Simulation};
use crate::task::{Class, spawn};
use crate::{dir, time};

const BLOCK: u64 = BLOCK_BYTES as u64;
const SEEDS: u64 = 300;

fn simulate<F: Future + 'static>(disk: &Disk, program: F) -> Outcome<F::Output> {
    Simulation::new(11).disk(disk).run(program)
}

fn run<F: Future + 'static>(disk: &Disk, program: F) -> F::Output {
    simulate(disk, program).value()
}

/// A disk with a durable file `/f` of `blocks` blocks of zeros.
fn disk_with_zeros(blocks: usize) -> Disk {
    let disk = Disk::new();
    disk.write(f(), &vec![0; blocks * BLOCK_BYTES]);
    disk
}

fn f() -> &'static Path {
    Path::new("/f")
}

fn blocks_of(byte: u8, count: usize) -> Slice {
    let mut buffer = AlignedBuf::zeroed(count * BLOCK_BYTES);
    buffer.fill(byte);
    buffer.freeze()
}

async fn open() -> File {
    File::open(f(), OpenMode::ReadWrite).await.unwrap()
}

/// What `read` finds in `/f` after crashes with many seeds, each outcome once.
fn outcomes<T: Ord>(disk: &Disk, read: impl Fn(Option<Vec<u8>>) -> T) -> Vec<T> {
    let mut found: Vec<_> = (0..SEEDS)
        .map(|seed| read(disk.crash(seed).read(f())))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The first byte of each block.
fn block_bytes(content: &[u8]) -> Vec<u8> {
    content.chunks(BLOCK_BYTES).map(|block| block[0]).collect()
}

#[test]
fn what_was_written_is_read_back_and_short_at_the_end() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        let file = open().await;
        file.write_at(BLOCK, blocks_of(3, 2), Durability::Buffered)
            .await
            .unwrap();
        assert_eq!(file.size().await.unwrap(), 3 * BLOCK);
        let read = file.read_at(2 * BLOCK, 4 * BLOCK_BYTES).await.unwrap();
        assert_eq!(&*read, [3; BLOCK_BYTES]);
        assert!(read.is_block_aligned());
        assert!(
            file.read_at(9 * BLOCK, BLOCK_BYTES)
                .await
                .unwrap()
                .is_empty()
        );
    });
}

/// What a crash made of a sector that held zeros and was to hold ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SectorFate {
    Kept,
    Lost,
    Torn,
    Spoilt,
}

fn fate(sector: &[u8]) -> SectorFate {
    let ones = sector.iter().take_while(|byte| **byte == 1).count();
    let rest_is_old = sector[ones..].iter().all(|byte| *byte == 0);
    match (ones, rest_is_old) {
        (512, _) => SectorFate::Kept,
        (0, true) => SectorFate::Lost,
        (_, true) => SectorFate::Torn,
        (_, false) => SectorFate::Spoilt,
    }
}

#[test]
fn unsynced_sectors_are_kept_lost_torn_or_spoilt() {
    let disk = disk_with_zeros(2);
    run(&disk, async {
        let write = open()
            .await
            .write_at(0, blocks_of(1, 2), Durability::Buffered)
            .await;
        write.unwrap();
    });
    assert_eq!(disk.unsynced_files(), [f()]);
    let found = outcomes(&disk, |content| {
        content.unwrap().chunks(512).map(fate).collect::<Vec<_>>()
    });
    for uniform in [SectorFate::Kept, SectorFate::Lost] {
        assert!(found.contains(&vec![uniform; 16]), "never all {uniform:?}");
    }
    for some in [SectorFate::Kept, SectorFate::Torn, SectorFate::Spoilt] {
        let mixed =
            |fates: &Vec<SectorFate>| fates.contains(&some) && fates.contains(&SectorFate::Lost);
        assert!(found.iter().any(mixed), "never some {some:?}");
    }
}

#[test]
fn later_writes_may_survive_without_earlier_ones() {
    let disk = disk_with_zeros(2);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
        file.write_at(BLOCK, blocks_of(2, 1), Durability::Buffered)
            .await
            .unwrap();
    });
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    for wanted in [[0, 0], [1, 0], [0, 2], [1, 2]] {
        assert!(
            found.contains(&wanted.to_vec()),
            "{wanted:?} not in {found:?}"
        );
    }
}

#[test]
fn data_sync_makes_only_itself_durable() {
    let disk = disk_with_zeros(2);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
        file.write_at(BLOCK, blocks_of(2, 1), Durability::DataSync)
            .await
            .unwrap();
    });
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    assert_eq!(found, [[0, 2], [1, 2]]);
}

#[test]
fn older_buffered_write_never_covers_a_durable_one() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
        file.write_at(0, blocks_of(2, 1), Durability::DataSync)
            .await
            .unwrap();
    });
    assert_eq!(
        outcomes(&disk, |content| content.unwrap()),
        [vec![2; BLOCK_BYTES]]
    );
    // And not when a later sync covers both.
    run(&disk, async {
        open().await.sync_data().await.unwrap();
    });
    assert!(disk.unsynced_files().is_empty());
    assert_eq!(
        outcomes(&disk, |content| content.unwrap()),
        [vec![2; BLOCK_BYTES]]
    );
}

#[test]
fn newer_buffered_write_may_cover_a_durable_one() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
        file.write_at(0, blocks_of(2, 1), Durability::Buffered)
            .await
            .unwrap();
    });
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    assert_eq!(found, [[1], [2]]);
}

#[test]
fn sync_covers_its_file_alone() {
    let disk = disk_with_zeros(1);
    disk.write(Path::new("/g"), &[0; BLOCK_BYTES]);
    run(&disk, async {
        let other = File::open(Path::new("/g"), OpenMode::ReadWrite)
            .await
            .unwrap();
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
        other
            .write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
        other.sync_data().await.unwrap();
    });
    assert_eq!(disk.unsynced_files(), [f()]);
    assert!(outcomes(&disk, |content| content.unwrap()[0]).contains(&0));
    let others = (0..SEEDS).map(|seed| disk.crash(seed).read(Path::new("/g")).unwrap());
    assert!(
        others
            .into_iter()
            .all(|content| content == [1; BLOCK_BYTES])
    );
}

#[test]
fn sync_does_not_cover_a_write_that_ends_while_it_runs() {
    let mut losses = 0;
    for seed in 0..40 {
        let disk = disk_with_zeros(1);
        let program = async {
            let file = open().await;
            let writer = file.clone();
            let write = spawn(Class::Storage, async move {
                writer
                    .write_at(0, blocks_of(1, 1), Durability::Buffered)
                    .await
            });
            file.sync_data().await.unwrap();
            write.await.unwrap().unwrap();
        };
        Simulation::new(seed).disk(&disk).run(program).value();
        losses += usize::from(outcomes(&disk, |content| content.unwrap()[0]).contains(&0));
    }
    // Sometimes the write began early enough to end before the sync began; mostly not.
    assert!(losses > 20, "{losses}");
}

#[test]
fn names_are_durable_only_after_sync_dir() {
    let disk = Disk::new();
    run(&disk, async {
        let file = File::open(f(), OpenMode::CreateNew).await.unwrap();
        file.write_at(0, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
        file.sync_data().await.unwrap();
    });
    assert_eq!(outcomes(&disk, |content| content.is_some()), [false, true]);
    run(&disk, async {
        dir::sync_dir(Path::new("/")).await.unwrap();
    });
    assert_eq!(outcomes(&disk, |content| content.unwrap()[0]), [1]);
}

#[test]
fn directory_is_lost_with_its_files_until_its_parent_is_synced() {
    let disk = Disk::new();
    let path = Path::new("/a/b/file");
    run(&disk, async {
        dir::create_dir_all(Path::new("/a/b")).await.unwrap();
        File::open(Path::new("/a/b/file"), OpenMode::CreateNew)
            .await
            .unwrap();
        dir::sync_dir(Path::new("/a/b")).await.unwrap();
        dir::sync_dir(Path::new("/")).await.unwrap();
    });
    let survived = || {
        (0..SEEDS)
            .filter(|seed| disk.crash(*seed).read(path).is_some())
            .count()
    };
    assert!((1..SEEDS as usize).contains(&survived()));
    run(&disk, async {
        dir::sync_dir(Path::new("/a")).await.unwrap();
    });
    assert_eq!(survived(), SEEDS as usize);
}

#[test]
fn rename_survives_wholly_or_not_at_all() {
    let disk = disk_with_zeros(1);
    let new = Path::new("/new");
    disk.write(new, &[1; BLOCK_BYTES]);
    run(&disk, async {
        dir::rename(Path::new("/new"), f()).await.unwrap();
    });
    assert_eq!(disk.files(), [f()]);
    let mut found: Vec<_> = (0..SEEDS)
        .map(|seed| {
            let after = disk.crash(seed);
            (
                after.read(f()).unwrap()[0],
                after.read(new).map(|content| content[0]),
            )
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [(0, Some(1)), (1, None)]);
}

#[test]
fn removed_file_may_come_back_as_it_was() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        open()
            .await
            .write_at(0, blocks_of(4, 1), Durability::DataSync)
            .await
            .unwrap();
        dir::remove_file(f()).await.unwrap();
        assert!(!dir::exists(f()).await.unwrap());
    });
    assert_eq!(
        outcomes(&disk, |content| content.map(|bytes| bytes[0])),
        [None, Some(4)]
    );
    run(&disk, async {
        dir::sync_dir(Path::new("/")).await.unwrap();
    });
    assert_eq!(outcomes(&disk, |content| content.is_some()), [false]);
}

#[test]
fn growth_is_durable_with_the_write_or_a_sync() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        open()
            .await
            .write_at(BLOCK, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
    });
    let sizes = |disk: &Disk| outcomes(disk, |content| content.unwrap().len() / BLOCK_BYTES);
    assert_eq!(sizes(&disk), [1, 2]);
    run(&disk, async {
        open()
            .await
            .write_at(2 * BLOCK, blocks_of(2, 1), Durability::DataSync)
            .await
            .unwrap();
    });
    assert_eq!(sizes(&disk), [3]);
    assert!(outcomes(&disk, |content| content.unwrap()[BLOCK_BYTES]).contains(&0));
}

#[test]
fn truncation_and_allocation_are_durable_after_sync() {
    let disk = disk_with_zeros(4);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 4), Durability::DataSync)
            .await
            .unwrap();
        file.truncate(BLOCK).await.unwrap();
        file.allocate(0, 3 * BLOCK).await.unwrap();
        let read = file.read_at(0, 8 * BLOCK_BYTES).await.unwrap();
        assert_eq!(block_bytes(&read), [1, 0, 0]);
    });
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    assert!(
        found.len() > 1 && found.contains(&vec![1, 1, 1, 1]),
        "{found:?}"
    );
    run(&disk, async {
        open().await.sync_data().await.unwrap();
    });
    assert_eq!(
        outcomes(&disk, |content| block_bytes(&content.unwrap())),
        [[1, 0, 0]]
    );
}

#[test]
fn crash_after_stops_the_program_within_that_operation() {
    let program = || async {
        let file = File::open(f(), OpenMode::CreateNew).await.unwrap();
        file.write_at(0, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
        file.read_at(0, BLOCK_BYTES).await.unwrap();
        dir::sync_dir(Path::new("/")).await.unwrap();
    };
    let whole = Disk::new();
    run(&whole, program());
    assert_eq!((whole.counts().mutations(), whole.counts().reads), (3, 1));
    for point in 0..3 {
        let disk = Disk::new();
        disk.crash_after(point);
        let outcome = simulate(&disk, program());
        assert!(outcome.is_crashed(), "{point}: {outcome:?}");
        assert_eq!(disk.counts().mutations(), point + 1);
        // Only what the finished operations promise is certain: not even the name, without its sync.
        assert!(outcomes(&disk, |content| content.is_some()).contains(&false));
    }
    let disk = Disk::new();
    disk.crash_after(3);
    assert!(!simulate(&disk, program()).is_crashed());
}

#[test]
fn the_write_that_is_cut_short_may_be_there_in_part() {
    let disk = disk_with_zeros(4);
    disk.crash_after(0);
    let outcome = simulate(&disk, async {
        open()
            .await
            .write_at(0, blocks_of(1, 4), Durability::DataSync)
            .await
    });
    assert!(outcome.is_crashed());
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    assert!(found.contains(&vec![0; 4]) && found.contains(&vec![1; 4]) && found.len() > 4);
}

#[test]
#[should_panic(expected = "no power")]
fn disk_without_power_cannot_be_used_again() {
    let disk = disk_with_zeros(1);
    disk.crash_after(0);
    let _ = simulate(&disk, async { open().await.sync_data().await });
    run(&disk, async {});
}

#[test]
fn planned_faults_hit_the_operation_they_name() {
    let disk = disk_with_zeros(1);
    disk.fail_nth(OpKind::Read, 1, Fault::Eio);
    disk.fail_nth(OpKind::Write, 0, Fault::Eio);
    disk.fail_nth(OpKind::Write, 1, Fault::Enospc);
    disk.fail_nth(OpKind::Metadata, 0, Fault::Eio);
    run(&disk, async {
        let file = open().await;
        let errno = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
        let read = || async { file.read_at(0, BLOCK_BYTES).await.map(drop) };
        let write = || file.write_at(0, blocks_of(1, 1), Durability::DataSync);
        assert_eq!(errno(read().await), Ok(()));
        assert_eq!(errno(read().await), Err(Some(libc::EIO)));
        assert_eq!(errno(read().await), Ok(()));
        assert_eq!(errno(write().await), Err(Some(libc::EIO)));
        assert_eq!(errno(write().await), Err(Some(libc::ENOSPC)));
        assert_eq!(errno(write().await), Ok(()));
        assert_eq!(
            errno(dir::sync_dir(Path::new("/")).await),
            Err(Some(libc::EIO))
        );
        assert_eq!(errno(dir::sync_dir(Path::new("/")).await), Ok(()));
    });
}

#[test]
fn broken_disk_fails_everything_from_then_on() {
    let disk = disk_with_zeros(1);
    disk.break_after(1);
    run(&disk, async {
        let file = open().await;
        let write = || file.write_at(0, blocks_of(1, 1), Durability::DataSync);
        write().await.unwrap();
        assert!(write().await.is_err());
        assert!(file.read_at(0, BLOCK_BYTES).await.is_err());
        assert!(file.sync_data().await.is_err());
        assert!(dir::remove_file(f()).await.is_err());
    });
    disk.heal();
    run(&disk, async {
        open().await.sync_data().await.unwrap();
    });
}

#[test]
fn power_off_may_come_while_nothing_begins() {
    let disk = disk_with_zeros(4);
    disk.set_latency(Latency {
        min: Duration::from_secs(1),
        max: Duration::from_secs(1),
    });
    let program = async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 4), Durability::DataSync)
            .await
            .unwrap();
    };
    let outcome = Simulation::new(1)
        .disk(&disk)
        .power_off_at(Duration::from_millis(1500))
        .run(program);
    assert!(outcome.is_crashed());
    assert_eq!(outcome.elapsed, Duration::from_millis(1500));
    let found = outcomes(&disk, |content| block_bytes(&content.unwrap()));
    assert!(found.contains(&vec![0; 4]) && found.contains(&vec![1; 4]) && found.len() > 4);
}

#[test]
fn sown_faults_depend_on_the_seed_alone() {
    let failures = |seed| {
        let disk = disk_with_zeros(1);
        disk.fail_one_in(OpKind::Read, 3, Fault::Eio);
        let program = async {
            let file = open().await;
            let mut failures = Vec::new();
            for _ in 0..50 {
                failures.push(file.read_at(0, BLOCK_BYTES).await.is_err());
            }
            failures
        };
        Simulation::new(seed).disk(&disk).run(program).value()
    };
    assert_eq!(failures(1), failures(1));
    assert_ne!(failures(1), failures(2));
    let count = failures(3).into_iter().filter(|failed| *failed).count();
    assert!((5..35).contains(&count), "{count}");
}

#[test]
fn failed_sync_drops_data_that_no_later_sync_saves() {
    let is_lost = |seed: &u64| {
        let disk = disk_with_zeros(1);
        disk.fail_nth(OpKind::Sync, 0, Fault::Eio);
        let program = async {
            let file = open().await;
            file.write_at(0, blocks_of(1, 1), Durability::Buffered)
                .await
                .unwrap();
            assert!(file.sync_data().await.is_err());
            file.sync_data().await.unwrap();
            // The process goes on seeing what it wrote.
            assert_eq!(file.read_at(0, BLOCK_BYTES).await.unwrap()[0], 1);
        };
        Simulation::new(*seed).disk(&disk).run(program).value();
        outcomes(&disk, |content| content.unwrap()[0]) == [0]
    };
    let lost = (0..100).filter(is_lost).count();
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn full_disk_refuses_and_deleting_makes_room() {
    let disk = Disk::new();
    disk.set_capacity(4 * BLOCK);
    run(&disk, async {
        let root = Path::new("/");
        let file = File::open(f(), OpenMode::CreateNew).await.unwrap();
        file.allocate(0, 3 * BLOCK).await.unwrap();
        assert_eq!(dir::total_bytes(root).await.unwrap(), 4 * BLOCK);
        assert_eq!(dir::free_bytes(root).await.unwrap(), BLOCK);
        let full = file
            .write_at(3 * BLOCK, blocks_of(1, 2), Durability::Buffered)
            .await;
        assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
        // What is allocated can be written.
        file.write_at(0, blocks_of(1, 3), Durability::Buffered)
            .await
            .unwrap();
        dir::remove_file(f()).await.unwrap();
        assert_eq!(dir::free_bytes(root).await.unwrap(), BLOCK);
        drop(file);
        assert_eq!(dir::free_bytes(root).await.unwrap(), 4 * BLOCK);
    });
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn corruption_is_silent_and_hits_the_named_sectors_only() {
    let disk = disk_with_zeros(2);
    disk.corrupt(f(), 512..513);
    let content = run(&disk, async {
        open().await.read_at(0, 2 * BLOCK_BYTES).await.unwrap()
    });
    let changed: Vec<_> = (0..content.len()).filter(|at| content[*at] != 0).collect();
    assert_eq!(changed.len(), 1);
    assert!((512..1024).contains(&changed[0]));
    assert_eq!(disk.crash(1).read(f()).unwrap(), *content);
}

#[test]
fn damaged_sectors_fail_until_they_are_written() {
    let disk = disk_with_zeros(3);
    disk.make_unreadable(f(), BLOCK + 512..BLOCK + 1024);
    let disk = disk.crash(1);
    run(&disk, async {
        let file = open().await;
        assert!(file.read_at(0, BLOCK_BYTES).await.is_ok());
        assert!(file.read_at(0, 3 * BLOCK_BYTES).await.is_err());
        file.write_at(BLOCK, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
        assert!(file.read_at(0, 3 * BLOCK_BYTES).await.is_ok());
    });
}

#[test]
fn lost_write_reports_success() {
    let disk = disk_with_zeros(1);
    disk.fail_nth(OpKind::Write, 0, Fault::Lie);
    run(&disk, async {
        let file = open().await;
        file.write_at(0, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
        assert_eq!(file.read_at(0, BLOCK_BYTES).await.unwrap()[0], 0);
    });
}

#[test]
fn kill_keeps_what_ended_and_leaves_it_as_unsafe_as_before() {
    let disk = Disk::new();
    run(&disk, async {
        let file = File::open(f(), OpenMode::CreateNew).await.unwrap();
        file.write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await
            .unwrap();
    });
    let killed = disk.kill();
    assert_eq!(killed.read(f()).unwrap(), [1; BLOCK_BYTES]);
    assert_eq!(killed.unsynced_files(), [f()]);
    assert_eq!(
        outcomes(&killed, |content| content.is_some()),
        [false, true]
    );
    // The next process can make it durable.
    run(&killed, async {
        open().await.sync_data().await.unwrap();
        dir::sync_dir(Path::new("/")).await.unwrap();
    });
    assert_eq!(outcomes(&killed, |content| content.unwrap()[0]), [1]);
}

#[test]
fn kill_may_keep_lose_or_cut_what_was_in_flight() {
    let mut found: Vec<_> = (0..60)
        .map(|seed| {
            let disk = disk_with_zeros(4);
            let program = async {
                let file = open().await;
                let write = async move {
                    file.write_at(0, blocks_of(1, 4), Durability::DataSync)
                        .await
                };
                spawn(Class::Storage, write).detach();
                crate::task::yield_now().await;
                crate::task::yield_now().await;
            };
            Simulation::new(seed)
                .shuffle_tasks(false)
                .disk(&disk)
                .run(program)
                .value();
            block_bytes(&disk.kill().read(f()).unwrap())
        })
        .collect();
    found.sort();
    found.dedup();
    assert!(found.contains(&vec![0; 4]) && found.contains(&vec![1; 4]) && found.len() > 3);
}

#[test]
fn direct_io_rules_are_enforced() {
    let disk = disk_with_zeros(2);
    run(&disk, async {
        let file = open().await;
        let is_invalid = |result: io::Result<()>| {
            let errno = result.map_err(|error| error.raw_os_error());
            assert_eq!(errno, Err(Some(libc::EINVAL)));
        };
        let write = |offset, data| file.write_at(offset, data, Durability::Buffered);
        is_invalid(write(512, blocks_of(1, 1)).await);
        is_invalid(write(0, blocks_of(1, 1).sub(0..512)).await);
        is_invalid(write(0, blocks_of(1, 2).sub(512..512 + BLOCK_BYTES)).await);
        is_invalid(file.read_at(1, BLOCK_BYTES).await.map(drop));
        is_invalid(file.read_at(0, 100).await.map(drop));
        write(0, blocks_of(1, 2).sub(BLOCK_BYTES..2 * BLOCK_BYTES))
            .await
            .unwrap();
    });
    assert_eq!(disk.counts().writes, 1);
}

#[test]
fn files_and_directories_answer_as_the_system_does() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        let open = |path, mode| async move { File::open(Path::new(path), mode).await.map(drop) };
        assert_eq!(
            kind(open("/none", OpenMode::Read).await),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(open("/f", OpenMode::CreateNew).await),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            kind(open("/no/f", OpenMode::CreateNew).await),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(open("/", OpenMode::Read).await),
            ErrorKind::IsADirectory
        );
        assert_eq!(
            kind(dir::sync_dir(Path::new("/x")).await),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(dir::create_dir_all(Path::new("/f/x")).await),
            ErrorKind::NotADirectory
        );
        let read_only = File::open(f(), OpenMode::Read).await.unwrap();
        let refused = read_only
            .write_at(0, blocks_of(1, 1), Durability::Buffered)
            .await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    });
}

#[test]
fn directories_list_and_vanish_with_all_they_hold() {
    let disk = Disk::new();
    run(&disk, async {
        dir::create_dir_all(Path::new("/d/e")).await.unwrap();
        dir::create_dir_all(Path::new("/d/e")).await.unwrap();
        dir::write_file_atomic(Path::new("/d/b"), b"12345")
            .await
            .unwrap();
        dir::write_file_atomic(Path::new("/d/e/c"), b"")
            .await
            .unwrap();
        let entries = dir::read_dir(Path::new("/d")).await.unwrap();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.name, entry.is_dir, entry.bytes))
            .collect();
        assert_eq!(entries, [("b", false, 5), ("e", true, 0)]);
        dir::remove_dir_all(Path::new("/d")).await.unwrap();
        assert!(!dir::exists(Path::new("/d")).await.unwrap());
    });
    assert!(disk.files().is_empty());
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn dropped_write_runs_to_its_end() {
    let disk = disk_with_zeros(1);
    run(&disk, async {
        let file = open().await;
        let write = file.write_at(0, blocks_of(1, 1), Durability::Buffered);
        assert!(time::timeout(Duration::ZERO, write).await.is_err());
        drop(file);
        time::sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(disk.read(f()).unwrap(), [1; BLOCK_BYTES]);
}

#[test]
fn atomic_file_is_old_or_new_at_every_crash_point() {
    let path = Path::new("/d/table");
    let (old, new) = (vec![1; 5000], vec![2; 9000]);
    for point in 0.. {
        let disk = Disk::new();
        disk.write(path, &old);
        disk.crash_after(point);
        let content = new.clone();
        let outcome = simulate(&disk, async move {
            dir::write_file_atomic(Path::new("/d/table"), &content)
                .await
                .unwrap();
        });
        let crashed = outcome.is_crashed();
        for seed in 0..50 {
            let found = disk.crash(seed).read(path).unwrap();
            assert!(
                found == new || (crashed && found == old),
                "point {point} seed {seed}"
            );
        }
        if !crashed {
            assert_eq!(point, 5);
            break;
        }
    }
}

#[test]
fn latency_passes_in_virtual_time() {
    let disk = disk_with_zeros(1);
    let one = Duration::from_secs(1);
    disk.set_latency(Latency { min: one, max: one });
    let outcome = simulate(&disk, async {
        let file = open().await;
        file.sync_data().await.unwrap();
    });
    assert_eq!(outcome.elapsed, 2 * one);
}

#[test]
fn same_seed_loses_the_same() {
    let disk = disk_with_zeros(64);
    run(&disk, async {
        open()
            .await
            .write_at(0, blocks_of(1, 64), Durability::Buffered)
            .await
            .unwrap();
    });
    assert_eq!(disk.crash(5).read(f()), disk.crash(5).read(f()));
    let different = (0..100).map(|seed| disk.crash(seed).read(f()));
    assert!(different.collect::<std::collections::BTreeSet<_>>().len() > 20);
}

#[test]
fn copies_go_their_own_ways() {
    let disk = disk_with_zeros(1);
    let fork = disk.fork();
    run(&fork, async {
        open()
            .await
            .write_at(0, blocks_of(1, 1), Durability::DataSync)
            .await
            .unwrap();
    });
    assert_eq!(
        (disk.read(f()).unwrap()[0], fork.read(f()).unwrap()[0]),
        (0, 1)
    );
}
