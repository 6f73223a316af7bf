//! A shard's runtime: its ring, timers and tasks, and the driver that decides when to block.
//!
//! *Place*: made by [`super::run_shard`]; found by every operation through a thread-local.
//! *Core*: one per shard thread.
//! *Ordering*: glommio runs tasks until none is runnable or [`POLLS_PER_TURN`] were polled; then the
//! driver enters the kernel once for all they have asked for, and wakes whom the completions are for:
//!
//! ```text
//!   tasks run ──► queue submissions ──► last one wakes the driver
//!       ▲                                      │ flush (blocks only if no task is runnable)
//!       └── wakers of completions, timers, ◄───┘ reap
//!           foreign wake-ups
//! ```
//!
//! The driver blocks in *our* ring, not in glommio's: one system call submits, waits and fetches,
//! where parking glommio and waking it through an eventfd takes about ten. So nothing on a shard may
//! wait on glommio's own timers, files or channels: while the driver blocks, glommio does not look.
//! *Invariants*: I2 of [`super::task`].
//! *Limits*: [`POLLS_PER_TURN`] polls between two looks at the ring while tasks stay runnable, and
//! for a class while others have runnable tasks; one poll where a task has given way because it took long.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{squeue, types};
use slab::Slab;

use super::blocking::Helper;
use super::lulls::Lulls;
use super::naps::{DurableWrite, Naps};
use super::signal::Signal;
use super::system;
use super::task::{Task, TaskCore};
use super::timers::Timers;
use crate::ring::operation::Operation;
use crate::ring::slots::{Memory, OnDrop};
use crate::ring::{Ring, Wait};
use crate::task::Class;
use crate::time;

/// Task polls after which the driver and the other classes get their turn even if tasks of the class
/// that runs are still runnable.
const POLLS_PER_TURN: u32 = 64;
/// How long one poll may take before [`Shard::should_yield`] says so.
const POLL_TIME: Duration = Duration::from_micros(200);

/// The glommio queues of a shard, one per class and one for the driver.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) network: glommio::TaskQueueHandle,
    pub(super) storage: glommio::TaskQueueHandle,
    pub(super) background: glommio::TaskQueueHandle,
}

/// The runtime state of one shard thread.
pub(crate) struct Shard {
    ring: Rc<RefCell<Ring>>,
    pub(super) timers: RefCell<Timers>,
    signal: Arc<Signal>,
    helper: Helper,
    /// Syncs whole file systems, for which no other call is to wait.
    syncer: Helper,
    queues: Queues,
    /// glommio's wakers of all live tasks; `None` until a task's first poll.
    wakers: RefCell<Slab<Option<Waker>>>,
    runnable: Cell<usize>,
    polls: Cell<u32>,
    poll_looked_at: Cell<Option<time::Instant>>,
    /// The poll that runs was told that it takes long.
    is_long_poll: Cell<bool>,
    driver: RefCell<Option<Waker>>,
    driver_scheduled: Cell<bool>,
    lulls: Lulls,
    naps: Rc<Naps>,
    main_over: Cell<bool>,
    stopping: Cell<bool>,
    /// Wakes the root when the main task is over, and again when the last task is gone.
    root: RefCell<Option<Waker>>,
    scratch: RefCell<Scratch>,
}

/// Vectors the driver fills and empties at every turn, kept for their capacity.
#[derive(Default)]
struct Scratch {
    woken: Vec<Waker>,
    tasks: Vec<Arc<TaskCore>>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("runnable", &self.runnable.get())
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// The shard of this thread, while its executor runs.
    static CURRENT: RefCell<Option<Rc<Shard>>> = const { RefCell::new(None) };
    /// Address of the current shard's signal, for a look without touching the `Rc`.
    static OWNER: Cell<*const Signal> = const { Cell::new(std::ptr::null()) };
}

/// Makes `shard` this thread's, or none.
pub(super) fn set_current(shard: Option<Rc<Shard>>) {
    OWNER.set(
        shard
            .as_ref()
            .map_or(std::ptr::null(), |shard| Arc::as_ptr(&shard.signal)),
    );
    CURRENT.set(shard);
}

/// The shard of this thread.
///
/// # Panics
/// If this thread is not a shard: the operations of this crate need one.
pub(crate) fn current() -> Rc<Shard> {
    try_current().expect("called outside of a shard's thread")
}

/// The shard of this thread, if it is one.
pub(super) fn try_current() -> Option<Rc<Shard>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `f` with this thread's shard if it is the one that owns `signal`; false if not.
pub(super) fn with_owner(signal: &Arc<Signal>, f: impl FnOnce(&Shard)) -> bool {
    if OWNER.get() != Arc::as_ptr(signal) {
        return false;
    }
    CURRENT.with_borrow(|shard| match shard {
        Some(shard) => {
            f(shard);
            true
        }
        None => false,
    })
}

