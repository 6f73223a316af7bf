//! Directories and small whole files, on the shard's helper thread.
//!
//! *Place*: below the face `dir`. All of it is rare; none of it may stop the shard.
//! *Durability*: names are durable after [`Directory::sync`] of theirs.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

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

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory(Arc<fs::File>);

impl Directory {
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        Ok(Directory(Arc::new(run(path, fs::File::open).await?)))
    }

    /// Makes the names in it durable.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        shard::current().helper().run(move || file.sync_all()).await
    }
}

/// Number of the file system that a path is on.
pub(crate) async fn file_system_id(path: &Path) -> io::Result<u64> {
    run(path, |path| Ok(fs::metadata(path)?.dev())).await
}

/// A file system, by a file on it that stays open: the kernel tells each open file of the failures since.
#[derive(Debug)]
pub(crate) struct FileSystem {
    file: Arc<fs::File>,
    /// Whether the first sync found that nothing had failed.
    is_clean: Arc<OnceLock<bool>>,
}

impl FileSystem {
    /// A failure that nobody was told of is told to whoever asks first, however old it is. So the first sync is
    /// made at once, by the thread that makes all others after it, and nobody waits for it.
    pub(crate) async fn open(path: &Path) -> io::Result<Self> {
        let file = Arc::new(run(path, fs::File::open).await?);
        let is_clean = Arc::new(OnceLock::new());
        let (first, found) = (Arc::clone(&file), Arc::clone(&is_clean));
        let path = path.to_owned();
        shard::current().syncer().start(move || {
            let synced = system::sync_file_system(&first);
            if let Err(error) = &synced {
                tracing::warn!(path = %path.display(), %error,
                    "a write to this file system failed, perhaps another program's; its files are synced one by one from now on");
            }
            let is_first = found.set(synced.is_ok()).is_ok();
            assert!(is_first, "the first sync is made once");
        })?;
        Ok(FileSystem { file, is_clean })
    }

    /// Makes everything on it durable; `false` where failures cannot be told from earlier ones.
    pub(crate) async fn sync(&self) -> io::Result<bool> {
        let (file, is_clean) = (Arc::clone(&self.file), Arc::clone(&self.is_clean));
        let sync = move || {
            if is_clean.get() != Some(&true) {
                return Ok(false);
            }
            system::sync_file_system(&file)?;
            // XFS's answer to the call above comes without a flush of the device's cache when its log had
            // nothing to write; its answer to this one does not.
            file.sync_data()?;
            Ok(true)
        };
        shard::current().syncer().run(sync).await
    }
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
