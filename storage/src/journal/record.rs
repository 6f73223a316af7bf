//! Journal records and their bytes.
//!
//! Format, little-endian: kind (u8), three zero bytes, bytes of the fields after the header (u32),
//! incarnation (u64); then the kind's fields in the order in which they are declared.

use runtime::buffer::AppendBuf;

use crate::codec::{FieldReader, TooShort};
use crate::segment::batch_header::HEADER_BYTES;

/// Bytes before a record's fields.
const RECORD_HEADER_BYTES: usize = 16;

/// One record. `incarnation` names the log it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordView<'a> {
    /// Batches were appended.
    Append {
        /// The log.
        incarnation: u64,
        /// Offset of their first record.
        base_offset: i64,
        /// Their position in the active segment.
        position: u64,
        /// The batches.
        bytes: &'a [u8],
    },
    /// The content of a block that is about to be written again.
    TailBlock {
        /// The log.
        incarnation: u64,
        /// The segment.
        segment_base: i64,
        /// Position in the segment.
        position: u64,
        /// The content.
        bytes: &'a [u8],
    },
    /// Everything from `offset` on was cut.
    Truncate {
        /// The log.
        incarnation: u64,
        /// First offset that is gone.
        offset: i64,
    },
    /// The log start moved.
    LogStart {
        /// The log.
        incarnation: u64,
        /// The new log start.
        offset: i64,
    },
    /// A leader epoch began.
    EpochStart {
        /// The log.
        incarnation: u64,
        /// The epoch.
        epoch: i32,
        /// Its first offset.
        start_offset: i64,
    },
    /// A log was created.
    Create {
        /// The log.
        incarnation: u64,
        /// Its topic.
        topic: [u8; 16],
        /// Its partition.
        partition: u32,
    },
    /// A log was deleted.
    Delete {
        /// The log.
        incarnation: u64,
    },
    /// A log was handed to another shard.
    Release {
        /// The log.
        incarnation: u64,
    },
    /// A segment was begun.
    Roll {
        /// The log.
        incarnation: u64,
        /// Its base offset.
        base_offset: i64,
    },
    /// Segments were rewritten by compaction.
    Compact {
        /// The log.
        incarnation: u64,
        /// Which ones, and what is in their place.
        swap: &'a [u8],
    },
    /// A batch was written straight to the active segment: all of the log is durable in its segments,
    /// but for the incomplete block that the batch ends in.
    Extent {
        /// The log.
        incarnation: u64,
        /// Offset of its first record.
        base_offset: i64,
        /// Its position in the active segment.
        position: u64,
        /// Its header.
        header: &'a [u8; HEADER_BYTES],
        /// The incomplete block.
        tail: &'a [u8],
    },
}

impl<'a> RecordView<'a> {
    /// The log that the record belongs to.
    pub fn incarnation(&self) -> u64 {
        match *self {
            RecordView::Append { incarnation, .. }
            | RecordView::TailBlock { incarnation, .. }
            | RecordView::Truncate { incarnation, .. }
            | RecordView::LogStart { incarnation, .. }
            | RecordView::EpochStart { incarnation, .. }
            | RecordView::Create { incarnation, .. }
            | RecordView::Delete { incarnation }
            | RecordView::Release { incarnation }
            | RecordView::Roll { incarnation, .. }
            | RecordView::Compact { incarnation, .. }
            | RecordView::Extent { incarnation, .. } => incarnation,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            RecordView::Append { .. } => 1,
            RecordView::TailBlock { .. } => 2,
            RecordView::Truncate { .. } => 3,
            RecordView::LogStart { .. } => 4,
            RecordView::EpochStart { .. } => 5,
            RecordView::Create { .. } => 6,
            RecordView::Delete { .. } => 7,
            RecordView::Release { .. } => 8,
            RecordView::Roll { .. } => 9,
            RecordView::Extent { .. } => 10,
            RecordView::Compact { .. } => 11,
        }
    }

    fn field_bytes(&self) -> usize {
        match self {
            RecordView::Append { bytes, .. } | RecordView::TailBlock { bytes, .. } => {
                16 + bytes.len()
            }
            RecordView::Truncate { .. } | RecordView::LogStart { .. } | RecordView::Roll { .. } => {
                8
            }
            RecordView::EpochStart { .. } => 12,
            RecordView::Compact { swap, .. } => swap.len(),
            RecordView::Create { .. } => 20,
            RecordView::Extent { header, tail, .. } => 16 + header.len() + tail.len(),
            RecordView::Delete { .. } | RecordView::Release { .. } => 0,
        }
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.field_bytes()
    }

