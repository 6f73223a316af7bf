//! Directories and small whole files, on the shard's helper thread.
//!
//! *Place*: below the face `dir`. All of it is rare; none of it may stop the shard.
//! *Durability*: names are durable after [`sync_dir`] of their directory.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{shard, system};
use crate::dir::{DirEntry, DiskSpace};

async fn run<T: Send + 'static>(
    path: &Path,
    call: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    shard::current().helper().run(move || call(path)).await
}

/// Makes a directory with its parents.
pub(crate) async fn create_dir_all(path: &Path) -> io::Result<()> {
    run(path, fs::create_dir_all).await
}

/// Makes the names in a directory durable.
pub(crate) async fn sync_dir(path: &Path) -> io::Result<()> {
    run(path, |path| fs::File::open(path)?.sync_all()).await
}

/// Makes everything on a file's file system durable.
pub(crate) async fn sync_file_system(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let sync = move || {
        let file = fs::File::open(path)?;
        system::sync_file_system(&file)?;
        // XFS's answer to the call above comes without a flush of the device's cache when its log had
        // nothing to write; its answer to this one does not.
        file.sync_data()
    };
    shard::current().syncer().run(sync).await
}

/// The entries of a directory, in no order.
pub(crate) async fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    run(path, |path| {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("file name {}: not UTF-8", name.display()),
                )
            })?;
            let metadata = entry.metadata()?;
            let is_dir = metadata.is_dir();
            let bytes = if is_dir { 0 } else { metadata.len() };
            entries.push(DirEntry {
                name,
                is_dir,
                bytes,
            });
        }
        Ok(entries)
    })
    .await
}

/// Removes a file.
pub(crate) async fn remove_file(path: &Path) -> io::Result<()> {
    run(path, fs::remove_file).await
}

/// Removes a directory and everything in it.
pub(crate) async fn remove_dir_all(path: &Path) -> io::Result<()> {
    run(path, fs::remove_dir_all).await
}

/// Renames within one file system, replacing what has the new name.
pub(crate) async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let to = to.to_owned();
    run(from, move |from| fs::rename(from, to)).await
}

/// Whether something has this name.
pub(crate) async fn exists(path: &Path) -> io::Result<bool> {
    run(path, |path| path.try_exists()).await
}

/// A small file's whole content.
pub(crate) async fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    run(path, fs::read).await
}

/// Creates or overwrites a small file and makes its content durable.
pub(crate) async fn write_file_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let content = content.to_owned();
    run(path, move |path| {
        let mut file = fs::File::create(path)?;
        file.write_all(&content)?;
        file.sync_all()
    })
    .await
}

/// Space of the file system that holds `path`.
pub(crate) async fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let file_system = run(path, |path| system::file_system(&path)).await?;
    Ok(DiskSpace {
        free_bytes: file_system.free_bytes,
        total_bytes: file_system.total_bytes,
    })
}
