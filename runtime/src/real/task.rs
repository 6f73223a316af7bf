//! A task of a shard, and its waker that works from any thread.
//!
//! *Place*: made by [`Shard::spawn`](super::shard::Shard::spawn), polled by glommio in the task
//! queue of its class.
//! *Core*: the future never leaves its shard; the waker goes anywhere.
//! *Invariants*:
//! - I1: glommio's own waker of a task is touched on the task's shard only (its reference counts
//!   and queues are not made for more); wake-ups from elsewhere go through [`Signal`].
//! - I2: `Shard::runnable` counts exactly the tasks in state [`SCHEDULED`]; the driver blocks in the
//!   kernel only when it is zero.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::shard::{self, Shard};
use super::signal::Signal;
use crate::task::Class;

/// Waits for a wake-up.
const IDLE: u8 = 0;
/// Stands in its glommio queue.
const SCHEDULED: u8 = 1;
/// Finished; wake-ups mean nothing any more.
const DONE: u8 = 2;

/// What the wakers of a task share.
pub(crate) struct TaskCore {
    signal: Arc<Signal>,
    /// Key of glommio's waker in the shard's table.
    key: usize,
    /// Written on the owning shard only; atomic because the wakers are shared.
    state: AtomicU8,
}

impl std::fmt::Debug for TaskCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskCore")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl TaskCore {
    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }

    /// Wakes the task; runs on its own shard.
    pub(crate) fn wake_here(&self, shard: &Shard) {
        if self.is(IDLE) {
            self.set(SCHEDULED);
            shard.runnable_add();
            shard.wake_glommio(self.key);
        }
    }
}

impl Wake for TaskCore {
    fn wake(self: Arc<Self>) {
        if !shard::with_owner(&self.signal, |shard| self.wake_here(shard)) {
            let signal = Arc::clone(&self.signal);
            signal.wake(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !shard::with_owner(&self.signal, |shard| self.wake_here(shard)) {
            self.signal.wake(Arc::clone(self));
        }
    }
}

/// The future glommio polls.
pub(super) struct Task<F> {
    shard: Rc<Shard>,
    core: Arc<TaskCore>,
    waker: Waker,
    /// `None` once finished.
    future: Option<F>,
    /// glommio's waker is in the shard's table.
    registered: bool,
}

impl<F: Future<Output = ()> + Unpin + 'static> Task<F> {
    /// A task that is about to be put into its queue for the first time.
    pub(super) fn new(shard: Rc<Shard>, future: F) -> Self {
        let key = shard.reserve_waker();
        let signal = Arc::clone(shard.signal());
        let core = Arc::new(TaskCore {
            signal,
            key,
            state: AtomicU8::new(SCHEDULED),
        });
        let waker = Waker::from(Arc::clone(&core));
        shard.runnable_add();
        Self {
            shard,
            core,
            waker,
            future: Some(future),
            registered: false,
        }
    }
}

impl<F: Future<Output = ()> + Unpin + 'static> Future for Task<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.registered {
            self.shard
                .register_waker(self.core.key, context.waker().clone());
            self.registered = true;
        }
        if self.core.is(SCHEDULED) {
            self.core.set(IDLE);
            self.shard.runnable_remove();
        }
        let done = self.shard.is_stopping() || self.poll_future().is_ready();
        if done {
            self.finish();
        }
        self.shard.after_poll();
        if done { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F: Future<Output = ()> + Unpin> Task<F> {
    fn poll_future(&mut self) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }
}

impl<F> Task<F> {
    /// Drops the future (here, where the shard's runtime is current) and forgets the waker.
    fn finish(&mut self) {
        drop(self.future.take());
        if self.core.is(SCHEDULED) {
            self.shard.runnable_remove();
        }
        if !self.core.is(DONE) {
            self.core.set(DONE);
            self.shard.forget_waker(self.core.key);
        }
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether the running task has run for long without a pause.
pub(crate) fn should_yield() -> bool {
    shard::current().should_yield()
}

/// Wakes `waker` when this shard has nothing else to run, or after `turns` of its driver.
pub(crate) fn wait_for_lull(waker: Waker, turns: u32) {
    shard::current().wait_for_lull(waker, turns);
}

/// Puts a future into its class's queue on this thread's shard.
///
/// The face has put it under `catch_unwind`: a panic that reached glommio would end the shard.
pub(crate) fn spawn(class: Class, future: impl Future<Output = ()> + Unpin + 'static) {
    shard::current().spawn(class, future);
}
