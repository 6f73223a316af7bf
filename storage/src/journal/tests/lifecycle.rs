//! Starts, orderly ends, records of all sizes.

use std::cell::RefCell;
use std::rc::Rc;

use runtime::sim::Disk;

use super::world::{
    BLOCK, append, commit, commit_all, groups, killed_after, let_writer_begin, open, run, small,
    try_open,
};
use crate::error::StorageError;
use crate::journal::Sequence;

#[test]
fn an_orderly_end_leaves_its_mark_and_nothing_to_cut() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        for number in 1..20 {
            append(&journal, number, 3000);
        }
        journal.close().await.unwrap();
        assert_eq!(
            journal.durable_sequence(),
            Sequence::from(19),
            "what gathered is committed"
        );
        journal.close().await.expect("a second time is no failure");
        assert!(!journal.has_room(1));
        let late = append(&journal, 20, 10);
        assert!(
            journal.committed(late).await.is_err(),
            "nothing is taken any more"
        );
        assert!(journal.committed(Sequence::from(19)).await.is_ok());
    });
    assert!(groups(&disk).pop().unwrap().header.is_end);
    run(&disk.crash(1), async {
        let (_, report, records) = open(20).await;
        assert!(report.was_closed && records.is_empty());
        assert_eq!(report.bytes_cut, 0);
    });
    let disk = killed_after(&disk, async { assert_eq!(open(1).await.2.len(), 19) });
    run(&disk, async {
        assert!(
            !open(20).await.1.was_closed,
            "the start before was not ended"
        );
    });
}

#[test]
fn a_start_never_appends_to_what_it_replayed() {
    let disk = Disk::new();
    let disk = killed_after(&disk, async {
        commit_all(&open(1).await.0, 1..4, 100).await;
    });
    let last = groups(&disk).pop().unwrap();
    let before = disk.read(&last.path).unwrap();
    run(&disk, async {
        commit_all(&open(1).await.0, 4..6, 100).await;
    });
    assert!(
        disk.read(&last.path).unwrap() == before,
        "the replayed file was written"
    );
    let new = groups(&disk).pop().unwrap().header;
    assert_eq!(
        (new.lap, new.generation),
        (last.header.lap + 1, last.header.generation + 1)
    );
}

#[test]
fn sequences_and_commits_go_forward_without_gaps() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = seen.clone();
        journal.on_commit(move |sequence| note.borrow_mut().push(u64::from(sequence)));
        for number in 1..=50 {
            assert_eq!(u64::from(append(&journal, number, 1000)), number);
        }
        assert_eq!(u64::from(journal.last_sequence()), 50);
        journal.committed(Sequence::from(50)).await.unwrap();
        let seen = seen.borrow();
        assert!(seen.is_sorted() && seen.last() == Some(&50), "{seen:?}");
        assert!(seen.len() >= 3, "groups are bounded: {seen:?}");
        assert_eq!(
            journal.counts().commits,
            seen.len() as u64 + 1,
            "and the mark of the start"
        );
    });
}

#[test]
fn appends_gather_while_a_group_is_in_flight() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        let first = append(&journal, 1, 10);
        runtime::task::yield_now().await;
        let others: Vec<_> = (2..30).map(|number| append(&journal, number, 10)).collect();
        journal.committed(first).await.unwrap();
        assert_eq!(
            journal.durable_sequence(),
            first,
            "one group is in flight at most"
        );
        journal.committed(others[27]).await.unwrap();
    });
    let records: Vec<u32> = groups(&disk)
        .iter()
        .map(|place| place.header.records)
        .collect();
    assert_eq!(records, [0, 1, 28]);
}

#[test]
fn a_large_group_goes_beside_the_one_in_flight() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 10).await;
        append(&journal, 2, 10);
        let_writer_begin().await;
        append(&journal, 3, 5000);
        let_writer_begin().await;
        append(&journal, 4, 5000);
        let_writer_begin().await;
        append(&journal, 5, 5000);
        journal.committed(journal.last_sequence()).await.unwrap();
    });
    let stated: Vec<_> = groups(&disk)
        .iter()
        .map(|place| (place.header.records, place.header.durable))
        .collect();
    let (mark, first) = ((0, 0), (1, 0));
    // The third that could go waits for the first.
    assert_eq!(stated, [mark, first, (1, 1), (1, 1), (2, 2)]);
}

#[test]
fn a_record_larger_than_a_group_has_a_group_alone() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        let largest = journal.record_bytes_max() - 32;
        append(&journal, 1, 100);
        append(&journal, 2, largest);
        let last = append(&journal, 3, 100);
        journal.committed(last).await.unwrap();
        let lens: Vec<_> = open(1).await.2.iter().map(|(_, _, len)| *len).collect();
        assert_eq!(lens, [100, largest, 100]);
    });
}

#[test]
#[should_panic(expected = "fits in no journal file")]
fn a_record_larger_than_a_file_is_a_bug() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        append(&journal, 1, journal.record_bytes_max() - 31);
    });
}

#[test]
fn the_first_start_makes_a_small_file_and_the_others_in_the_background() {
    let disk = Disk::new();
    let mut config = small();
    config.file_bytes = 8 << 20;
    config.group_bytes_max = 1 << 20;
    let sizes = |disk: &Disk| -> Vec<usize> {
        let files = disk.files();
        files
            .iter()
            .map(|path| disk.read(path).unwrap().len() >> 20)
            .collect()
    };
    let inner = disk.clone();
    run(&disk, async move {
        let (journal, ..) = try_open(config, 1).await.unwrap();
        assert_eq!(sizes(&inner), [4], "a first start waits for no more");
        assert!(journal.has_room(1 << 20));
        // Larger than what is left of it: waits for the next one, and no longer.
        let large = 5 << 20;
        journal.room(large).await.unwrap();
        assert_eq!(commit(&journal, 1, large).await, 1);
        commit(&journal, 2, 10).await;
        journal.release_through(Sequence::from(2));
        runtime::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(sizes(&inner), [8, 8, 8], "the small one is not used again");
    });
}

#[test]
fn larger_files_replace_smaller_ones_after_a_change_of_the_setting() {
    let disk = Disk::new();
    let disk = killed_after(&disk, async {
        commit_all(&open(1).await.0, 1..20, 5000).await;
    });
    run(&disk, async {
        let mut config = small();
        config.file_bytes *= 2;
        let (journal, _, records) = try_open(config, 1).await.unwrap();
        assert_eq!(records.len(), 19);
        assert_eq!(
            commit(&journal, 20, 100_000).await,
            20,
            "a record for the larger files"
        );
        journal.release_through(Sequence::from(20));
        journal.close().await.unwrap();
    });
    run(&disk, async { assert_eq!(open(20).await.2.len(), 1) });
}

#[test]
fn settings_out_of_bounds_are_refused() {
    type Change = fn(&mut crate::journal::JournalConfig);
    let settings: [(&str, Change); 4] = [
        ("journal.file_bytes", |config| config.file_bytes = 60 << 10),
        ("journal.file_bytes", |config| config.file_bytes += 512),
        ("journal.files_max", |config| config.files_max = 2),
        ("journal.group_bytes_max", |config| {
            config.group_bytes_max = BLOCK as usize - 1;
        }),
    ];
    for (expected, change) in settings {
        let mut config = small();
        change(&mut config);
        let refused = run(&Disk::new(), async move { try_open(config, 1).await.err() });
        assert!(
            matches!(&refused, Some(StorageError::InvalidSetting { name, .. }) if *name == expected),
            "{refused:?}"
        );
    }
}
