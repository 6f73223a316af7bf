//! Damage is told from a torn end: what was durable is never silently dropped.

use std::path::Path;

use runtime::buffer::AlignedBuf;
use runtime::sim::Disk;

use super::super::format::{GROUP_HEADER_BYTES, GroupHeader};
use super::world::{
    BLOCK, DIR, Place, append, commit, commit_all, corruption, damage, groups, image, killed_after,
    let_writer_begin, numbers, open, patch, refused, remove, run, small, try_open,
};
use crate::error::StorageError;

/// Three starts with groups in several files; nothing is released. 36 records.
fn several_files() -> Disk {
    let mut disk = Disk::new();
    for start in 0..3 {
        disk = killed_after(&disk, async move {
            let (journal, ..) = open(1).await;
            commit_all(&journal, start * 12..start * 12 + 12, 5000).await;
        });
    }
    disk
}

#[test]
fn damage_to_any_group_but_the_last_is_corruption_with_file_and_position() {
    let disk = several_files();
    let groups = groups(&disk);
    assert!(groups.len() > 36, "{} groups", groups.len());
    for place in &groups[..groups.len() - 1] {
        let disk = disk.fork();
        damage(&disk, place);
        let (file, position) = corruption(refused(&disk, 1));
        assert!(
            (&file, position) == (&place.path, place.position) || place.position == BLOCK,
            "{place:?} was damaged, {} at {position} is named",
            file.display()
        );
    }
}

#[test]
fn a_damaged_first_group_of_a_start_does_not_hide_what_follows() {
    // One start, so that the damaged group is the first of all; then one behind others.
    let disk = Disk::new();
    let disk = killed_after(&disk, async { commit(&open(1).await.0, 1, 100).await });
    let disk = killed_after(&disk, async { commit(&open(1).await.0, 2, 100).await });
    let places = groups(&disk);
    assert_eq!(
        places
            .iter()
            .map(|place| place.header.records)
            .collect::<Vec<_>>(),
        [0, 1, 0, 1]
    );
    let fork = disk.fork();
    damage(&fork, &places[0]);
    corruption(refused(&fork, 1));
    damage(&disk, &places[2]);
    assert_eq!(
        corruption(refused(&disk, 1)),
        (places[2].path.clone(), BLOCK)
    );
}

#[test]
fn a_replay_that_ends_below_a_stated_durable_mark_is_corruption() {
    let disk = Disk::new();
    run(&disk, async {
        commit_all(&open(1).await.0, 1..9, 100).await;
    });
    let places = groups(&disk);
    let (last, others) = places.split_last().unwrap();
    assert_eq!((last.header.durable, last.header.last()), (7, 8));
    others.iter().skip(2).for_each(|place| damage(&disk, place));
    let error = refused(&disk.kill(), 1);
    assert!(error.to_string().contains("states 7 as durable"), "{error}");
}

#[test]
fn a_torn_group_is_cut_and_reported() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        commit(&journal, 4, 9000).await;
    });
    let disk = disk.kill();
    let last = groups(&disk).pop().unwrap();
    assert_eq!(last.header.padded_bytes(), 3 * BLOCK);
    disk.corrupt(
        &last.path,
        last.position + 2 * BLOCK..last.position + 2 * BLOCK + 1,
    );
    let disk = killed_after(&disk, async {
        let (journal, report, records) = open(1).await;
        assert_eq!((report.bytes_cut, records.len()), (3 * BLOCK, 3));
        assert!(!report.was_closed);
        assert_eq!(
            commit(&journal, 5, 10).await,
            4,
            "its number is given again"
        );
    });
    assert_eq!(run(&disk, numbers(1)), [1, 2, 3, 5]);
}

