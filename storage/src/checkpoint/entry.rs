//! One log's entry in a checkpoint table: its exact state after the record with the applied
//! sequence.
//!
//! *Place*: encoded from a log's state by a checkpoint and by a truncation, decoded by recovery.
//! *Invariants*: **I1** what the entry does not carry as tail bytes must be durable in segment files
//! before the entry counts: [`encode`] answers what that is. *Source*: `docs/storage-format.md`,
//! "Checkpoint table".

use runtime::Slice;

use crate::codec::{FieldReader, PutField, TooShort};
use crate::log_id::LogId;
use crate::partition_log::leader_epochs::LeaderEpochs;
use crate::partition_log::producers::Producers;
use crate::partition_log::state::LogState;
use crate::segment::{Segment, SegmentExtent, block_floor};

/// Bytes of one segment's line.
pub(crate) const SEGMENT_BYTES: usize = 48;

/// A decoded entry.
pub(crate) struct LogEntry {
    pub(crate) id: LogId,
    pub(crate) incarnation: u64,
    /// Records up to this sequence are in the state.
    pub(crate) applied: u64,
    pub(crate) state: LogState,
}

/// Whose entry it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryOwner {
    pub(crate) id: LogId,
    pub(crate) incarnation: u64,
    pub(crate) applied: u64,
}

/// A place in a log's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentPosition {
    pub(crate) segment_base: i64,
    pub(crate) position: u64,
}

/// Appends the entry of a log to `to`. Unsynced bytes of the newest segment go along if they are at
/// most `tail_bytes_max`; else only the incomplete last block does, and the answer is up to where
/// the segments have to be synced before the entry may count.
pub(crate) fn encode(
    owner: EntryOwner,
    state: &LogState,
    tail_bytes_max: u64,
    to: &mut Vec<u8>,
) -> Option<SegmentPosition> {
    let active = state.active();
    let last = state.segments.len() - 1;
    let sealed_synced = state.segments[..last]
        .iter()
        .rev()
        .all(|segment| segment.unsynced() == 0);
    let synced_to = block_floor(active.synced);
    // Chunks may be evicted when they are written, synced or not.
    let first_chunk = state.chunks.of_segment(active.base_offset()).next();
    let is_in_memory = first_chunk.is_none_or(|(chunk, _)| chunk.start <= synced_to);
    let carries_all = sealed_synced && active.unsynced() <= tail_bytes_max && is_in_memory;
    let tail_position = if carries_all {
        synced_to
    } else {
        block_floor(active.bytes())
    };

    let begin = to.len();
    to.put_u32(0);
    to.put_u64(owner.incarnation);
    to.extend_from_slice(&owner.id.topic);
    to.put_u32(owner.id.partition);
    to.put_u64(owner.applied);
    to.put_i64(state.log_start);
    to.put_i64(state.log_end);
    state.epochs.encode(to);
    to.put_count(state.segments.len());
    for segment in &state.segments {
        encode_extent(&segment.extent, to);
    }
    to.put_u64(tail_position);
    encode_tail(state, tail_position, to);
    state.producers.encode(to);
    to.put_i64(state.cleaned_to);
    let bytes = u32::try_from(to.len() - begin).expect("an entry is far smaller than 4 GiB");
    to[begin..begin + 4].copy_from_slice(&bytes.to_le_bytes());
    let sync_to = SegmentPosition {
        segment_base: active.base_offset(),
        position: tail_position,
    };
    (!carries_all).then_some(sync_to)
}

/// Appends a segment's line.
pub(crate) fn encode_extent(extent: &SegmentExtent, to: &mut Vec<u8>) {
    to.put_i64(extent.base_offset);
    let bytes = u32::try_from(extent.bytes).expect("a segment is smaller than 2^31 bytes");
    to.put_u32(bytes);
    to.put_u32(extent.version);
    to.put_i64(extent.max_timestamp);
    to.put_i64(extent.max_timestamp_batch);
    to.put_i64(extent.first_timestamp);
    to.put_i64(extent.last_append_ms);
}

/// The active segment's bytes from `tail_position` on, gathered from the chunks.
fn encode_tail(state: &LogState, tail_position: u64, to: &mut Vec<u8>) {
    let active = state.active();
    let mut position = tail_position;
    to.put_count((active.bytes() - tail_position) as usize);
    for chunk in state
        .chunks
        .iter()
        .filter(|chunk| chunk.segment_base == active.base_offset())
    {
        if chunk.end > position {
            let range = (position - chunk.start) as usize..(chunk.end - chunk.start) as usize;
            to.extend_from_slice(&chunk.as_bytes()[range]);
            position = chunk.end;
        }
    }
    assert_eq!(
        position,
        active.bytes(),
        "the tail from {tail_position} is not in memory"
    );
}

