//! A data directory's identity: who uses it, which format it has, which node's it is.
//!
//! Limits: one process at a time, by a lock on `LOCK`, which every shard's ring holds too: it is free when the last
//! process has ended and nothing of it is on its way to the disk any more. A directory of another format version is refused;
//! a directory with other files in it and no identity is refused: it is not ours to write in.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use runtime::probe;
use serde::{Deserialize, Serialize};

/// Version of the layout of a node's only directory (`docs/storage-format.md`).
const ONE_DIR_VERSION: u32 = 1;
/// Version where the node has further ones, which the versions before would not look into.
const SEVERAL_DIRS_VERSION: u32 = 2;
const IDENTITY_FILE: &str = "streambus.meta";
/// The identity while it is written.
const UNFINISHED_FILE: &str = "streambus.new";
const LOCK_FILE: &str = "LOCK";
/// How long a start waits for the last process, and for its last writes.
const LOCK_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 30 } else { 3000 });
/// How often it looks.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// Why a data directory is refused, with what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another process has it.
    #[error("{path} is in use by another process, or its last writes are on their way to the disk; stop it, or choose another directory with --data-dir", path = .0.display())]
    InUse(PathBuf),
    /// It was made by another version.
    #[error("{path} has format version {found}, this broker reads {ONE_DIR_VERSION} to {SEVERAL_DIRS_VERSION}; run the version of StreamBus that made it", path = path.display())]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its identity cannot be understood.
    #[error("{path} is damaged ({message}); restore it from a copy, or choose another directory with --data-dir. Nothing was changed", path = path.display())]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// It is one of several that a node has, and cannot stand where it is named.
    #[error("{path} {reason}", path = path.display())]
    Misplaced {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// It is a copy of another one that the settings name: which is the newer cannot be told.
    #[error("{path} has the same directory_id as {other}: one is a copy of the other; take the copy out of node.further_data_dirs", path = path.display(), other = other.display())]
    Copy {
        /// The directory.
        path: PathBuf,
        /// The one named before it.
        other: PathBuf,
    },
    /// It holds somebody else's files.
    #[error("{path} is not empty and was not made by StreamBus (it holds `{found}`); choose an empty directory with --data-dir", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of its files.
        found: String,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// What the identity file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Version of the layout.
    pub format_version: u32,
    /// The cluster that this directory belongs to; the metadata log repeats it.
    pub cluster_id: String,
    /// This directory, told apart from a copy or a new one (KIP-858).
    pub directory_id: String,
    /// In a further directory: the id of the node's first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_directory_id: Option<String>,
    /// In the first directory: all further ones that the node has ever had and not forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<FurtherDir>,
}

/// A further directory, as the first one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FurtherDir {
    /// Its id.
    pub directory_id: String,
    /// Where it was last.
    pub path: PathBuf,
}

impl Identity {
    /// The identity of a node's first directory.
    pub(super) fn new() -> Self {
        Self {
            format_version: ONE_DIR_VERSION,
            cluster_id: random_id(),
            directory_id: random_id(),
            first_directory_id: None,
            further: Vec::new(),
        }
    }

    /// The identity of a further directory of the node.
    pub(super) fn of_further(&self) -> Self {
        Self {
            format_version: SEVERAL_DIRS_VERSION,
            cluster_id: self.cluster_id.clone(),
            first_directory_id: Some(self.directory_id.clone()),
            ..Self::new()
        }
    }

    /// The version to write: the first one as long as it says all.
    pub(super) fn version_needed(&self) -> u32 {
        if self.further.is_empty() && self.first_directory_id.is_none() {
            ONE_DIR_VERSION
        } else {
            SEVERAL_DIRS_VERSION
        }
    }

    /// Puts it into the directory: whole or not at all, written aside, synced, then renamed.
    pub(super) fn write(&self, path: &Path) -> Result<(), DataDirError> {
        let file = path.join(IDENTITY_FILE);
        let io = |source| DataDirError::Io {
            path: file.clone(),
            source,
        };
        let text = toml::to_string(self).map_err(|error| DataDirError::Damaged {
            path: file.clone(),
            message: error.to_string(),
        })?;
        let aside = path.join(UNFINISHED_FILE);
        let mut out = File::create(&aside).map_err(io)?;
        out.write_all(text.as_bytes()).map_err(io)?;
        out.sync_all().map_err(io)?;
        fs::rename(&aside, &file).map_err(io)?;
        let directory = File::open(path);
        directory
            .and_then(|directory| directory.sync_all())
            .map_err(io)
    }
}

