//! The directory with the one file that is the disk.
//!
//! Place: the kernel's requests (FUSE, `fuser`) end here, one after the other, at the disk.
//! Invariant: the kernel caches nothing of the file (direct I/O), so every write and every flush of the loop device is seen.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use crate::disk::Disk;
use crate::{lock, lose_power, sound};

const NAME: &str = "image";
const IMAGE: INodeNo = INodeNo(2);
/// How long the kernel may keep names and attributes: they do not change.
const KEPT: Duration = Duration::from_hours(1);

/// The file system.
#[derive(Debug)]
pub(crate) struct OneFile {
    disk: Arc<Mutex<Disk>>,
    bytes: u64,
}

impl OneFile {
    pub(crate) fn new(disk: Arc<Mutex<Disk>>) -> OneFile {
        let bytes = lock(&disk).bytes();
        OneFile { disk, bytes }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, nlink, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 2, 0),
            IMAGE => (FileType::RegularFile, 0o600, 1, self.bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_image = parent == INodeNo::ROOT && name == NAME;
        match self.attributes(IMAGE).filter(|_| is_image) {
            Some(attributes) => reply.entry(&KEPT, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&KEPT, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.bytes.saturating_sub(offset);
        let mut buffer = vec![0; left.min(size.into()) as usize];
        sound(lock(&self.disk).read(offset, &mut buffer));
        reply.data(&buffer);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if offset.saturating_add(data.len() as u64) > self.bytes {
            return reply.error(Errno::ENOSPC);
        }
        let mut disk = lock(&self.disk);
        sound(disk.write(offset, data));
        if disk.is_time_to_fail() {
            lose_power(disk);
        }
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        sound(lock(&self.disk).flush());
        reply.ok();
    }
}
