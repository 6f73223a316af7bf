//! One simulated machine: tasks, virtual time, and what its disk and network do later.
//!
//! *Place*: made by `Simulation::run`; the face modules find it by [`current`]. *Invariants*: **I1** all
//! that happens follows from the seed: nothing here depends on addresses, hashes or the real clock.
//! **I2** time moves only when no task can run.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::disk::Disk;
use super::network::Network;
use super::random::Random;
use crate::time::Instant;

thread_local! {
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The world of this thread, if a simulation runs on it.
pub(crate) fn current() -> Option<Rc<World>> {
    CURRENT.with_borrow(Clone::clone)
}

/// As [`current`], without counting a reference.
pub(crate) fn with_current<T>(look: impl FnOnce(&World) -> T) -> Option<T> {
    CURRENT.with_borrow(|world| world.as_deref().map(look))
}

/// Makes `world` the current one until dropped.
pub(super) struct Entered;

impl Entered {
    pub(super) fn new(world: &Rc<World>) -> Self {
        CURRENT.with_borrow_mut(|current| {
            assert!(
                current.is_none(),
                "a simulation runs on this thread already"
            );
            *current = Some(world.clone());
        });
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// Taken out while it is polled.
    future: RefCell<Option<TaskFuture>>,
    wake: Arc<TaskWaker>,
    waker: Waker,
    spawned_at: &'static Location<'static>,
}

/// Which tasks want to run. Wakers may be sent anywhere, hence the lock, which nobody contends for.
#[derive(Default)]
struct ReadyQueue {
    ids: Mutex<VecDeque<u64>>,
}

impl ReadyQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().push_back(self.id);
        }
    }
}

/// What happens at a time.
enum Event {
    Wake(Waker),
    Run(Box<dyn FnOnce()>),
}

/// What remained when [`World::run_until`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Done,
    Halted,
    Deadlock,
    TooManySteps,
}

/// How tasks are run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) shuffle: bool,
    pub(super) steps_max: u64,
    pub(super) wall_clock_start_ms: i64,
}

/// One simulated machine.
pub(crate) struct World {
    clock: Cell<u64>,
    random: RefCell<Random>,
    schedule: Schedule,
    ready: Arc<ReadyQueue>,
    tasks: RefCell<BTreeMap<u64, Rc<Task>>>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_id: Cell<u64>,
    steps: Cell<u64>,
    trace: Cell<u64>,
    halted: Cell<bool>,
    panics: RefCell<Vec<String>>,
    disk: Disk,
    network: Network,
}

