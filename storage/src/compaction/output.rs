//! A rewritten segment on its way into a file of its own.
//!
//! *Place*: the second pass of a cleaning round. *Invariants*: **I1** nobody knows the file before
//! [`OutputSegment::finish`] has returned and the log's directory was fsynced; left behind by a stop it
//! means nothing. *Limits*: one write of [`WRITE_BYTES`] and one batch in memory.

use std::io;
use std::rc::Rc;

use runtime::{BLOCK_BYTES, Durability, File, OpenMode, dir};

use crate::error::StorageError;
use crate::partition_log::{Log, aligned};
use crate::segment::batch_header::BatchHeader;
use crate::segment::files::FileKind;
use crate::segment::index_file::{BLOCK_ENTRIES, BlockOwner, encode_block};
use crate::segment::{Segment, SegmentName};

/// Bytes of a single write.
const WRITE_BYTES: usize = 512 << 10;

/// A segment being written.
pub(super) struct OutputSegment {
    log: Rc<Log>,
    segment: Segment,
    file: Option<File>,
    /// Bytes after those in the file.
    gathered: Vec<u8>,
    written: u64,
}

impl OutputSegment {
    pub(super) fn new(log: &Rc<Log>, name: SegmentName, last_append_ms: i64) -> Self {
        let mut segment = Segment::new(name.base_offset, last_append_ms);
        segment.extent.version = name.version;
        OutputSegment {
            log: Rc::clone(log),
            segment,
            file: None,
            gathered: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segment.bytes()
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.segment.base_offset()
    }

    /// Adds a batch; `last_append_ms` is its old segment's.
    pub(super) fn push(&mut self, bytes: &[u8], last_append_ms: i64) {
        let batch = BatchHeader::decode_prefix(bytes).expect("the filter writes whole batches");
        assert_eq!(batch.bytes, bytes.len() as u64, "one batch at a time");
        self.segment.note(&batch, last_append_ms);
        self.gathered.extend_from_slice(bytes);
    }

    /// Writes what fills whole writes; answers how many bytes.
    pub(super) async fn write_full(&mut self) -> Result<u64, StorageError> {
        let mut written = 0;
        while self.gathered.len() >= WRITE_BYTES {
            self.write(WRITE_BYTES).await?;
            written += WRITE_BYTES as u64;
        }
        Ok(written)
    }

    /// Writes the rest and makes the file durable; its name is not yet. Answers the segment.
    pub(super) async fn finish(&mut self) -> Result<Segment, StorageError> {
        while !self.gathered.is_empty() {
            self.write(self.gathered.len().min(WRITE_BYTES)).await?;
        }
        if let Some(file) = &self.file {
            let path = self.path(FileKind::Segment);
            file.truncate(self.written)
                .await
                .map_err(|e| StorageError::io("truncate", &path, e))?;
            file.sync_data()
                .await
                .map_err(|e| StorageError::io("fdatasync", &path, e))?;
        }
        self.write_index().await?;
        let name = self.segment.name();
        let last_append_ms = self.segment.extent.last_append_ms;
        let mut segment = Segment::new(name.base_offset, last_append_ms);
        std::mem::swap(&mut segment, &mut self.segment);
        segment.allocated = segment.bytes();
        segment.note_durable();
        segment.check_invariants();
        // Should it be given up after all, the name is still known.
        self.segment.extent.version = name.version;
        Ok(segment)
    }

    /// Removes the files of a segment that is given up. What cannot be removed is left for the next
    /// time that the log is cleaned.
    pub(super) async fn discard(self) {
        for kind in [FileKind::Segment, FileKind::Index] {
            let path = self.path(kind);
            match dir::remove_file(&path).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a file that compaction gave up stays");
                }
            }
        }
    }

    fn path(&self, kind: FileKind) -> std::path::PathBuf {
        self.log.path_of(self.segment.name(), kind)
    }

    async fn write(&mut self, bytes: usize) -> Result<(), StorageError> {
        let path = self.path(FileKind::Segment);
        let file = match &self.file {
            Some(file) => file.clone(),
            None => create(&path).await?,
        };
        self.file = Some(file.clone());
        let blocks = aligned(&self.gathered[..bytes]);
        file.write_at(self.written, blocks, Durability::Buffered)
            .await
            .map_err(|e| StorageError::io("write", &path, e))?;
        self.gathered.drain(..bytes);
        self.written += bytes as u64;
        Ok(())
    }

    /// Writes the index blocks that are full. Derived: neither synced nor missed.
    async fn write_index(&mut self) -> Result<(), StorageError> {
        let owner = BlockOwner {
            incarnation: self.log.incarnation,
            segment_base: self.segment.base_offset(),
        };
        let mut blocks = Vec::new();
        let entries = self.segment.index.entries().chunks_exact(BLOCK_ENTRIES);
        for (number, entries) in entries.enumerate() {
            blocks.extend(encode_block(owner, number as u32, entries));
        }
        self.segment.index_blocks = Some((blocks.len() / BLOCK_BYTES) as u32);
        let path = self.path(FileKind::Index);
        if blocks.is_empty() {
            // That of a round that was given up would pass for this one's.
            return remove_if_there(&path).await;
        }
        let file = create(&path).await?;
        file.write_at(0, aligned(&blocks), Durability::Buffered)
            .await
            .map_err(|e| StorageError::io("write", &path, e))
    }
}

/// Makes a file; one of that name is left from a stop and goes.
async fn create(path: &std::path::Path) -> Result<File, StorageError> {
    let mut created = File::open(path, OpenMode::CreateNew).await;
    if matches!(&created, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
        remove_if_there(path).await?;
        created = File::open(path, OpenMode::CreateNew).await;
    }
    created.map_err(|e| StorageError::io("create", path, e))
}

async fn remove_if_there(path: &std::path::Path) -> Result<(), StorageError> {
    match dir::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::io("delete", path, error))
        }
        _ => Ok(()),
    }
}
