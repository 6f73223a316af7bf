//! Reading a journal at start: which groups count, where they end, and whether that is an honest end.
//!
//! The groups form one chain: each follows its predecessor in the same file or begins the file of the
//! next lap, names its predecessor's CRC and continues its sequence. The chain is followed from the file
//! that holds `replay_from` until it breaks. A break is an honest end only if no whole group that was
//! written later exists: since one group is in flight at most, anything after a torn group was never
//! written. Otherwise it is damage, and refused.

use std::path::Path;

use runtime::buffer::{BLOCK_BYTES, Slice};

use super::files::JournalFile;
use super::format::{GROUP_HEADER_BYTES, GroupHeader};
use super::{RecordView, ReplayReport, Sequence};
use crate::codec::FieldReader;
use crate::error::StorageError;

/// Bytes that are read at once while looking for groups.
const READ_BYTES: usize = 1 << 20;

type Visitor<'a> = dyn FnMut(Sequence, RecordView<'_>) -> Result<(), StorageError> + 'a;

/// What the chain said.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Newest sequence of the chain.
    pub(super) last_sequence: u64,
    /// Newest generation of the chain.
    pub(super) generation: u64,
    /// Newest lap of any whole first group.
    pub(super) lap_max: u64,
    /// CRC of the chain's last group.
    pub(super) last_crc: u32,
    /// Number and newest sequence of the files that the chain went through.
    pub(super) live: Vec<(u64, u64)>,
    pub(super) report: ReplayReport,
}

/// A file and the first group in it.
struct Candidate<'a> {
    file: &'a JournalFile,
    first: GroupHeader,
}

/// Follows the chain and gives its records from `replay_from` on to `visitor`.
pub(super) async fn replay(
    files: &[JournalFile],
    replay_from: Sequence,
    visitor: &mut Visitor<'_>,
) -> Result<Replayed, StorageError> {
    let replay_from = u64::from(replay_from);
    let mut candidates = Vec::new();
    for file in files {
        if let Some((first, _)) = read_group(file, BLOCK_BYTES as u64).await? {
            candidates.push(Candidate { file, first });
        }
    }
    candidates.sort_by_key(|candidate| candidate.first.lap);
    let mut replayed = Replayed {
        lap_max: candidates.last().map_or(0, |newest| newest.first.lap),
        ..Replayed::default()
    };
    let begin = candidates.iter().rposition(|candidate| candidate.first.first <= replay_from);
    let mut end = None;
    match begin {
        Some(begin) => {
            let chain = Chain { replay_from, visitor, replayed: &mut replayed, expected: None };
            end = Some(chain.follow(&candidates[begin..]).await?);
        }
        None if candidates.is_empty() => {}
        None => {
            let oldest = &candidates[0];
            let expected = format!("records from sequence {replay_from} on");
            let found = format!("records from sequence {} on", oldest.first.first);
            return Err(StorageError::corruption(&oldest.file.path, 0, expected, found));
        }
    }
    refuse_later_groups(files, &replayed, end).await?;
    Ok(replayed)
}

/// Where the chain ended.
#[derive(Clone, Copy)]
struct ChainEnd {
    file_number: u64,
    position: u64,
    lap: u64,
}

struct Chain<'v, 'f> {
    replay_from: u64,
    visitor: &'v mut Visitor<'f>,
    replayed: &'v mut Replayed,
    /// CRC and next sequence that the next group must name; none before the first.
    expected: Option<(u32, u64)>,
}