/// Makes glommio go on with the class that is farthest behind. The future marks the running queue at
/// its first poll; the rest of it would put this task to the end of its queue.
fn end_turn_of_class() {
    let executor = glommio::executor();
    let marking = std::pin::pin!(executor.yield_task_queue_now());
    let _ = marking.poll(&mut Context::from_waker(Waker::noop()));
}

impl Shard {
    pub(super) fn new(queues: Queues) -> io::Result<Self> {
        system::sleep_exactly()?;
        let signal = Signal::new()?;
        let ring = Ring::new(Rc::new(signal.descriptor()?))?;
        Ok(Self {
            ring: Rc::new(RefCell::new(ring)),
            timers: RefCell::default(),
            signal: Arc::new(signal),
            helper: Helper::default(),
            syncer: Helper::default(),
            queues,
            wakers: RefCell::default(),
            runnable: Cell::new(0),
            polls: Cell::new(0),
            poll_looked_at: Cell::new(None),
            is_long_poll: Cell::new(false),
            driver: RefCell::new(None),
            driver_scheduled: Cell::new(true),
            lulls: Lulls::default(),
            naps: Rc::default(),
            main_over: Cell::new(false),
            stopping: Cell::new(false),
            root: RefCell::new(None),
            scratch: RefCell::default(),
        })
    }

    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// The thread for calls that block.
    pub(super) fn helper(&self) -> &Helper {
        &self.helper
    }

    pub(super) fn syncer(&self) -> &Helper {
        &self.syncer
    }

    /// See [`Ring::hold`].
    pub(crate) fn hold(&self, files: &[RawFd]) -> io::Result<()> {
        self.ring.borrow_mut().hold(files)
    }

    /// Starts an operation on the ring; see [`Ring::start`].
    pub(super) fn start(
        &self,
        descriptor: &Rc<OwnedFd>,
        memory: Memory,
        on_drop: OnDrop,
        build: impl FnOnce(types::Fd, &mut Memory) -> squeue::Entry,
    ) -> Operation {
        let key = self
            .ring
            .borrow_mut()
            .start(descriptor, memory, on_drop, build);
        Operation::new(Rc::clone(&self.ring), key)
    }

    /// The same for an operation that is about memory alone, and ends by itself.
    pub(super) fn start_without_file(
        &self,
        memory: Memory,
        build: impl FnOnce() -> squeue::Entry,
    ) -> Operation {
        // A slot has a descriptor; this one lives as long as the ring.
        let descriptor = self.ring.borrow().wake_up();
        self.start(&descriptor, memory, OnDrop::Finish, |_, _| build())
    }

    /// Puts a future into the queue of its class.
    pub(super) fn spawn(
        self: &Rc<Self>,
        class: Class,
        future: impl Future<Output = ()> + Unpin + 'static,
    ) {
        let queue = match class {
            Class::Network => self.queues.network,
            Class::Storage => self.queues.storage,
            Class::Background => self.queues.background,
        };
        glommio::spawn_local_into(Task::new(Rc::clone(self), future), queue)
            .expect("the queues of a shard live as long as its executor")
            .detach();
    }

    // --- bookkeeping of tasks, called by `task` ---

    pub(super) fn runnable_add(&self) {
        self.runnable.set(self.runnable.get() + 1);
    }

    pub(super) fn runnable_remove(&self) {
        let runnable = self.runnable.get();
        assert!(runnable > 0, "more tasks ran than were runnable");
        self.runnable.set(runnable - 1);
    }

    pub(super) fn reserve_waker(&self) -> usize {
        self.wakers.borrow_mut().insert(None)
    }

    pub(super) fn register_waker(&self, key: usize, waker: Waker) {
        self.wakers.borrow_mut()[key] = Some(waker);
    }

    /// A task is gone.
    pub(super) fn forget_waker(&self, key: usize) {
        // Taken out before it is dropped: the drop may run into glommio.
        let waker = self.wakers.borrow_mut().remove(key);
        drop(waker);
        if self.stopping.get() && self.wakers.borrow().is_empty() {
            self.wake_root();
        }
    }

    /// Puts an idle task into its glommio queue. A task that was never polled stands there already.
    pub(super) fn wake_glommio(&self, key: usize) {
        if let Some(Some(waker)) = self.wakers.borrow().get(key) {
            waker.wake_by_ref();
        }
    }

    /// After every poll of a task: lets the driver run when there is nothing else to run, or when
    /// it has not run for long.
    pub(super) fn after_poll(&self) {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        self.poll_looked_at.set(None);
        let was_long = self.is_long_poll.take();
        if self.runnable.get() == 0 {
            self.schedule_driver();
        } else if was_long || polls >= POLLS_PER_TURN {
            self.schedule_driver();
            end_turn_of_class();
        }
    }

    /// Notes that a durable write is under way until the answer is dropped.
    pub(super) fn begin_durable_write(&self) -> DurableWrite {
        self.naps.begin_durable_write()
    }

