//! Finding offsets by time, and batches by offset.
//!
//! *Place*: `ListOffsets`; truncation. *Invariants*: **I1** a lookup answers the exact record, which
//! means reading its batch: headers know only the greatest timestamp. *Source*: Kafka's
//! `fetchOffsetByTimestamp` (KIP-79, KIP-734).

use std::rc::Rc;

use protocol::compression::DecompressContext;
use protocol::record_batch::BatchView;

use super::state::LogState;
use super::walk::{Walk, WalkEnd, WalkFrom};
use super::{Log, PartitionLog};
use crate::error::StorageError;
use crate::segment::Segment;
use crate::segment::batch_header::{BatchHeader, NONE};
use crate::segment::files::FileKind;

/// Decompressed bytes of one batch that a lookup by time looks through.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp, ms.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// Leader epoch of its batch; −1: unknown.
    pub leader_epoch: i32,
}

/// What is looked for in a batch.
#[derive(Clone, Copy)]
enum Wanted {
    /// The first record at or after this time, at or above this offset.
    AtLeast { timestamp: i64, offset_min: i64 },
    /// The first record with exactly this time.
    Exactly(i64),
}

impl PartitionLog {
    /// The first record (from the log start on) whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        loop {
            self.log.check_readable()?;
            match self.log.find_timestamp(timestamp).await? {
                Ok(found) => return Ok(found),
                Err(WalkEnd::Changed | WalkEnd::EndOfSegment) => {}
            }
        }
    }

    /// The first record that has the greatest timestamp of the log.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, StorageError> {
        loop {
            self.log.check_readable()?;
            let newest = newest_timestamp(&self.log.state.borrow());
            let Some((segment_base, batch_offset, timestamp)) = newest else {
                return Ok(None);
            };
            let Some(from) = self.log.walk_start(segment_base, batch_offset).await? else {
                continue;
            };
            let mut walk = Walk::new(&self.log, from);
            let Ok(batch) = walk
                .seek(|batch| batch.last_offset() >= batch_offset)
                .await?
            else {
                continue;
            };
            match walk.find_record(&batch, Wanted::Exactly(timestamp)).await? {
                // Compaction took it meanwhile: another record is the newest now.
                Ok(None) if newest_timestamp(&self.log.state.borrow()) != newest => {}
                Ok(found) => return Ok(found),
                Err(WalkEnd::Changed | WalkEnd::EndOfSegment) => {}
            }
        }
    }
}

/// Segment, batch and value of the greatest timestamp.
fn newest_timestamp(state: &LogState) -> Option<(i64, i64, i64)> {
    let with_timestamp = state
        .segments
        .iter()
        .filter(|segment| segment.extent.max_timestamp != NONE);
    // `max_by_key` answers the last of equals; the first is wanted.
    let newest = with_timestamp
        .rev()
        .max_by_key(|segment| segment.extent.max_timestamp)?;
    let extent = &newest.extent;
    Some((
        extent.base_offset,
        extent.max_timestamp_batch,
        extent.max_timestamp,
    ))
}

impl Log {
    async fn find_timestamp(
        self: &Rc<Self>,
        timestamp: i64,
    ) -> Result<Result<Option<TimestampOffset>, WalkEnd>, StorageError> {
        let mut after = i64::MIN;
        loop {
            let (segment_base, offset_min) = {
                let state = self.state.borrow();
                let may_hold = |segment: &&Segment| {
                    segment.base_offset() > after
                        && segment.extent.max_timestamp >= timestamp
                        && segment.bytes() > 0
                };
                match state.segments.iter().find(may_hold) {
                    Some(segment) => (segment.base_offset(), state.log_start),
                    None => return Ok(Ok(None)),
                }
            };
            let wanted = Wanted::AtLeast {
                timestamp,
                offset_min,
            };
            match self
                .find_in_segment(segment_base, timestamp, wanted)
                .await?
            {
                Ok(found) => return Ok(Ok(Some(found))),
                Err(WalkEnd::EndOfSegment) => after = segment_base,
                Err(WalkEnd::Changed) => return Ok(Err(WalkEnd::Changed)),
            }
        }
    }

    async fn find_in_segment(
        self: &Rc<Self>,
        segment_base: i64,
        timestamp: i64,
        wanted: Wanted,
    ) -> Result<Result<TimestampOffset, WalkEnd>, StorageError> {
        self.complete_index(segment_base, |index| {
            index.floor_timestamp(timestamp).is_some()
        })
        .await?;
        let from = {
            let state = self.state.borrow();
            let Some(at) = state.segment_at(segment_base) else {
                return Ok(Err(WalkEnd::Changed));
            };
            let entry = state.segments[at].index.floor_timestamp(timestamp);
            let position = entry.map_or(0, |entry| u64::from(entry.position));
            WalkFrom {
                segment: state.segments[at].name(),
                position,
                truncations: state.truncations,
            }
        };
        let mut walk = Walk::new(self, from);
        loop {
            let batch = match walk.seek(|batch| batch.max_timestamp >= timestamp).await? {
                Ok(batch) => batch,
                Err(end) => return Ok(Err(end)),
            };
            match walk.find_record(&batch, wanted).await? {
                Ok(Some(found)) => return Ok(Ok(found)),
                // Its newest records lie below the log start.
                Ok(None) => walk.advance(&batch, walk.position() + batch.bytes),
                Err(end) => return Ok(Err(end)),
            }
        }
    }
}

impl Walk<'_> {
    /// Moves on to the first batch for which `is_wanted` holds.
    pub(super) async fn seek(
        &mut self,
        is_wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Result<BatchHeader, WalkEnd>, StorageError> {
        loop {
            match self.peek().await? {
                Ok(batch) if is_wanted(&batch) => return Ok(Ok(batch)),
                Ok(batch) => self.advance(&batch, self.position() + batch.bytes),
                Err(end) => return Ok(Err(end)),
            }
        }
    }

    /// Looks through the records of the batch at the walk's position.
    async fn find_record(
        &mut self,
        batch: &BatchHeader,
        wanted: Wanted,
    ) -> Result<Result<Option<TimestampOffset>, WalkEnd>, StorageError> {
        if let Err(end) = self.hold(batch, true).await? {
            return Ok(Err(end));
        }
        let bytes = self
            .run()
            .copy(self.position(), self.position() + batch.bytes);
        let found = find_in_batch(&bytes, wanted).map_err(|error| {
            let path = self.log().path_of(self.segment(), FileKind::Segment);
            StorageError::corruption(&path, self.position(), "a readable batch", error)
        })?;
        Ok(Ok(found.map(|(timestamp, offset)| TimestampOffset {
            timestamp,
            offset,
            leader_epoch: batch.leader_epoch,
        })))
    }
}

fn find_in_batch(
    bytes: &[u8],
    wanted: Wanted,
) -> Result<Option<(i64, i64)>, protocol::record_batch::BatchError> {
    let view = BatchView::parse(bytes)?;
    let mut context = DecompressContext::default();
    let mut buffer = Vec::new();
    for record in view.records(&mut context, &mut buffer, DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        let is_wanted = match wanted {
            Wanted::AtLeast {
                timestamp,
                offset_min,
            } => record.timestamp >= timestamp && record.offset >= offset_min,
            Wanted::Exactly(timestamp) => record.timestamp == timestamp,
        };
        if is_wanted {
            return Ok(Some((record.timestamp, record.offset)));
        }
    }
    Ok(None)
}
