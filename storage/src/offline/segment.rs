//! The bytes of one segment, from its file and from what recovery put into memory, and a walk over
//! its batches that trusts nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::crc32c;
use runtime::time::sleep;
use runtime::{BLOCK_BYTES, File, Slice};

use super::{Item, Sink, open_to_read};
use crate::error::StorageError;
use crate::segment::SegmentName;
use crate::segment::batch_header::{BatchHeader, CRC_FROM, HEADER_BYTES, NONE};
use crate::segment::files::rewritten_segment;
use crate::segment::offset_index::{IndexEntry, OffsetIndex};

/// Bytes that are read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// How often a walk in the background asks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchInfo<'a> {
    /// Its place in the segment.
    pub position: u64,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record, inclusive.
    pub last_offset: i64,
    /// Leader epoch in which it was written.
    pub leader_epoch: i32,
    /// Producer id, epoch and first sequence; −1: none.
    pub producer: (i64, i16, i32),
    /// First and greatest timestamp.
    pub timestamps: (i64, i64),
    /// Records that its header states.
    pub record_count: i32,
    /// Codec, timestamp type, transaction bits.
    pub attributes: i16,
    /// Its CRC is right.
    pub is_whole: bool,
    /// All of it.
    pub bytes: &'a [u8],
}

/// A segment to be walked.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) base_offset: i64,
    /// Where the data ends; `None`: where it stops making sense, in the newest file of a log looked at alone.
    pub(crate) bytes: Option<u64>,
    /// Bytes from here on are not in the file but here: position, bytes.
    pub(crate) memory: Vec<(u64, Vec<u8>)>,
    /// Walked beside other work: only damage is told.
    pub(crate) background: Option<Background>,
}

/// How a segment is walked beside other work.
pub(crate) struct Background {
    /// How fast the file may be read; 0: as fast as it can be.
    pub(crate) bytes_per_second: u64,
    /// Asked every second: once it says no the walk ends, and the file is let go.
    pub(crate) is_wanted: Box<dyn Fn() -> bool>,
}

/// What a walk learned.
pub(crate) struct Walked {
    /// The index that the segment should have.
    pub(super) index: Vec<IndexEntry>,
    /// Offset after the last batch.
    pub(super) next_offset: i64,
    /// Nothing was damaged: the index is complete.
    pub(super) is_whole: bool,
    /// It ended early for want of open files or memory, which says nothing about the file.
    pub(crate) was_short: bool,
}

impl Source {
    /// Up to where the file holds the data.
    pub(super) fn file_end(&self, file_bytes: u64) -> u64 {
        let in_file = self.memory.first().map(|(start, _)| *start);
        in_file.or(self.bytes).unwrap_or(file_bytes)
    }

    /// Walks over the batches from `offset_min` on.
    pub(crate) async fn walk(&self, offset_min: i64, sink: &mut Sink<'_>) -> Walked {
        let mut walked = Walked {
            index: Vec::new(),
            next_offset: offset_min,
            is_whole: false,
            was_short: false,
        };
        match self.walk_batches(&mut walked, sink).await {
            Ok(is_whole) => walked.is_whole = is_whole,
            Err(error) if self.background.is_some() && error.is_shortage() => {
                walked.was_short = true;
            }
            Err(error) => super::report(&error, sink),
        }
        walked
    }