/// Group 2 and, beside it, group 3; then groups as many as `more`.
fn two_in_flight(more: u64) -> Disk {
    let disk = Disk::new();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 10).await;
        append(&journal, 2, 10);
        let_writer_begin().await;
        append(&journal, 3, 5000);
        journal.committed(journal.last_sequence()).await.unwrap();
        commit_all(&journal, 4..4 + more, 10).await;
    });
    let disk = disk.kill();
    let places = groups(&disk);
    assert_eq!((places[2].header.first, places[3].header.durable), (2, 1));
    damage(&disk, &places[2]);
    disk
}

#[test]
fn a_torn_group_is_cut_with_the_one_that_was_in_flight_beside_it() {
    let disk = two_in_flight(0);
    let disk = killed_after(&disk, async {
        let (journal, _, records) = open(1).await;
        assert_eq!(records.len(), 1);
        assert_eq!(commit(&journal, 9, 10).await, 2);
    });
    assert_eq!(run(&disk, numbers(1)), [1, 9]);
    assert_eq!(
        run(&disk.kill(), numbers(1)),
        [1, 9],
        "the old one stays dead"
    );
}

#[test]
fn a_group_that_another_states_as_durable_is_damaged_not_torn() {
    let disk = two_in_flight(1);
    let place = &groups(&two_in_flight(0))[1];
    let torn_at = place.position + place.header.padded_bytes();
    assert_eq!(corruption(refused(&disk, 1)), (place.path.clone(), torn_at));
}

#[test]
fn a_torn_first_group_of_a_file_is_cut_and_reported() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 50_000).await;
        commit(&journal, 2, 20_000).await;
    });
    let disk = disk.kill();
    let last = groups(&disk).pop().unwrap();
    assert_eq!((last.position, last.header.lap), (BLOCK, 2));
    disk.corrupt(&last.path, last.position + BLOCK..last.position + 2 * BLOCK);
    let (report, records) = run(&disk, async {
        let (_, report, records) = open(1).await;
        (report, records)
    });
    assert_eq!(
        (report.bytes_cut, records.len()),
        (last.header.padded_bytes(), 1)
    );
}

#[test]
fn a_torn_record_that_is_written_again_does_not_make_older_ones_live_again() {
    // Records 2 and 3 do not reach the disk: the next start takes record 1 as the end.
    let disk = Disk::new();
    let disk = killed_after(&disk, async {
        commit_all(&open(1).await.0, 1..4, 100).await;
    });
    let old = groups(&disk);
    let whole = disk.read(&old[2].path).unwrap();
    old[2..].iter().for_each(|place| damage(&disk, place));
    let disk = killed_after(&disk, async {
        let (journal, ..) = open(1).await;
        assert_eq!(commit(&journal, 20, 100).await, 2);
    });
    // Now they do: a device may write late what a killed process had handed to it.
    let at = old[2].position;
    patch(&disk, &old[2].path, at, &whole[at as usize..]);
    let disk = killed_after(&disk, async {
        let (journal, _, records) = open(1).await;
        assert_eq!(
            records
                .iter()
                .map(|(_, number, _)| *number)
                .collect::<Vec<_>>(),
            [1, 20]
        );
        commit(&journal, 30, 100).await;
    });
    assert_eq!(run(&disk, numbers(1)), [1, 20, 30]);
}

/// The mark of an orderly end after a start that took no record, whose first group the next start was
/// writing over when the power failed.
#[test]
fn an_end_mark_without_records_behind_a_torn_group_is_no_damage() {
    let disk = Disk::new();
    run(&disk, async {
        let (journal, ..) = open(1).await;
        commit_all(&journal, 1..4, 100).await;
        journal.close().await.unwrap();
    });
    run(&disk, async { open(1).await.0.close().await.unwrap() });
    let groups = groups(&disk);
    let [.., begun, mark] = &groups[..] else {
        panic!("two groups at least");
    };
    assert!(mark.header.is_end && begun.header.lap == mark.header.lap);
    assert_eq!(begun.header.records + mark.header.records, 0);
    damage(&disk, begun);
    assert_eq!(run(&disk, numbers(1)), [1, 2, 3]);
}

