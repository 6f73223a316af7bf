//! Recycled files: what they held is never taken for new.

use runtime::sim::Disk;

use super::super::format::{GroupHeader, JournalId};
use super::world::{BLOCK, append, commit, groups, killed_after, numbers, open, run};
use crate::journal::{RecordView, Sequence};

/// Commits records and releases all but the last few, so that the files are used many times.
async fn recycle(from: u64, to: u64) {
    let (journal, ..) = open(from).await;
    for number in from..to {
        journal.room(4000).await.unwrap();
        commit(&journal, number, 4000).await;
        journal.release_through(Sequence::from(number.saturating_sub(3)));
    }
}

#[test]
fn stale_content_of_a_recycled_file_is_not_replayed() {
    let mut disk = Disk::new();
    let (mut next, mut lap, mut stale) = (1, 0, 0);
    for part in 0..12 {
        let (from, to) = (next, next + 30 + part * 3);
        next = to;
        disk = killed_after(&disk, recycle(from, to));
        let last = groups(&disk).pop().unwrap();
        lap = last.header.lap;
        let bytes = disk.read(&last.path).unwrap();
        let behind = &bytes[(last.position + last.header.padded_bytes()) as usize..];
        stale += behind
            .chunks(BLOCK as usize)
            .filter_map(GroupHeader::decode)
            .count();
        assert_eq!(run(&disk.fork(), numbers(to - 3)), [to - 3, to - 2, to - 1]);
        assert_eq!(run(&disk.fork(), numbers(to)), Vec::<u64>::new());
    }
    assert!(lap > 20, "{lap} laps in {} files", disk.files().len());
    assert!(disk.files().len() <= 4);
    assert!(
        stale > 0,
        "nothing stale stood behind a last group: this shows nothing"
    );
}

#[test]
fn a_file_is_recycled_only_when_everything_in_it_is_released() {
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let (journal, ..) = open(1).await;
        for number in 1..=12 {
            commit(&journal, number, 9000).await;
        }
        let before = groups(&seen);
        let first = before[0].path.clone();
        let newest = before
            .iter()
            .rfind(|place| place.path == first)
            .unwrap()
            .header
            .last();
        journal.release_through(Sequence::from(newest - 1));
        assert_eq!(journal.used_percent(), 100);
        journal.release_through(Sequence::from(newest));
        assert!(journal.used_percent() < 100);
    });
    assert_eq!(run(&disk.kill(), numbers(5)).len(), 8);
}

#[test]
fn a_released_file_stays_until_its_successor_holds_a_group() {
    // The first file is small, hence deleted when it is released: at once, if it could be.
    let disk = Disk::new();
    let seen = disk.clone();
    run(&disk, async move {
        let mut config = super::world::small();
        config.file_bytes = 8 << 20;
        config.group_bytes_max = 1 << 20;
        let (journal, ..) = super::world::try_open(config, 1).await.unwrap();
        let first = seen.files().remove(0);
        commit(&journal, 1, 3 << 20).await;
        journal.room(2 << 20).await.unwrap();
        let next = append(&journal, 2, 2 << 20);
        let mut polls = 0;
        while journal.durable_sequence() < next {
            journal.release_through(Sequence::from(1));
            assert!(
                seen.files().contains(&first),
                "the newest group stands nowhere else"
            );
            runtime::time::sleep(std::time::Duration::from_micros(5)).await;
            polls += 1;
        }
        assert!(polls > 3);
        runtime::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!seen.files().contains(&first));
    });
}

#[test]
#[should_panic(expected = "released, but durable")]
fn what_is_not_durable_cannot_be_released() {
    run(&Disk::new(), async {
        let (journal, ..) = open(1).await;
        let sequence = append(&journal, 1, 10);
        journal.release_through(sequence);
    });
}

/// A client that sends what looks like groups, at every place where one could begin.
#[test]
fn what_clients_send_is_never_taken_for_a_group() {
    let mut block = vec![0; BLOCK as usize];
    for at in (0..BLOCK as usize).step_by(64) {
        let forged = GroupHeader {
            journal: JournalId::default(),
            lap: u64::MAX - 1,
            generation: u64::MAX - 1,
            first: 1 << 40,
            durable: 1 << 40,
            ..GroupHeader::default()
        };
        forged.seal(&mut block[at..at + 64]);
    }
    // Record headers shift it; one of these shifts brings it to the beginning of blocks.
    let shifts = (0..64).filter(|shift| (64 + 32 + shift) % 64 == 0);
    let mut disk = Disk::new();
    for shift in shifts {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(&block.repeat(3));
        disk = killed_after(&disk, async move {
            let from = Sequence::from(1);
            let mut visit = |_, _: RecordView<'_>| Ok(());
            let dir = std::path::Path::new(super::world::DIR);
            let opened =
                crate::journal::Journal::open(dir, super::world::small(), from, &mut visit);
            let (journal, _) = opened.await.expect("open");
            let record = RecordView::Append {
                incarnation: 1,
                base_offset: 0,
                position: 0,
                bytes: &bytes,
            };
            for _ in 0..12 {
                journal.committed(journal.append(record)).await.unwrap();
            }
        });
    }
    // Tear the last group, so that the start looks for later ones among what the client sent.
    let last = groups(&disk).pop().unwrap();
    disk.corrupt(&last.path, last.position..last.position + 1);
    let blocks = disk.read(&last.path).unwrap();
    let forged = blocks
        .chunks(BLOCK as usize)
        .filter_map(GroupHeader::decode);
    assert!(
        forged.filter(|header| header.lap == u64::MAX - 1).count() > 0,
        "no block looks like a group"
    );
    run(&disk, async {
        let mut visit = |_, _: RecordView<'_>| Ok(());
        let dir = std::path::Path::new(super::world::DIR);
        let from = Sequence::from(1);
        let opened =
            crate::journal::Journal::open(dir, super::world::small(), from, &mut visit).await;
        assert_eq!(opened.expect("open").1.records, 11);
    });
}
