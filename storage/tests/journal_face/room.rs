//! Room: who waits gets it, a disk without space for further files stops nobody for good, and a start
//! finds its file there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::Disk;
use runtime::task::{Class, spawn};
use runtime::time;
use storage::journal::{Journal, JournalConfig, RecordView, Sequence};

use crate::world::{
    RECORD_OVERHEAD_BYTES, append, commit, journal_files, let_files_be_made, new_disk, open,
    open_from, run, run_until_crash, seeds, try_open,
};

/// Appends without release until nothing more is taken; the number of records.
async fn fill(journal: &Journal, bytes: usize) -> u64 {
    let mut last = u64::from(journal.last_sequence());
    while time::timeout(Duration::from_secs(1), journal.room(bytes))
        .await
        .is_ok()
    {
        let sequence = append(journal, last + 1, bytes);
        journal.committed(sequence).await.unwrap();
        last = sequence.into();
    }
    last
}

/// Commits a record of the kind that frees space and does not ask for room.
async fn commit_delete(journal: &Journal) -> Sequence {
    let incarnation = u64::from(journal.last_sequence()) + 1;
    let sequence = journal.append(RecordView::Delete { incarnation });
    journal.committed(sequence).await.unwrap();
    sequence
}

/// The journal stalled for good on a disk with room for two of its files.
#[test]
fn a_journal_whose_files_cannot_be_made_goes_on_with_those_it_has() {
    let disk = new_disk();
    let watched = disk.clone();
    disk.set_capacity(140 << 10);
    run(&disk, async move {
        let journal = open().await.journal;
        for number in 1..=100 {
            let sequence = commit(&journal, number, 3000).await;
            journal.release_through(sequence);
        }
        time::sleep(Duration::from_secs(15)).await;
        assert_eq!(journal_files(&watched).len(), 2);
        watched.set_capacity(1 << 30);
        time::sleep(Duration::from_secs(30)).await;
        let count = journal_files(&watched).len();
        assert!(
            count > 2,
            "made when there is space again: {:?}",
            watched.files()
        );
    });
}

#[test]
fn a_full_journal_opens_again_on_a_full_disk() {
    let disk = new_disk();
    let filled = run(&disk, async {
        let journal = open().await.journal;
        let_files_be_made().await;
        fill(&journal, 4000).await
    });
    let disk = disk.crash(1);
    disk.set_capacity(disk.used_bytes());
    run(&disk, async move {
        let opened = open().await;
        assert_eq!(opened.records.len() as u64, filled);
        let delete = commit_delete(&opened.journal).await;
        opened.journal.release_through(delete);
        commit(&opened.journal, filled + 2, 4000).await;
    });
}

/// Work with releases, deletes and crashes on a disk with room for two files: every start finds one.
#[test]
fn every_start_finds_a_file_on_a_disk_without_room_for_more() {
    for seed in 0..60 * seeds() {
        let mut disk = new_disk();
        disk.set_capacity(140 << 10);
        run(&disk, async { drop(open().await) });
        let released = Rc::new(Cell::new(0));
        for start in 0..6 {
            disk.crash_after((seed * 31 + start * 17) % 50);
            let released = released.clone();
            run_until_crash(&disk, seed, async move {
                let opened = open_from(released.get() + 1).await;
                let journal = opened.journal;
                if !opened.records.is_empty() {
                    // No file is free: a checkpoint comes before the first record of this start.
                    release_all(&journal, &released);
                }
                for step in 0..40 {
                    if time::timeout(Duration::from_secs(2), journal.room(3000))
                        .await
                        .is_err()
                    {
                        release_all(&journal, &released);
                        journal.room(3000).await.unwrap();
                    }
                    append(&journal, u64::from(journal.last_sequence()) + 1, 3000);
                    journal.committed(journal.last_sequence()).await.unwrap();
                    if step % 7 == 0 {
                        commit_delete(&journal).await;
                    }
                }
            });
            disk = disk.crash(seed + start);
        }
        let from = released.get() + 1;
        run(&disk, async move { drop(open_from(from).await) });
    }
}

/// What a checkpoint does, which then counts.
fn release_all(journal: &Journal, released: &Cell<u64>) {
    released.set(journal.durable_sequence().into());
    journal.release_through(journal.durable_sequence());
}

#[test]
fn a_large_record_gets_its_turn_among_many_small_ones() {
    run(&new_disk(), async {
        let journal = open().await.journal;
        let_files_be_made().await;
        let is_done = Rc::new(RefCell::new(false));
        for _ in 0..8 {
            let (journal, is_done) = (journal.clone(), is_done.clone());
            spawn(Class::Network, async move {
                while !*is_done.borrow() {
                    journal.room(3000).await.unwrap();
                    let sequence = append(&journal, 1, 3000);
                    journal.committed(sequence).await.unwrap();
                    journal.release_through(sequence);
                }
            })
            .detach();
        }
        let large = journal.record_bytes_max() - RECORD_OVERHEAD_BYTES;
        time::timeout(Duration::from_secs(5), journal.room(large))
            .await
            .expect("its turn")
            .unwrap();
        let sequence = append(&journal, 2, large);
        journal.committed(sequence).await.unwrap();
        *is_done.borrow_mut() = true;
    });
}

#[test]
fn many_wait_for_room_and_all_get_it() {
    run(&new_disk(), async {
        let journal = open().await.journal;
        let_files_be_made().await;
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let journal = journal.clone();
                spawn(Class::Network, async move {
                    journal.room(2000).await.unwrap();
                    let sequence = append(&journal, 1, 2000);
                    journal.committed(sequence).await.unwrap();
                    journal.release_through(journal.durable_sequence());
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(journal.durable_sequence(), Sequence::from(200));
    });
}

#[test]
fn a_close_leaves_no_task_at_work_in_the_directory() {
    let disk = Disk::new();
    let watched = disk.clone();
    run(&disk, async move {
        // Large files: one is being made.
        let opened = try_open(JournalConfig::default(), 1).await.unwrap();
        time::sleep(Duration::from_millis(5)).await;
        opened.journal.close().await.unwrap();
        let (counts, files) = (watched.counts(), watched.files());
        time::sleep(Duration::from_mins(1)).await;
        assert_eq!((watched.counts(), watched.files()), (counts, files));
    });
}

#[test]
fn the_newest_group_stands_somewhere_whatever_is_released() {
    // Everything is released all the time: a crash at any operation still finds where it was.
    for point in 0..150 {
        let disk = new_disk();
        disk.crash_after(point);
        let durable = Rc::new(Cell::new(0));
        let seen = durable.clone();
        let ended = run_until_crash(&disk, point, async move {
            let journal = open().await.journal;
            for number in 1..=60 {
                let sequence = commit(&journal, number, 8000).await;
                seen.set(number);
                journal.release_through(sequence);
            }
        });
        let from = durable.get() + 1;
        let opened = run(&disk.crash(point), async move { open_from(from).await });
        let last = u64::from(opened.journal.last_sequence());
        assert!(last == from - 1 || last == from, "{last} after {from}");
        if ended.is_some() {
            break;
        }
    }
}