    /// Wakes `waker` after the first turn of the driver that leaves nothing to run, or after `turns`.
    pub(super) fn wait_for_lull(&self, waker: Waker, turns: u32) {
        self.lulls.add(waker, turns);
    }

    /// Whether the running poll has gone on for long, counted from the first time it asks.
    pub(super) fn should_yield(&self) -> bool {
        let now = time::now();
        if let Some(first) = self.poll_looked_at.get() {
            let is_long = now - first >= POLL_TIME;
            self.is_long_poll.set(is_long);
            return is_long;
        }
        self.poll_looked_at.set(Some(now));
        false
    }

    fn schedule_driver(&self) {
        if self.driver_scheduled.replace(true) {
            return;
        }
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    // --- stopping ---

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn wake_root(&self) {
        // Taken out first: the wake-up runs into glommio.
        let root = self.root.borrow_mut().take();
        if let Some(root) = root {
            root.wake();
        }
    }

    /// The main task is over: the driver must not block any more, the root takes the shard down.
    pub(super) fn end_main(&self) {
        self.main_over.set(true);
        self.wake_root();
    }

    /// Resolves when the main task is over.
    pub(super) async fn main_ended(&self) {
        self.root_waits_for(|| self.main_over.get()).await;
    }

    async fn root_waits_for(&self, condition: impl Fn() -> bool) {
        std::future::poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            *self.root.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends every task (its future is dropped at its next poll) and resolves when none is left.
    /// The driver has ended by then, or ends at its next turn.
    pub(super) async fn stop_tasks(&self) {
        self.stopping.set(true);
        let keys: Vec<usize> = self.wakers.borrow().iter().map(|(key, _)| key).collect();
        for key in keys {
            // Not counted as runnable: the driver does not block any more.
            self.wake_glommio(key);
        }
        self.root_waits_for(|| self.wakers.borrow().is_empty())
            .await;
        self.signal.close();
        self.schedule_driver();
    }

    /// Lets go of glommio's waker of the driver, while the executor is still there.
    pub(super) fn forget_driver(&self) {
        let driver = self.driver.borrow_mut().take();
        drop(driver);
    }

    // --- the driver ---

    /// One turn of the driver. Never ready: the driver lives as long as the executor.
    pub(super) fn drive(&self, context: &mut Context<'_>) -> Poll<()> {
        self.remember_driver(context);
        self.driver_scheduled.set(false);
        self.polls.set(0);
        loop {
            if self.stopping.get() {
                return Poll::Ready(());
            }
            if self.main_over.get() {
                return Poll::Pending; // the root runs next and stops the tasks
            }
            let wait = if self.runnable.get() == 0 && self.lulls.is_empty() {
                self.prepare_to_wait()
            } else {
                Wait::No
            };
            self.turn(wait);
            self.end_turn_of_lulls();
            // Completions that nobody waits for wake nothing: look again.
            if self.runnable.get() > 0 {
                return Poll::Pending;
            }
        }
    }

    fn end_turn_of_lulls(&self) {
        if self.lulls.is_empty() {
            return;
        }
        let woken = &mut self.scratch.borrow_mut().woken;
        self.lulls.end_turn(self.runnable.get() > 0, woken);
        for waker in woken.drain(..) {
            waker.wake();
        }
    }

    fn remember_driver(&self, context: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if driver.is_none() {
            *driver = Some(context.waker().clone());
        }
    }

    /// How to enter the kernel when no task is runnable.
    fn prepare_to_wait(&self) -> Wait {
        if !self.signal.prepare_to_sleep() {
            return Wait::No;
        }
        let Some(deadline) = self.timers.borrow().next() else {
            return Wait::For(None);
        };
        match deadline.saturating_sub(time::now().as_nanos()) {
            0 => Wait::No,
            nanos => Wait::For(Some(Duration::from_nanos(nanos))),
        }
    }

    /// Enters the kernel if there is a reason to, and wakes everything that is due.
    fn turn(&self, wait: Wait) {
        self.naps.nap_if_due();
        let mut scratch = self.scratch.borrow_mut();
        let Scratch { woken, tasks } = &mut *scratch;
        {
            let mut ring = self.ring.borrow_mut();
            if let Err(error) = ring.flush(wait) {
                // Nothing on this shard can make progress any more.
                tracing::error!(%error, "io_uring_enter failed; aborting");
                std::process::abort();
            }
            ring.reap(woken);
        }
        if wait != Wait::No {
            self.signal.awake();
        }
        let mut timers = self.timers.borrow_mut();
        if timers.next().is_some() {
            timers.fire(time::now().as_nanos(), woken);
        }
        drop(timers);
        self.signal.take(tasks);
        for waker in woken.drain(..) {
            waker.wake();
        }
        for task in tasks.drain(..) {
            task.wake_here(self);
        }
    }
}
