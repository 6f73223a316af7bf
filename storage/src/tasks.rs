//! Counts of a storage's tasks that end, and what happens when one of them panics.
//!
//! *Place*: held by each task of the write-behind. *Invariants*: **I1** one checkpoint at a time.
//! **I2** a panic in a task (a broken invariant) takes the storage offline: nothing is acknowledged on
//! a state that contradicts itself.

use std::cell::Cell;
use std::rc::Rc;

use crate::engine::Engine;
use crate::error::StorageError;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Write,
    Direct,
    Removal,
    Checkpoint,
    Cleaning,
}

/// How many tasks of each kind run.
#[derive(Default)]
pub(crate) struct Tasks {
    writes: Cell<usize>,
    directs: Cell<usize>,
    removals: Cell<usize>,
    checkpoints: Cell<usize>,
    cleanings: Cell<usize>,
}

impl Tasks {
    fn counter(&self, kind: TaskKind) -> &Cell<usize> {
        match kind {
            TaskKind::Write => &self.writes,
            TaskKind::Direct => &self.directs,
            TaskKind::Removal => &self.removals,
            TaskKind::Checkpoint => &self.checkpoints,
            TaskKind::Cleaning => &self.cleanings,
        }
    }

    pub(crate) fn count(&self, kind: TaskKind) -> usize {
        self.counter(kind).get()
    }

    pub(crate) fn is_idle(&self) -> bool {
        let short = self.writes.get() + self.removals.get() + self.checkpoints.get();
        short + self.directs.get() + self.cleanings.get() == 0
    }
}

/// A running task, counted until it is dropped.
pub(crate) struct Task {
    engine: Rc<Engine>,
    kind: TaskKind,
}

impl Task {
    pub(crate) fn begin(engine: &Rc<Engine>, kind: TaskKind) -> Self {
        let counter = engine.tasks.counter(kind);
        counter.set(counter.get() + 1);
        Task {
            engine: Rc::clone(engine),
            kind,
        }
    }

    /// The turn to make a checkpoint, unless one is being made.
    pub(crate) fn try_checkpoint_turn(engine: &Rc<Engine>) -> Option<Self> {
        (engine.tasks.count(TaskKind::Checkpoint) == 0)
            .then(|| Self::begin(engine, TaskKind::Checkpoint))
    }

    /// Waits for the turn to make a checkpoint.
    pub(crate) async fn wait_for_checkpoint_turn(engine: &Rc<Engine>) -> Self {
        loop {
            if let Some(turn) = Self::try_checkpoint_turn(engine) {
                return turn;
            }
            engine.progress.notified().await;
        }
    }

    pub(crate) fn kind(&self) -> TaskKind {
        self.kind
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let counter = self.engine.tasks.counter(self.kind);
        counter.set(counter.get() - 1);
        if std::thread::panicking() {
            self.engine.fail(&StorageError::Offline {
                reason: format!("a {:?} task panicked", self.kind),
            });
        }
        self.engine.wake.notify_one();
        self.engine.progress.notify_waiters();
    }
}