    /// Whether all batches are whole.
    async fn walk_batches(
        &self,
        walked: &mut Walked,
        sink: &mut Sink<'_>,
    ) -> Result<bool, StorageError> {
        let mut reader = Reader::open(self).await?;
        sink(Item::Segment {
            path: &self.path,
            base_offset: self.base_offset,
            bytes: reader.end,
            file_bytes: self.file_end(reader.end).min(reader.end),
        });
        let mut index = OffsetIndex::starting_at(0);
        let (mut position, mut max_timestamp, mut is_whole) = (0, NONE, true);
        while position < reader.end {
            let batch = match self.header(&mut reader, position, walked.next_offset).await {
                Ok(batch) => batch,
                Err(StorageError::Corruption { .. }) if self.bytes.is_none() => break,
                Err(error) => return Err(error),
            };
            let (bytes, crc) = reader.batch(position, batch.bytes).await?;
            let is_right = crc == batch.crc;
            let next = position + batch.bytes;
            // The last batch of a file that was being written, before space that was allocated ahead.
            if !is_right && self.bytes.is_none() && reader.is_empty_from(next).await? {
                break;
            }
            if !is_right {
                is_whole = false;
                let expected = format!("batch CRC {}", batch.crc);
                // Its length may be what is wrong with it: believed only if a batch follows.
                let follows = next == reader.end
                    || match self.header(&mut reader, next, batch.next_offset()).await {
                        Ok(_) => true,
                        Err(StorageError::Corruption { .. }) => false,
                        Err(error) => return Err(error),
                    };
                if !follows {
                    let found = format!("{crc}, and no batch behind it: the rest is not looked at");
                    super::report(&self.corruption(position, expected, found), sink);
                    return Ok(false);
                }
                super::report(&self.corruption(position, expected, crc), sink);
            }
            index.note(self.base_offset, &batch, position, max_timestamp);
            max_timestamp = max_timestamp.max(batch.greatest_timestamp());
            if self.background.is_none() {
                sink(Item::Batch(&info(&batch, position, is_right, &bytes)));
            }
            walked.next_offset = batch.next_offset();
            position += batch.bytes;
        }
        if self.bytes.is_none() {
            sink(Item::End {
                path: &self.path,
                position,
            });
        }
        walked.index = index.entries().to_vec();
        Ok(is_whole)
    }

    async fn header(
        &self,
        reader: &mut Reader<'_>,
        position: u64,
        offset_min: i64,
    ) -> Result<BatchHeader, StorageError> {
        let header = reader.bytes(position, HEADER_BYTES as u64).await?;
        let batch = BatchHeader::decode_prefix(&header).map_err(|bad| {
            self.corruption(
                position,
                format!("{} {}", bad.field, bad.expected),
                bad.found,
            )
        })?;
        if batch.base_offset < offset_min {
            let expected = format!("base offset of at least {offset_min}");
            return Err(self.corruption(position, expected, batch.base_offset));
        }
        // Relative offsets and offsets after the last one have to be representable.
        if batch.last_offset() - self.base_offset > i64::from(i32::MAX)
            || batch.last_offset() == i64::MAX
        {
            let expected = format!("last offset within 2^31 of {}", self.base_offset);
            return Err(self.corruption(position, expected, batch.last_offset()));
        }
        let left = reader.end - position;
        if batch.bytes > left {
            return Err(self.corruption(
                position,
                format!("batch bytes within {left}"),
                batch.bytes,
            ));
        }
        Ok(batch)
    }

    fn corruption(
        &self,
        position: u64,
        expected: String,
        found: impl std::fmt::Display,
    ) -> StorageError {
        StorageError::corruption(&self.path, position, expected, found)
    }
}

fn info<'a>(batch: &BatchHeader, position: u64, is_whole: bool, bytes: &'a [u8]) -> BatchInfo<'a> {
    BatchInfo {
        position,
        base_offset: batch.base_offset,
        last_offset: batch.last_offset(),
        leader_epoch: batch.leader_epoch,
        producer: (batch.producer_id, batch.producer_epoch, batch.base_sequence),
        timestamps: (batch.base_timestamp, batch.max_timestamp),
        record_count: batch.record_count,
        attributes: batch.attributes,
        is_whole,
        bytes,
    }
}

/// Reads a segment, a window at a time.
struct Reader<'s> {
    source: &'s Source,
    file: Option<(File, u64)>,
    end: u64,
    window: Slice,
    window_at: u64,
}

impl<'s> Reader<'s> {
    async fn open(source: &'s Source) -> Result<Self, StorageError> {
        // What is in memory only has no file yet.
        let needs_file = source.file_end(1) > 0;
        let file = if needs_file {
            Some(open_to_read(&source.path).await?)
        } else {
            None
        };
        let file_bytes = file.as_ref().map_or(0, |(_, bytes)| *bytes);
        Ok(Reader {
            source,
            file,
            end: source.bytes.unwrap_or(file_bytes),
            window: Slice::default(),
            window_at: 0,
        })
    }

