//! Failed operations: everybody is told, nothing is retried, nothing that was answered is lost.

use std::rc::Rc;

use runtime::sim::Disk;
use runtime::sim::disk::{Fault, OpKind};
use runtime::task::{Class, spawn};
use runtime::time::now;

use super::world::{append, commit, commit_all, fill, numbers, open, run, small, try_open};
use crate::error::StorageError;
use crate::journal::Sequence;
use crate::journal::files::RETRY;

#[test]
fn after_a_failed_write_every_waiter_and_later_call_is_told() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        settle().await;
        inner.fail_nth(OpKind::Write, 0, Fault::Eio);
        let waiting: Vec<_> = (4..8)
            .map(|number| {
                spawn(
                    Class::Network,
                    journal.committed(append(&journal, number, 100)),
                )
            })
            .collect();
        let roomless = journal.clone();
        for number in 10..30 {
            append(&journal, number, 3000);
        }
        assert!(!journal.has_room(15_000));
        let room = spawn(Class::Network, async move { roomless.room(15_000).await });
        for waiting in waiting {
            let failed = waiting
                .await
                .expect("no panic")
                .expect_err("the write failed");
            assert!(failed.reason.contains("write"), "{failed}");
        }
        assert!(room.await.expect("no panic").is_err());
        let writes = inner.counts().writes;
        let late = append(&journal, 40, 10);
        assert!(journal.committed(late).await.is_err());
        assert!(
            journal.committed(Sequence::from(3)).await.is_ok(),
            "that was durable before"
        );
        assert!(!journal.has_room(1));
        assert!(journal.room(1).await.is_err());
        assert!(journal.close().await.is_err());
        assert!(journal.close().await.is_err());
        settle().await;
        assert_eq!(
            inner.counts().writes,
            writes,
            "nothing is written after a failure"
        );
    });
    let kept = run(&disk.crash(3), numbers(1));
    assert!(kept.starts_with(&[1, 2, 3]) && kept.len() <= 4, "{kept:?}");
}

/// Nothing is lost by waiting: nobody was told of the group, and it is written where it would have been.
#[test]
fn a_group_without_space_is_written_when_there_is_some() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        settle().await;
        for attempt in 0..3 {
            inner.fail_nth(OpKind::Write, attempt, Fault::Enospc);
        }
        let begun = now();
        commit_all(&journal, 4..8, 100).await;
        assert!(
            begun.elapsed() >= 3 * RETRY,
            "it waits before it tries again"
        );
        journal.close().await.expect("close");
    });
    let kept = run(&disk.crash(3), numbers(1));
    assert_eq!(kept, [1, 2, 3, 4, 5, 6, 7]);
}

/// A stop waited as long as the disk was full.
#[test]
fn a_close_on_a_full_disk_ends_and_tells_who_waits() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        settle().await;
        inner.fail_one_in(OpKind::Write, 1, Fault::Enospc);
        let waiting = spawn(Class::Network, journal.committed(append(&journal, 4, 100)));
        settle().await;
        assert!(
            !waiting.is_finished(),
            "while it runs, the journal waits for space"
        );
        let begun = now();
        journal.close().await.expect_err("a group was not written");
        assert!(begun.elapsed() < RETRY, "a close does not wait for space");
        let refused = waiting.await.expect("no panic");
        refused.expect_err("what waited is told");
    });
    assert_eq!(run(&disk.kill(), numbers(1)), [1, 2, 3]);
}

/// Space that came back since the last attempt is found.
#[test]
fn a_close_tries_once_more_to_write_what_waits_for_space() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        settle().await;
        inner.fail_nth(OpKind::Write, 0, Fault::Enospc);
        append(&journal, 4, 100);
        runtime::time::sleep(RETRY / 2).await;
        assert_eq!(journal.durable_sequence(), Sequence::from(3));
        journal.close().await.expect("close");
    });
    assert_eq!(run(&disk.crash(1), numbers(1)), [1, 2, 3, 4]);
}

async fn settle() {
    runtime::time::sleep(std::time::Duration::from_secs(5)).await;
}

#[test]
fn the_end_mark_that_cannot_be_written_fails_the_close() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 100).await;
        settle().await;
        inner.fail_nth(OpKind::Write, 0, Fault::Eio);
        assert!(journal.close().await.is_err());
    });
    let report = run(&disk.kill(), async { open(1).await.1 });
    assert_eq!(report.records, 1);
}

#[test]
fn a_failed_sync_or_write_at_start_fails_the_start_and_not_the_next_one() {
    let disk = Disk::new();
    run(&disk, async {
        commit_all(&open(1).await.0, 1..4, 100).await;
    });
    for (kind, count) in [(OpKind::Sync, 2), (OpKind::Metadata, 2), (OpKind::Write, 1)] {
        for nth in 0..count {
            let disk = disk.kill();
            disk.fail_nth(kind, nth, Fault::Eio);
            let error = run(&disk, async { try_open(small(), 1).await.err() });
            assert!(
                matches!(error, Some(StorageError::Io { .. })),
                "{kind:?} {nth}: {error:?}"
            );
            assert_eq!(run(&disk.kill(), numbers(1)), [1, 2, 3]);
        }
    }
}

