//! Sleeping on the shard's timers.
//!
//! *Place*: below the face `time`.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::shard::{self, Shard};
use super::timers::TimerKey;
use crate::time::{self, Instant};

/// Resolves at `deadline`.
pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep {
        deadline: deadline.as_nanos(),
        set: None,
    }
}

/// A timer; it is set at the first poll and cancelled on drop.
#[derive(Debug)]
pub(crate) struct Sleep {
    deadline: u64,
    set: Option<(Rc<Shard>, TimerKey)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((shard, key)) = &self.set {
            if shard.timers.borrow_mut().update(*key, context.waker()) {
                return Poll::Pending;
            }
            self.set = None;
            return Poll::Ready(());
        }
        if self.deadline <= time::now().as_nanos() {
            return Poll::Ready(());
        }
        let shard = shard::current();
        let key = shard
            .timers
            .borrow_mut()
            .set(self.deadline, context.waker().clone());
        self.set = Some((shard, key));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((shard, key)) = self.set.take() {
            shard.timers.borrow_mut().cancel(key);
        }
    }
}
