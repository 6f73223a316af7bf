//! Waiting for one another on one shard: a notification, a one-shot channel, a semaphore.
//!
//! *Place*: everything that waits for something on its own shard. *Core*: shard-local, made of cells;
//! to reach another thread use `mailbox`. *Ordering*: waiters are served first come, first served.
//! *Invariants*: **I1** a permit or notification granted to a future that is dropped before it looked
//! goes on to the next waiter.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub use oneshot::oneshot;

/// Wakes tasks that wait for something to have happened.
#[derive(Default)]
pub struct Notify {
    state: RefCell<NotifyState>,
}

#[derive(Default)]
struct NotifyState {
    /// A `notify_one` that found nobody waiting.
    permit: bool,
    /// Counts `notify_waiters`; a waiter from before the newest one is woken.
    rounds: u64,
    next_id: u64,
    /// Waiting futures, by ascending id.
    waiting: VecDeque<(u64, Waker)>,
    /// Futures to which `notify_one` went and that have not been polled since.
    granted: Vec<u64>,
}

impl Notify {
    /// Without a permit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes the one that has waited longest. If none waits, the next wait ends at once; several
    /// such notifications count as one.
    pub fn notify_one(&self) {
        let mut state = self.state.borrow_mut();
        let Some((id, waker)) = state.waiting.pop_front() else {
            state.permit = true;
            return;
        };
        state.granted.push(id);
        drop(state);
        waker.wake();
    }

    /// Wakes all that wait now; leaves nothing behind for later ones.
    pub fn notify_waiters(&self) {
        let mut state = self.state.borrow_mut();
        state.rounds += 1;
        let woken = std::mem::take(&mut state.waiting);
        drop(state);
        for (_, waker) in woken {
            waker.wake();
        }
    }

    /// Waits for a notification.
    ///
    /// # Cancel safety
    /// A notification that reached a future which is then dropped goes on to the next (I1).
    pub fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            id: None,
            round: self.state.borrow().rounds,
        }
    }
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Notify({} waiting)", self.state.borrow().waiting.len())
    }
}

/// Future of [`Notify::notified`].
#[derive(Debug)]
pub struct Notified<'a> {
    notify: &'a Notify,
    /// Set while registered.
    id: Option<u64>,
    round: u64,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.notify.state.borrow_mut();
        let granted = match self.id {
            Some(id) => state.take_grant(id),
            None => std::mem::take(&mut state.permit),
        };
        if granted || self.round != state.rounds {
            drop(state);
            self.id = None;
            return Poll::Ready(());
        }
        if let Some(id) = self.id {
            if let Ok(at) = state.waiting.binary_search_by_key(&id, |(id, _)| *id) {
                state.waiting[at].1.clone_from(context.waker());
            }
            return Poll::Pending;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push_back((id, context.waker().clone()));
        drop(state);
        self.id = Some(id);
        Poll::Pending
    }
}

impl NotifyState {
    fn take_grant(&mut self, id: u64) -> bool {
        let at = self.granted.iter().position(|granted| *granted == id);
        at.map(|at| self.granted.swap_remove(at)).is_some()
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.notify.state.borrow_mut();
        if let Ok(at) = state.waiting.binary_search_by_key(&id, |(id, _)| *id) {
            state.waiting.remove(at);
        } else if state.take_grant(id) {
            drop(state);
            self.notify.notify_one();
        }
    }
}

/// One value from one task to another.
pub mod oneshot {
    use super::{Context, Future, Pin, Poll, Rc, RefCell, Waker};

    /// The sender went away without a value.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
    #[error("the sender was dropped without sending")]
    pub struct Canceled;

    struct Shared<T> {
        value: Option<T>,
        waker: Option<Waker>,
        sender_gone: bool,
        receiver_gone: bool,
    }

    /// Sends the value.
    pub struct Sender<T> {
        shared: Rc<RefCell<Shared<T>>>,
    }

    /// Waits for the value.
    pub struct Receiver<T> {
        shared: Rc<RefCell<Shared<T>>>,
    }

    /// A connected pair.
    pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
        let shared = Shared {
            value: None,
            waker: None,
            sender_gone: false,
            receiver_gone: false,
        };
        let shared = Rc::new(RefCell::new(shared));
        (
            Sender {
                shared: shared.clone(),
            },
            Receiver { shared },
        )
    }

    impl<T> Sender<T> {
        /// Delivers `value`; gives it back if nobody waits for it any more.
        pub fn send(self, value: T) -> Result<(), T> {
            let mut shared = self.shared.borrow_mut();
            if shared.receiver_gone {
                return Err(value);
            }
            shared.value = Some(value);
            Ok(())
            // Dropping `self` wakes the receiver.
        }

        /// Whether the receiver has gone.
        pub fn is_closed(&self) -> bool {
            self.shared.borrow().receiver_gone
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let mut shared = self.shared.borrow_mut();
            shared.sender_gone = true;
            let waker = shared.waker.take();
            drop(shared);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, Canceled>;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let mut shared = self.shared.borrow_mut();
            if let Some(value) = shared.value.take() {
                return Poll::Ready(Ok(value));
            }
            if shared.sender_gone {
                return Poll::Ready(Err(Canceled));
            }
            shared.waker = Some(context.waker().clone());
            Poll::Pending
        }
    }

    impl<T> Receiver<T> {
        /// The value, if it is there.
        pub fn try_recv(&mut self) -> Option<T> {
            self.shared.borrow_mut().value.take()
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut shared = self.shared.borrow_mut();
            shared.receiver_gone = true;
            let value = shared.value.take();
            drop(shared);
            drop(value);
        }
    }

    impl<T> std::fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "oneshot::Sender")
        }
    }

    impl<T> std::fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "oneshot::Receiver")
        }
    }
}