#[test]
fn a_file_that_cannot_be_made_ahead_is_tried_again() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        inner.set_capacity(80 << 10);
        let (journal, ..) = open(1).await;
        // Ordinary records stop before the disk does; others go on in what is there.
        let number = fill(&journal, 4000).await;
        assert!(number >= 2);
        commit(&journal, number + 1, 100).await;
        assert_eq!(inner.files().len(), 1, "what could not be made is removed");
        inner.set_capacity(1 << 30);
        journal
            .room(4000)
            .await
            .expect("room when there is space again");
        commit_all(&journal, number + 2..30, 4000).await;
    });
    assert_eq!(run(&disk.crash(1), numbers(1)).len(), 29);
}

/// A process that had too many files open lost its journal, though it had two files to go on in.
#[test]
fn a_file_that_cannot_be_made_for_want_of_descriptors_is_tried_again() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        settle().await;
        inner.fail_one_in(OpKind::Metadata, 1, Fault::Emfile);
        // More than the files that are there, with nothing released: records that free space go on.
        let number = fill(&journal, 4000).await;
        assert!(number > 2);
        let release = Sequence::from(number);
        journal.release_through(release);
        for number in number + 1..number + 40 {
            journal.room(4000).await.expect("the files that are there");
            journal.release_through(Sequence::from(commit(&journal, number, 4000).await));
        }
        inner.heal();
        journal.close().await.expect("close");
    });
}

/// The directory could not be opened, which was taken for a sync that failed.
#[test]
fn a_directory_that_cannot_be_opened_for_its_sync_is_tried_again() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        inner.fail_one_in(OpKind::Open, 1, Fault::Emfile);
        let number = fill(&journal, 4000).await;
        settle().await;
        assert!(!journal.has_room(4000), "no file can be made");
        commit(&journal, number + 1, 100).await;
        inner.heal();
        journal.room(4000).await.expect("a file is made");
        commit(&journal, number + 2, 4000).await;
        journal.close().await.expect("close");
    });
}

/// Space is asked for once more for each write of a close, not for the first of them only.
#[test]
fn a_close_asks_for_space_again_after_it_found_some() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 100).await;
        settle().await;
        // The group while the journal runs, once more in the close, and then the mark of the end.
        for attempt in [0, 1, 3] {
            inner.fail_nth(OpKind::Write, attempt, Fault::Enospc);
        }
        append(&journal, 2, 100);
        runtime::time::sleep(RETRY / 2).await;
        let writes = inner.counts().writes;
        journal.close().await.expect("close");
        assert_eq!(inner.counts().writes, writes + 4);
    });
    let report = run(&disk.kill(), async { open(1).await.1 });
    assert!(report.was_closed);
}

/// The writer waited for work for ever, and its files stayed open.
#[test]
fn a_close_after_a_failure_ends_the_writer() {
    let disk = Disk::new();
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        settle().await;
        inner.fail_one_in(OpKind::Metadata, 1, Fault::Eio);
        let mut number = 0;
        while journal.room(4000).await.is_ok() {
            number += 1;
            append(&journal, number, 4000);
        }
        journal.close().await.expect_err("no file could be made");
        settle().await;
        assert_eq!(Rc::strong_count(&journal.0), 1, "nobody else holds it");
    });
}

/// Who waited for room waited for ever.
#[test]
fn a_failure_while_a_file_is_made_fails_the_journal() {
    for kind in [OpKind::Sync, OpKind::Metadata] {
        let disk = Disk::new();
        let inner = disk.clone();
        run(&disk, async move {
            let (journal, ..) = open(1).await;
            settle().await;
            inner.fail_one_in(kind, 1, Fault::Eio);
            // Nothing is written but the file ahead: the one in use has no room, and is released.
            let mut number = 0;
            while journal.room(4000).await.is_ok() {
                number += 1;
                append(&journal, number, 4000);
            }
            assert!(number > 0);
        });
    }
}

#[test]
fn a_full_disk_refuses_a_first_start_only() {
    let disk = Disk::new();
    disk.set_capacity(32 << 10);
    let refused = run(&disk, async { try_open(small(), 1).await.err() });
    assert!(
        matches!(refused, Some(StorageError::DiskFull { .. })),
        "{refused:?}"
    );
    let disk = disk.kill();
    disk.set_capacity(1 << 30);
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        settle().await;
        inner.set_capacity(inner.used_bytes());
    });
    assert_eq!(run(&disk.kill(), numbers(1)), [1, 2, 3]);
}

#[test]
fn an_observer_that_panics_fails_the_journal() {
    let outcome = runtime::sim::Simulation::new(1).allow_panics().run(async {
        let (journal, ..) = open(1).await;
        journal.on_commit(|_| panic!("a bug"));
        let sequence = append(&journal, 1, 10);
        let later = append(&journal, 2, 60_000 - 10_000);
        let _ = journal.committed(sequence).await;
        assert!(journal.committed(later).await.is_err());
    });
    assert_eq!(outcome.panics.len(), 1);
    outcome.value();
}
