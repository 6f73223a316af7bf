//! The durable log of metadata commands, with a snapshot from time to time, in an embedded store.
//!
//! Core: the control thread; an append returns after the store's fsync.
//! Durability: commands and snapshots are transactions of the store (redb), which is crash-safe; a
//! snapshot and the removal of the commands before it are one transaction.
//! Limits: at most [`SNAPSHOT_EVERY`] commands are replayed at start; space for [`SPARE_BYTES`] more
//! is kept allocated, so that topics can be deleted, and the node started, on a full disk.

use std::fs::File;
use std::io;
use std::path::Path;

use cluster::metadata::{Command, Image, MetadataError, SnapshotError};
use protocol::primitives::DecodeError;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rustix::fs::{FallocateFlags, fallocate};

/// Commands by their index in the log.
const COMMANDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("commands");
/// One row: index of the last command that it contains → the image.
const SNAPSHOT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshot");

/// Commands after which a snapshot takes their place.
const SNAPSHOT_EVERY: u64 = 8192;
/// Space allocated behind the end of the store's file, at least; and as much as the file has.
const SPARE_BYTES: u64 = 4 << 20;
/// Pages of the store kept in memory, in bytes: it is read only at start.
const CACHE_BYTES: usize = 1 << 20;

/// The metadata log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    /// The store failed.
    #[error("metadata store: {0}")]
    Store(#[from] redb::Error),
    /// An entry cannot be understood.
    #[error(
        "metadata log entry {index} cannot be read ({source}); was it written by a newer version?"
    )]
    Entry {
        /// Which entry.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The snapshot cannot be understood.
    #[error(
        "metadata snapshot {index} cannot be read ({source}); was it written by a newer version?"
    )]
    Snapshot {
        /// Index of the last command in it.
        index: u64,
        /// What is wrong with it.
        source: SnapshotError,
    },
    /// A command contradicts what the commands before it made: it was never decided on these.
    #[error("metadata log entry {index} contradicts those before it: {source}")]
    Refused {
        /// Which entry.
        index: u64,
        /// What it contradicts.
        source: MetadataError,
    },
    /// This broker cannot register.
    #[error("the broker cannot be registered: {0}")]
    Registration(#[source] MetadataError),
}

impl MetadataLogError {
    fn store(error: impl Into<redb::Error>) -> Self {
        Self::Store(error.into())
    }
}

/// The open log.
pub struct MetadataLog {
    database: Database,
    /// The store's file once more, to allocate space in.
    file: File,
    allocated_bytes: u64,
    next_index: u64,
    snapshot_index: u64,
}

