//! Wakes tasks that wait for something to have happened.
//!
//! *Invariants*: **I1** a notification granted to a future that is dropped before it looked goes on to the
//! next waiter.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Wakes tasks that wait for something to have happened; a notification sticks until one waits.
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
