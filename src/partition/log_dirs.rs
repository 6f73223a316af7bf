//! The log directories of one shard: in each a storage of the shard's own, or the reason why there is none.
//!
//! Place: `node` opens them; `reconcile` finds and places logs; handlers wait for what they appended.
//! Core: every shard has all directories; what of a log is durable depends on its own directory only.
//! Invariants:
//! - I1 the first directory has the metadata, too: the node ends when it fails.
//! - I2 a log is in one directory. A directory that is offline stays so until the process starts again.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use runtime::task::{self, Class};
use storage::{LogId, PartitionLog, Sequence, Storage, StorageError};

/// Number of a log directory, in the order of the settings; the first one has the metadata.
pub type DirIndex = usize;

/// One log directory, as a shard has it.
pub struct LogDir {
    /// Where it is.
    pub path: PathBuf,
    /// What the shard has in it, or why it could not be opened.
    pub opened: Result<Storage, String>,
    /// Logs in it that the metadata did not know at the start.
    pub stray_logs: Cell<u64>,
}

impl LogDir {
    /// A directory as it could be opened.
    pub fn new(path: PathBuf, opened: Result<Storage, String>) -> Self {
        Self {
            path,
            opened,
            stray_logs: Cell::new(0),
        }
    }

    /// Its storage, unless it has failed.
    pub fn online(&self) -> Option<&Storage> {
        let opened = self.opened.as_ref().ok();
        opened.filter(|storage| storage.check_online().is_ok())
    }
}

/// All log directories of a shard; at least one.
pub struct LogDirs {
    dirs: Vec<LogDir>,
    shard: usize,
}

impl LogDirs {
    /// The directories of `shard`, each opened as far as it could be.
    pub fn new(shard: usize, dirs: Vec<LogDir>) -> Self {
        assert!(!dirs.is_empty(), "a node has a log directory");
        Self { dirs, shard }
    }

    /// All of them.
    pub fn all(&self) -> &[LogDir] {
        &self.dirs
    }

    /// Those that have not failed.
    pub fn online(&self) -> impl Iterator<Item = (DirIndex, &Storage)> {
        let all = self.dirs.iter().enumerate();
        all.filter_map(|(index, dir)| Some((index, dir.online()?)))
    }

    /// Whether a directory is offline, so that a log which is nowhere else may be in it.
    pub fn has_offline(&self) -> bool {
        self.online().count() < self.dirs.len()
    }

    /// Where those are that are offline.
    pub fn offline(&self) -> impl Iterator<Item = &Path> {
        let offline = self.dirs.iter().filter(|dir| dir.online().is_none());
        offline.map(|dir| dir.path.as_path())
    }

    /// A log, and the directory that has it.
    pub fn find(&self, id: LogId) -> Option<(DirIndex, PartitionLog)> {
        self.online()
            .find_map(|(index, storage)| Some((index, storage.log(id)?)))
    }

    /// Where a new log goes: to the directory with the fewest logs of this shard, as in Kafka. Of several the
    /// shards take different ones.
    pub fn place(&self) -> Option<(DirIndex, &Storage)> {
        let count = self.dirs.len();
        self.online().min_by_key(|(index, storage)| {
            let turn = (index + count - self.shard % count) % count;
            (storage.log_count(), turn)
        })
    }

    /// A log that two directories have, which cannot be told apart: one was forgotten and came back.
    pub fn find_twice(&self) -> Option<(LogId, [&Path; 2])> {
        if self.dirs.len() == 1 {
            return None;
        }
        self.online().find_map(|(dir, storage)| {
            storage.logs().iter().find_map(|log| {
                let (first, _) = self.find(log.id())?;
                let paths = [first, dir].map(|dir| self.dirs[dir].path.as_path());
                (first != dir).then_some((log.id(), paths))
            })
        })
    }