impl MetadataLog {
    /// Opens or makes the log and replays it.
    pub fn open(path: &Path) -> Result<(Self, Image), MetadataLogError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(MetadataLogError::store)?;
        let file = File::options().write(true).open(path);
        let mut log = Self {
            database,
            file: file.map_err(|error| MetadataLogError::store(redb::Error::Io(error)))?,
            allocated_bytes: 0,
            next_index: 1,
            snapshot_index: 0,
        };
        log.keep_space();
        let image = log.replay()?;
        Ok((log, image))
    }

    /// Allocates what the store has not yet written of its file, and as much behind its end. Only a help:
    /// on a full disk there is what was allocated before.
    fn keep_space(&mut self) {
        let allocate = || -> io::Result<u64> {
            let bytes = self.file.metadata()?.len();
            let wanted = bytes + bytes.max(SPARE_BYTES);
            if bytes + SPARE_BYTES / 2 > self.allocated_bytes {
                fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, wanted)?;
                return Ok(wanted);
            }
            Ok(self.allocated_bytes)
        };
        match allocate() {
            Ok(bytes) => self.allocated_bytes = bytes,
            Err(error) => tracing::debug!(%error, "no space ahead for the metadata log"),
        }
    }

    fn replay(&mut self) -> Result<Image, MetadataLogError> {
        let write = self
            .database
            .begin_write()
            .map_err(MetadataLogError::store)?;
        write
            .open_table(COMMANDS)
            .map_err(MetadataLogError::store)?;
        write
            .open_table(SNAPSHOT)
            .map_err(MetadataLogError::store)?;
        write.commit().map_err(MetadataLogError::store)?;
        let read = self
            .database
            .begin_read()
            .map_err(MetadataLogError::store)?;
        let snapshot = read.open_table(SNAPSHOT).map_err(MetadataLogError::store)?;
        let mut image = Image::default();
        if let Some((index, bytes)) = snapshot.last().map_err(MetadataLogError::store)? {
            let index = index.value();
            image = Image::from_snapshot(bytes.value())
                .map_err(|source| MetadataLogError::Snapshot { index, source })?;
            self.snapshot_index = index;
            self.next_index = index + 1;
        }
        let commands = read.open_table(COMMANDS).map_err(MetadataLogError::store)?;
        for entry in commands
            .range(self.next_index..)
            .map_err(MetadataLogError::store)?
        {
            let (index, bytes) = entry.map_err(MetadataLogError::store)?;
            let index = index.value();
            let command = Command::decode(bytes.value())
                .map_err(|source| MetadataLogError::Entry { index, source })?;
            assert_eq!(index, self.next_index, "the metadata log has no gaps");
            image
                .apply(&command)
                .map_err(|source| MetadataLogError::Refused { index, source })?;
            self.next_index = index + 1;
        }
        image.check_invariants();
        Ok(image)
    }

    /// Makes commands durable, all or none.
    pub fn append(&mut self, commands: &[Command]) -> Result<(), MetadataLogError> {
        let write = self
            .database
            .begin_write()
            .map_err(MetadataLogError::store)?;
        {
            let mut table = write
                .open_table(COMMANDS)
                .map_err(MetadataLogError::store)?;
            for (index, command) in (self.next_index..).zip(commands) {
                let bytes = command.encode();
                table
                    .insert(index, &*bytes)
                    .map_err(MetadataLogError::store)?;
            }
        }
        write.commit().map_err(MetadataLogError::store)?;
        self.next_index += commands.len() as u64;
        self.keep_space();
        Ok(())
    }

    /// Puts a snapshot in the place of old commands, if there are many.
    pub fn compact(&mut self, image: &Image) -> Result<(), MetadataLogError> {
        let last = self.next_index - 1;
        if last - self.snapshot_index < SNAPSHOT_EVERY {
            return Ok(());
        }
        let write = self
            .database
            .begin_write()
            .map_err(MetadataLogError::store)?;
        {
            let mut snapshot = write
                .open_table(SNAPSHOT)
                .map_err(MetadataLogError::store)?;
            snapshot
                .insert(last, &*image.to_snapshot())
                .map_err(MetadataLogError::store)?;
            snapshot
                .retain(|index, _| index == last)
                .map_err(MetadataLogError::store)?;
            let mut commands = write
                .open_table(COMMANDS)
                .map_err(MetadataLogError::store)?;
            commands
                .retain(|index, _| index > last)
                .map_err(MetadataLogError::store)?;
        }
        write.commit().map_err(MetadataLogError::store)?;
        self.snapshot_index = last;
        self.keep_space();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(port: u16) -> Command {
        Command::RegisterBroker {
            id: 1,
            host: "h".to_owned(),
            port,
            rack: None,
        }
    }

    #[test]
    fn commands_are_there_after_a_reopen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        let (mut log, mut image) = MetadataLog::open(&path).unwrap();
        for port in 1..4 {
            log.append(&[register(port)]).unwrap();
            image.apply(&register(port)).unwrap();
        }
        drop(log);
        let (_, replayed) = MetadataLog::open(&path).unwrap();
        assert_eq!(replayed, image);
        assert_eq!(replayed.broker(1).unwrap().epoch, 3);
    }

    #[test]
    fn a_snapshot_takes_the_place_of_the_commands_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        let (mut log, mut image) = MetadataLog::open(&path).unwrap();
        let many: Vec<Command> = (0..SNAPSHOT_EVERY)
            .map(|_| Command::AllocateProducerIds { count: 1 })
            .collect();
        log.append(&many).unwrap();
        for command in &many {
            image.apply(command).unwrap();
        }
        log.compact(&image).unwrap();
        assert_eq!(log.snapshot_index, SNAPSHOT_EVERY);
        log.append(&[register(7)]).unwrap();
        image.apply(&register(7)).unwrap();
        drop(log);
        let (log, replayed) = MetadataLog::open(&path).unwrap();
        assert_eq!(replayed, image);
        assert_eq!(log.snapshot_index, SNAPSHOT_EVERY);
    }

    #[test]
    fn an_entry_that_contradicts_those_before_it_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        let (mut log, _) = MetadataLog::open(&path).unwrap();
        let id = protocol::primitives::Uuid([1; 16]);
        log.append(&[register(1), Command::DeleteTopic { id }])
            .unwrap();
        drop(log);
        let refused = MetadataLog::open(&path);
        let unknown = MetadataError::UnknownTopic { id };
        assert!(
            matches!(refused, Err(MetadataLogError::Refused { index: 2, source }) if source == unknown)
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata.redb");
        let (log, _) = MetadataLog::open(&path).unwrap();
        let write = log.database.begin_write().unwrap();
        write
            .open_table(COMMANDS)
            .unwrap()
            .insert(1, &b"\x09junk"[..])
            .unwrap();
        write.commit().unwrap();
        drop(log);
        assert!(matches!(
            MetadataLog::open(&path),
            Err(MetadataLogError::Entry { index: 1, .. })
        ));
    }
}
