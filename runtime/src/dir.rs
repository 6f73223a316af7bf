//! Directories and small whole files.
//!
//! *Place*: layout of the data directory, checkpoints, deletion of segments. Not for hot paths: the real
//! backend may hand these to a helper thread. *Durability*: a created, renamed or removed name is durable
//! only after [`sync_dir`] of the directory that holds it (for a rename, the one it moved to).

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::file::OpenMode;
use crate::{real, sim};

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Size of a file; zero for a directory.
    pub bytes: u64,
}

/// Makes a directory and those above it that are missing. Does not sync any of them.
///
/// # Errors
/// The system's answer, as for all functions here.
pub async fn create_dir_all(path: &Path) -> io::Result<()> {
    match sim::current() {
        Some(world) => world.disk().create_dir_all(path).await,
        None => real::dir::create_dir_all(path).await,
    }
}

/// Makes the names in `path` durable.
pub async fn sync_dir(path: &Path) -> io::Result<()> {
    Directory::open(path).await?.sync().await
}

/// An open directory: who opens it first can tell that it could not be opened, which may be tried again,
/// from a sync that failed, which may not.
#[derive(Debug)]
pub struct Directory {
    backend: DirectoryBackend,
}

#[derive(Debug)]
enum DirectoryBackend {
    Real(real::dir::Directory),
    Sim(PathBuf),
}

impl Directory {
    /// Opens the one at `path`.
    pub async fn open(path: &Path) -> io::Result<Directory> {
        let backend = match sim::current() {
            Some(world) => {
                world.disk().open_dir(path).await?;
                DirectoryBackend::Sim(path.to_owned())
            }
            None => DirectoryBackend::Real(real::dir::Directory::open(path).await?),
        };
        Ok(Directory { backend })
    }

    /// Makes the names in it durable.
    pub async fn sync(&self) -> io::Result<()> {
        match &self.backend {
            DirectoryBackend::Real(directory) => directory.sync().await,
            DirectoryBackend::Sim(path) => {
                let world = sim::current().expect("a simulated directory is used in its world");
                world.disk().sync_dir(path).await
            }
        }
    }
}

/// Which file system the file or directory at `path` is on: the same number, the same file system.
pub async fn file_system_id(path: &Path) -> io::Result<u64> {
    match sim::current() {
        // Of the one disk there is.
        Some(_) => Ok(1),
        None => real::dir::file_system_id(path).await,
    }
}

/// A file system that can be synced as a whole: cheaper than syncing hundreds of files one by one, but it
/// waits for what other programs have written there, too.
#[derive(Clone, Debug)]
pub struct FileSystem {
    backend: FileSystemBackend,
}

#[derive(Clone, Debug)]
enum FileSystemBackend {
    Real(Rc<real::dir::FileSystem>),
    Sim(PathBuf),
}

impl FileSystem {
    /// The one that holds the file at `path`, which must be there. To be opened before anything is written
    /// that it is to make durable: the kernel tells an open file of failures that came after its opening.
    pub async fn open(path: &Path) -> io::Result<FileSystem> {
        let backend = match sim::current() {
            Some(world) => {
                world.disk().open(path, OpenMode::Read).await?;
                FileSystemBackend::Sim(path.to_owned())
            }
            None => FileSystemBackend::Real(Rc::new(real::dir::FileSystem::open(path).await?)),
        };
        Ok(FileSystem { backend })
    }

    /// Makes everything durable that was written and had ended before: contents, lengths and names of all
    /// files. `false`: it is not known whether it did, and the files are to be synced one by one, now and
    /// later: a failure was told that may be older than [`Self::open`].
    ///
    /// # Errors
    /// A failure since the opening, of whatever program's writes: which, the kernel does not tell.
    pub async fn sync(&self) -> io::Result<bool> {
        match &self.backend {
            FileSystemBackend::Real(file_system) => file_system.sync().await,
            FileSystemBackend::Sim(path) => {
                let world = sim::current().expect("a simulated file system is used in its world");
                world.disk().sync_file_system(path).await.map(|()| true)
            }
        }
    }
}

/// The entries of `path`, by name.
pub async fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = match sim::current() {
        Some(world) => world.disk().read_dir(path).await?,
        None => real::dir::read_dir(path).await?,
    };
    entries.sort_unstable();
    Ok(entries)
}

/// Removes a file. Who has it open can go on using it.
pub async fn remove_file(path: &Path) -> io::Result<()> {
    match sim::current() {
        Some(world) => world.disk().remove_file(path).await,
        None => real::dir::remove_file(path).await,
    }
}

/// Removes a directory with all that it holds; may stop half-way.
pub async fn remove_dir_all(path: &Path) -> io::Result<()> {
    match sim::current() {
        Some(world) => world.disk().remove_dir_all(path).await,
        None => real::dir::remove_dir_all(path).await,
    }
}

/// Renames atomically; what had the name `to` is gone.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match sim::current() {
        Some(world) => world.disk().rename(from, to).await,
        None => real::dir::rename(from, to).await,
    }
}

/// Whether there is a file or directory at `path`.
pub async fn exists(path: &Path) -> io::Result<bool> {
    match sim::current() {
        Some(world) => world.disk().exists(path).await,
        None => real::dir::exists(path).await,
    }
}

/// The content of a small file.
pub async fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match sim::current() {
        Some(world) => world.disk().read_file(path).await,
        None => real::dir::read_file(path).await,
    }
}

/// Replaces or makes the file `path` so that after a loss of power it holds either the old content or
/// all of the new, and the new once this has returned. Uses `path` with `.tmp` appended on the way.
pub async fn write_file_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let temporary = temporary_path(path);
    match sim::current() {
        Some(world) => world.disk().write_file_synced(&temporary, content).await?,
        None => real::dir::write_file_synced(&temporary, content).await?,
    }
    rename(&temporary, path).await?;
    sync_dir(directory).await
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// What is left for this process.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// Space of the file system of `path`.
pub async fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    match sim::current() {
        Some(world) => world.disk().disk_space().await,
        None => real::dir::disk_space(path).await,
    }
}

/// Size of the file system of `path`.
pub async fn total_bytes(path: &Path) -> io::Result<u64> {
    Ok(disk_space(path).await?.total_bytes)
}

/// Space left for this process on the file system of `path`.
pub async fn free_bytes(path: &Path) -> io::Result<u64> {
    Ok(disk_space(path).await?.free_bytes)
}
