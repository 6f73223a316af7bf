//! ⚠ One `io_uring` per shard: submits operations, reaps completions, wakes their tasks.
//!
//! *Place*: used by `real` only. [`slots`] keeps what the kernel works on, [`operation`] is the
//! future of one operation, [`enter`] is the system call.
//! *Core*: every shard has its own; never shared between threads.
//! *Invariants*:
//! - I1: memory and descriptor of an operation live in its slot from before the kernel sees the
//!   operation until its (last) completion is reaped, whatever happens to the future.
//! - I2: the `user_data` of a submission is the key of its slot, or [`NO_SLOT`].
//! - I3: a `Ring` is dropped only with no operation in flight; what cannot be brought to its end in
//!   time is leaked, never freed under the kernel's hands.
//! - I4: the files of [`Ring::hold`] are open until no operation of the ring is in flight, however the
//!   process ends.
//!
//! *Limits*: [`SUBMISSION_ENTRIES`] gather before a flush is forced; any number may be in flight
//! (completions beyond [`COMPLETION_ENTRIES`] wait in the kernel's own backlog).
//! *Source*: `io_uring(7)`, `io_uring_setup(2)`, `io_uring_enter(2)`.
#![allow(unsafe_code)] // pushing submissions and entering the kernel

pub(crate) mod enter;
pub(crate) mod operation;
pub(crate) mod slots;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use slots::{Memory, OnDrop, Slots};

/// Submissions that gather between two entries into the kernel.
pub(crate) const SUBMISSION_ENTRIES: u32 = 512;
/// Completions the shared queue holds before the kernel keeps a backlog of its own.
pub(crate) const COMPLETION_ENTRIES: u32 = 8192;
/// `user_data` of a submission whose completion nobody waits for (a cancellation).
const NO_SLOT: u64 = u64::MAX;
/// `user_data` of the standing poll on the shard's wake-up descriptor.
const WAKE_UP: u64 = u64::MAX - 1;
/// How long a closing ring waits for what is in flight before it leaks it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(COMPLETION_ENTRIES > SUBMISSION_ENTRIES);

/// Whether an entry into the kernel may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit, run deferred completion work, return.
    No,
    /// Block until one completion is there, or the time is over (`None`: however long it takes).
    For(Option<Duration>),
}

