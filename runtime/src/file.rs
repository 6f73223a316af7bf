//! Files by direct I/O.
//!
//! *Place*: the journal, the segments and their indexes. *Core*: a file belongs to the thread that
//! opened it. *Durability*: a write with [`Durability::DataSync`] makes itself durable and nothing
//! else; [`File::sync_data`] makes durable what was written before it began, and the file's size. A new
//! file's name is durable only after [`crate::dir::sync_dir`] of its directory. After a failed sync
//! nothing may be inferred about what was written before it. *Ordering*: none between operations in flight.
//! *Cancel safety* of all operations: one begins when its future is first polled, then owns its buffer
//! and runs to its end, even if the future is dropped.

use std::io;
use std::path::Path;

use crate::buffer::{BLOCK_BYTES, Slice};
use crate::{real, sim};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A file that must not exist yet, to read and write.
    CreateNew,
}

/// What holds when a write has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kernel has it: it survives the end of the process, not a loss of power.
    Buffered,
    /// It survives a loss of power.
    DataSync,
}

/// Whether an operation was refused because the process or the machine is short of open files or memory:
/// later it may succeed.
pub fn is_short_of_resources(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// What to do about a refusal for want of open files, after a semicolon; nothing for any other.
pub fn open_files_remedy(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            let limit = real::system::resource_limit(libc::RLIMIT_NOFILE);
            let limit = limit.map_or_else(|_| String::new(), |(limit, _)| format!(", {limit}"));
            format!(
                "; this process has as many files open as it may{limit}: raise the limit (`ulimit -n`, systemd \
                 `LimitNOFILE=`, docker `--ulimit nofile=`)"
            )
        }
        Some(libc::ENFILE) => {
            "; all programs together have as many files open as they may: raise `fs.file-max`"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// An open file; clones share it, and the last one closes it.
#[derive(Clone, Debug)]
pub struct File {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Real(real::file::File),
    Sim(sim::SimFile),
}

impl File {
    /// Opens `path`.
    ///
    /// # Errors
    /// The system's answer: `NotFound`, `AlreadyExists` for [`OpenMode::CreateNew`], …
    pub async fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
        let backend = match sim::current() {
            Some(world) => Backend::Sim(world.disk().open(path, mode).await?),
            None => Backend::Real(real::file::File::open(path, mode).await?),
        };
        Ok(File { backend })
    }

    /// Opens `path` to read and write, and makes it, with the directories that it is in, if it does not exist.
    /// Answers whether it was made.
    ///
    /// # Errors
    /// The system's answer; directories may have been made.
    pub async fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
        if let Some(world) = sim::current() {
            let (file, is_made) = world.disk().open_or_create(path).await?;
            let backend = Backend::Sim(file);
            return Ok((File { backend }, is_made));
        }
        let (file, is_made) = real::file::File::open_or_create(path).await?;
        let backend = Backend::Real(file);
        Ok((File { backend }, is_made))
    }

    /// Reads `len` bytes at `offset`, both whole blocks; fewer where the file ends.
    ///
    /// # Errors
    /// `InvalidInput` for what is not aligned; the system's answer otherwise.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Slice> {
        check_aligned(offset, len, true)?;
        match &self.backend {
            Backend::Real(file) => file.read_at(offset, len).await,
            Backend::Sim(file) => file.read_at(offset, len).await,
        }
    }

    /// Writes all of `data` at `offset`; address, length and offset must be whole blocks. The file
    /// grows if need be.
    ///
    /// # Errors
    /// `InvalidInput` for what is not aligned; otherwise the system's answer, after which any part of
    /// the range may have been written.
    pub async fn write_at(
        &self,
        offset: u64,
        data: Slice,
        durability: Durability,
    ) -> io::Result<()> {
        check_aligned(
            offset,
            data.len(),
            data.is_empty() || data.is_block_aligned(),
        )?;
        if data.is_empty() {
            return Ok(());
        }
        match &self.backend {
            Backend::Real(file) => file.write_at(offset, data, durability).await,
            Backend::Sim(file) => file.write_at(offset, data, durability).await,
        }
    }

    /// [`Self::write_at`] of `parts`, one behind the other: each is whole blocks.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub async fn write_parts_at(
        &self,
        offset: u64,
        mut parts: Vec<Slice>,
        durability: Durability,
    ) -> io::Result<()> {
        parts.retain(|part| !part.is_empty());
        for part in &parts {
            check_aligned(offset, part.len(), part.is_block_aligned())?;
        }
        match (&self.backend, parts.len()) {
            (_, 0) => Ok(()),
            (_, 1) => self.write_at(offset, parts.remove(0), durability).await,
            (Backend::Real(file), _) => file.write_parts_at(offset, parts, durability).await,
            (Backend::Sim(file), _) => {
                file.write_at(offset, Slice::joined(parts), durability)
                    .await
            }
        }
    }

    /// Makes everything durable that was written before, and the size (fdatasync).
    ///
    /// # Errors
    /// The system's answer, after which what was written before may be lost, whatever later calls say.
    pub async fn sync_data(&self) -> io::Result<()> {
        match &self.backend {
            Backend::Real(file) => file.sync_data().await,
            Backend::Sim(file) => file.sync_data().await,
        }
    }

    /// Reserves space for the range, which reads as zeros where nothing was written. The file grows to
    /// its end if it was shorter (fallocate with mode 0).
    ///
    /// # Errors
    /// `StorageFull`, or the system's answer.
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match &self.backend {
            Backend::Real(file) => file.allocate(offset, len).await,
            Backend::Sim(file) => file.allocate(offset, len).await,
        }
    }

    /// Cuts the file, or lets it grow with zeros, to `len` bytes.
    ///
    /// # Errors
    /// The system's answer.
    pub async fn truncate(&self, len: u64) -> io::Result<()> {
        match &self.backend {
            Backend::Real(file) => file.truncate(len).await,
            Backend::Sim(file) => file.truncate(len).await,
        }
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// The system's answer.
    pub async fn size(&self) -> io::Result<u64> {
        match &self.backend {
            Backend::Real(file) => file.size().await,
            Backend::Sim(file) => file.size().await,
        }
    }
}

/// The rules of direct I/O, the same on every disk: no backend is more lenient than another.
fn check_aligned(offset: u64, len: usize, address_aligned: bool) -> io::Result<()> {
    if address_aligned
        && len.is_multiple_of(BLOCK_BYTES)
        && offset.is_multiple_of(BLOCK_BYTES as u64)
    {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}
