//! How other threads wake tasks of a shard.
//!
//! *Place*: shared by the wakers of a shard's tasks ([`super::task`]) and its driver.
//! *Core*: owned by one shard; every thread may call [`Signal::wake`].
//! *Invariants*:
//! - I1: a task pushed into the inbox is taken out by the shard without waiting for anything else:
//!   either the shard sees it before it blocks, or the pusher sees that the shard is about to block
//!   and writes to the eventfd.
//!
//! I1 rests on the order of two pairs of accesses (Dekker's pattern). The shard stores `sleeping`,
//! then loads `filled`; a pusher stores `filled`, then loads `sleeping`. All four are sequentially
//! consistent, so at least one of the two sees the other's store.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::system;
use super::task::TaskCore;

/// The inbox of a shard's foreign wake-ups.
#[derive(Debug)]
pub(crate) struct Signal {
    inbox: Mutex<Inbox>,
    /// The inbox holds something the shard has not taken.
    filled: AtomicBool,
    /// The shard blocks, or is about to.
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

#[derive(Debug, Default)]
struct Inbox {
    tasks: Vec<Arc<TaskCore>>,
    /// The shard is gone; wake-ups are dropped.
    closed: bool,
}

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            inbox: Mutex::default(),
            filled: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            eventfd: system::eventfd()?,
        })
    }

    /// A second descriptor of the eventfd, for the ring to poll.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// Wakes a task of the shard, from any thread but the shard's own.
    pub(crate) fn wake(&self, task: Arc<TaskCore>) {
        {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            if inbox.closed {
                return;
            }
            inbox.tasks.push(task);
        }
        self.filled.store(true, Ordering::SeqCst);
        // Only one of many wakers pays for the write: the one that takes the flag.
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            system::eventfd_add(&self.eventfd);
        }
    }

    /// The shard's side: moves the woken tasks to `tasks`. Cheap if there are none.
    pub(crate) fn take(&self, tasks: &mut Vec<Arc<TaskCore>>) {
        if !self.filled.load(Ordering::Acquire) {
            return;
        }
        // Cleared before the inbox is emptied: a push after the swap sets it again.
        self.filled.store(false, Ordering::SeqCst);
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.append(&mut inbox.tasks);
    }

    /// The shard's side: announces that it will block. False if it must not, because the inbox is
    /// not empty.
    pub(crate) fn prepare_to_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.filled.load(Ordering::SeqCst) {
            self.sleeping.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// The shard's side: it is awake again; pushers need not write.
    pub(crate) fn awake(&self) {
        // Relaxed is enough: a pusher that still sees `true` writes once too often, nothing more.
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The shard ends: later wake-ups are dropped, and so is what the inbox holds.
    pub(crate) fn close(&self) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.closed = true;
        inbox.tasks.clear();
    }
}