    /// Waits until a directory's journal is durable through `sequence`.
    ///
    /// # Errors
    /// Of [`Storage::committed`].
    pub async fn committed(&self, dir: DirIndex, sequence: Sequence) -> Result<(), StorageError> {
        self.opened(dir)?.committed(sequence).await
    }

    /// The storage in a directory.
    ///
    /// # Errors
    /// [`StorageError::Offline`] if it could not be opened.
    pub fn opened(&self, dir: DirIndex) -> Result<&Storage, StorageError> {
        match &self.dirs[dir].opened {
            Ok(storage) => Ok(storage),
            Err(reason) => Err(StorageError::Offline {
                reason: reason.clone(),
            }),
        }
    }

    /// What became of work in a directory. An error of a further one that has failed is none: its partitions go
    /// offline, and the rest goes on.
    pub fn unless_failed<T>(
        &self,
        dir: DirIndex,
        outcome: Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        let has_failed = dir > 0 && self.dirs[dir].online().is_none();
        match outcome {
            Err(_) if has_failed => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Resolves with the reason once a directory has failed, or at once if it could not be opened.
    pub async fn failed(&self, dir: DirIndex) -> String {
        match &self.dirs[dir].opened {
            Ok(storage) => storage.failed().await,
            Err(reason) => reason.clone(),
        }
    }

    /// Takes a directory offline that has failed on another shard.
    pub fn take_offline(&self, dir: DirIndex, reason: &str) {
        if let Ok(storage) = &self.dirs[dir].opened {
            storage.take_offline(reason);
        }
    }

    /// See [`Storage::begin_close`].
    pub fn begin_close(&self) {
        for (_, storage) in self.online() {
            storage.begin_close();
        }
    }

    /// Closes all, side by side: one that hangs keeps no other from its checkpoint.
    ///
    /// # Errors
    /// Of [`Storage::close`], the first directory's before the others'. Of further ones that had failed there is none.
    pub async fn close(&self) -> Result<(), StorageError> {
        let closing = (0..self.dirs.len()).map(|dir| {
            let storage = self.opened(dir).cloned();
            let close = async move { storage?.close().await };
            (dir, task::spawn(Class::Storage, close))
        });
        let mut outcome = Ok(());
        for (dir, closing) in closing.collect::<Vec<_>>() {
            let closed = closing.await.unwrap_or_else(|failed| {
                let reason = failed.to_string();
                Err(StorageError::Offline { reason })
            });
            outcome = outcome.and(self.unless_failed(dir, closed).map(drop));
        }
        outcome
    }
}

/// What an answer waits for: the newest append in each log directory. Nearly always that is one.
#[derive(Debug, Default)]
pub struct Awaited {
    first: Option<(DirIndex, Sequence)>,
    others: Vec<(DirIndex, Sequence)>,
}

impl Awaited {
    /// Waits for `sequence` in `dir`, too.
    pub fn note(&mut self, dir: DirIndex, sequence: Sequence) {
        let Some(first) = &mut self.first else {
            self.first = Some((dir, sequence));
            return;
        };
        let mut noted = std::iter::once(first).chain(&mut self.others);
        match noted.find(|(noted, _)| *noted == dir) {
            Some((_, newest)) => *newest = sequence.max(*newest),
            None => self.others.push((dir, sequence)),
        }
    }

    /// Each directory with what is waited for in it.
    pub fn iter(&self) -> impl Iterator<Item = (DirIndex, Sequence)> {
        self.first.iter().chain(&self.others).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_append_of_each_directory_is_awaited() {
        let mut awaited = Awaited::default();
        assert_eq!(awaited.iter().count(), 0);
        for (dir, sequence) in [(1, 5), (0, 9), (1, 7), (1, 6), (2, 1)] {
            awaited.note(dir, Sequence::from(sequence));
        }
        let awaited: Vec<_> = awaited.iter().collect();
        let expected = [(1, 7), (0, 9), (2, 1)].map(|(dir, at)| (dir, Sequence::from(at)));
        assert_eq!(awaited, expected);
    }
}
