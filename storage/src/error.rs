//! Errors of the storage crate: one enum, its variants named for what happened.
//!
//! *Place*: returned by everything in this crate; the broker maps it to Kafka's error codes in one
//! place at its edge. *Invariants*: **I1** [`StorageError::Corruption`] is never answered for a torn
//! tail: tails are cut and reported, corruption refuses to go on. **I2** after a failed write or
//! fdatasync every later call answers [`StorageError::Offline`] or
//! [`StorageError::Journal`]; nothing is ever retried as if the data were safe.

use std::io;
use std::path::{Path, PathBuf};

use runtime::file::open_files_remedy;
use thiserror::Error;

use crate::journal::JournalFailed;

/// The operation of a write that is durable when it has ended: for want of space it does nothing, any
/// other failure may be one of its sync.
pub(crate) const WRITE_DURABLY: &str = "write durably";

/// What can go wrong in a data directory.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The operating system refused an operation on a file or directory.
    #[error("{operation} {}: {source}{}", path.display(), open_files_remedy(source))]
    Io {
        /// What was tried, as a verb phrase: "read", "write", "create".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The device has no space left for what was asked. Nothing is lost: it can be done again when there is.
    #[error("{operation} {}: no space left on device; free some space", path.display())]
    DiskFull {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
    },
    /// An earlier write or fdatasync failed: this data directory takes and serves nothing more
    /// until the process starts again.
    #[error("storage is offline: {reason}")]
    Offline {
        /// The first failure.
        reason: String,
    },
    /// The journal failed or was closed.
    #[error(transparent)]
    Journal(#[from] JournalFailed),
    /// Bytes on disk are not what was written there.
    #[error("corruption in {} at {position}: expected {expected}, found {found}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Byte position in the file.
        position: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file was written by another version of the format.
    #[error("{} has format version {found}; this version reads {supported}", file.display())]
    FormatVersion {
        /// The file.
        file: PathBuf,
        /// The version it states.
        found: u32,
        /// The version this build reads and writes.
        supported: u32,
    },
    /// An offset below the log start or above the log end.
    #[error("offset {offset} is outside of {log_start} to {log_end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First offset of the log.
        log_start: i64,
        /// Offset of the next record.
        log_end: i64,
    },
    /// There is no memory or journal space for an append now: await `PartitionLog::reserve`.
    #[error("no room for an append until the write-behind has got further")]
    NoRoom,
    /// The headers of what was to be appended do not add up.
    #[error("bad record batch: expected {field} {expected}, found {found}")]
    BadBatch {
        /// The header field.
        field: &'static str,
        /// What it should be.
        expected: i64,
        /// What it is.
        found: i64,
    },
    /// So little space is left that what is appended might find none in its segment. Reads,
    /// deletions and everything that frees space go on; appends do again when space is free.
    #[error("{free_bytes} bytes are free, and {reserve_bytes} of them are kept: free some space")]
    SpaceExhausted {
        /// Free on the file system when it was measured last.
        free_bytes: u64,
        /// `reserve_bytes`.
        reserve_bytes: u64,
    },
    /// A batch that the journal's files cannot hold.
    #[error("a batch of {bytes} bytes is larger than the journal takes: {bytes_max}")]
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// The most that are taken.
        bytes_max: u64,
    },
    /// A log of that name exists.
    #[error("log {log} exists")]
    LogExists {
        /// Its name.
        log: String,
    },
    /// The log was deleted.
    #[error("the log was deleted")]
    LogDeleted,
    /// The log is being truncated.
    #[error("the log is being truncated")]
    LogBusy,
    /// A change of the shard count was interrupted: `shard_count_on_disk` finishes it.
    #[error("{}: a change of the shard count was interrupted and has to be finished first", data_dir.display())]
    ShardsSwitching {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The logs are on another file system than the journal.
    #[error("{} and {} are on different file systems: put both on one", logs.display(), shard.display())]
    FileSystems {
        /// Directory of the logs.
        logs: PathBuf,
        /// Directory of the shard.
        shard: PathBuf,
    },
    /// The number of shards on disk is not what was stated.
    #[error("{} holds {found} shards, not {stated}", data_dir.display())]
    ShardCount {
        /// The data directory.
        data_dir: PathBuf,
        /// Shards that are there.
        found: u32,
        /// Shards that the caller named.
        stated: u32,
    },
    /// A setting is outside of what is allowed.
    #[error("setting {name} = {value}: allowed is {allowed}")]
    InvalidSetting {
        /// The setting's name.
        name: &'static str,
        /// The refused value.
        value: u64,
        /// The allowed range, in words.
        allowed: &'static str,
    },
}

impl StorageError {
    /// Wraps an operating system error with the operation and the path; a full disk becomes
    /// [`StorageError::DiskFull`], but not that of a sync: what it was to make durable may be gone from
    /// the page cache, so it is no more tried again than any other failed sync.
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let is_full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if is_full && !operation.contains("sync") {
            StorageError::DiskFull { operation, path }
        } else {
            StorageError::Io {
                operation,
                path,
                source,
            }
        }
    }

    /// Whether there was no space for what was asked, so that it may be tried again.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, StorageError::DiskFull { .. })
    }

    /// Whether it may be tried again: there was no space for it, or the process or the machine was short of
    /// open files or memory. Never after a failed sync, nor after the shortage of a write that syncs.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            StorageError::DiskFull { .. } => true,
            StorageError::Io {
                operation, source, ..
            } => {
                let syncs = operation.contains("sync") || *operation == WRITE_DURABLY;
                !syncs && runtime::file::is_short_of_resources(source)
            }
            _ => false,
        }
    }

    /// A corruption report; the values are rendered with `Display`.
    pub fn corruption(
        file: &Path,
        position: u64,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        StorageError::Corruption {
            file: file.to_path_buf(),
            position,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_but_not_in_a_sync() {
        let io = |operation, kind: io::ErrorKind| {
            StorageError::io(operation, Path::new("/f"), kind.into()).is_disk_full()
        };
        assert!(io("write", io::ErrorKind::StorageFull));
        assert!(io("create", io::ErrorKind::QuotaExceeded));
        assert!(!io("write", io::ErrorKind::PermissionDenied));
        assert!(!io("fdatasync", io::ErrorKind::StorageFull));
        assert!(!io("fsync directory", io::ErrorKind::StorageFull));
    }

    #[test]
    fn a_refusal_for_want_of_open_files_names_the_limit() {
        let told = |code| {
            let source = io::Error::from_raw_os_error(code);
            StorageError::io("open", Path::new("/f"), source).to_string()
        };
        assert!(told(24).contains("ulimit -n"), "EMFILE: {}", told(24));
        assert!(told(23).contains("fs.file-max"), "ENFILE: {}", told(23));
        assert!(!told(5).contains("raise"), "EIO: {}", told(5));
    }

    #[test]
    fn a_shortage_passes_but_not_in_a_sync() {
        let io = |operation, code| {
            let source = io::Error::from_raw_os_error(code);
            StorageError::io(operation, Path::new("/f"), source).is_shortage()
        };
        for code in [12, 23, 24, 28] {
            assert!(io("create", code), "ENOMEM, ENFILE, EMFILE, ENOSPC: {code}");
            assert!(!io("fdatasync", code));
            assert_eq!(io(WRITE_DURABLY, code), code == 28);
        }
        assert!(!io("create", 5), "EIO");
    }
}
