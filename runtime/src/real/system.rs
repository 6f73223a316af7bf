//! ⚠ The few system calls that neither the standard library nor `socket2` offers.
//!
//! *Place*: called by `real`, `executor` and `probe`.
#![allow(unsafe_code)] // system calls

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::executor::CpuId;

/// What a system call answered, or why it failed.
fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}

/// A new non-blocking eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let descriptor = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Adds one to an eventfd. It fails only when the counter is full, and then its reader is woken
/// anyway.
pub(crate) fn eventfd_add(eventfd: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: reads eight bytes of a live local.
    unsafe {
        libc::write(
            eventfd.as_raw_fd(),
            (&raw const one).cast(),
            size_of::<u64>(),
        )
    };
}

/// The CPUs this thread may run on, in ascending order.
pub(crate) fn allowed_cpus() -> io::Result<Vec<CpuId>> {
    // SAFETY: `cpu_set_t` is plain bits; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live, writable, and of the size given.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let cpus = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: the index is below CPU_SETSIZE.
    Ok(cpus
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .map(CpuId)
        .collect())
}

/// Has the kernel back this process's memory with small pages only.
pub(crate) fn forbid_huge_pages() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }).map(drop)
}

/// How often this thread has slept.
pub(crate) fn sleeps() -> i64 {
    // SAFETY: `rusage` is plain numbers; all zeros is a valid one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is live and writable. The call cannot fail.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nvcsw
}

/// Has the sleeps of this thread end when they are over, and not up to 50 µs later.
pub(crate) fn sleep_exactly() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) }).map(drop)
}

/// Restricts this thread to these CPUs.
pub(crate) fn set_affinity(cpus: &[CpuId]) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is plain bits; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        assert!(
            cpu.0 < libc::CPU_SETSIZE as usize,
            "cpu {} beyond the affinity set",
            cpu.0
        );
        // SAFETY: the index is below CPU_SETSIZE, asserted above.
        unsafe { libc::CPU_SET(cpu.0, &mut set) };
    }
    // SAFETY: `set` is live and of the size given.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })
        .map(drop)
}

/// Current and highest value of a resource limit.
pub(crate) fn resource_limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is live and writable.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the current value of a resource limit (not above its highest).
pub(crate) fn raise_limit(
    resource: libc::__rlimit_resource_t,
    to: u64,
    max: u64,
) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: max,
    };
    // SAFETY: `limit` is live.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    Ok(())
}

/// What `statfs` tells of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its magic number, see `statfs(2)`.
    pub(crate) magic: i64,
    /// Bytes an unprivileged process can still write.
    pub(crate) free_bytes: u64,
    /// Bytes of the whole file system.
    pub(crate) total_bytes: u64,
}

/// The file system that holds `path`.
pub(crate) fn file_system(path: &Path) -> io::Result<FileSystem> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statfs` is plain numbers; all zeros is a value of it.
    let mut status: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte and `status` is live and writable.
    check(unsafe { libc::statfs(path.as_ptr(), &raw mut status) })?;
    let block_bytes = u64::try_from(status.f_bsize).unwrap_or(0);
    Ok(FileSystem {
        magic: status.f_type,
        free_bytes: status.f_bavail.saturating_mul(block_bytes),
        total_bytes: status.f_blocks.saturating_mul(block_bytes),
    })
}

/// Writes out everything on the file system that holds `file`.
pub(crate) fn sync_file_system(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call touches no memory of ours.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}
