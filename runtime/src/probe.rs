//! What the runtime needs of the machine, checked before anything is started.
//!
//! *Place*: `node` calls [`check_host`] first, so that a refusal is one clear message with its
//! remedy instead of a panic deep in an executor.
//! *Core*: the starting thread; makes one small ring and one small file, and removes both.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use io_uring::{IoUring, Probe, opcode};
use thiserror::Error;

use crate::buffer::{AlignedBuf, BLOCK_BYTES};
use crate::real::system::{self, FileSystem};

/// Locked memory that the executors' rings are charged for; glommio refuses to start below it.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Descriptors without which not even a small node works.
pub const OPEN_FILES_MIN: u64 = 1024;
/// Descriptors below which [`HostReport::warnings`] tells so: 10,000 connections and as many
/// partitions' files need more.
pub const OPEN_FILES_ADVISED: u64 = 65_536;
/// Shards one process may have.
pub const SHARDS_MAX: usize = 1024;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// CPUs this process may use.
    pub cpus: usize,
    /// Open files allowed, after the limit was raised as far as it goes.
    pub open_files_max: u64,
    /// Bytes of memory that may be locked.
    pub memlock_bytes_max: u64,
    /// File system of the data directory, by name where it is a common one.
    pub file_system: String,
    /// Bytes still free on it.
    pub free_bytes: u64,
    /// Whether writes never overwrite in place (btrfs, ZFS, bcachefs): durable writes cost more.
    pub copies_on_write: bool,
    /// What works, but not well; a sentence each.
    pub warnings: Vec<String>,
}

/// Why this machine cannot run shards, each with its remedy.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Forbidden by a sysctl, by seccomp, or missing in the kernel.
    #[error("this process may not use io_uring ({source}): {remedy}")]
    IoUring {
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The ring works but lacks an operation.
    #[error(
        "the kernel's io_uring lacks the operation {operation}: StreamBus needs Linux 5.19 or newer"
    )]
    MissingOperation {
        /// Its name in the kernel.
        operation: &'static str,
    },
    /// The limit of locked memory is too small.
    #[error(
        "only {limit} bytes of memory may be locked, at least {MEMLOCK_BYTES_MIN} are needed: raise the \
         limit (`ulimit -l`, systemd `LimitMEMLOCK=`, docker `--ulimit memlock=`)"
    )]
    Memlock {
        /// The limit found.
        limit: u64,
    },
    /// Too few descriptors.
    #[error(
        "only {limit} files may be open, at least {OPEN_FILES_MIN} are needed: raise the limit \
         (`ulimit -n`, systemd `LimitNOFILE=`, docker `--ulimit nofile=`)"
    )]
    OpenFiles {
        /// The limit found, the highest this process may set.
        limit: u64,
    },
    /// The data directory cannot be made or written to.
    #[error(
        "the data directory {path:?} is not writable ({source}): create it, give it to the user of \
         this process, or choose another with --data-dir"
    )]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its file system does not do direct I/O.
    #[error(
        "the file system of {path:?} ({file_system}) does not support direct I/O ({source}): use a \
         directory on ext4 or XFS"
    )]
    DirectIo {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        file_system: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not answer a plain question.
    #[error("the limits of this process cannot be read: {0}")]
    Limits(#[source] io::Error),
    /// More shards than a process may have, or none.
    #[error("{shards} shards are not possible: choose between 1 and {SHARDS_MAX}")]
    Shards {
        /// How many were asked for.
        shards: usize,
    },
}

/// Checks everything that `shards` shards need on this machine. Makes the data directory if it is
/// not there, and raises the limit of open files as far as the process may.
///
/// # Errors
/// The first thing that is missing, with its remedy.
pub fn check_host(data_dir: &Path, shards: usize) -> Result<HostReport, ProbeError> {
    if shards == 0 || shards > SHARDS_MAX {
        return Err(ProbeError::Shards { shards });
    }
    let mut warnings = Vec::new();
    let cpus = crate::executor::process_cpus().len();
    if shards > cpus {
        warnings.push(format!(
            "{shards} shards share {cpus} CPUs and are not pinned"
        ));
    }
    let memlock_bytes_max = check_memlock()?;
    let open_files_max = check_open_files()?;
    if open_files_max < OPEN_FILES_ADVISED {
        warnings.push(format!(
            "only {open_files_max} files may be open; {OPEN_FILES_ADVISED} or more are advised"
        ));
    }
    check_ring()?;
    let file_system = check_directory(data_dir)?;
    let copies_on_write = COPY_ON_WRITE.contains(&file_system.magic);
    let name = file_system_name(file_system.magic);
    if copies_on_write {
        warnings.push(format!(
            "{name} copies on write: durable writes cost several times more"
        ));
    }
    Ok(HostReport {
        cpus,
        open_files_max,
        memlock_bytes_max,
        file_system: name,
        free_bytes: file_system.free_bytes,
        copies_on_write,
        warnings,
    })
}

fn check_memlock() -> Result<u64, ProbeError> {
    let (limit, _) = system::resource_limit(libc::RLIMIT_MEMLOCK).map_err(ProbeError::Limits)?;
    if limit < MEMLOCK_BYTES_MIN {
        return Err(ProbeError::Memlock { limit });
    }
    Ok(limit)
}

fn check_open_files() -> Result<u64, ProbeError> {
    let (limit, max) = system::resource_limit(libc::RLIMIT_NOFILE).map_err(ProbeError::Limits)?;
    let raised = limit < max && system::raise_limit(libc::RLIMIT_NOFILE, max, max).is_ok();
    let limit = if raised { max } else { limit };
    if limit < OPEN_FILES_MIN {
        return Err(ProbeError::OpenFiles { limit });
    }
    Ok(limit)
}

/// The operations the ring uses, with their names.
const OPERATIONS: [(u8, &str); 10] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::PollAdd::CODE, "poll_add"),
    (opcode::AsyncCancel::CODE, "async_cancel"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
];

