//! Power loss and kill at every operation of a scripted run.

use std::time::Duration;

use runtime::sim::{Disk, Random};
use runtime::time::sleep;

use super::model::{Model, SharedModel, recover, round, work};
use super::world::{commit_all, open, run, seeds, small};
use crate::journal::Sequence;

const STEPS: usize = 150;

/// Stops the run of a seed at each operation on its disk; `after` says what that leaves.
fn stop_everywhere(seed: u64, after: impl Fn(&Disk, u64) -> Vec<Disk>) {
    let disk = Disk::new();
    let model = SharedModel::default();
    round(&disk, seed, STEPS, &model).expect("nothing stops it");
    let operations = disk.counts().mutations();
    assert!(
        operations > 100,
        "a run of {operations} operations shows little"
    );
    for operation in 0..operations {
        let disk = Disk::new();
        let model = SharedModel::default();
        disk.crash_after(operation);
        let stopped = round(&disk, seed, STEPS, &model);
        assert!(
            stopped.is_none(),
            "operation {operation} of {operations} was not reached"
        );
        for disk in after(&disk, operation) {
            goes_on_twice(&disk, seed, &model.borrow());
        }
    }
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
    for seed in 0..2 * seeds() {
        stop_everywhere(seed, |disk, operation| {
            (0..2)
                .map(|loss| disk.crash(operation * 10 + loss))
                .collect()
        });
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation() {
    for seed in 10..10 + 2 * seeds() {
        stop_everywhere(seed, |disk, _| vec![disk.kill()]);
    }
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
