//! A number of permits that tasks take and give back.
//!
//! *Place*: under the memory budget, and wherever a count is bounded. *Invariants*: **I1** permits granted to
//! a future that is dropped before it looked come back. *Ordering*: who waits is served before who comes
//! later, even if the later request would fit.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

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