/// Takes the directory for this process, until the returned file is closed. Waits a little for the last one to be
/// gone with all that it had begun.
pub(crate) fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK_FILE);
    let io = |source| DataDirError::Io {
        path: file.clone(),
        source,
    };
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(io)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(source)) => {
                return Err(DataDirError::Io { path: file, source });
            }
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(DataDirError::InUse(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_POLL),
        }
    }
}

/// Whether a process uses the directory now. Changes nothing.
pub(crate) fn is_in_use(path: &Path) -> bool {
    File::open(path.join(LOCK_FILE))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether a broker has made this directory its own.
pub(super) fn is_initialized(path: &Path) -> bool {
    path.join(IDENTITY_FILE).exists()
}

/// Reads the directory's identity, or gives an empty directory the one that `new` makes.
pub(super) fn open(path: &Path, new: impl FnOnce() -> Identity) -> Result<Identity, DataDirError> {
    let file = path.join(IDENTITY_FILE);
    if !is_initialized(path) {
        refuse_foreign(path)?;
        let identity = new();
        identity.write(path)?;
        return Ok(identity);
    }
    let io = |source| DataDirError::Io {
        path: file.clone(),
        source,
    };
    let damaged = |message| DataDirError::Damaged {
        path: file.clone(),
        message,
    };
    let text = fs::read_to_string(&file).map_err(io)?;
    let table: toml::Table = text.parse().map_err(|error| damaged(format!("{error}")))?;
    let version = table
        .get("format_version")
        .and_then(toml::Value::as_integer);
    let found = version.and_then(|version| u32::try_from(version).ok());
    let found = found.ok_or_else(|| damaged("format_version is missing".to_owned()))?;
    if !(ONE_DIR_VERSION..=SEVERAL_DIRS_VERSION).contains(&found) {
        return Err(DataDirError::Version {
            path: path.to_owned(),
            found,
        });
    }
    toml::from_str(&text).map_err(|error| damaged(error.to_string()))
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(io)? {
        let found = entry.map_err(io)?.file_name();
        let found = found.to_string_lossy().into_owned();
        // What a start was writing when it was stopped counts for nothing.
        let is_unfinished = found == UNFINISHED_FILE || found.starts_with(probe::FILE);
        if !is_unfinished && !matches!(&*found, LOCK_FILE | "lost+found") {
            return Err(DataDirError::Foreign {
                path: path.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

/// A random id in Kafka's form: 16 bytes in URL-safe base64.
fn random_id() -> String {
    protocol::primitives::Uuid(*uuid::Uuid::new_v4().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_identity() {
        let directory = tempfile::tempdir().unwrap();
        let open = || open(directory.path(), Identity::new).unwrap();
        let first = open();
        assert_eq!(open().cluster_id, first.cluster_id);
        assert_eq!(first.cluster_id.len(), 22);
    }

    #[test]
    fn what_a_start_left_that_was_stopped_is_not_foreign() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".probe", ".probe-17", UNFINISHED_FILE, LOCK_FILE] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        open(directory.path(), Identity::new).unwrap();
    }

    #[test]
    fn a_directory_is_used_by_one_process() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        assert!(matches!(
            lock(directory.path()),
            Err(DataDirError::InUse(_))
        ));
        drop(held);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn other_versions_damage_and_foreign_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(IDENTITY_FILE);
        fs::write(&file, "format_version = 9\n").unwrap();
        assert!(matches!(
            open(directory.path(), Identity::new),
            Err(DataDirError::Version { found: 9, .. })
        ));
        fs::write(&file, "format_version = 1\n").unwrap();
        assert!(matches!(
            open(directory.path(), Identity::new),
            Err(DataDirError::Damaged { .. })
        ));
        fs::write(&file, "\0\0").unwrap();
        assert!(matches!(
            open(directory.path(), Identity::new),
            Err(DataDirError::Damaged { .. })
        ));
        fs::remove_file(&file).unwrap();
        fs::write(directory.path().join("thesis.doc"), "x").unwrap();
        assert!(matches!(
            open(directory.path(), Identity::new),
            Err(DataDirError::Foreign { .. })
        ));
    }
}
