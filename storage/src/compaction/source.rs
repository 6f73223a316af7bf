//! Reads the batches of a sealed segment from its file, one after the other.
//!
//! *Place*: both passes of a cleaning round. Not through the read cache: what a round reads once would
//! push out what readers want again. *Invariants*: **I1** every batch's header and CRC are checked
//! before it is given out. *Limits*: one read of [`READ_BYTES`] and the largest batch in memory.

use std::rc::Rc;

use runtime::File;

use crate::error::StorageError;
use crate::partition_log::Log;
use crate::segment::batch_header::{BadHeader, BatchHeader, CRC_FROM};
use crate::segment::files::FileKind;
use crate::segment::{SegmentExtent, block_ceil};
use protocol::crc32c;

/// Greatest single read.
const READ_BYTES: u64 = 512 << 10;

/// A segment being read.
pub(super) struct SegmentSource {
    log: Rc<Log>,
    extent: SegmentExtent,
    file: Option<File>,
    /// What was read, from before `position` on: what was given out is let go of with the next read only.
    held: Vec<u8>,
    /// Where `position` is in it.
    begin: usize,
    /// Position of the batch that was given out last, or of the next one.
    position: u64,
    /// Bytes of the batch that was given out last.
    given: usize,
    /// Position up to which the file was read.
    read_to: u64,
    offset_min: i64,
}

impl SegmentSource {
    pub(super) fn new(log: &Rc<Log>, extent: SegmentExtent) -> Self {
        SegmentSource {
            log: Rc::clone(log),
            extent,
            file: None,
            held: Vec::new(),
            begin: 0,
            position: 0,
            given: 0,
            read_to: 0,
            offset_min: extent.base_offset,
        }
    }

    /// Bytes that the next batch needs and that are not in memory: what a call of [`Self::next`]
    /// is going to read.
    pub(super) fn wants_read(&self) -> u64 {
        let left = &self.held[self.begin + self.given..];
        let is_whole =
            BatchHeader::decode_prefix(left).is_ok_and(|batch| batch.bytes <= left.len() as u64);
        if is_whole {
            0
        } else {
            self.extent
                .bytes
                .saturating_sub(self.read_to)
                .min(READ_BYTES)
        }
    }

    /// The next batch and its bytes; `None` at the segment's end.
    ///
    /// # Errors
    /// [`StorageError::Io`]; [`StorageError::Corruption`] names the segment and the position.
    pub(super) async fn next(&mut self) -> Result<Option<(BatchHeader, &[u8])>, StorageError> {
        self.position += self.given as u64;
        self.begin += self.given;
        self.given = 0;
        if self.position >= self.extent.bytes {
            return Ok(None);
        }
        let batch = loop {
            let left = self.left();
            match BatchHeader::decode_prefix(left) {
                Ok(batch) if batch.bytes <= left.len() as u64 => break batch,
                Ok(_) | Err(_) if self.read_to < self.extent.bytes && self.may_need_more() => {
                    self.read().await?;
                }
                Ok(batch) => {
                    return Err(self.corruption(BadHeader {
                        field: "batch bytes within",
                        expected: left.len() as i64,
                        found: batch.bytes as i64,
                    }));
                }
                Err(bad) => return Err(self.corruption(bad)),
            }
        };
        self.check(&batch)?;
        self.given = batch.bytes as usize;
        self.offset_min = batch.next_offset();
        Ok(Some((batch, &self.left()[..self.given])))
    }

    /// What is held from `position` on.
    fn left(&self) -> &[u8] {
        &self.held[self.begin..]
    }

    /// Whether more bytes could make the next batch whole: not if its header is wrong already.
    fn may_need_more(&self) -> bool {
        match BatchHeader::decode_prefix(self.left()) {
            Ok(batch) => self.position + batch.bytes <= self.extent.bytes,
            Err(_) => self.left().len() < crate::segment::batch_header::HEADER_BYTES,
        }
    }

    async fn read(&mut self) -> Result<(), StorageError> {
        let kind = FileKind::Segment;
        let name = self.extent.name();
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.log.open_named(name, kind).await?,
        };
        self.file = Some(file.clone());
        let to = (self.read_to + READ_BYTES).min(block_ceil(self.extent.bytes));
        let read = file
            .read_at(self.read_to, (to - self.read_to) as usize)
            .await;
        let path = || self.log.path_of(name, kind);
        let slice = read.map_err(|e| StorageError::io("read", &path(), e))?;
        let too_short = |at: u64| {
            let expected = format!("{} bytes", self.extent.bytes);
            Err(StorageError::corruption(&path(), at, expected, at))
        };
        let valid = (slice.len() as u64).min(self.extent.bytes - self.read_to);
        if valid == 0 {
            return too_short(self.read_to);
        }
        self.held.drain(..self.begin);
        self.begin = 0;
        self.held.extend_from_slice(&slice[..valid as usize]);
        self.read_to += valid;
        // A short read in the middle leaves an unaligned position: only the file's end is that.
        if self.read_to < self.extent.bytes
            && !self.read_to.is_multiple_of(runtime::BLOCK_BYTES as u64)
        {
            return too_short(self.read_to);
        }
        Ok(())
    }

    fn check(&self, batch: &BatchHeader) -> Result<(), StorageError> {
        if batch.base_offset < self.offset_min {
            return Err(self.corruption(BadHeader {
                field: "base offset of at least",
                expected: self.offset_min,
                found: batch.base_offset,
            }));
        }
        let crc = crc32c::crc32c(&self.left()[CRC_FROM as usize..batch.bytes as usize]);
        if crc != batch.crc {
            return Err(self.corruption(BadHeader {
                field: "batch CRC",
                expected: i64::from(batch.crc),
                found: i64::from(crc),
            }));
        }
        Ok(())
    }

    fn corruption(&self, bad: BadHeader) -> StorageError {
        let expected = format!("{} {}", bad.field, bad.expected);
        self.corrupt_batch(expected, bad.found)
    }

    /// Names the batch given out last as one that is not what was written.
    pub(super) fn corrupt_batch(
        &self,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> StorageError {
        let path = self.log.path_of(self.extent.name(), FileKind::Segment);
        StorageError::corruption(&path, self.position, expected, found)
    }
}
