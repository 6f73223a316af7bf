//! ⚠ `io_uring_enter(2)` with the ring's registered descriptor.
//!
//! *Place*: called by [`Ring`](super::Ring). The `io-uring` crate's own `submit` neither passes
//! `NO_IOWAIT` nor remembers a registered descriptor beyond one borrow.
#![allow(unsafe_code)] // system calls

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::{EnterFlags, IoUring, types};

use super::Wait;

/// `io_uring_register(2)` operations that the crate exposes only through a borrowed submitter.
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;

/// `struct io_uring_rsrc_update` of `<linux/io_uring.h>`.
#[repr(C)]
struct ResourceUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

/// The ring to enter, by its index among the thread's registered rings where there is one.
pub(crate) struct Target<'a> {
    pub(crate) ring: &'a IoUring,
    pub(crate) registered: Option<u32>,
}

/// Registers the ring's descriptor with this thread, which saves its look-up at every entry
/// (Linux 5.18). `None` where the kernel does not have it.
pub(crate) fn register_ring(ring: RawFd) -> Option<u32> {
    let mut update = ResourceUpdate {
        offset: u32::MAX,
        reserved: 0,
        data: ring as u64,
    };
    // SAFETY: `update` is a live, writable `io_uring_rsrc_update`, and the count says one.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_RING_FDS,
            &raw mut update,
            1,
        )
    };
    (registered == 1).then_some(update.offset)
}

/// Undoes [`register_ring`]; must run on the same thread.
pub(crate) fn unregister_ring(ring: RawFd, index: u32) {
    let update = ResourceUpdate {
        offset: index,
        reserved: 0,
        data: 0,
    };
    // SAFETY: `update` is a live `io_uring_rsrc_update`, and the count says one. A failure leaves
    // an entry that the kernel frees with the thread.
    unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            UNREGISTER_RING_FDS,
            &raw const update,
            1,
        )
    };
}

/// Submits everything queued, runs deferred completion work, and waits as asked.
pub(crate) fn enter(target: &Target<'_>, wait: Wait, no_iowait: bool) -> io::Result<()> {
    // GETEVENTS in any case: with DEFER_TASKRUN only such an entry runs completion work.
    let mut flags = EnterFlags::GETEVENTS;
    let (wanted, limit) = match wait {
        Wait::No => (0, None),
        Wait::For(limit) => (1, limit),
    };
    if wanted > 0 && no_iowait {
        flags |= EnterFlags::NO_IOWAIT;
    }
    let timespec = limit.map(types::Timespec::from);
    let mut arguments = types::SubmitArgs::new();
    if let Some(timespec) = &timespec {
        arguments = arguments.timespec(timespec);
        flags |= EnterFlags::EXT_ARG;
    }
    let (argument, argument_bytes) = if timespec.is_some() {
        (
            (&raw const arguments).cast::<libc::c_void>(),
            size_of::<types::SubmitArgs<'_, '_>>(),
        )
    } else {
        (std::ptr::null(), 0)
    };
    let (descriptor, registered_flag) = match target.registered {
        Some(index) => (index as RawFd, EnterFlags::REGISTERED_RING),
        None => (target.ring.as_raw_fd(), EnterFlags::empty()),
    };
    // SAFETY: shared access to the submission queue only reads its length; this thread is the only
    // one that pushes, and it is here, not pushing.
    let queued = unsafe { target.ring.submission_shared() }.len();
    // SAFETY: the argument is null or a live `SubmitArgs` with its size; every queued entry obeys
    // I1 of the ring.
    let entered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_enter,
            descriptor,
            queued as libc::c_uint,
            wanted as libc::c_uint,
            (flags | registered_flag).bits(),
            argument,
            argument_bytes,
        )
    };
    if entered < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
