//! Walking over the batches of a segment, wherever its bytes are: in tail chunks, in cached
//! windows, on disk.
//!
//! *Place*: catch-up reads, lookups by offset and time, truncation, index rebuilding. *Invariants*:
//! **I1** every header is checked before its length is believed; one that cannot be, or that does
//! not follow its predecessor, is corruption and names file and position. **I2** a walk that meets a
//! truncation ends with [`WalkEnd::Changed`]: its positions mean nothing any more.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use runtime::task::{Class, spawn};
use runtime::{BLOCK_BYTES, Slice};

use super::Log;
use super::byte_run::ByteRun;
use crate::cache::{Found, Load, WindowKey};
use crate::error::StorageError;
use crate::read_ahead::WINDOWS_ALONE;
use crate::segment::SegmentName;
use crate::segment::batch_header::{BadHeader, BatchHeader, HEADER_BYTES};
use crate::segment::block_ceil;
use crate::segment::files::FileKind;

/// A place in a segment to walk from; the log's truncations say until when it means anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct WalkFrom {
    pub(super) segment: SegmentName,
    pub(super) position: u64,
    pub(super) truncations: u64,
}

/// A walk over the batches of one segment.
pub(super) struct Walk<'a> {
    log: &'a Rc<Log>,
    from: WalkFrom,
    run: ByteRun,
    /// Least base offset that the next batch may have.
    offset_min: i64,
    /// The first window that is not read ahead.
    ahead_to: u64,
}

/// Why a walk goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// The segment ends here.
    EndOfSegment,
    /// The segment was dropped or rewritten, or the log truncated.
    Changed,
}

/// Where the bytes after a run are.
enum Source {
    Memory(Slice),
    Disk { valid_to: u64 },
    None(WalkEnd),
}

impl<'a> Walk<'a> {
    pub(super) fn new(log: &'a Rc<Log>, from: WalkFrom) -> Self {
        Walk {
            log,
            from,
            run: ByteRun::new(from.position),
            offset_min: from.segment.base_offset,
            ahead_to: 0,
        }
    }

    /// Has the windows of a read of `bytes` on their way before it is there, and as much for the next one.
    pub(super) fn reading_ahead(self, bytes: u64) -> Self {
        let window_bytes = self.log.engine.read_cache.window_bytes();
        let windows = bytes.div_ceil(window_bytes);
        let last = self.from.position.saturating_add(bytes) / window_bytes;
        Walk {
            ahead_to: last + 1 + windows.min(WINDOWS_ALONE),
            ..self
        }
    }