impl Chain<'_, '_> {
    async fn follow(mut self, candidates: &[Candidate<'_>]) -> Result<ChainEnd, StorageError> {
        let mut end = None;
        for candidate in candidates {
            // The next lap must continue where this one broke off.
            if !self.continues(&candidate.first) {
                break;
            }
            let mut position = BLOCK_BYTES as u64;
            let mut last = candidate.first.first.saturating_sub(1);
            while let Some((header, group)) = read_group(candidate.file, position).await? {
                if header.lap != candidate.first.lap || !self.continues(&header) {
                    break;
                }
                self.visit(&candidate.file.path, position, &header, &group)?;
                last = header.last();
                position += header.padded_bytes();
            }
            self.replayed.report.bytes_cut = torn_bytes(candidate, position).await?;
            self.replayed.live.push((candidate.file.number, last));
            let (file_number, lap) = (candidate.file.number, candidate.first.lap);
            end = Some(ChainEnd { file_number, position, lap });
        }
        Ok(end.expect("the first candidate continues from nothing"))
    }

    fn continues(&self, header: &GroupHeader) -> bool {
        self.expected.is_none_or(|(crc, next)| {
            header.previous_crc == crc
                && header.first == next
                && header.generation >= self.replayed.generation
        })
    }

    fn visit(
        &mut self,
        path: &Path,
        position: u64,
        header: &GroupHeader,
        group: &Slice,
    ) -> Result<(), StorageError> {
        let end = GROUP_HEADER_BYTES + header.payload_bytes as usize;
        let mut records = FieldReader::new(&group[GROUP_HEADER_BYTES..end]);
        for index in 0..u64::from(header.records) {
            let record = RecordView::decode(&mut records).map_err(|_| {
                let expected = format!("record {index} of {} of its group", header.records);
                StorageError::corruption(path, position, expected, "bytes that are none")
            })?;
            let sequence = header.first + index;
            if sequence >= self.replay_from {
                (self.visitor)(Sequence::from(sequence), record)?;
                self.replayed.report.records += 1;
            }
        }
        self.expected = Some((header.crc, header.last() + 1));
        self.replayed.last_sequence = header.last();
        self.replayed.generation = header.generation;
        self.replayed.last_crc = header.crc;
        self.replayed.report.was_closed = header.is_end;
        Ok(())
    }
}

/// Bytes of a group that was begun at `position` in the candidate's use of its file and is not whole.
async fn torn_bytes(candidate: &Candidate<'_>, position: u64) -> Result<u64, StorageError> {
    if position + BLOCK_BYTES as u64 > candidate.file.bytes {
        return Ok(0);
    }
    let block = read(candidate.file, position, BLOCK_BYTES).await?;
    let begun = GroupHeader::decode(&block).filter(|header| header.lap == candidate.first.lap);
    Ok(begun.map_or(0, |header| header.padded_bytes()))
}

/// Refuses an end of the chain after which a whole group stands that was written later; measures what
/// was torn.
async fn refuse_later_groups(
    files: &[JournalFile],
    replayed: &Replayed,
    end: Option<ChainEnd>,
) -> Result<(), StorageError> {
    for file in files {
        let is_last = end.is_some_and(|end| end.file_number == file.number);
        let in_chain = replayed.live.iter().any(|(number, _)| *number == file.number);
        if in_chain && !is_last {
            continue;
        }
        let from = end.filter(|_| is_last).map_or(BLOCK_BYTES as u64, |end| end.position);
        // In the chain's last file only groups of its own use are later; elsewhere only later uses.
        let lap_min = end.map_or(0, |end| if is_last { end.lap } else { end.lap + 1 });
        let Some((position, later)) = find_group(file, from, lap_min).await? else { continue };
        if later.durable > replayed.last_sequence || later.records > 0 && later.first > replayed.last_sequence + 1 {
            let expected = format!("the group after sequence {}", replayed.last_sequence);
            let found = format!(
                "damage, and a later group from sequence {} that states {} as durable",
                later.first, later.durable
            );
            return Err(StorageError::corruption(&file.path, position, expected, found));
        }
    }
    Ok(())
}

/// The first whole group of lap `lap_min` or later in a file from `from` on.
async fn find_group(
    file: &JournalFile,
    from: u64,
    lap_min: u64,
) -> Result<Option<(u64, GroupHeader)>, StorageError> {
    let mut at = from;
    while at < file.bytes {
        let len = ((file.bytes - at) as usize).min(READ_BYTES);
        let chunk = read(file, at, len).await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        for (index, block) in chunk.chunks(BLOCK_BYTES).enumerate() {
            let position = at + (index * BLOCK_BYTES) as u64;
            let is_candidate = GroupHeader::decode(block).is_some_and(|header| header.lap >= lap_min);
            if is_candidate && let Some((header, _)) = read_group(file, position).await? {
                return Ok(Some((position, header)));
            }
        }
        at += len as u64;
    }
    Ok(None)
}

/// The whole group at a position, or `None` if there is none.
async fn read_group(
    file: &JournalFile,
    position: u64,
) -> Result<Option<(GroupHeader, Slice)>, StorageError> {
    if position + BLOCK_BYTES as u64 > file.bytes {
        return Ok(None);
    }
    let block = read(file, position, BLOCK_BYTES).await?;
    let Some(header) = GroupHeader::decode(&block) else { return Ok(None) };
    let bytes = header.padded_bytes();
    if position + bytes > file.bytes {
        return Ok(None);
    }
    let group = if bytes as usize > block.len() { read(file, position, bytes as usize).await? } else { block };
    Ok(header.is_whole(&group).then_some((header, group)))
}

async fn read(file: &JournalFile, position: u64, len: usize) -> Result<Slice, StorageError> {
    let read = file.file.read_at(position, len).await;
    read.map_err(|error| StorageError::io("read", &file.path, error))
}