#[test]
fn a_late_first_group_of_a_lap_that_was_begun_again_is_no_damage() {
    let disk = Disk::new();
    let disk = killed_after(&disk, async {
        let (journal, ..) = open(1).await;
        commit(&journal, 1, 100).await;
        // Other files are ready.
        runtime::time::sleep(std::time::Duration::from_secs(1)).await;
    });
    // The first group of lap 2 is handed to the disk and does not arrive.
    let late = killed_after(&disk.fork(), async {
        commit(&open(1).await.0, 2, 100).await
    });
    let late = groups(&late)
        .into_iter()
        .find(|place| place.header.lap == 2)
        .unwrap();
    let late_group = {
        let mut group = AlignedBuf::zeroed(BLOCK as usize);
        late.header.seal(&mut group);
        group.freeze()
    };
    // The start after that begins lap 2 in another file, and works.
    let disk = killed_after(&disk, async {
        let spare = Path::new(DIR).join("00000009.journal");
        runtime::dir::rename(&Path::new(DIR).join("00000001.journal"), &spare)
            .await
            .unwrap();
        runtime::dir::sync_dir(Path::new(DIR)).await.unwrap();
        let (journal, ..) = open(1).await;
        commit_all(&journal, 20..22, 100).await;
    });
    let used = groups(&disk).pop().unwrap().path;
    let all = disk.files();
    let other = all
        .iter()
        .find(|path| **path != used && !path.ends_with("00000000.journal"))
        .unwrap();
    patch(&disk, other, BLOCK, &late_group);
    assert_eq!(run(&disk, numbers(1)), [1, 20, 21]);
}

/// Puts a group behind the last one that continues the chain but for what `change` does to it.
fn forge(disk: &Disk, change: impl Fn(&mut GroupHeader)) -> Place {
    let last = groups(disk).pop().unwrap();
    let position = last.position + last.header.padded_bytes();
    let mut header = GroupHeader {
        first: last.header.last() + 1,
        previous_crc: last.header.crc,
        durable: last.header.last(),
        records: 0,
        payload_bytes: 0,
        ..last.header
    };
    change(&mut header);
    let mut group = vec![0; BLOCK as usize];
    header.seal(&mut group[..GROUP_HEADER_BYTES]);
    patch(disk, &last.path, position, &group);
    Place {
        path: last.path,
        position,
        header,
    }
}

fn one_record_closed_or_not() -> Disk {
    killed_after(&Disk::new(), async {
        commit_all(&open(1).await.0, 1..3, 100).await;
    })
}

#[test]
fn a_group_of_an_earlier_use_of_the_file_is_not_replayed() {
    let disk = one_record_closed_or_not();
    forge(&disk, |header| {
        header.lap -= 1;
        header.is_end = true;
    });
    let report = run(&disk, async { open(1).await.1 });
    assert!(!report.was_closed, "the end mark belongs to an earlier use");
    assert_eq!((report.records, report.bytes_cut), (2, 0));
}

#[test]
fn a_group_of_another_journal_is_not_replayed() {
    let disk = one_record_closed_or_not();
    forge(&disk, |header| {
        header.journal = super::super::format::JournalId::draw();
        header.is_end = true;
    });
    let report = run(&disk, async { open(1).await.1 });
    assert!(!report.was_closed);
}

#[test]
fn a_group_that_does_not_name_its_predecessor_is_damage() {
    let changes: [fn(&mut GroupHeader); 3] = [
        |header| header.previous_crc ^= 1,
        |header| header.first += 1,
        |header| header.generation += 1,
    ];
    for change in changes {
        let disk = one_record_closed_or_not();
        let forged = forge(&disk, change);
        assert_eq!(
            corruption(refused(&disk, 1)),
            (forged.path, forged.position)
        );
    }
}