    pub(super) fn log(&self) -> &'a Rc<Log> {
        self.log
    }

    /// Position of the next batch.
    pub(super) fn position(&self) -> u64 {
        self.from.position
    }

    pub(super) fn segment_base(&self) -> i64 {
        self.from.segment.base_offset
    }

    pub(super) fn segment(&self) -> SegmentName {
        self.from.segment
    }

    /// The segment as it was when the walk began, from the next batch on.
    pub(super) fn from(&self) -> WalkFrom {
        WalkFrom {
            position: self.position(),
            ..self.from
        }
    }

    /// The bytes held: from the last batch looked at (or from where the walk was told to keep).
    pub(super) fn run(&self) -> &ByteRun {
        &self.run
    }

    /// The header of the batch at the walk's position, without moving on.
    pub(super) async fn peek(&mut self) -> Result<Result<BatchHeader, WalkEnd>, StorageError> {
        loop {
            if let Some(decoded) = self.run.header_at(self.from.position) {
                let batch = decoded.map_err(|bad| self.corruption(bad))?;
                self.check_order(&batch)?;
                return Ok(Ok(batch));
            }
            if let Err(end) = self.extend().await? {
                if end == WalkEnd::EndOfSegment && self.run.end() > self.from.position {
                    return Err(self.corruption(BadHeader {
                        field: "bytes of a batch header",
                        expected: HEADER_BYTES as i64,
                        found: (self.run.end() - self.from.position) as i64,
                    }));
                }
                return Ok(Err(end));
            }
        }
    }

    /// Makes sure that all of `batch`, at the walk's position, is held; checks its CRC if asked.
    pub(super) async fn hold(
        &mut self,
        batch: &BatchHeader,
        verify: bool,
    ) -> Result<Result<(), WalkEnd>, StorageError> {
        let end = self.from.position + batch.bytes;
        while self.run.end() < end {
            match self.extend().await? {
                Ok(()) => {}
                Err(WalkEnd::Changed) => return Ok(Err(WalkEnd::Changed)),
                Err(WalkEnd::EndOfSegment) => {
                    return Err(self.corruption(BadHeader {
                        field: "batch bytes within",
                        expected: (self.run.end() - self.from.position) as i64,
                        found: batch.bytes as i64,
                    }));
                }
            }
        }
        if verify {
            let crc = self.run.batch_crc(self.from.position, batch);
            if crc != batch.crc {
                let (expected, found) = (i64::from(batch.crc), i64::from(crc));
                return Err(self.corruption(BadHeader {
                    field: "batch CRC",
                    expected,
                    found,
                }));
            }
        }
        Ok(Ok(()))
    }

    /// Reads the segment's bytes up to `position` without looking at batches.
    pub(super) async fn read_to(
        &mut self,
        position: u64,
    ) -> Result<Result<(), WalkEnd>, StorageError> {
        while self.run.end() < position {
            if let Err(end) = self.extend().await? {
                return Ok(Err(end));
            }
        }
        Ok(Ok(()))
    }

    /// Moves on to the batch after `batch`. What lies before `keep_from` need not be held.
    pub(super) fn advance(&mut self, batch: &BatchHeader, keep_from: u64) {
        self.from.position += batch.bytes;
        self.offset_min = batch.next_offset();
        self.run.discard_before(keep_from.min(self.run.end()));
        if self.run.end() < self.from.position && keep_from >= self.from.position {
            // The batch's end was never read; nor need it be.
            self.run = ByteRun::new(self.from.position);
        }
    }

    /// Reads the next piece of the segment.
    async fn extend(&mut self) -> Result<Result<(), WalkEnd>, StorageError> {
        let at = self.run.end();
        match self.log.source_of(self.from, at) {
            Source::Memory(slice) => {
                self.run.push(slice);
                Ok(Ok(()))
            }
            Source::Disk { valid_to } => {
                let window_bytes = self.log.engine.read_cache.window_bytes();
                let number = at / window_bytes;
                self.log
                    .read_ahead(self.from, number..self.ahead_to, valid_to);
                let window = match self.log.window(self.from, number, valid_to, at).await {
                    Ok(window) => window,
                    Err(error) => return self.failed_read(at, error),
                };
                let begin = (at - number * window_bytes) as usize;
                let end = window
                    .len()
                    .min((valid_to - number * window_bytes) as usize);
                if begin >= end {
                    return Err(self.corruption(BadHeader {
                        field: "segment bytes in the file",
                        expected: valid_to as i64,
                        found: (number * window_bytes) as i64 + window.len() as i64,
                    }));
                }
                self.run.push(window.sub(begin..end));
                Ok(Ok(()))
            }
            Source::None(end) => Ok(Err(end)),
        }
    }

    /// A read fails when the segment was dropped meanwhile, and its file with it: that is no failure. A
    /// file that should be there is damage.
    fn failed_read(&self, at: u64, error: io::Error) -> Result<Result<(), WalkEnd>, StorageError> {
        if let Source::None(end) = self.log.source_of(self.from, at) {
            return Ok(Err(end));
        }
        let path = self.log.path_of(self.from.segment, FileKind::Segment);
        if error.kind() == io::ErrorKind::NotFound {
            return Err(StorageError::corruption(
                &path,
                at,
                "a segment file",
                "none",
            ));
        }
        Err(StorageError::io("read", &path, error))
    }

    fn check_order(&self, batch: &BatchHeader) -> Result<(), StorageError> {
        if batch.base_offset < self.offset_min {
            return Err(self.corruption(BadHeader {
                field: "base offset of at least",
                expected: self.offset_min,
                found: batch.base_offset,
            }));
        }
        Ok(())
    }

    fn corruption(&self, bad: BadHeader) -> StorageError {
        let path = self.log.path_of(self.from.segment, FileKind::Segment);
        let expected = format!("{} {}", bad.field, bad.expected);
        StorageError::corruption(&path, self.from.position, expected, bad.found)
    }
}

