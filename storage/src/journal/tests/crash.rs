//! Power loss and kill at every operation of a scripted run.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Disk, Random};
use runtime::time::sleep;

use super::model::{Model, SharedModel, recover, round, work};
use super::world::{commit_all, open, run, seeds, small};
use crate::journal::Sequence;

const STEPS: usize = 150;
const POINTS_DEFAULT: u64 = 20_000;

/// Stops the runs of one seed after another at each operation on their disk, until `percent` of the
/// wanted crash points are done; `crashes` says what a stop leaves.
fn stop_everywhere(what: &str, percent: u64, crashes: impl Fn(&Disk, u64) -> Vec<Disk>) {
    let wanted = points_wanted() * percent / 100;
    let (mut points, mut seed) = (0, 0);
    while points < wanted {
        seed += 1;
        for (point, (disk, model)) in (0..).zip(pictures(seed)) {
            for disk in crashes(&disk, seed << 20 | point) {
                let checked = catch_unwind(AssertUnwindSafe(|| goes_on_twice(&disk, seed, &model)));
                checked.unwrap_or_else(|panic| {
                    say(&format!("violation: {what}, seed {seed}, point {point}"));
                    resume_unwind(panic)
                });
                points += 2;
            }
        }
    }
    say(&format!(
        "crash points of the journal: {points}, violations: 0 ({what}, {seed} seeds)"
    ));
}

/// The disk and the model within each operation of a seed's run.
fn pictures(seed: u64) -> Vec<(Disk, Model)> {
    let disk = Disk::new();
    let model = SharedModel::default();
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let (taken, noted) = (pictures.clone(), model.clone());
    disk.observe_mutations(move |disk| taken.borrow_mut().push((disk, noted.borrow().clone())));
    round(&disk, seed, STEPS, &model).expect("nothing stops it");
    let pictures = pictures.take();
    let count = pictures.len();
    assert!(count > 50, "a run of {count} operations shows little");
    pictures
}

fn points_wanted() -> u64 {
    std::env::var("STREAMBUS_CRASH_POINTS").map_or(POINTS_DEFAULT, |points| {
        points.parse().expect("STREAMBUS_CRASH_POINTS is a number")
    })
}

/// Past the test harness, which keeps what passing tests print to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Recovers, works, loses power, recovers again: what a start has replayed or answered stays.
fn goes_on_twice(disk: &Disk, seed: u64, model: &Model) {
    let model = SharedModel::new(model.clone().into());
    round(disk, seed + 1000, 4, &model).expect("nothing stops it");
    let disk = disk.crash(seed + 7);
    round(&disk, seed + 2000, 2, &model).expect("nothing stops it");
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_at_any_operation() {
    stop_everywhere("power loss", 60, |disk, seed| vec![disk.crash(seed)]);
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation() {
    stop_everywhere("kill", 40, |disk, _| vec![disk.kill()]);
}

#[test]
fn what_was_replayed_after_a_kill_survives_a_power_loss_at_once() {
    for seed in 0..200 * seeds() {
        let disk = Disk::new();
        let model = SharedModel::default();
        disk.crash_after(20 + seed % 60);
        round(&disk, seed, STEPS, &model);
        let disk = disk.kill();
        let again = model.clone();
        run(&disk, async move { drop(recover(small(), &again).await) });
        let disk = disk.crash(seed);
        run(&disk, async move { drop(recover(small(), &model).await) });
    }
}

#[test]
fn starts_can_be_stopped_again_and_again() {
    for seed in 0..20 * seeds() {
        let model = SharedModel::default();
        let mut disk = Disk::new();
        round(&disk, seed, 20, &model).expect("nothing stops it");
        for stop in 0..12 {
            disk.crash_after(stop);
            round(&disk, seed, 1, &model);
            disk = if stop % 2 == 0 {
                disk.kill()
            } else {
                disk.crash(seed * 100 + stop)
            };
        }
        round(&disk, seed, 5, &model).expect("nothing stops it");
    }
}

#[test]
fn starts_alone_do_not_use_up_files() {
    let mut disk = Disk::new();
    run(&disk, async {
        commit_all(&open(1).await.0, 1..30, 5000).await;
    });
    run(&disk, async { drop(open(1).await) });
    let files = disk.files().len();
    for stop in 0..30 {
        disk = if stop % 2 == 0 {
            disk.kill()
        } else {
            disk.crash(stop)
        };
        run(&disk, async {
            let (journal, _, records) = open(1).await;
            assert_eq!(records.len(), 29);
            sleep(Duration::from_millis(50)).await;
            drop(journal);
        });
        assert!(disk.files().len() <= files + 1, "{:?}", disk.files());
    }
}

#[test]
fn work_never_waits_for_ever_with_the_fewest_files() {
    for seed in 0..30 * seeds() {
        let program = async move {
            let mut config = small();
            config.files_max = 3;
            let model = SharedModel::default();
            let journal = recover(config.clone(), &model).await;
            let mut random = Random::new(seed);
            let journal = work(config, journal, model, &mut random, 200)
                .await
                .expect("no fault");
            assert!(journal.durable_sequence() > Sequence::from(100));
        };
        run(&Disk::new(), program);
    }
}