    /// Appends the record's bytes; batches are copied once.
    pub(super) fn encode(&self, out: &mut AppendBuf) {
        let mut header = [0; RECORD_HEADER_BYTES];
        header[0] = self.kind();
        let field_bytes = u32::try_from(self.field_bytes()).expect("bounded by the file size");
        header[4..8].copy_from_slice(&field_bytes.to_le_bytes());
        header[8..].copy_from_slice(&self.incarnation().to_le_bytes());
        out.append(&header);
        match *self {
            RecordView::Append {
                base_offset: offset,
                position,
                bytes,
                ..
            }
            | RecordView::TailBlock {
                segment_base: offset,
                position,
                bytes,
                ..
            } => {
                let mut place = [0; 16];
                place[..8].copy_from_slice(&offset.to_le_bytes());
                place[8..].copy_from_slice(&position.to_le_bytes());
                out.append(&place);
                out.append(bytes);
            }
            RecordView::Truncate { offset, .. }
            | RecordView::LogStart { offset, .. }
            | RecordView::Roll {
                base_offset: offset,
                ..
            } => out.append(&offset.to_le_bytes()),
            RecordView::EpochStart {
                epoch,
                start_offset,
                ..
            } => {
                out.append(&epoch.to_le_bytes());
                out.append(&start_offset.to_le_bytes());
            }
            RecordView::Create {
                topic, partition, ..
            } => {
                out.append(&topic);
                out.append(&partition.to_le_bytes());
            }
            RecordView::Compact { swap, .. } => out.append(swap),
            RecordView::Extent {
                base_offset,
                position,
                header,
                tail,
                ..
            } => {
                out.append(&base_offset.to_le_bytes());
                out.append(&position.to_le_bytes());
                out.append(header);
                out.append(tail);
            }
            RecordView::Delete { .. } | RecordView::Release { .. } => {}
        }
    }

    /// Reads the next record of a group whose CRC was right. Every byte must have a meaning.
    pub(super) fn decode(group: &mut FieldReader<'a>) -> Result<RecordView<'a>, TooShort> {
        let [kind, zeros @ ..] = group.array::<4>()?;
        let field_bytes = group.u32()? as usize;
        let incarnation = group.u64()?;
        let mut fields = FieldReader::new(group.bytes(field_bytes)?);
        let record = match kind {
            1 => {
                let (base_offset, position) = (fields.i64()?, fields.u64()?);
                let bytes = fields.bytes(fields.remaining())?;
                RecordView::Append {
                    incarnation,
                    base_offset,
                    position,
                    bytes,
                }
            }
            2 => {
                let (segment_base, position) = (fields.i64()?, fields.u64()?);
                let bytes = fields.bytes(fields.remaining())?;
                RecordView::TailBlock {
                    incarnation,
                    segment_base,
                    position,
                    bytes,
                }
            }
            3 => RecordView::Truncate {
                incarnation,
                offset: fields.i64()?,
            },
            4 => RecordView::LogStart {
                incarnation,
                offset: fields.i64()?,
            },
            5 => RecordView::EpochStart {
                incarnation,
                epoch: fields.i32()?,
                start_offset: fields.i64()?,
            },
            6 => RecordView::Create {
                incarnation,
                topic: fields.array()?,
                partition: fields.u32()?,
            },
            7 => RecordView::Delete { incarnation },
            8 => RecordView::Release { incarnation },
            9 => RecordView::Roll {
                incarnation,
                base_offset: fields.i64()?,
            },
            10 => decode_extent(incarnation, &mut fields)?,
            11 => RecordView::Compact {
                incarnation,
                swap: fields.bytes(fields.remaining())?,
            },
            _ => return Err(TooShort),
        };
        if fields.remaining() > 0 || zeros != [0; 3] {
            return Err(TooShort);
        }
        Ok(record)
    }
}

fn decode_extent<'a>(
    incarnation: u64,
    fields: &mut FieldReader<'a>,
) -> Result<RecordView<'a>, TooShort> {
    Ok(RecordView::Extent {
        incarnation,
        base_offset: fields.i64()?,
        position: fields.u64()?,
        header: fields.array_ref()?,
        tail: fields.bytes(fields.remaining())?,
    })
}