/// A shard's ring and the slots of its operations.
pub(crate) struct Ring {
    uring: IoUring,
    slots: Slots,
    /// Submissions that found the queue full; they go first at the next flush.
    backlog: VecDeque<squeue::Entry>,
    no_iowait: bool,
    registered: Option<u32>,
    /// Files are registered, to be held (I4).
    holds_files: bool,
    /// Written to by other threads to end a wait; polled for as long as the ring lives.
    wake_up: Rc<OwnedFd>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// Creates the bare ring with the best flags the kernel takes.
///
/// `SINGLE_ISSUER` + `DEFER_TASKRUN` (Linux 6.1): completions are worked off only when this thread
/// enters the kernel, so a busy shard is never interrupted for them. Kernels that refuse get
/// `COOP_TASKRUN`, then nothing.
fn create(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut refused = None;
    for attempt in 0..3 {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(completions);
        match attempt {
            0 => builder
                .setup_submit_all()
                .setup_single_issuer()
                .setup_defer_taskrun(),
            1 => builder.setup_submit_all().setup_coop_taskrun(),
            _ => &mut builder,
        };
        match builder.build(submissions) {
            Ok(uring) => return Ok(uring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)))
}

impl Ring {
    /// A ring of this thread. A write to `wake_up` (an eventfd) from anywhere ends a wait.
    pub(crate) fn new(wake_up: Rc<OwnedFd>) -> io::Result<Self> {
        let uring = create(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
        let params = uring.params();
        // Without NODROP a burst of completions could be lost; without EXT_ARG a wait cannot be
        // bounded. Both are older (5.5, 5.11) than anything else that is needed.
        if !params.is_feature_nodrop() || !params.is_feature_ext_arg() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel's io_uring is too old (NODROP and EXT_ARG are needed, Linux 5.11)",
            ));
        }
        let no_iowait = params.is_feature_no_iowait();
        let registered = enter::register_ring(uring.as_raw_fd());
        let (slots, backlog) = (Slots::default(), VecDeque::new());
        let mut ring = Self {
            uring,
            slots,
            backlog,
            no_iowait,
            registered,
            holds_files: false,
            wake_up,
        };
        ring.watch_wake_up();
        Ok(ring)
    }

    /// Keeps files open until no operation of this ring is in flight, also when the process is killed: the kernel
    /// lets go of a ring's registered files after the last of its operations has ended (`io_ring_exit_work`
    /// waits for them, then calls `io_ring_ctx_free`). Once for each ring.
    pub(crate) fn hold(&mut self, files: &[RawFd]) -> io::Result<()> {
        self.uring.submitter().register_files(files)?;
        self.holds_files = true;
        Ok(())
    }

    /// A multishot poll is edge-triggered: every write to the eventfd makes one completion, and the
    /// counter need never be read.
    fn watch_wake_up(&mut self) {
        let descriptor = types::Fd(self.wake_up.as_raw_fd());
        let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(WAKE_UP));
    }

    /// Starts an operation: takes memory and descriptor into a slot, builds the submission from
    /// their now stable addresses, and queues it. Returns the slot's key.
    pub(crate) fn start(
        &mut self,
        descriptor: &Rc<OwnedFd>,
        memory: Memory,
        on_drop: OnDrop,
        build: impl FnOnce(types::Fd, &mut Memory) -> squeue::Entry,
    ) -> usize {
        let (key, memory) = self.slots.insert(Rc::clone(descriptor), memory, on_drop);
        let entry = build(types::Fd(descriptor.as_raw_fd()), memory).user_data(key as u64);
        self.push(entry);
        key
    }

    /// The descriptor that ends a wait.
    pub(crate) fn wake_up(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.wake_up)
    }

    /// Asks the kernel to end the operation in this slot early; its completion still comes.
    fn cancel(&mut self, key: usize) {
        self.push(
            opcode::AsyncCancel::new(key as u64)
                .build()
                .user_data(NO_SLOT),
        );
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !try_push(&mut self.uring, &entry) {
            self.backlog.push_back(entry);
            // One attempt to make room; if the kernel is busy, the next flush goes on.
            let _ = self.flush(Wait::No);
        }
    }

    /// Submits what is queued, runs deferred completions, and blocks if asked to.
    ///
    /// Interruptions and "busy" answers count as success: the caller reaps and comes again.
    pub(crate) fn flush(&mut self, wait: Wait) -> io::Result<()> {
        while let Some(entry) = self.backlog.front() {
            if !try_push(&mut self.uring, entry) {
                break;
            }
            self.backlog.pop_front();
        }
        // With a backlog there is more to submit: do not sleep on it.
        let wait = if self.backlog.is_empty() {
            wait
        } else {
            Wait::No
        };
        let ring = enter::Target {
            ring: &self.uring,
            registered: self.registered,
        };
        match enter::enter(&ring, wait, self.no_iowait) {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // ETIME: the wait's time is over. EBUSY, EAGAIN: completions must be reaped first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes all completions there are; adds the wakers of their tasks to `woken` (the caller wakes
    /// them after it has let go of the ring). Returns how many completions there were.
    pub(crate) fn reap(&mut self, woken: &mut Vec<Waker>) -> usize {
        let mut reaped = 0;
        let mut wake_up_ended = false;
        for completion in self.uring.completion() {
            reaped += 1;
            match completion.user_data() {
                NO_SLOT => {}
                WAKE_UP => wake_up_ended |= !cqueue::more(completion.flags()),
                key => {
                    let key = key as usize;
                    woken.extend(
                        self.slots
                            .complete(key, completion.result(), completion.flags()),
                    );
                }
            }
        }
        if wake_up_ended {
            self.watch_wake_up();
        }
        reaped
    }

    /// Brings every operation to its end, for as long as [`CLOSE_PATIENCE`] allows.
    ///
    /// Reads, receives and accepts are cancelled; writes already handed to a device finish.
    fn drain(&mut self) {
        let deadline = std::time::Instant::now() + CLOSE_PATIENCE;
        let mut woken = Vec::new();
        self.slots.abandon_all();
        for key in self.slots.cancellable() {
            self.cancel(key);
        }
        while self.slots.len() > 0 && std::time::Instant::now() < deadline {
            if self
                .flush(Wait::For(Some(Duration::from_millis(100))))
                .is_err()
            {
                break;
            }
            self.reap(&mut woken);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain();
        if self.slots.len() > 0 {
            // I3: the kernel may still write into this memory.
            tracing::error!(
                operations = self.slots.len(),
                "ring closed with operations in flight"
            );
            std::mem::forget(std::mem::take(&mut self.slots));
        } else if self.holds_files {
            // At once, not when the kernel comes to clean up. A failure leaves them to that.
            let _ = self.uring.submitter().unregister_files();
        }
        if let Some(index) = self.registered {
            enter::unregister_ring(self.uring.as_raw_fd(), index);
        }
    }
}

/// Queues one entry; false if the queue is full.
fn try_push(uring: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: what the entry points to lives in its slot until its completion is reaped (I1), or
    // it points to nothing (`NO_SLOT`).
    unsafe { uring.submission().push(entry) }.is_ok()
}