impl World {
    pub(super) fn new(seed: u64, disk: Disk, schedule: Schedule) -> Rc<World> {
        let mut random = Random::new(seed);
        let network = Network::new(random.fork());
        Rc::new(World {
            clock: Cell::new(0),
            random: RefCell::new(random),
            schedule,
            ready: Arc::default(),
            tasks: RefCell::default(),
            events: RefCell::default(),
            next_id: Cell::new(0),
            steps: Cell::new(0),
            trace: Cell::new(seed),
            halted: Cell::new(false),
            panics: RefCell::default(),
            disk,
            network,
        })
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.get())
    }

    pub(crate) fn wall_clock_ms(&self) -> i64 {
        self.schedule.wall_clock_start_ms + (self.clock.get() / 1_000_000) as i64
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// Stops the machine: nothing runs any more.
    pub(super) fn halt(&self) {
        self.halted.set(true);
    }

    pub(crate) fn should_yield(&self) -> bool {
        self.random.borrow_mut().chance(1, 4)
    }

    pub(crate) fn note_panic(&self, message: &str) {
        self.panics.borrow_mut().push(message.to_owned());
    }

    pub(super) fn panics(&self) -> Vec<String> {
        self.panics.borrow().clone()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace.get()
    }

    /// Where the tasks that have not finished were spawned, oldest first.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let tasks = self.tasks.borrow();
        tasks
            .values()
            .map(|task| task.spawned_at.to_string())
            .collect()
    }

    /// Adds to the fingerprint of the run.
    pub(super) fn note(&self, what: u64) {
        let mixed = self.trace.get().rotate_left(5) ^ what ^ self.clock.get();
        self.trace.set(mixed.wrapping_mul(0x517C_C1B7_2722_0A95));
    }

    pub(crate) fn spawn(&self, future: TaskFuture, spawned_at: &'static Location<'static>) {
        let id = self.fresh_id();
        let (queued, ready) = (AtomicBool::new(false), self.ready.clone());
        let wake = Arc::new(TaskWaker { id, queued, ready });
        let waker = Waker::from(wake.clone());
        let future = RefCell::new(Some(future));
        let task = Task {
            future,
            wake,
            waker: waker.clone(),
            spawned_at,
        };
        self.tasks.borrow_mut().insert(id, Rc::new(task));
        waker.wake();
    }

    fn fresh_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Runs `action` after `delay`, whoever still waits for it.
    pub(super) fn after(&self, delay: Duration, action: impl FnOnce() + 'static) {
        let at = (self.now() + delay).as_nanos();
        let event = Event::Run(Box::new(action));
        self.events
            .borrow_mut()
            .insert((at, self.fresh_id()), event);
    }

    pub(crate) fn sleep_until(self: Rc<Self>, deadline: Instant) -> Sleep {
        Sleep {
            world: self,
            deadline,
            key: None,
        }
    }

    /// Runs until `done` answers true or nothing can go on.
    pub(super) fn run_until(&self, done: impl Fn() -> bool) -> Stop {
        loop {
            while let Some(id) = self.next_ready() {
                self.poll_task(id);
                if self.halted.get() {
                    return Stop::Halted;
                }
                if done() {
                    return Stop::Done;
                }
                if self.steps.get() >= self.schedule.steps_max {
                    return Stop::TooManySteps;
                }
            }
            if !self.fire_next_event() {
                return Stop::Deadlock;
            }
            if self.halted.get() {
                return Stop::Halted;
            }
        }
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ids = self.ready.lock();
        if self.schedule.shuffle && ids.len() > 1 {
            let at = self.random.borrow_mut().index(ids.len());
            return ids.remove(at);
        }
        ids.pop_front()
    }

    fn poll_task(&self, id: u64) {
        let entry = self.tasks.borrow().get(&id).cloned();
        // A task that has finished may still be woken.
        let Some(task) = entry else { return };
        task.wake.queued.store(false, Ordering::Release);
        self.steps.set(self.steps.get() + 1);
        self.note(id);
        let Some(mut future) = task.future.borrow_mut().take() else {
            return;
        };
        match future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
            Poll::Ready(()) => drop(self.tasks.borrow_mut().remove(&id)),
            Poll::Pending => *task.future.borrow_mut() = Some(future),
        }
    }

    fn fire_next_event(&self) -> bool {
        let first = self.events.borrow_mut().pop_first();
        let Some(((at, _), event)) = first else {
            return false;
        };
        assert!(
            at >= self.clock.get() || matches!(event, Event::Wake(_)),
            "time runs forwards"
        );
        self.clock.set(self.clock.get().max(at));
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Run(action) => action(),
        }
        true
    }

    /// Drops what has not finished, as the end of a process does. Called with the world still
    /// current, because what is dropped may look at the clock or spawn.
    pub(super) fn clear(&self) {
        for _ in 0..CLEAR_ROUNDS_MAX {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            let events = std::mem::take(&mut *self.events.borrow_mut());
            if tasks.is_empty() && events.is_empty() {
                break;
            }
            drop((tasks, events));
        }
        self.network.clear();
    }
}

/// Dropping a task may start others; a machine that stops does not wait for ever.
const CLEAR_ROUNDS_MAX: usize = 16;

/// A timer.
pub(crate) struct Sleep {
    world: Rc<World>,
    deadline: Instant,
    /// Where it stands among the events.
    key: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.world.now() >= self.deadline {
            return Poll::Ready(());
        }
        let key = match self.key {
            Some(key) => key,
            None => (self.deadline.as_nanos(), self.world.fresh_id()),
        };
        self.key = Some(key);
        let event = Event::Wake(context.waker().clone());
        self.world.events.borrow_mut().insert(key, event);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let event = self.world.events.borrow_mut().remove(&key);
            drop(event);
        }
    }
}
