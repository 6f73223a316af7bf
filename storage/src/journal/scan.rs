//! Finds the journal's files at start, and refuses those that cannot be what was made.
//!
//! *Durability*: everything that was found is synced before it is looked at. A process that was killed
//! may have left a file, a name or a group that is there but would not survive a loss of power; what a
//! start answers from, and goes on from, must.

use std::path::Path;

use runtime::buffer::BLOCK_BYTES;
use runtime::dir::{self, DirEntry};
use runtime::file::{File, OpenMode};

use super::files::{JournalFile, file_name};
use super::format::{FORMAT_VERSION, FileHeader, JournalId, decode_file_header};
use super::reader::GroupReader;
use crate::directory::sync_dir;
use crate::error::StorageError;

/// What a journal's directory holds.
#[derive(Default)]
pub(super) struct Found {
    /// By number.
    pub(super) files: Vec<JournalFile>,
    /// Files whose making was interrupted: never used, to be deleted.
    pub(super) unfinished: Vec<JournalFile>,
    /// What the files say; none if there are none.
    pub(super) journal: Option<JournalId>,
}

/// Opens every journal file of a directory, which is made if it is not there, and makes what it finds
/// durable. Deletes nothing.
pub(super) async fn scan(dir: &Path) -> Result<Found, StorageError> {
    dir::create_dir_all(dir)
        .await
        .map_err(|e| StorageError::io("create", dir, e))?;
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        sync_dir(dir).await?;
    }
    find_files(dir, OpenMode::ReadWrite).await
}

/// Opens every journal file of a directory to look at it, changing nothing.
pub(super) async fn look(dir: &Path) -> Result<Found, StorageError> {
    find_files(dir, OpenMode::Read).await
}

async fn find_files(dir: &Path, mode: OpenMode) -> Result<Found, StorageError> {
    let entries = dir::read_dir(dir).await;
    let mut found = Found::default();
    for entry in entries.map_err(|e| StorageError::io("read directory", dir, e))? {
        let number = entry
            .name
            .strip_suffix(".journal")
            .and_then(|stem| stem.parse().ok());
        let Some(number) = number.filter(|number| entry.name == file_name(*number)) else {
            continue;
        };
        look_at(dir, &entry, (number, mode), &mut found).await?;
    }
    found.files.sort_by_key(|file| file.number);
    Ok(found)
}

async fn look_at(
    dir: &Path,
    entry: &DirEntry,
    (number, mode): (u64, OpenMode),
    found: &mut Found,
) -> Result<(), StorageError> {
    let path = dir.join(&entry.name);
    let io = |operation, error| StorageError::io(operation, &path, error);
    let file = File::open(&path, mode).await.map_err(|e| io("open", e))?;
    if mode == OpenMode::ReadWrite {
        file.sync_data().await.map_err(|e| io("fdatasync", e))?;
    }
    let block = file
        .read_at(0, BLOCK_BYTES)
        .await
        .map_err(|e| io("read", e))?;
    let (bytes, journal) = match decode_file_header(&block) {
        FileHeader::Valid { bytes, journal } => (bytes, journal),
        FileHeader::Version(found) => {
            return Err(StorageError::FormatVersion {
                file: path,
                found,
                supported: FORMAT_VERSION,
            });
        }
        FileHeader::Invalid => {
            let blocks = entry.bytes / BLOCK_BYTES as u64;
            let bytes = blocks * BLOCK_BYTES as u64;
            return set_aside(
                JournalFile {
                    number,
                    path: path.into(),
                    bytes,
                    file,
                },
                found,
            )
            .await;
        }
    };
    if entry.bytes != bytes {
        let expected = format!("a file of {bytes} bytes, as its header says");
        return Err(StorageError::corruption(
            &path,
            0,
            expected,
            format!("{} bytes", entry.bytes),
        ));
    }
    let known = *found.journal.get_or_insert(journal);
    if known != journal {
        let expected = format!("a file of journal {known}, like the others");
        return Err(StorageError::corruption(
            &path,
            16,
            expected,
            format!("one of {journal}"),
        ));
    }
    found.files.push(JournalFile {
        number,
        path: path.into(),
        bytes,
        file,
    });
    Ok(())
}

/// A file without a valid header was never used, unless there are groups in it: then it is damaged.
async fn set_aside(file: JournalFile, found: &mut Found) -> Result<(), StorageError> {
    let group = GroupReader::new(&file, None)
        .find(BLOCK_BYTES as u64, 0, |_, _| true)
        .await?;
    if let Some((position, header)) = group {
        let sequence = header.first;
        let seen = format!("none, but groups (from sequence {sequence} at {position})");
        return Err(StorageError::corruption(
            &file.path,
            0,
            "the header of a journal file",
            seen,
        ));
    }
    found.unfinished.push(file);
    Ok(())
}