/// Decodes the next entry of a table; `Err` names the field that cannot be.
pub(crate) fn decode(from: &mut FieldReader<'_>) -> Result<LogEntry, &'static str> {
    let bytes = from.u32().map_err(|TooShort| "entry bytes")? as usize;
    let rest = bytes.checked_sub(4).ok_or("entry bytes")?;
    let mut entry = FieldReader::new(from.bytes(rest).map_err(|TooShort| "entry bytes")?);
    let decoded =
        decode_fields(&mut entry).map_err(|TooShort| "entry field beyond its bytes")??;
    if entry.remaining() > 0 {
        return Err("entry bytes beyond its fields");
    }
    Ok(decoded)
}

fn decode_fields(from: &mut FieldReader<'_>) -> Result<Result<LogEntry, &'static str>, TooShort> {
    let incarnation = from.u64()?;
    let id = LogId {
        topic: from.array()?,
        partition: from.u32()?,
    };
    let applied = from.u64()?;
    let (log_start, log_end) = (from.i64()?, from.i64()?);
    let epochs = LeaderEpochs::decode(from)?;
    let count = from.count(SEGMENT_BYTES)?;
    let extents = (0..count)
        .map(|_| decode_extent(from))
        .collect::<Result<Vec<_>, _>>()?;
    let tail_position = from.u64()?;
    let tail_bytes = from.count(1)?;
    let tail = from.bytes(tail_bytes)?;
    let producers = Producers::decode(from)?;
    // Entries from before there was compaction end here.
    let cleaned_to = if from.remaining() == 0 {
        0
    } else {
        from.i64()?
    };

    if let Some(wrong) = wrong_field(
        &extents,
        &epochs,
        (log_start, log_end, cleaned_to),
        (tail_position, tail_bytes),
    ) {
        return Ok(Err(wrong));
    }
    let mut state = LogState::new(0);
    (state.log_start, state.log_end, state.durable_end) = (log_start, log_end, log_end);
    (state.epochs, state.producers, state.cleaned_to) = (epochs, producers, cleaned_to);
    let last = extents.len() - 1;
    let durable = |at: usize, extent: &SegmentExtent| {
        if at == last {
            tail_position
        } else {
            extent.bytes
        }
    };
    let segments = extents.iter().enumerate();
    state.segments = segments
        .map(|(at, extent)| Segment::restored(*extent, durable(at, extent)))
        .collect();
    let active_base = extents[last].base_offset;
    state.chunks.restore(
        active_base,
        tail_position,
        Slice::from(tail.to_vec()),
        log_end,
    );
    assert!(state.check_invariants());
    Ok(Ok(LogEntry {
        id,
        incarnation,
        applied,
        state,
    }))
}

/// Reads a segment's line.
pub(crate) fn decode_extent(from: &mut FieldReader<'_>) -> Result<SegmentExtent, TooShort> {
    Ok(SegmentExtent {
        base_offset: from.i64()?,
        bytes: u64::from(from.u32()?),
        version: from.u32()?,
        max_timestamp: from.i64()?,
        max_timestamp_batch: from.i64()?,
        first_timestamp: from.i64()?,
        last_append_ms: from.i64()?,
    })
}

/// The first field that contradicts another: the table's CRC was right, so this would be a bug of
/// the writer, and must not become a panic of the reader.
fn wrong_field(
    extents: &[SegmentExtent],
    epochs: &LeaderEpochs,
    offsets: (i64, i64, i64),
    tail: (u64, usize),
) -> Option<&'static str> {
    let Some(active) = extents.last() else {
        return Some("count of segments");
    };
    let (log_start, log_end, cleaned_to) = offsets;
    let (tail_position, tail_bytes) = tail;
    let checks = [
        ("log start offset", 0 <= log_start && log_start <= log_end),
        (
            "segment base offsets",
            extents.is_sorted_by(|a, b| a.base_offset < b.base_offset),
        ),
        ("active segment", active.base_offset <= log_end),
        ("first segment", extents[0].base_offset <= log_start),
        ("cleaned-to offset", (0..=log_end).contains(&cleaned_to)),
        ("tail position", block_floor(tail_position) == tail_position),
        (
            "tail bytes",
            tail_position.checked_add(tail_bytes as u64) == Some(active.bytes),
        ),
        ("leader epochs", epochs.is_ordered()),
    ];
    checks
        .into_iter()
        .find(|(_, valid)| !valid)
        .map(|(field, _)| field)
}