/// A number of permits that tasks take and give back.
#[derive(Clone)]
pub struct Semaphore {
    shared: Rc<SemaphoreState>,
}

struct SemaphoreState {
    limit: Cell<usize>,
    /// Permits out; above `limit` only by [`Permit::resize`] and by a request above the limit.
    used: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    count: usize,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Semaphore {
    /// With `limit` permits.
    pub fn new(limit: usize) -> Self {
        let waiting = RefCell::default();
        let state = SemaphoreState {
            limit: Cell::new(limit),
            used: Cell::new(0),
            waiting,
        };
        Semaphore {
            shared: Rc::new(state),
        }
    }

    /// Permits in all.
    pub fn limit(&self) -> usize {
        self.shared.limit.get()
    }

    /// Permits that are out.
    pub fn used(&self) -> usize {
        self.shared.used.get()
    }

    /// Permits that could be taken now.
    pub fn available(&self) -> usize {
        self.limit().saturating_sub(self.used())
    }

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.borrow().len()
    }

    /// Takes `count` permits if they are there and nobody waits for permits.
    pub fn try_acquire(&self, count: usize) -> Option<Permit> {
        (self.waiting() == 0 && self.fits(count)).then(|| self.take(count))
    }

    /// Takes `count` permits, waiting behind those who came before. A request for more than the
    /// limit is granted when no permit is out.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub async fn acquire(&self, count: usize) -> Permit {
        if let Some(permit) = self.try_acquire(count) {
            return permit;
        }
        let waiter = Waiter {
            count,
            granted: Cell::new(false),
            waker: RefCell::new(None),
        };
        let waiter = Rc::new(waiter);
        self.shared.waiting.borrow_mut().push_back(waiter.clone());
        Acquire {
            semaphore: self,
            waiter,
        }
        .await
    }

    fn fits(&self, count: usize) -> bool {
        self.used() == 0 || self.used().saturating_add(count) <= self.limit()
    }

    fn take(&self, count: usize) -> Permit {
        self.shared.used.set(self.used() + count);
        Permit {
            semaphore: self.clone(),
            count,
        }
    }

    fn release(&self, count: usize) {
        let used = self.used().checked_sub(count);
        self.shared
            .used
            .set(used.expect("permits are given back once"));
        self.grant_waiting();
    }

    fn grant_waiting(&self) {
        loop {
            let mut waiting = self.shared.waiting.borrow_mut();
            if !waiting
                .front()
                .is_some_and(|waiter| self.fits(waiter.count))
            {
                return;
            }
            let Some(waiter) = waiting.pop_front() else {
                return;
            };
            drop(waiting);
            self.shared.used.set(self.used() + waiter.count);
            waiter.granted.set(true);
            let waker = waiter.waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Semaphore({} of {}, {} waiting)",
            self.used(),
            self.limit(),
            self.waiting()
        )
    }
}

struct Acquire<'a> {
    semaphore: &'a Semaphore,
    waiter: Rc<Waiter>,
}

impl Future for Acquire<'_> {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        if self.waiter.granted.replace(false) {
            // The permits were counted when they were granted.
            let (semaphore, count) = (self.semaphore.clone(), self.waiter.count);
            return Poll::Ready(Permit { semaphore, count });
        }
        *self.waiter.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if self.waiter.granted.get() {
            self.semaphore.release(self.waiter.count);
            return;
        }
        let mut waiting = self.semaphore.shared.waiting.borrow_mut();
        if let Some(at) = waiting
            .iter()
            .position(|other| Rc::ptr_eq(other, &self.waiter))
        {
            waiting.remove(at);
            drop(waiting);
            // Whoever stood behind a large request may fit.
            self.semaphore.grant_waiting();
        }
    }
}

/// Permits of a [`Semaphore`]; given back on drop.
#[derive(Debug)]
pub struct Permit {
    semaphore: Semaphore,
    count: usize,
}

impl Permit {
    /// How many.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Changes how many, at once: growth does not wait and may exceed the limit.
    pub fn resize(&mut self, count: usize) {
        if count >= self.count {
            self.semaphore
                .shared
                .used
                .set(self.semaphore.used() + (count - self.count));
        } else {
            self.semaphore.release(self.count - count);
        }
        self.count = count;
    }

    /// Splits `count` permits off into their own.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split(&mut self, count: usize) -> Permit {
        self.count = self
            .count
            .checked_sub(count)
            .expect("a part is not more than the whole");
        Permit {
            semaphore: self.semaphore.clone(),
            count,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

#[cfg(test)]
mod tests;
