//! Waiting for records to be durable.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use runtime::sync::Notify;

use super::{JournalFailed, Shared};

/// Those who wait, and what they wait for.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: RefCell<Vec<Waiting>>,
    /// Memory for those who are woken.
    ready: Cell<Vec<Waker>>,
    next_id: Cell<u64>,
    is_closed: Cell<bool>,
    closed: Notify,
}

struct Waiting {
    id: u64,
    sequence: u64,
    waker: Waker,
}

impl Waiters {
    /// Wakes everybody who waits for a record through `durable`.
    pub(super) fn wake_through(&self, durable: u64) {
        let mut ready = self.ready.take();
        self.waiting.borrow_mut().retain(|waiting| {
            let waits_on = waiting.sequence > durable;
            if !waits_on {
                ready.push(waiting.waker.clone());
            }
            waits_on
        });
        ready.drain(..).for_each(Waker::wake);
        self.ready.set(ready);
    }

    /// Wakes everybody: the journal failed or ended.
    pub(super) fn wake_all(&self) {
        self.wake_through(u64::MAX);
        self.closed.notify_waiters();
    }

    /// The mark of the orderly end is written.
    pub(super) fn set_closed(&self) {
        self.is_closed.set(true);
        self.closed.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Waits for [`Self::set_closed`] or a failure before it.
    pub(super) async fn closed(
        &self,
        failed: &RefCell<Option<JournalFailed>>,
    ) -> Result<(), JournalFailed> {
        loop {
            if self.is_closed.get() {
                return Ok(());
            }
            if let Some(failed) = &*failed.borrow() {
                return Err(failed.clone());
            }
            self.closed.notified().await;
        }
    }
}

/// Resolves when the journal is durable through a sequence, or failed before.
pub(super) struct Committed {
    journal: Rc<Shared>,
    sequence: u64,
    /// Our place among the waiters, once we wait.
    id: Option<u64>,
}

impl Committed {
    pub(super) fn new(journal: Rc<Shared>, sequence: u64) -> Self {
        Self {
            journal,
            sequence,
            id: None,
        }
    }
}

impl Future for Committed {
    type Output = Result<(), JournalFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.journal.durable.get() >= this.sequence {
            this.id = None;
            return Poll::Ready(Ok(()));
        }
        if let Some(failed) = &*this.journal.failed.borrow() {
            this.id = None;
            return Poll::Ready(Err(failed.clone()));
        }
        let waiters = &this.journal.waiters;
        let mut waiting = waiters.waiting.borrow_mut();
        let known = this
            .id
            .and_then(|id| waiting.iter_mut().find(|other| other.id == id));
        if let Some(known) = known {
            known.waker.clone_from(context.waker());
            return Poll::Pending;
        }
        let id = waiters.next_id.replace(waiters.next_id.get() + 1);
        this.id = Some(id);
        let (sequence, waker) = (this.sequence, context.waker().clone());
        waiting.push(Waiting {
            id,
            sequence,
            waker,
        });
        Poll::Pending
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.journal
                .waiters
                .waiting
                .borrow_mut()
                .retain(|waiting| waiting.id != id);
        }
    }
}
