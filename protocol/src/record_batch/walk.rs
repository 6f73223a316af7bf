//! Walking a record's fields without keeping them: the inner loop of validation.
//!
//! Core: runs once per produced record, so it is generic over where bytes come from: a slice
//! (uncompressed batches) or a window over a decompression stream.
//! Limits: a record is never followed beyond its own length; a window reads at most
//! `decompressed_bytes_max` bytes from its stream.

use super::error::{BatchError, RecordFault};
use super::varint::{zigzag_i32, zigzag_i64};
use crate::compression::{CompressionError, Decompressor};

/// Why a walk stopped: the record is malformed, or the stream under it failed.
#[derive(Debug)]
pub(super) enum WalkError {
    Fault(RecordFault),
    Compression(CompressionError),
}

impl WalkError {
    pub(super) fn at(self, index: i32) -> BatchError {
        match self {
            WalkError::Fault(fault) => BatchError::Record { index, fault },
            WalkError::Compression(error) => BatchError::Compression(error),
        }
    }
}

impl From<RecordFault> for WalkError {
    fn from(fault: RecordFault) -> WalkError {
        WalkError::Fault(fault)
    }
}

/// Bytes in order, without going back.
pub(super) trait Source {
    /// Bytes taken so far.
    fn position(&self) -> usize;
    /// The next byte.
    fn byte(&mut self) -> Result<u8, WalkError>;
    /// Leaves out `count` bytes.
    fn skip(&mut self, count: usize) -> Result<(), WalkError>;
    /// Whether nothing follows.
    fn is_at_end(&mut self) -> Result<bool, WalkError>;

    /// A 32-bit zig-zag varint.
    #[inline]
    fn varint(&mut self) -> Result<i32, WalkError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(zigzag_i32(u32::from(first)));
        }
        let mut raw = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            raw |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(zigzag_i32(raw));
            }
        }
        Err(RecordFault::VarintTooLong.into())
    }

    /// A 64-bit zig-zag varint.
    #[inline]
    fn varlong(&mut self) -> Result<i64, WalkError> {
        let mut raw = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(zigzag_i64(raw));
            }
        }
        Err(RecordFault::VarintTooLong.into())
    }
}

/// What validation needs to know of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walked {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Walks the next record to its end and checks that its fields fill its length exactly.
#[inline]
pub(super) fn walk_record<S: Source>(source: &mut S) -> Result<Walked, WalkError> {
    let length = source.varint()?;
    let bytes = usize::try_from(length).map_err(|_| RecordFault::LengthInvalid(length))?;
    let end = source.position().saturating_add(bytes);
    source.byte()?; // record attributes: none are defined
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key_bytes = skip_nullable(source, end)?;
    skip_nullable(source, end)?;
    let headers = source.varint()?;
    if headers != 0 {
        walk_headers(source, end, headers)?;
    }
    if source.position() != end {
        return Err(RecordFault::LengthMismatch.into());
    }
    Ok(Walked {
        timestamp_delta,
        offset_delta,
        has_key: key_bytes >= 0,
    })
}

/// Walks the headers of one record; each takes at least two bytes, which bounds the loop.
fn walk_headers<S: Source>(source: &mut S, end: usize, count: i32) -> Result<(), WalkError> {
    let room = end.saturating_sub(source.position()) / 2;
    if usize::try_from(count).map_or(true, |count| count > room) {
        return Err(RecordFault::HeaderCountInvalid(count).into());
    }
    for _ in 0..count {
        if skip_nullable(source, end)? < 0 {
            return Err(RecordFault::HeaderKeyNull.into());
        }
        skip_nullable(source, end)?;
    }
    Ok(())
}

/// Leaves out a length-prefixed field that must end at or before `end`; returns its length, which
/// is negative for null.
#[inline]
fn skip_nullable<S: Source>(source: &mut S, end: usize) -> Result<i32, WalkError> {
    let length = source.varint()?;
    if length > 0 {
        let room = end.saturating_sub(source.position());
        if length as usize > room {
            return Err(RecordFault::FieldTooLong.into());
        }
        source.skip(length as usize)?;
    }
    Ok(length)
}

/// A source over records in memory.
pub(super) struct SliceSource<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> SliceSource<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> SliceSource<'a> {
        SliceSource { bytes, position: 0 }
    }
}

impl Source for SliceSource<'_> {
    #[inline]
    fn position(&self) -> usize {
        self.position
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, WalkError> {
        let byte = *self.bytes.get(self.position).ok_or(RecordFault::CutShort)?;
        self.position += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), WalkError> {
        if count > self.bytes.len() - self.position {
            return Err(RecordFault::CutShort.into());
        }
        self.position += count;
        Ok(())
    }

    #[inline]
    fn is_at_end(&mut self) -> Result<bool, WalkError> {
        Ok(self.position == self.bytes.len())
    }
}

/// A source over a decompression stream, through a window of fixed size.
pub(super) struct WindowSource<'a> {
    stream: Decompressor<'a>,
    window: &'a mut [u8],
    /// The next byte to hand out, and the end of what was read, in `window`.
    next: usize,
    filled: usize,
    /// Bytes of the stream before `window`.
    before: usize,
    limit: usize,
}

impl<'a> WindowSource<'a> {
    /// `limit` is the most bytes the stream may yield in all.
    pub(super) fn new(
        stream: Decompressor<'a>,
        window: &'a mut [u8],
        limit: usize,
    ) -> WindowSource<'a> {
        assert!(!window.is_empty(), "a window needs room");
        WindowSource {
            stream,
            window,
            next: 0,
            filled: 0,
            before: 0,
            limit,
        }
    }

    /// Reads the next window full; returns whether there was anything.
    #[cold]
    fn refill(&mut self) -> Result<bool, WalkError> {
        self.before += self.filled;
        self.next = 0;
        self.filled = self
            .stream
            .read(self.window)
            .map_err(WalkError::Compression)?;
        if self.before + self.filled > self.limit {
            let error = CompressionError::TooLarge { limit: self.limit };
            return Err(WalkError::Compression(error));
        }
        Ok(self.filled > 0)
    }
}

impl Source for WindowSource<'_> {
    fn position(&self) -> usize {
        self.before + self.next
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, WalkError> {
        if self.next == self.filled && !self.refill()? {
            return Err(RecordFault::CutShort.into());
        }
        let byte = *self.window.get(self.next).ok_or(RecordFault::CutShort)?;
        self.next += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), WalkError> {
        let mut left = count;
        while left > self.filled - self.next {
            left -= self.filled - self.next;
            self.next = self.filled;
            if !self.refill()? {
                return Err(RecordFault::CutShort.into());
            }
        }
        self.next += left;
        Ok(())
    }

    fn is_at_end(&mut self) -> Result<bool, WalkError> {
        Ok(self.next == self.filled && !self.refill()?)
    }
}
