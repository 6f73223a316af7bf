//! One damaged byte anywhere: a start refuses, or has everything; only the last group of a journal
//! that was not closed may be cut. Says nothing of the format.

use runtime::BLOCK_BYTES;
use runtime::sim::Disk;
use storage::StorageError;

use crate::world::{
    commit, journal_files, let_files_be_made, new_disk, open, run, small_config, try_open,
};

/// Records 1 to the number that is returned, each in a group of its own, over several files.
fn committed(closed: bool) -> (Disk, u64) {
    let disk = new_disk();
    run(&disk, async move {
        let journal = open().await.journal;
        let_files_be_made().await;
        for number in 1..=10 {
            commit(
                &journal,
                number,
                [100, 5000, 300, 9000][number as usize % 4],
            )
            .await;
        }
        if closed {
            journal.close().await.unwrap();
        }
    });
    (disk.crash(0), 10)
}

fn check_every_byte(closed: bool) {
    let (disk, last) = committed(closed);
    let (mut refused, mut unharmed, mut cut) = (0, 0, 0);
    for path in journal_files(&disk) {
        let whole = disk.read(&path).unwrap();
        // All of a block's first bytes, where headers are, and samples of the rest.
        let sampled =
            (0..whole.len()).filter(|at| at % BLOCK_BYTES < 112 && at % 3 == 0 || at % 509 == 0);
        for at in sampled {
            let damaged = disk.fork();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            damaged.write(&path, &bytes);
            let opened = run(&damaged, async {
                try_open(small_config(), 1)
                    .await
                    .map(|opened| opened.numbers())
            });
            match opened {
                Err(StorageError::Corruption { .. } | StorageError::FormatVersion { .. }) => {
                    refused += 1;
                }
                Err(other) => panic!("{} at {at}: {other}", path.display()),
                Ok(numbers) if numbers == (1..=last).collect::<Vec<_>>() => unharmed += 1,
                Ok(numbers) if !closed && numbers == (1..last).collect::<Vec<_>>() => cut += 1,
                Ok(numbers) => panic!(
                    "{} at {at}: {} of {last} records, silently",
                    path.display(),
                    numbers.len()
                ),
            }
        }
    }
    assert!(
        refused > 100,
        "{refused} refused, {unharmed} unharmed, {cut} cut"
    );
    assert_eq!(
        closed,
        cut == 0,
        "{refused} refused, {unharmed} unharmed, {cut} cut"
    );
}

#[test]
fn no_damaged_byte_loses_a_record_of_a_closed_journal_silently() {
    check_every_byte(true);
}

#[test]
fn no_damaged_byte_loses_more_than_the_last_group_after_a_crash() {
    check_every_byte(false);
}