impl Log {
    /// Where the segment's bytes from `at` on are to be had.
    fn source_of(&self, from: WalkFrom, at: u64) -> Source {
        let state = self.state.borrow();
        let Some(segment) = state
            .segment_named(from.segment)
            .map(|index| &state.segments[index])
        else {
            return Source::None(WalkEnd::Changed);
        };
        if state.truncations != from.truncations {
            return Source::None(WalkEnd::Changed);
        }
        if at >= segment.bytes() {
            return Source::None(WalkEnd::EndOfSegment);
        }
        let mut valid_to = segment.written;
        for (chunk, owned_to) in state.chunks.of_segment(from.segment.base_offset) {
            if chunk.start > at {
                valid_to = valid_to.min(chunk.start);
                break;
            }
            if at < owned_to {
                return Source::Memory(chunk.slice(at, owned_to));
            }
        }
        assert!(
            at < valid_to,
            "segment {} at {at} is neither in memory nor written",
            from.segment.base_offset
        );
        Source::Disk { valid_to }
    }

    /// One window of a segment file, with more than the bytes before `at`, from the cache or the
    /// disk.
    async fn window(
        self: &Rc<Self>,
        from: WalkFrom,
        number: u64,
        valid_to: u64,
        at: u64,
    ) -> io::Result<Slice> {
        let key = self.window_key(from, number);
        let bytes_min = (at - number * self.engine.read_cache.window_bytes()) as usize;
        let slice = self.find_or_load(key, bytes_min, valid_to).await?;
        if slice.len() > bytes_min {
            return Ok(slice);
        }
        // The read that was on its way was for a shorter file: one more.
        self.find_or_load(key, bytes_min, valid_to).await
    }

    async fn find_or_load(
        self: &Rc<Self>,
        key: WindowKey,
        bytes_min: usize,
        valid_to: u64,
    ) -> io::Result<Slice> {
        let load = match self.engine.read_cache.find(key, bytes_min) {
            Found::Ready(slice) => return Ok(slice),
            Found::Loading(load) => load,
            Found::Absent(load) => {
                self.start_load(key, Rc::clone(&load), valid_to);
                load
            }
        };
        load.wait().await
    }

    fn window_key(&self, from: WalkFrom, number: u64) -> WindowKey {
        WindowKey {
            incarnation: self.incarnation,
            truncations: from.truncations,
            segment: from.segment,
            number,
        }
    }

    /// Reads a window in a task of its own: it ends, and others get its result, even if the reader
    /// who asked for it goes away.
    fn start_load(self: &Rc<Self>, key: WindowKey, load: Rc<Load>, valid_to: u64) {
        let log = Rc::clone(self);
        spawn(Class::Storage, async move {
            let result = log.read_window(key, valid_to).await;
            log.engine.read_cache.finish(key, &load, result);
        })
        .detach();
    }

    async fn read_window(&self, key: WindowKey, valid_to: u64) -> io::Result<Slice> {
        let window_bytes = self.engine.read_cache.window_bytes();
        let from = key.number * window_bytes;
        let to = block_ceil(valid_to).min(from + window_bytes);
        let file = match self.open_named(key.segment, FileKind::Segment).await {
            Ok(file) => file,
            Err(StorageError::Io { source, .. }) => return Err(source),
            Err(_) => return Err(io::ErrorKind::Other.into()),
        };
        debug_assert!(from < to && (to - from).is_multiple_of(BLOCK_BYTES as u64));
        file.read_at(from, (to - from) as usize).await
    }

    /// Starts reading the first of these windows and some behind it, as far as the file goes on there.
    fn read_ahead(self: &Rc<Self>, from: WalkFrom, windows: Range<u64>, valid_to: u64) {
        let engine = &self.engine;
        if windows.is_empty() {
            return;
        }
        let ahead = engine.read_ahead.windows(engine.journal.durable_sequence());
        let end = valid_to.div_ceil(engine.read_cache.window_bytes());
        let end = end.min(windows.end).min(windows.start + 1 + ahead);
        for number in windows.start..end {
            let key = self.window_key(from, number);
            if let Some(load) = engine.read_cache.begin_ahead(key) {
                self.start_load(key, load, valid_to);
            }
        }
    }
}
