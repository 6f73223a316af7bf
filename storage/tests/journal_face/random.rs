//! Random programs against a model: sizes, waits, releases, restarts, crashes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use runtime::sim::Disk;
use runtime::time;
use storage::journal::{RecordView, Sequence};

use crate::world::{
    Opened, Records, append, data, new_disk, open_from, run, run_until_crash, seeds,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Append {
        bytes: usize,
    },
    Control,
    Commit,
    /// Releases this part of what is durable, in percent.
    Release {
        percent: u64,
    },
    Sleep {
        us: u64,
    },
    Close,
    Crash {
        seed: u64,
        after: u64,
    },
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..3000).prop_map(|bytes| Step::Append { bytes }),
        2 => (0usize..40_000).prop_map(|bytes| Step::Append { bytes }),
        2 => Just(Step::Control),
        5 => Just(Step::Commit),
        3 => (0u64..=100).prop_map(|percent| Step::Release { percent }),
        2 => (0u64..2000).prop_map(|us| Step::Sleep { us }),
        1 => Just(Step::Close),
        1 => (any::<u64>(), 0u64..12).prop_map(|(seed, after)| Step::Crash { seed, after }),
        1 => Just(Step::Kill),
    ]
}

/// What must be true after the next start.
#[derive(Debug, Default)]
struct Model {
    /// Data length by sequence; none for a record without data.
    records: RefCell<Vec<Option<usize>>>,
    durable: Cell<u64>,
    released: Cell<u64>,
    next_step: Cell<usize>,
}

impl Model {
    fn check(&self, opened: &Opened) {
        let last = u64::from(opened.journal.last_sequence());
        assert!(
            last >= self.durable.get(),
            "{} was durable, {last} is there",
            self.durable.get()
        );
        let mut records = self.records.borrow_mut();
        assert!(last <= records.len() as u64, "{last} was never appended");
        let expected: Records = (self.released.get() + 1..=last)
            .map(|number| {
                (
                    number,
                    records[number as usize - 1].map_or(Vec::new(), |bytes| data(number, bytes)),
                )
            })
            .collect();
        assert_eq!(opened.records, expected);
        records.truncate(last as usize);
        self.durable.set(last);
    }

    fn note(&self, sequence: Sequence, bytes: Option<usize>) {
        let mut records = self.records.borrow_mut();
        records.push(bytes);
        assert_eq!(records.len() as u64, u64::from(sequence));
    }
}

/// Runs steps from `model.next_step` to the next one that ends the process.
async fn live(model: Rc<Model>, steps: Rc<Vec<Step>>, disk: Disk) {
    let opened = open_from(model.released.get() + 1).await;
    model.check(&opened);
    let journal = opened.journal;
    while let Some(step) = steps.get(model.next_step.get()) {
        model.next_step.set(model.next_step.get() + 1);
        match *step {
            Step::Append { bytes } => {
                // A full journal waits for the release of everything.
                if time::timeout(Duration::from_secs(2), journal.room(bytes))
                    .await
                    .is_err()
                {
                    journal.committed(journal.last_sequence()).await.unwrap();
                    model.durable.set(journal.durable_sequence().into());
                    model.released.set(model.durable.get());
                    journal.release_through(journal.durable_sequence());
                    journal.room(bytes).await.unwrap();
                }
                let number = u64::from(journal.last_sequence()) + 1;
                model.note(append(&journal, number, bytes), Some(bytes));
            }
            Step::Control => {
                let incarnation = u64::from(journal.last_sequence()) + 1;
                model.note(
                    journal.append(RecordView::LogStart {
                        incarnation,
                        offset: 3,
                    }),
                    None,
                );
            }
            Step::Commit => {
                journal.committed(journal.last_sequence()).await.unwrap();
                model.durable.set(journal.durable_sequence().into());
            }
            Step::Release { percent } => {
                let durable = u64::from(journal.durable_sequence());
                let released =
                    model.released.get() + (durable - model.released.get()) * percent / 100;
                model.durable.set(durable);
                model.released.set(released);
                journal.release_through(Sequence::from(released));
            }
            Step::Sleep { us } => time::sleep(Duration::from_micros(us)).await,
            Step::Close => {
                journal.close().await.unwrap();
                model.durable.set(journal.durable_sequence().into());
                return;
            }
            Step::Crash { after, .. } => disk.crash_after(after),
            Step::Kill => return,
        }
    }
}

fn check_program(seed: u64, steps: Vec<Step>) {
    let (model, steps) = (Rc::new(Model::default()), Rc::new(steps));
    let mut disk = new_disk();
    loop {
        let program = live(model.clone(), steps.clone(), disk.clone());
        let ended = run_until_crash(&disk, seed, program).is_some();
        let last = steps.get(model.next_step.get().wrapping_sub(1));
        let crash_seed = match last {
            Some(Step::Crash { seed, .. }) => *seed,
            _ => seed,
        };
        // Whoever asked for a crash and came to the end before it is killed instead.
        disk = if ended {
            disk.kill()
        } else {
            disk.crash(crash_seed)
        };
        disk.heal();
        if ended && model.next_step.get() >= steps.len() {
            break;
        }
    }
    let checked = model.clone();
    run(&disk, async move {
        let opened = open_from(checked.released.get() + 1).await;
        checked.check(&opened);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100 * seeds() as u32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_programs_agree_with_the_model(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        check_program(seed, steps);
    }
}