fn check_ring() -> Result<(), ProbeError> {
    let refused = |source: io::Error| {
        let remedy = ring_remedy(source.raw_os_error());
        ProbeError::IoUring { source, remedy }
    };
    let ring = IoUring::new(8).map_err(refused)?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(refused)?;
    for (code, operation) in OPERATIONS {
        if !probe.is_supported(code) {
            return Err(ProbeError::MissingOperation { operation });
        }
    }
    Ok(())
}

/// Whether the kernel has vectored zero-copy sends (Linux 6.1). It is asked once.
pub(crate) fn has_zero_copy_send() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let mut probe = Probe::new();
        let asked = IoUring::new(8).and_then(|ring| ring.submitter().register_probe(&mut probe));
        let has_it = asked.is_ok() && probe.is_supported(opcode::SendMsgZc::CODE);
        if !has_it {
            tracing::info!("the kernel has no zero-copy sends (Linux 6.1): it copies what is sent");
        }
        has_it
    })
}

/// What to do about a refused ring, by the error number of `io_uring_setup(2)`.
fn ring_remedy(error: Option<i32>) -> &'static str {
    match error {
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring, or a container's seccomp profile hides it: use Linux 5.19 or \
             newer, and in a container a profile that allows io_uring_setup, io_uring_enter and \
             io_uring_register"
        }
        Some(libc::EPERM | libc::EACCES) => {
            "set `sysctl kernel.io_uring_disabled=0`, and in a container use a seccomp profile that \
             allows io_uring (docker: `--security-opt seccomp=unconfined`)"
        }
        Some(libc::ENOMEM) => "raise the limit of locked memory (`ulimit -l`)",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (`ulimit -n`)",
        _ => "use Linux 5.19 or newer with io_uring enabled",
    }
}

/// Checks a further data directory as [`check_host`] checks the first. Makes it if it is not there.
///
/// # Errors
/// [`ProbeError::DataDirectory`], [`ProbeError::DirectIo`].
pub fn check_data_dir(directory: &Path) -> Result<(), ProbeError> {
    check_directory(directory).map(drop)
}

/// Name of the file that is written in a data directory to see whether it can be. Always the same, so that the next
/// check removes what a killed process left.
pub const FILE: &str = ".probe";

/// Writes one block with direct I/O to a file in `directory`.
fn check_directory(directory: &Path) -> Result<FileSystem, ProbeError> {
    let path = || directory.to_owned();
    let unusable = |source| ProbeError::DataDirectory {
        path: path(),
        source,
    };
    fs::create_dir_all(directory).map_err(unusable)?;
    let file_system = system::file_system(directory).map_err(unusable)?;
    let probe = directory.join(FILE);
    let written = write_direct(&probe).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => ProbeError::DirectIo {
            path: path(),
            file_system: file_system_name(file_system.magic),
            source,
        },
        _ => unusable(source),
    });
    // The file is empty or one block of zeros; an error here was an error before.
    let _ = fs::remove_file(&probe);
    match written {
        // Whether it can be written directly is seen later: a full disk must not keep the broker from
        // starting, which is how it gets emptied.
        Err(ProbeError::DataDirectory { source, .. }) if is_full(&source) => Ok(file_system),
        written => written.map(|()| file_system),
    }
}

fn is_full(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::StorageFull || kind == io::ErrorKind::QuotaExceeded
}

/// Opens it once: another process that checks the directory may remove it meanwhile.
fn write_direct(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    file.write_all_at(&AlignedBuf::zeroed(BLOCK_BYTES), 0)
}

/// Magic numbers of file systems that never overwrite in place: btrfs, ZFS, bcachefs.
const COPY_ON_WRITE: [i64; 3] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];

/// Names of common file systems, from `statfs(2)`.
fn file_system_name(magic: i64) -> String {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xca45_1a4e => "bcachefs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0xf2f5_2010 => "f2fs",
        _ => return format!("type {magic:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directory_is_made_and_left_empty() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("new/data");
        let file_system = check_directory(&directory).unwrap();
        assert!(file_system.free_bytes > 0);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_check_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), b"").unwrap();
        check_directory(root.path()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn directory_that_is_a_file_names_its_remedy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"").unwrap();
        let error = check_directory(&path).unwrap_err();
        assert!(matches!(error, ProbeError::DataDirectory { .. }));
        assert!(error.to_string().contains("--data-dir"), "{error}");
    }

    #[test]
    fn shard_counts_out_of_range_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for shards in [0, SHARDS_MAX + 1] {
            let error = check_host(root.path(), shards).unwrap_err();
            assert!(matches!(error, ProbeError::Shards { .. }), "{error}");
        }
    }

    #[test]
    fn refusals_of_the_ring_name_what_to_change() {
        let check = |error, expected: &str| {
            let remedy = ring_remedy(Some(error));
            assert!(remedy.contains(expected), "{error}: {remedy}");
        };
        check(libc::EPERM, "kernel.io_uring_disabled");
        check(libc::ENOSYS, "seccomp");
        check(libc::ENOMEM, "ulimit -l");
    }

    #[test]
    fn this_machine_passes() {
        let root = tempfile::tempdir().unwrap();
        match check_host(root.path(), 1) {
            Ok(report) => assert!(report.cpus > 0),
            Err(error) => eprintln!("SKIPPED: {error}"),
        }
    }
}
