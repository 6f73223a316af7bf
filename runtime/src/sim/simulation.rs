//! Runs a program in a simulated world and tells how it ended.

use std::cell::RefCell;
use std::future::Future;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::disk::Disk;
use super::world::{Entered, Schedule, Stop, World, current};
use crate::time::Instant;

/// Polls after which a program is taken to run in circles.
const STEPS_MAX: u64 = 20_000_000;
/// 2023-11-14: any date that is not zero.
const WALL_CLOCK_START_MS: i64 = 1_700_000_000_000;

/// A run to be: a seed and what else it depends on.
#[derive(Debug)]
pub struct Simulation {
    seed: u64,
    disk: Disk,
    schedule: Schedule,
    panics_allowed: bool,
    power_off_at: Option<Duration>,
}

/// How a run ended.
#[derive(Debug)]
pub enum End<T> {
    /// The program returned.
    Done(T),
    /// The disk's crash point came, or [`Simulation::power_off_at`].
    Crashed,
    /// No task could run and no timer was set.
    Deadlock {
        /// Tasks that waited, the program among them; see [`Outcome::unfinished`].
        tasks: usize,
    },
    /// The program took more polls than [`Simulation::steps_max`] allows.
    TooManySteps,
}

/// What a run gave.
#[derive(Debug)]
pub struct Outcome<T> {
    /// How it ended.
    pub end: End<T>,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// How often tasks were polled.
    pub steps: u64,
    /// A fingerprint of all that happened in order: equal for equal runs.
    pub trace: u64,
    /// Messages of panics in tasks.
    pub panics: Vec<String>,
    /// Where the tasks were spawned that had not finished at the end; the program first, if it is one.
    pub unfinished: Vec<String>,
}

impl<T> Outcome<T> {
    /// The program's result.
    ///
    /// # Panics
    /// If it did not return.
    pub fn value(self) -> T {
        match self.end {
            End::Done(value) => value,
            End::Crashed => panic!("the disk crashed before the program returned"),
            End::Deadlock { tasks } => {
                panic!(
                    "deadlock: {tasks} tasks wait for nothing: {:#?}",
                    self.unfinished
                )
            }
            End::TooManySteps => panic!("still running after {} polls", self.steps),
        }
    }

    /// Whether the disk's crash point ended it.
    pub fn is_crashed(&self) -> bool {
        matches!(self.end, End::Crashed)
    }
}

impl Simulation {
    /// A run with an empty disk; `seed` decides the order of tasks, all delays and all that is drawn.
    pub fn new(seed: u64) -> Self {
        let schedule = Schedule {
            shuffle: true,
            steps_max: STEPS_MAX,
            wall_clock_start_ms: WALL_CLOCK_START_MS,
        };
        Simulation {
            seed,
            disk: Disk::new(),
            schedule,
            panics_allowed: false,
            power_off_at: None,
        }
    }

    /// Runs on `disk`, which can be looked at and crashed afterwards.
    #[must_use]
    pub fn disk(mut self, disk: &Disk) -> Self {
        self.disk = disk.clone();
        self
    }

    /// Whether the seed chooses which of the runnable tasks is next (it does); else the first is.
    #[must_use]
    pub fn shuffle_tasks(mut self, shuffle: bool) -> Self {
        self.schedule.shuffle = shuffle;
        self
    }

    /// Ends the run after so many polls.
    #[must_use]
    pub fn steps_max(mut self, steps: u64) -> Self {
        self.schedule.steps_max = steps;
        self
    }

    /// What `wall_clock_ms` answers at the start.
    #[must_use]
    pub fn wall_clock_ms(mut self, start_ms: i64) -> Self {
        self.schedule.wall_clock_start_ms = start_ms;
        self
    }

    /// Stops the machine after so much virtual time, between two operations or in the middle of some.
    #[must_use]
    pub fn power_off_at(mut self, elapsed: Duration) -> Self {
        self.power_off_at = Some(elapsed);
        self
    }

    /// A task may panic without failing the run; see [`Outcome::panics`].
    #[must_use]
    pub fn allow_panics(mut self) -> Self {
        self.panics_allowed = true;
        self
    }

    /// Runs `program` until it returns, the disk crashes, or nothing can go on; then ends all tasks.
    ///
    /// # Panics
    /// If the program panics, or one of its tasks does without [`Self::allow_panics`].
    #[track_caller]
    pub fn run<F>(self, program: F) -> Outcome<F::Output>
    where
        F: Future + 'static,
    {
        self.disk.begin_run(self.seed);
        let world = World::new(self.seed, self.disk, self.schedule);
        let entered = Entered::new(&world);
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let program = async move {
            let output = program.await;
            *slot.borrow_mut() = Some(output);
        };
        world.spawn(Box::pin(program), Location::caller());
        if let Some(elapsed) = self.power_off_at {
            world.after(elapsed, power_off);
        }
        // A panic of the program itself unwinds from here; its world is cleared on the way.
        let cleared = Cleared { world: &world };
        let stop = world.run_until(|| result.borrow().is_some());
        let unfinished = world.unfinished();
        drop(cleared);
        drop(entered);
        let panics = world.panics();
        assert!(
            panics.is_empty() || self.panics_allowed,
            "tasks panicked: {panics:#?}"
        );
        let value = result.borrow_mut().take();
        let end = match (stop, value) {
            (_, Some(value)) => End::Done(value),
            (Stop::TooManySteps, None) => End::TooManySteps,
            (Stop::Halted, None) => End::Crashed,
            (Stop::Deadlock | Stop::Done, None) => End::Deadlock {
                tasks: unfinished.len(),
            },
        };
        let elapsed = world.now() - Instant::default();
        Outcome {
            end,
            elapsed,
            steps: world.steps(),
            trace: world.trace(),
            panics,
            unfinished,
        }
    }
}

fn power_off() {
    let world = current().expect("events happen inside a simulation");
    world.disk().power_off();
    world.halt();
}

struct Cleared<'a> {
    world: &'a World,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.world.clear();
    }
}
