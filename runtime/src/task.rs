//! Tasks of this shard.
//!
//! *Place*: whatever runs beside its maker. *Core*: a task stays on the thread that spawned it.
//! *Invariants*: **I1** a panic in a task ends that task alone, and its [`JoinHandle`] tells.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::{real, sim};

/// What a task works for; decides its share of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Connections and requests: latency matters.
    Network,
    /// The journal and what produce and fetch wait for.
    Storage,
    /// Write-behind, retention, compaction, checkpoints.
    Background,
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailed {
    /// It panicked with this message.
    #[error("task panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// It was aborted, or its executor ended before it did.
    #[error("task was aborted")]
    Aborted,
}

/// Starts `future` as a task of this thread.
#[track_caller]
pub fn spawn<F: Future + 'static>(class: Class, future: F) -> JoinHandle<F::Output> {
    let shared = Rc::new(Shared {
        result: RefCell::new(None),
        joiner: RefCell::new(None),
        running: RefCell::new(None),
        aborted: Cell::new(false),
    });
    let task = Task {
        future: Some(Box::pin(future)),
        shared: shared.clone(),
    };
    match sim::current() {
        Some(world) => world.spawn(Box::pin(task), Location::caller()),
        None => real::task::spawn(class, task),
    }
    JoinHandle { shared }
}

/// Lets other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets other tasks run if this one has run for long.
pub async fn yield_if_needed() {
    let needed = match sim::with_current(sim::World::should_yield) {
        Some(needed) => needed,
        None => real::task::should_yield(),
    };
    if needed {
        yield_now().await;
    }
}

/// Lets everything else run that can, and what arrives meanwhile, before something that is better
/// done for many at once. Ends when this shard would otherwise sleep, or after `turns` looks at what
/// has arrived.
pub async fn lull(turns: u32) {
    if sim::current().is_some() {
        return yield_now().await;
    }
    let mut is_waiting = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_waiting, true) {
            return Poll::Ready(());
        }
        real::task::wait_for_lull(context.waker().clone(), turns);
        Poll::Pending
    })
    .await;
}

struct Shared<T> {
    result: RefCell<Option<Result<T, TaskFailed>>>,
    joiner: RefCell<Option<Waker>>,
    /// Wakes the task itself, so that it sees that it was aborted.
    running: RefCell<Option<Waker>>,
    aborted: Cell<bool>,
}

impl<T> Shared<T> {
    fn finish(&self, result: Result<T, TaskFailed>) {
        *self.result.borrow_mut() = Some(result);
        let joiner = self.joiner.borrow_mut().take();
        if let Some(joiner) = joiner {
            joiner.wake();
        }
    }
}

/// What the executor polls: the future, fenced.
struct Task<F: Future> {
    /// `None` once finished. Boxed, so that it need not be moved out of its maker's frame twice.
    future: Option<Pin<Box<F>>>,
    shared: Rc<Shared<F::Output>>,
}

impl<F: Future> Task<F> {
    /// Drops the future, which may panic too, and then tells the result.
    fn finish(&mut self, result: Result<F::Output, TaskFailed>) {
        let future = self.future.take();
        let result = match catch_unwind(AssertUnwindSafe(|| drop(future))) {
            Ok(()) => result,
            Err(panic) => Err(panicked(panic.as_ref())),
        };
        self.shared.running.borrow_mut().take();
        self.shared.finish(result);
    }
}

impl<F: Future> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.aborted.get() {
            self.finish(Err(TaskFailed::Aborted));
            return Poll::Ready(());
        }
        let Some(future) = self.future.as_mut() else {
            return Poll::Ready(());
        };
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Ok(output),
            Ok(Poll::Pending) => {
                let mut running = self.shared.running.borrow_mut();
                match running.as_mut() {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *running = Some(context.waker().clone()),
                }
                return Poll::Pending;
            }
            Err(panic) => Err(panicked(panic.as_ref())),
        };
        self.finish(result);
        Poll::Ready(())
    }
}

impl<F: Future> Drop for Task<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.finish(Err(TaskFailed::Aborted));
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> TaskFailed {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "not a message".to_owned(),
    };
    tracing::error!(message, "task panicked");
    sim::with_current(|world| world.note_panic(&message));
    TaskFailed::Panicked { message }
}

/// Waits for a task. Dropping it lets the task go on alone.
pub struct JoinHandle<T> {
    shared: Rc<Shared<T>>,
}

impl<T> JoinHandle<T> {
    /// Drops the task's future at its next turn, unless it finishes before.
    pub fn abort(&self) {
        self.shared.aborted.set(true);
        let running = self.shared.running.borrow_mut().take();
        if let Some(running) = running {
            running.wake();
        }
    }

    /// Lets the task go on alone; the same as dropping the handle, but said.
    pub fn detach(self) {}

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        self.shared.result.borrow().is_some()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskFailed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.shared.result.borrow_mut().take() {
            return Poll::Ready(result);
        }
        *self.shared.joiner.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinHandle(finished: {})", self.is_finished())
    }
}
