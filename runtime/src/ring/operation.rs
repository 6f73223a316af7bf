//! The future of one operation on a shard's ring.
//!
//! *Place*: made by `real::{file, net}` through `real::shard`.
//! *Cancel safety*: dropping the future leaves the operation running with its memory in the ring's
//! slot; operations that wait for a peer are cancelled in the kernel, the others run to their end.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Ring;
use super::slots::{Abandoned, Finished};

/// A started operation. See the module for what dropping it means.
#[derive(Debug)]
pub(crate) struct Operation {
    ring: Rc<RefCell<Ring>>,
    key: usize,
    fetched: bool,
}

impl Operation {
    /// The future for the operation that [`Ring::start`] put into slot `key`.
    pub(crate) fn new(ring: Rc<RefCell<Ring>>, key: usize) -> Self {
        Self {
            ring,
            key,
            fetched: false,
        }
    }
}

impl Future for Operation {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Finished> {
        assert!(
            !self.fetched,
            "an operation was polled after it had answered"
        );
        let finished = self.ring.borrow_mut().slots.poll(self.key, context.waker());
        match finished {
            Some(finished) => {
                self.fetched = true;
                Poll::Ready(finished)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.fetched {
            return;
        }
        let mut ring = self.ring.borrow_mut();
        if ring.slots.abandon(self.key) == Abandoned::MustCancel {
            ring.cancel(self.key);
        }
    }
}
