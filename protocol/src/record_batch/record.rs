//! The records of one batch, one after the other, borrowed from its (decompressed) bytes.
//!
//! Place: clients, tests, and the parts of the broker that read records (offsets topic, compaction).
//! Limits: each record is parsed inside its own length; nothing is allocated.

use super::error::{BatchError, RecordFault};
use super::header::TimestampType;
use super::view::BatchView;
use super::walk::{SliceSource, Source, WalkError};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// Its key, if any.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` deletes the key in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record: an iterator of key bytes (UTF-8 by convention) and value.
///
/// They were checked when the record was parsed, so that iterating cannot fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl Headers<'_> {
    /// Number of headers left.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut cursor = Cursor::new(self.bytes);
        let key = cursor.nullable().ok()??;
        let value = cursor.nullable().ok()?;
        self.bytes = cursor.rest();
        Some((key, value))
    }
}

/// Iterates the records of a batch; ends after the first error or the stated count.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    base_offset: i64,
    base_timestamp: i64,
    /// The time of every record, if the broker stamped the batch.
    append_time: Option<i64>,
    index: i32,
    record_count: i32,
}

impl<'a> RecordIter<'a> {
    /// Over `plain`, the decompressed records of `view`.
    pub(super) fn new(view: &BatchView<'_>, plain: &'a [u8]) -> RecordIter<'a> {
        let append_time = match view.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(view.max_timestamp()),
        };
        RecordIter {
            rest: plain,
            base_offset: view.base_offset(),
            base_timestamp: view.base_timestamp(),
            append_time,
            index: 0,
            record_count: view.record_count(),
        }
    }

    fn parse(&mut self) -> Result<Record<'a>, WalkError> {
        let mut outer = Cursor::new(self.rest);
        let body = outer.record_body()?;
        self.rest = outer.rest();
        let mut cursor = Cursor::new(body);
        cursor.source.byte()?; // record attributes: none are defined
        let timestamp_delta = cursor.source.varlong()?;
        let offset_delta = cursor.source.varint()?;
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let headers = cursor.headers()?;
        let timestamp = self
            .append_time
            .unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta));
        let offset = self.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.record_count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let parsed = self.parse().map_err(|error| error.at(index));
        if parsed.is_err() {
            self.index = self.record_count;
        }
        Some(parsed)
    }
}

/// Takes fields off a slice.
struct Cursor<'a> {
    bytes: &'a [u8],
    source: SliceSource<'a>,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            source: SliceSource::new(bytes),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.source.position()..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WalkError> {
        let taken = self.rest().get(..count).ok_or(RecordFault::FieldTooLong)?;
        self.source.skip(count)?;
        Ok(taken)
    }

    fn record_body(&mut self) -> Result<&'a [u8], WalkError> {
        let length = self.source.varint()?;
        let bytes = usize::try_from(length).map_err(|_| RecordFault::LengthInvalid(length))?;
        if bytes > self.rest().len() {
            return Err(RecordFault::CutShort.into());
        }
        self.take(bytes)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, WalkError> {
        let length = self.source.varint()?;
        usize::try_from(length)
            .ok()
            .map(|bytes| self.take(bytes))
            .transpose()
    }

    /// Checks all headers, which must fill the rest of the record.
    fn headers(&mut self) -> Result<Headers<'a>, WalkError> {
        let count = self.source.varint()?;
        let room = self.rest().len() / 2;
        let headers = usize::try_from(count)
            .ok()
            .filter(|count| *count <= room)
            .ok_or(RecordFault::HeaderCountInvalid(count))?;
        let bytes = self.rest();
        for _ in 0..headers {
            self.nullable()?.ok_or(RecordFault::HeaderKeyNull)?;
            self.nullable()?;
        }
        if self.source.is_at_end()? {
            Ok(Headers {
                count: headers,
                bytes,
            })
        } else {
            Err(RecordFault::LengthMismatch.into())
        }
    }
}
