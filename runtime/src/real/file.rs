//! Files with direct I/O on the shard's ring.
//!
//! *Place*: below the face `file`. Reads, writes, syncs and allocations go through the ring;
//! opening and truncating, which are rare, through the shard's helper thread.
//! *Durability*: a write with [`Durability::DataSync`] is on the device when it returns (`RWF_DSYNC`);
//! it says nothing about any other write.
//! *Cancel safety*: a dropped future leaves its operation running to the end, with its memory.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use io_uring::{opcode, types};

use super::naps::DurableWrite;
use super::shard;
use crate::buffer::{AppendBuf, BLOCK_BYTES, Slice, rest_of};
use crate::file::{Durability, OpenMode};
use crate::ring::slots::{Memory, Message, OnDrop};

/// Most bytes of one read or write operation: the kernel takes lengths below 2 GiB.
const OPERATION_BYTES_MAX: u32 = 1 << 30;

/// An open file; clones share the descriptor, which closes with the last clone and operation.
#[derive(Clone, Debug)]
pub(crate) struct File {
    descriptor: Rc<OwnedFd>,
}

fn write_flags(durability: Durability) -> i32 {
    match durability {
        Durability::Buffered => 0,
        Durability::DataSync => libc::RWF_DSYNC,
    }
}

fn under_way(durability: Durability) -> Option<DurableWrite> {
    (durability == Durability::DataSync).then(|| shard::current().begin_durable_write())
}

fn open_direct(path: &Path, mode: OpenMode) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options.open(path)
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> Self {
        Self {
            descriptor: Rc::new(OwnedFd::from(file)),
        }
    }
}

/// Whether a file offset or length is a multiple of the block.
fn is_aligned(value: u64) -> bool {
    value.is_multiple_of(BLOCK_BYTES as u64)
}

impl File {
    /// Opens for direct I/O; `CreateNew` fails if the file is there.
    pub(crate) async fn open(path: &Path, mode: OpenMode) -> io::Result<Self> {
        let path = path.to_owned();
        let shard = shard::current();
        let opened = shard.helper().run(move || open_direct(&path, mode));
        opened.await.map(Self::from)
    }

    /// Opens for direct I/O, or makes it, with its directory, and says so: one call of the helper.
    pub(crate) async fn open_or_create(path: &Path) -> io::Result<(Self, bool)> {
        let path = path.to_owned();
        let shard = shard::current();
        let opened = shard.helper().run(move || {
            match open_direct(&path, OpenMode::ReadWrite) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map(|file| (file, false)),
            }
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            open_direct(&path, OpenMode::CreateNew).map(|file| (file, true))
        });
        opened.await.map(|(file, is_made)| (file.into(), is_made))
    }

    /// Reads `len` bytes at `offset`, fewer at the end of the file.
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Slice> {
        assert!(
            is_aligned(offset),
            "read at {offset}: not a multiple of the block"
        );
        assert!(
            is_aligned(len as u64),
            "read of {len} bytes: not a multiple of the block"
        );
        let mut buffer = AppendBuf::with_capacity(len);
        while buffer.remaining() > 0 {
            let position = offset + buffer.len() as u64;
            let operation = shard::current().start(
                &self.descriptor,
                Memory::Append(buffer),
                OnDrop::Finish,
                |descriptor, memory| {
                    let (target, bytes) = memory.target();
                    opcode::Read::new(descriptor, target, bytes.min(OPERATION_BYTES_MAX))
                        .offset(position)
                        .build()
                },
            );
            let (read, returned) = operation.await.into_appended();
            buffer = returned;
            // Direct I/O stops inside a block only at the end of the file.
            if read? == 0 || !is_aligned(buffer.len() as u64) {
                break;
            }
        }
        Ok(buffer.freeze())
    }

    /// Writes all of `data` at `offset`.
    pub(crate) async fn write_at(
        &self,
        offset: u64,
        data: Slice,
        durability: Durability,
    ) -> io::Result<()> {
        assert!(
            is_aligned(offset),
            "write at {offset}: not a multiple of the block"
        );
        assert!(
            is_aligned(data.len() as u64),
            "write of {} bytes: not blocks",
            data.len()
        );
        assert!(
            is_aligned(data.as_ptr() as u64),
            "write from memory that is not aligned"
        );
        let _under_way = under_way(durability);
        let mut written = 0;
        while written < data.len() {
            let rest = data.sub(written..data.len());
            let position = offset + written as u64;
            let operation = shard::current().start(
                &self.descriptor,
                Memory::Slice(rest),
                OnDrop::Finish,
                |descriptor, memory| {
                    let (source, bytes) = memory.source();
                    opcode::Write::new(descriptor, source, bytes.min(OPERATION_BYTES_MAX))
                        .offset(position)
                        .rw_flags(write_flags(durability))
                        .build()
                },
            );
            // A write that ends early says why only when the rest is tried; that begins inside one of our
            // blocks where those of the file system are smaller, and is as aligned as it wants.
            match operation.await.count()? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => written += bytes,
            }
        }
        Ok(())
    }

    /// Writes `parts` one behind the other from `offset` on, with one operation unless the kernel ends it early.
    pub(crate) async fn write_parts_at(
        &self,
        mut offset: u64,
        mut parts: Vec<Slice>,
        durability: Durability,
    ) -> io::Result<()> {
        let _under_way = under_way(durability);
        while !parts.is_empty() {
            let operation = shard::current().start(
                &self.descriptor,
                Memory::Message(Rc::new(Message::new(std::mem::take(&mut parts), None))),
                OnDrop::Finish,
                |descriptor, memory| {
                    let (vectors, count) = memory.message().vectors();
                    opcode::Writev::new(descriptor, vectors, count)
                        .offset(offset)
                        .rw_flags(write_flags(durability))
                        .build()
                },
            );
            let finished = operation.await;
            match finished.count()? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => {
                    offset += bytes as u64;
                    parts = rest_of(&finished.memory.message().parts, bytes);
                }
            }
        }
        Ok(())
    }

    /// Makes all completed writes durable (fdatasync).
    pub(crate) async fn sync_data(&self) -> io::Result<()> {
        let operation = shard::current().start(
            &self.descriptor,
            Memory::None,
            OnDrop::Finish,
            |descriptor, _| {
                opcode::Fsync::new(descriptor)
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
            },
        );
        operation.await.count().map(drop)
    }

    /// Reserves space on the device; the file grows to hold the range.
    pub(crate) async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let operation = shard::current().start(
            &self.descriptor,
            Memory::None,
            OnDrop::Finish,
            |descriptor, _| {
                opcode::Fallocate::new(descriptor, len)
                    .offset(offset)
                    .build()
            },
        );
        operation.await.count().map(drop)
    }

    /// Cuts or extends the file to `len` bytes.
    pub(crate) async fn truncate(&self, len: u64) -> io::Result<()> {
        let file = fs::File::from(self.descriptor.as_fd().try_clone_to_owned()?);
        shard::current()
            .helper()
            .run(move || file.set_len(len))
            .await
    }

    /// Bytes of the file. Answered by the kernel from memory.
    #[expect(clippy::unused_async, reason = "the simulated twin waits")]
    pub(crate) async fn size(&self) -> io::Result<u64> {
        let file = fs::File::from(self.descriptor.as_fd().try_clone_to_owned()?);
        Ok(file.metadata()?.len())
    }
}
