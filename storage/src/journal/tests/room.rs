//! Bounds: the gathering group, the reserve, the way out of a full journal.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::Disk;
use runtime::sync::Notify;
use runtime::task::{Class, spawn};
use runtime::time::{sleep, timeout};

use super::world::{append, commit, content, fill, groups, numbers, open, run, small, try_open};
use crate::journal::{RecordView, Sequence};

#[test]
fn a_full_journal_has_no_room_until_a_release() {
    for (files_max, len) in [(3, 4000), (4, 100), (4, 15_000), (3, 40_000), (5, 56_000)] {
        let disk = Disk::new();
        let seen = disk.clone();
        run(&disk, async move {
            let mut config = small();
            config.files_max = files_max;
            let (journal, ..) = try_open(config, 1).await.unwrap();
            let count = fill(&journal, len).await;
            assert!(count > 0 && !journal.has_room(len));
            assert_eq!(journal.used_percent(), 100);
            let with_records = groups(&seen)
                .into_iter()
                .filter(|group| group.header.records > 0);
            let files: BTreeSet<_> = with_records.map(|group| group.path).collect();
            assert!(
                files.len() < files_max,
                "the last file is not for ordinary records"
            );
            let waiting = journal.clone();
            let waiting = spawn(Class::Network, async move { waiting.room(len).await });
            sleep(Duration::from_millis(5)).await;
            journal.release_through(Sequence::from(count));
            waiting.await.expect("no panic").expect("room");
            assert!(journal.used_percent() < 100);
            assert!(fill(&journal, len).await > 0);
        });
        assert!(disk.files().len() <= files_max, "{:?}", disk.files());
    }
}

#[test]
fn a_full_journal_commits_what_frees_space() {
    let disk = Disk::new();
    let last = run(&disk, async {
        let (journal, ..) = open(1).await;
        let count = fill(&journal, 4000).await;
        // A whole file is in reserve for records that do not ask.
        for number in 0..10 {
            commit(&journal, 1000 + number, 5000).await;
            assert!(
                !journal.has_room(10),
                "ordinary records stay out of the reserve"
            );
        }
        // Even more than the reserve does not stop it: a checkpoint has to commit to release.
        for number in 0..40 {
            commit(&journal, 2000 + number, 5000).await;
        }
        assert_eq!(journal.used_percent(), 100);
        journal.release_through(Sequence::from(count + 50));
        journal.room(4000).await.unwrap();
        let last = commit(&journal, 3000, 10).await;
        sleep(Duration::from_secs(1)).await;
        last
    });
    assert!(
        disk.files().len() <= small().files_max,
        "files beyond the limit go: {:?}",
        disk.files()
    );
    assert_eq!(run(&disk.crash(5), numbers(last)), [3000]);
}

#[test]
fn a_start_with_every_file_in_use_goes_on() {
    let mut disk = Disk::new();
    run(&disk, async { fill(&open(1).await.0, 4000).await });
    for start in 0..4u64 {
        disk = disk.kill();
        run(&disk, async move {
            let (journal, _, records) = open(1).await;
            assert!(!journal.has_room(4000));
            commit(&journal, 9000 + start, 100).await;
            assert_eq!(records.len() as u64, u64::from(journal.last_sequence()) - 1);
        });
    }
    run(&disk, async {
        let (journal, ..) = open(1).await;
        let last = journal.last_sequence();
        journal.release_through(last);
        journal.room(4000).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    });
    assert!(
        disk.files().len() <= small().files_max,
        "{:?}",
        disk.files()
    );
}

#[test]
fn the_gathering_group_is_bounded() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        journal.room(1000).await.unwrap();
        let mut gathered = 0;
        while journal.has_room(1000) {
            gathered += 1;
            append(&journal, gathered, 1000);
        }
        assert!(
            (14..=17).contains(&gathered),
            "{gathered} records of 1000 in a group of 16 KiB"
        );
        journal
            .room(1000)
            .await
            .expect("room when it is being written");
    });
}