    /// A batch and its CRC; without the bytes, which may be many, if nobody wants them.
    async fn batch(&mut self, position: u64, bytes: u64) -> Result<(Vec<u8>, u32), StorageError> {
        if self.source.background.is_none() {
            let bytes = self.bytes(position, bytes).await?;
            let crc = crc32c::crc32c(bytes.get(CRC_FROM as usize..).unwrap_or_default());
            return Ok((bytes, crc));
        }
        let (mut at, end) = (position + CRC_FROM, position + bytes);
        let mut crc = 0;
        while at < end {
            let part = self.bytes(at, (end - at).min(WINDOW_BYTES)).await?;
            crc = crc32c::crc32c_append(crc, &part);
            at += part.len() as u64;
        }
        Ok((Vec::new(), crc))
    }

    /// Whether there is nothing but zeros from `position` on.
    async fn is_empty_from(&mut self, position: u64) -> Result<bool, StorageError> {
        let mut at = position;
        while at < self.end {
            let part = self.bytes(at, WINDOW_BYTES).await?;
            if part.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += part.len() as u64;
        }
        Ok(true)
    }

    /// `len` bytes from `position`, fewer at the end.
    async fn bytes(&mut self, position: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        let end = position.saturating_add(len).min(self.end);
        let mut bytes = Vec::new();
        let mut at = position;
        while at < end {
            let before = bytes.len();
            self.extend(at, end, &mut bytes).await?;
            if bytes.len() == before {
                return Err(StorageError::corruption(
                    &self.source.path,
                    at,
                    format!("segment bytes up to {}", self.end),
                    "the end of the file",
                ));
            }
            at += (bytes.len() - before) as u64;
        }
        Ok(bytes)
    }

    /// Appends some of the bytes from `at` on.
    async fn extend(&mut self, at: u64, end: u64, to: &mut Vec<u8>) -> Result<(), StorageError> {
        // The last part that begins at or before: later ones repeat the ends of earlier ones.
        let mut parts = self.source.memory.iter().rev();
        if let Some((start, part)) = parts.find(|(start, _)| *start <= at) {
            let from = (at - start) as usize;
            let until = ((end - start) as usize).min(part.len());
            to.extend_from_slice(part.get(from..until).unwrap_or_default());
            return Ok(());
        }
        let file_end = self.source.file_end(self.end);
        let held = self.window_at..self.window_at + self.window.len() as u64;
        if !held.contains(&at) {
            self.read_window(at).await?;
        }
        let from = (at - self.window_at) as usize;
        let until = ((end.min(file_end) - self.window_at) as usize).min(self.window.len());
        to.extend_from_slice(self.window.get(from..until).unwrap_or_default());
        Ok(())
    }

    async fn read_window(&mut self, at: u64) -> Result<(), StorageError> {
        let block = BLOCK_BYTES as u64;
        self.window_at = at / block * block;
        let Some((file, _)) = &self.file else {
            self.window = Slice::default();
            return Ok(());
        };
        let read = file.read_at(self.window_at, WINDOW_BYTES as usize).await;
        self.window = read.map_err(|e| StorageError::io("read", &self.source.path, e))?;
        match &self.source.background {
            Some(background) => self.pause(background).await,
            None => Ok(()),
        }
    }

    /// Lets the time go by that the window should have taken.
    async fn pause(&self, background: &Background) -> Result<(), StorageError> {
        let mut rest = match background.bytes_per_second {
            0 => Duration::ZERO,
            bytes => Duration::from_secs_f64(self.window.len() as f64 / bytes as f64),
        };
        while (background.is_wanted)() {
            if rest.is_zero() {
                return Ok(());
            }
            let step = rest.min(LOOK_EVERY);
            sleep(step).await;
            rest -= step;
        }
        Err(StorageError::LogDeleted)
    }
}

/// Whether a name is that of a segment file; which segment's.
pub(super) fn segment_of(path: &Path) -> Option<SegmentName> {
    let file_name = path.file_name()?.to_str()?;
    let name = file_name.strip_suffix(".log")?;
    let is_plain = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return rewritten_segment(file_name);
    }
    Some(SegmentName {
        base_offset: name.parse().ok()?,
        version: 0,
    })
}