#[test]
fn a_missing_file_is_corruption() {
    let disk = several_files();
    let mut paths: Vec<_> = groups(&disk).into_iter().map(|place| place.path).collect();
    paths.dedup();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in &paths[..paths.len() - 1] {
        let disk = disk.fork();
        remove(&disk, path);
        corruption(refused(&disk, 1));
    }
    // The newest one is missed when it is known what it held.
    remove(&disk, paths.last().unwrap());
    corruption(refused(&disk, 37));
}

#[test]
fn a_journal_that_ends_before_the_checkpoint_is_corruption() {
    let disk = several_files();
    assert_eq!(run(&disk.fork(), numbers(37)), Vec::<u64>::new());
    let (file, position) = corruption(refused(&disk, 38));
    let last = groups(&disk).pop().unwrap();
    assert_eq!(
        (file, position),
        (last.path, last.position + last.header.padded_bytes())
    );
    corruption(refused(&Disk::new(), 2));
}

#[test]
fn a_file_whose_header_is_damaged_is_refused_and_kept() {
    let disk = several_files();
    for place in groups(&disk) {
        let disk = disk.fork();
        disk.corrupt(&place.path, 0..1);
        disk.corrupt(&place.path, 0..1);
        patch(&disk, &place.path, 0, &[0; 64]);
        assert_eq!(corruption(refused(&disk, 1)), (place.path, 0));
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    let disk = several_files();
    let first = groups(&disk).remove(0).path;
    let bytes = disk.read(&first).unwrap();
    disk.write(&first, &bytes[..bytes.len() - BLOCK as usize]);
    assert_eq!(corruption(refused(&disk, 1)), (first, 0));
}

#[test]
fn files_of_another_journal_are_refused() {
    let (disk, other) = (several_files(), several_files());
    let files = other.files();
    let number = files.len();
    disk.write(
        &Path::new(DIR).join(format!("000000{number:02}.journal")),
        &other.read(&files[0]).unwrap(),
    );
    corruption(refused(&disk, 1));
}

#[test]
fn an_unreadable_block_refuses_the_start() {
    let disk = several_files();
    let place = &groups(&disk)[5];
    disk.make_unreadable(&place.path, place.position..place.position + BLOCK);
    let error = refused(&disk, 1);
    assert!(
        matches!(&error, StorageError::Io { path, .. } if *path == place.path),
        "{error}"
    );
}

#[test]
fn another_format_version_is_refused() {
    let disk = several_files();
    let path = disk.files().remove(0);
    patch(&disk, &path, 4, &2u32.to_le_bytes());
    match refused(&disk, 1) {
        StorageError::FormatVersion {
            file,
            found: 2,
            supported: 1,
        } => assert_eq!(file, path),
        other => panic!("{other}"),
    }
}

#[test]
fn unfinished_files_are_made_again() {
    let disk = several_files();
    let unfinished = Path::new(DIR).join("00000077.journal");
    disk.write(&unfinished, &vec![0xa5; 5000]);
    assert_eq!(run(&disk, numbers(1)).len(), 36);
    assert!(!disk.files().contains(&unfinished));
    // What is no journal file is nobody's business.
    let foreign = Path::new(DIR).join("notes.txt");
    disk.write(&foreign, b"x");
    assert_eq!(run(&disk.kill(), numbers(1)).len(), 36);
    assert!(disk.files().contains(&foreign));
}

#[test]
fn what_the_visitor_refuses_refuses_the_start() {
    let disk = several_files();
    let before = image(&disk);
    let refused = run(&disk, async {
        let mut visit = |_, _: crate::journal::RecordView<'_>| Err(StorageError::LogDeleted);
        let from = crate::journal::Sequence::from(1);
        crate::journal::Journal::open(Path::new(DIR), small(), from, &mut visit)
            .await
            .err()
    });
    assert!(matches!(refused, Some(StorageError::LogDeleted)));
    assert!(image(&disk) == before);
    assert!(run(&disk, async { try_open(small(), 1).await.is_ok() }));
}
