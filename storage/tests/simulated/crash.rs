//! The crash test: random work, stopped at every operation on the disk, recovered, compared with the model.
//!
//! A run of a seed gives a picture of the disk within each operation ([`Disk::observe_mutations`]); each
//! picture is a crash point, and one or two crashes of it are recovered and checked. What follows from
//! where is fixed by the name of the case, `ending:seed:point`: a failure prints it with the command
//! that repeats it. `STREAMBUS_CRASH_POINTS` is the number of crash points, 20,000 by default.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::str::FromStr;

use runtime::sim::disk::{Fault, OpKind};
use runtime::sim::{Disk, Random};
use storage::StorageError;

use crate::model::{Exactness, Past};
use crate::recover::{recover, recover_and_work};
use crate::work::{Scope, SharedPast, Worker};
use crate::world::{run, run_until_crash};

const STEPS: usize = 70;
const POINTS_DEFAULT: u64 = 20_000;

/// Cases that have failed once; always run. What they do changes with the work that is done, so each bug has
/// a test of its own beside.
const FOUND: &[&str] = &[
    // A first start of several shards made their directories one by one.
    "power-loss:2:9",
    // A checkpoint amid a truncation let its records go.
    "lie:23:137",
    // A wait for a journal file on a broken disk.
    "failure:13:1",
    // A segment file that is missing.
    "lie:52:143",
    // An append that was expected to go direct and had to wait for room in the journal.
    "power-loss:291:108",
];

/// What happens during the work and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Un-synced writes are lost, torn, reordered or spoilt.
    PowerLoss,
    Kill,
    /// What is recovered after a kill may have been read by someone: a power loss must not take it.
    KillThenPowerLoss,
    /// An operation fails (EIO, ENOSPC, a failed fdatasync) before either.
    Failure,
    /// The device loses writes and syncs that it said were done.
    Lie,
}

/// A run and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    ending: Ending,
    seed: u64,
    point: u64,
}

const NAMES: [(&str, Ending); 5] = [
    ("power-loss", Ending::PowerLoss),
    ("kill", Ending::Kill),
    ("kill-then-power-loss", Ending::KillThenPowerLoss),
    ("failure", Ending::Failure),
    ("lie", Ending::Lie),
];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, ending)| *ending == self.ending);
        let (name, _) = name.expect("every ending has a name");
        write!(f, "{name}:{}:{}", self.seed, self.point)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (name, rest) = text.split_once(':')?;
            let (seed, point) = rest.split_once(':')?;
            Some(Case {
                ending: NAMES.iter().find(|(other, _)| *other == name)?.1,
                seed: seed.parse().ok()?,
                point: point.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("`{text}` is not ending:seed:point"))
    }
}

/// The disk and the past within one operation.
struct Picture {
    disk: Disk,
    past: Past,
}

/// Lives the life of a seed; answers a picture of each operation that `is_wanted`.
fn live(ending: Ending, seed: u64, is_wanted: impl Fn(u64) -> bool + 'static) -> Vec<Picture> {
    let mut random = Random::new(seed ^ 0xC4A5);
    let shards = 1 + (random.below(4) / 2) as u32;
    let past: SharedPast = Rc::new(RefCell::new(Past::new(shards)));
    let pictures = Rc::new(RefCell::new(Vec::new()));
    let disk = Disk::new();
    let (seen, noted, number) = (Rc::clone(&pictures), Rc::clone(&past), Cell::new(0));
    disk.observe_mutations(move |disk| {
        let at = number.replace(number.get() + 1);
        if is_wanted(at) {
            let past = noted.borrow().clone();
            seen.borrow_mut().push(Picture { disk, past });
        }
    });
    match ending {
        Ending::PowerLoss | Ending::Kill | Ending::KillThenPowerLoss => {}
        Ending::Failure => plan_failure(&disk, &mut random, 250),
        Ending::Lie => {
            disk.fail_one_in(OpKind::Write, 60, Fault::Lie);
            disk.fail_one_in(OpKind::Sync, 20, Fault::Lie);
        }
    }
    let scope = match ending {
        Ending::Lie => Scope::OneStart,
        _ => Scope::Everything,
    };
    let life = first_life(seed, Rc::clone(&past), scope);
    let result = run_until_crash(&disk, seed, life).expect("nothing stops it");
    match ending {
        Ending::PowerLoss | Ending::Kill | Ending::KillThenPowerLoss => {
            result.expect("nothing fails");
        }
        Ending::Failure => expect_expected(result),
        Ending::Lie => {}
    }
    pictures.take()
}

async fn first_life(seed: u64, past: SharedPast, scope: Scope) -> Result<(), StorageError> {
    let count = past.borrow().shards();
    let mut shards = recover(&past, count, Exactness::Whole).await?;
    let mut worker = Worker::new(seed, &past, scope);
    worker.work(&mut shards, STEPS).await?;
    worker.compare(&shards).await?;
    shards.close().await?;
    past.borrow_mut().acknowledge_all();
    Ok(())
}

