//! A scripted run with a crash at every operation, with several seeds, by power loss and by kill: every
//! acknowledged record is there afterwards, in order, nothing is invented, and at most what was not
//! acknowledged is missing. Then the same again on what is left.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runtime::time;
use storage::journal::{Journal, Sequence};

use crate::world::{Records, append, data, new_disk, open_from, run_until_crash, seeds};

/// What the script has got through, seen from outside of the crash.
#[derive(Debug, Default)]
struct Progress {
    /// Sizes of the records by sequence, from 1.
    sizes: RefCell<Vec<usize>>,
    acknowledged: Cell<u64>,
    /// What the checkpoint of a storage would say.
    released: Cell<u64>,
}

const SIZES: [usize; 9] = [100, 4000, 9000, 1, 0, 15_000, 300, 30_000, 5000];

/// Opens, checks what is there, appends in groups of several, releases now and then, closes at the end
/// of every other round.
async fn script(progress: Rc<Progress>, rounds: u64) {
    for round in 0..rounds {
        let journal = open_and_check(&progress).await;
        for step in 0..6 {
            for part in 0..3 {
                let bytes = SIZES[((round * 5 + step * 3 + part) % SIZES.len() as u64) as usize];
                find_room(&journal, &progress, bytes).await;
                let number = u64::from(journal.last_sequence()) + 1;
                progress.sizes.borrow_mut().resize(number as usize, 0);
                progress.sizes.borrow_mut()[number as usize - 1] = bytes;
                append(&journal, number, bytes);
            }
            let last = journal.last_sequence();
            journal.committed(last).await.expect("commit");
            progress.acknowledged.set(last.into());
            if step % 2 == 1 {
                let released = u64::from(last) - 2;
                progress.released.set(released);
                journal.release_through(Sequence::from(released));
            }
        }
        if round % 2 == 0 {
            journal.close().await.expect("close");
        }
    }
}

/// Waits for room; releases everything when the journal is full, as a checkpoint would.
async fn find_room(journal: &Journal, progress: &Progress, bytes: usize) {
    if let Ok(room) = time::timeout(Duration::from_secs(1), journal.room(bytes)).await {
        return room.expect("room");
    }
    let last = journal.last_sequence();
    journal.committed(last).await.expect("commit");
    progress.acknowledged.set(last.into());
    progress.released.set(last.into());
    journal.release_through(last);
    journal.room(bytes).await.expect("room after a release");
}

async fn open_and_check(progress: &Rc<Progress>) -> Journal {
    let released = progress.released.get();
    let opened = open_from(released + 1).await;
    let last = u64::from(opened.journal.last_sequence());
    let acknowledged = progress.acknowledged.get();
    assert!(
        last >= acknowledged,
        "{acknowledged} was acknowledged, {last} is there"
    );
    let mut sizes = progress.sizes.borrow_mut();
    assert!(last <= sizes.len() as u64, "{last} was never appended");
    let expected: Records = (released + 1..=last)
        .map(|number| (number, data(number, sizes[number as usize - 1])))
        .collect();
    assert_eq!(opened.records, expected);

    // What is there now stays: its sequences are given to nobody else.
    sizes.truncate(last as usize);
    progress.acknowledged.set(last);
    opened.journal
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    PowerLoss,
    Kill,
    /// A kill, then a loss of power that takes what the kill left un-synced.
    Both,
}

/// Crashes at `point` of a first run, then at `second` of the run on what is left.
fn check_crash(seed: u64, point: u64, second: u64, ending: Ending) -> bool {
    let progress = Rc::new(Progress::default());
    let mut disk = new_disk();
    for (run, (at, rounds)) in [(Some(point), 2), (Some(second), 1), (None, 1)]
        .into_iter()
        .enumerate()
    {
        if let Some(at) = at {
            disk.crash_after(at);
        }
        let ended = run_until_crash(&disk, seed, script(progress.clone(), rounds)).is_some();
        if ended && at == Some(point) {
            return false;
        }
        let is_kill = match ending {
            Ending::PowerLoss => false,
            Ending::Kill => true,
            Ending::Both => run == 0,
        };
        disk = if is_kill {
            disk.kill()
        } else {
            disk.crash(seed ^ point)
        };
    }
    true
}

fn check_every_crash(seed: u64, ending: Ending) -> u64 {
    let mut point = 0;
    while check_crash(seed, point, point * 7 % 23, ending) {
        point += 1;
    }
    assert!(point > 40, "{point} operations: the script ended early");
    point
}

#[test]
fn every_acknowledged_record_survives_a_power_loss_at_any_operation() {
    for seed in 0..6 * seeds() {
        check_every_crash(seed, Ending::PowerLoss);
    }
}

#[test]
fn every_acknowledged_record_survives_a_kill_at_any_operation() {
    for seed in 100..100 + 4 * seeds() {
        check_every_crash(seed, Ending::Kill);
    }
}

#[test]
fn every_acknowledged_record_survives_a_kill_and_a_power_loss_after_it() {
    for seed in 200..200 + 4 * seeds() {
        check_every_crash(seed, Ending::Both);
    }
}