#[test]
fn a_waiter_that_does_not_fit_does_not_keep_others_waiting() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        let count = fill(&journal, 4000).await;
        let large = journal.clone();
        let large = spawn(Class::Network, async move { large.room(50_000).await });
        let small: Vec<_> = (0..5)
            .map(|_| {
                let journal = journal.clone();
                spawn(Class::Network, async move { journal.room(100).await })
            })
            .collect();
        sleep(Duration::from_millis(1)).await;
        journal.release_through(Sequence::from(count));
        for waiter in small {
            waiter.await.expect("no panic").expect("room");
        }
        large.await.expect("no panic").expect("room");
    });
}

#[test]
fn dropped_waits_lose_nothing() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        let sequence = append(&journal, 1, 10);
        assert!(
            timeout(Duration::from_nanos(1), journal.committed(sequence))
                .await
                .is_err()
        );
        journal.committed(sequence).await.unwrap();
        fill(&journal, 4000).await;
        assert!(
            timeout(Duration::from_millis(1), journal.room(4000))
                .await
                .is_err()
        );
        journal.release_through(journal.durable_sequence());
        journal.room(4000).await.unwrap();
    });
}

/// A disk with room for `files` files and a little more.
fn disk_for(files: u64) -> Disk {
    let disk = Disk::new();
    disk.set_capacity(files * small().file_bytes + (12 << 10));
    disk
}

/// With one file past its ordinary part and one free, ordinary records had no room, and no checkpoint was
/// wanted that could have made some: the journal stalled for good.
#[test]
fn two_files_are_enough_to_go_on() {
    for (files, len) in [(2, 3000), (2, 100), (2, 30_000), (2, 57_000), (3, 3000)] {
        run(&disk_for(files), async move {
            let (journal, ..) = open(1).await;
            for number in 1..=100 {
                let room = timeout(Duration::from_mins(1), journal.room(len)).await;
                room.unwrap_or_else(|_| panic!("stalled at record {number} of {len} bytes"))
                    .expect("room");
                let sequence = commit(&journal, number, len).await;
                journal.release_through(Sequence::from(sequence));
            }
        });
    }
}

#[test]
fn a_journal_without_a_third_file_says_when_it_needs_a_release() {
    let disk = disk_for(2);
    run(&disk, async {
        let (journal, ..) = open(1).await;
        let mut released = 0;
        for number in 1..=200 {
            if timeout(Duration::from_secs(3), journal.room(3000))
                .await
                .is_err()
            {
                assert!(journal.needs_release(), "at record {number}");
                released += 1;
                // Records that free space come between the checkpoint and its end.
                let checkpoint = journal.durable_sequence();
                append(&journal, 1000 + number, 100);
                journal.committed(journal.last_sequence()).await.unwrap();
                journal.release_through(checkpoint);
                assert!(!journal.needs_release(), "nobody has waited since");
                let wait = timeout(Duration::from_secs(3), journal.room(3000)).await;
                assert!(wait.is_err() && journal.needs_release());
                journal.release_through(journal.durable_sequence());
                journal.room(3000).await.expect("room");
            }
            assert!(!journal.needs_release());
            commit(&journal, number, 3000).await;
        }
        assert!(released > 15, "{released} releases");
    });
}

/// A group that waits for what it rests on is as good as in flight: another one is admitted beside it only if both
/// have a place.
#[test]
fn a_group_that_waits_for_its_premises_keeps_its_place() {
    run(&Disk::new(), async {
        let mut config = small();
        config.files_max = 3;
        let (journal, ..) = try_open(config, 1).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let mut number = 0;
        while !journal.has_room(12_000) || journal.has_room(16_000) {
            number += 1;
            assert!(number < 100, "a place for one and not for two");
            commit(&journal, number, 3000).await;
        }
        let may_be_written = Rc::new(Notify::new());
        let premise = Rc::clone(&may_be_written);
        let bytes = content(1000, 12_000);
        let record = RecordView::Append {
            incarnation: 1000,
            base_offset: -1000,
            position: 1000 << 12,
            bytes: &bytes,
        };
        let waiting = journal.append_after(
            record,
            Box::pin(async move {
                premise.notified().await;
                Ok(())
            }),
        );
        assert!(!journal.has_room(4000), "while it gathers");
        sleep(Duration::from_secs(1)).await;
        assert!(journal.durable_sequence() < waiting, "it waits");
        assert!(!journal.has_room(4000), "while it waits");
        may_be_written.notify_one();
        journal.committed(waiting).await.unwrap();
    });
}