/// One of the next operations fails; or all do, from some time on.
fn plan_failure(disk: &Disk, random: &mut Random, within: u64) {
    let fault = [Fault::Eio, Fault::Enospc][random.index(2)];
    match random.below(8) {
        0..3 => disk.fail_nth(OpKind::Write, random.below(within), fault),
        3..5 => disk.fail_nth(OpKind::Sync, random.below(within / 4), fault),
        5..7 => disk.fail_nth(OpKind::Metadata, random.below(within / 4), fault),
        _ => disk.break_after(random.below(within)),
    }
}

/// A failing disk makes the storage say so, and nothing else.
fn expect_expected(result: Result<(), StorageError>) {
    match result {
        Ok(())
        | Err(
            StorageError::Io { .. }
            | StorageError::DiskFull { .. }
            | StorageError::Offline { .. }
            | StorageError::Journal(_)
            | StorageError::SpaceExhausted { .. },
        ) => {}
        Err(error) => panic!("a failed operation led to: {error}"),
    }
}

/// Crashes at a picture, and once more some time after the start that follows. Answers the number of
/// crashes that were recovered and checked.
fn check_picture(case: Case, picture: &Picture) -> u64 {
    let mut random = Random::new(case.seed << 24 ^ case.point ^ (case.ending as u64) << 56);
    let is_killed = match case.ending {
        Ending::PowerLoss => false,
        Ending::Kill | Ending::KillThenPowerLoss => true,
        Ending::Failure | Ending::Lie => random.chance(1, 2),
    };
    let disk = if is_killed {
        picture.disk.kill()
    } else {
        picture.disk.crash(random.next_u64())
    };
    let past: SharedPast = Rc::new(RefCell::new(picture.past.clone()));
    if case.ending == Ending::Lie {
        check_after_lies(&disk, past);
        return 1;
    }
    let is_kill = matches!(case.ending, Ending::Kill);
    let end = |disk: &Disk, random: &mut Random| {
        if is_kill {
            disk.kill()
        } else {
            disk.crash(random.next_u64())
        }
    };
    let seed = random.next_u64();
    let disk = match random.below(8) {
        // Nothing but the start, and what it read is there ever after.
        0..5 => {
            expect_recovery(&disk, seed, &past, 0);
            if case.ending != Ending::KillThenPowerLoss {
                return 1;
            }
            end(&disk, &mut random)
        }
        // Stopped in the start or soon after.
        5 => {
            disk.crash_after(random.below(60));
            drop(run_until_crash(
                &disk,
                seed,
                recover_and_work(Rc::clone(&past), seed, 6),
            ));
            end(&disk, &mut random)
        }
        // A failure in the start or soon after.
        6 => {
            plan_failure(&disk, &mut random, 40);
            let life = recover_and_work(Rc::clone(&past), seed, 6);
            expect_expected(run_until_crash(&disk, seed, life).expect("nothing stops it"));
            disk.heal();
            end(&disk, &mut random)
        }
        _ => {
            expect_recovery(&disk, seed, &past, 12);
            end(&disk, &mut random)
        }
    };
    expect_recovery(&disk, seed + 1, &past, 2);
    2
}

fn expect_recovery(disk: &Disk, seed: u64, past: &SharedPast, steps: usize) {
    let life = recover_and_work(Rc::clone(past), seed, steps);
    run(disk, life).expect("a disk after a crash can be opened and worked on");
}

/// A device that lost what it said was written can make a start be refused, or batches be reported as
/// damaged. It cannot make anything else be read than what was written.
fn check_after_lies(disk: &Disk, past: SharedPast) {
    run(disk, async move {
        let shards = past.borrow().shards();
        match recover(&past, shards, Exactness::OrReportedDamage).await {
            Ok(_) | Err(StorageError::Corruption { .. } | StorageError::Journal(_)) => {}
            Err(error) => panic!("lies led to: {error}"),
        }
    });
}

/// Checks a case; a failure names it.
fn check_case(case: Case, picture: &Picture) -> u64 {
    catch_unwind(AssertUnwindSafe(|| check_picture(case, picture)))
        .unwrap_or_else(|panic| fail(case, panic))
}

fn fail(case: Case, panic: Box<dyn std::any::Any + Send>) -> ! {
    say(&format!(
        "violation: {case}; repeat it with\n  STREAMBUS_CRASH_CASE={case} cargo test -p streambus-storage --test simulated crash::one_case"
    ));
    resume_unwind(panic)
}

/// Past the test harness, which keeps what passing tests print to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn points_wanted() -> u64 {
    std::env::var("STREAMBUS_CRASH_POINTS").map_or(POINTS_DEFAULT, |points| {
        points.parse().expect("STREAMBUS_CRASH_POINTS is a number")
    })
}

/// Crashes every run of one seed after another at every operation, until `percent` of the wanted points
/// are done.
fn check_everywhere(ending: Ending, percent: u64) {
    let wanted = points_wanted() * percent / 100;
    let (mut points, mut seed) = (0, 0);
    while points < wanted {
        seed += 1;
        let case = |point| Case {
            ending,
            seed,
            point,
        };
        let pictures = catch_unwind(|| live(ending, seed, |_| true))
            .unwrap_or_else(|panic| fail(case(0), panic));
        for (point, picture) in (0..).zip(&pictures) {
            points += check_case(case(point), picture);
        }
    }
    say(&format!(
        "crash points: {points}, violations: 0 ({ending:?}, {seed} seeds)"
    ));
}

#[test]
fn what_was_acknowledged_survives_a_power_loss_at_any_operation() {
    check_everywhere(Ending::PowerLoss, 40);
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation() {
    check_everywhere(Ending::Kill, 15);
}

#[test]
fn what_was_recovered_after_a_kill_survives_a_power_loss() {
    check_everywhere(Ending::KillThenPowerLoss, 15);
}

#[test]
fn what_was_acknowledged_survives_failed_operations() {
    check_everywhere(Ending::Failure, 20);
}

#[test]
fn what_a_lying_disk_lost_is_never_replaced_by_anything_else() {
    check_everywhere(Ending::Lie, 10);
}

/// Checks one case again; `false` when the run of its seed has no such operation any more.
fn repeat(case: Case) -> bool {
    let Case {
        ending,
        seed,
        point,
    } = case;
    let pictures = live(ending, seed, move |at| at == point);
    if let Some(picture) = pictures.first() {
        check_case(case, picture);
    }
    !pictures.is_empty()
}

#[test]
fn found_failures_stay_fixed() {
    for case in FOUND {
        if !repeat(case.parse().expect("a case")) {
            say(&format!("{case}: the run ends before"));
        }
    }
}

/// The case of `STREAMBUS_CRASH_CASE`.
#[test]
fn one_case() {
    if let Ok(case) = std::env::var("STREAMBUS_CRASH_CASE") {
        let is_there = repeat(case.parse().expect("STREAMBUS_CRASH_CASE"));
        assert!(is_there, "the run of this seed has that point");
    }
}

/// Equal seeds give equal runs: else no failure could be repeated.
#[test]
fn a_run_follows_from_its_seed() {
    for ending in [Ending::PowerLoss, Ending::Failure, Ending::Lie] {
        let files = || {
            let pictures = live(ending, 3, |_| true);
            let last = pictures.last().expect("a run of some operations");
            let files = last.disk.files().into_iter();
            // Not the content: the journal's id is drawn at random.
            let bytes = files.map(|path| (last.disk.read(&path).map(|file| file.len()), path));
            (pictures.len(), bytes.collect::<Vec<_>>())
        };
        assert!(files() == files(), "{ending:?}");
    }
}

/// What the crashes are worth for direct appends, and for compaction.
#[test]
fn random_work_goes_through_the_journal_and_direct_and_compacts() {
    let past: SharedPast = Rc::new(RefCell::new(Past::new(1)));
    let life = async move {
        let mut shards = recover(&past, 1, Exactness::Whole).await?;
        let mut worker = Worker::new(5, &past, Scope::OneHonestStart);
        worker.work(&mut shards, 400).await?;
        Ok::<_, StorageError>(shards.of(0).counts())
    };
    let counts = run(&Disk::new(), life).expect("nothing fails");
    let (direct, all) = (counts.direct_bytes, counts.segment_bytes);
    assert!(direct > all / 10, "{direct} of {all} bytes went direct");
    assert!(direct < all / 2, "{direct} of {all} bytes went direct");
    let cleaner = counts.cleaner;
    assert!(cleaner.rounds > 10, "{cleaner:?}");
    assert!(cleaner.segments > cleaner.rounds, "{cleaner:?}");
    assert!(cleaner.bytes_dropped > all / 20, "{cleaner:?}");
    assert_eq!(cleaner.failures, 0, "nothing fails");
}

/// Longer runs without crashes.
#[test]
fn random_work_agrees_with_the_model() {
    for seed in 100..108 {
        let past: SharedPast = Rc::new(RefCell::new(Past::new(1)));
        let mut random = Random::new(seed);
        let life = async move {
            let mut shards = recover(&past, 1, Exactness::Whole).await?;
            let mut worker = Worker::new(random.next_u64(), &past, Scope::Everything);
            worker.work(&mut shards, 400).await?;
            worker.compare(&shards).await?;
            shards.close().await
        };
        catch_unwind(AssertUnwindSafe(|| {
            run(&Disk::new(), life).expect("nothing fails");
        }))
        .unwrap_or_else(|panic| {
            say(&format!("seed {seed}"));
            resume_unwind(panic)
        });
    }
}
