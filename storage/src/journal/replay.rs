//! Reading a journal at start: which groups count, where they end, and whether that is an honest end.
//!
//! The groups form one chain: each names its predecessor's CRC and continues its sequence; it follows it
//! in the same file use, or begins a later one. The chain is followed from the file that holds
//! `replay_from` until it breaks.
//!
//! *Invariants*
//! - R1. A break is an honest end only if no whole group exists that was written when the missing one was
//!   durable: behind the break in its file, one that says so (or stands where the chain ends and does not
//!   continue it); elsewhere, any, since the first group of a file use is written alone and after all
//!   before it. Otherwise it is damage, and refused.
//! - R2. Where the first group of a later file use continues the chain, the chain goes on there, in
//!   the newest of them: the start that wrote it had found no more than that. Whatever else stands
//!   behind in the file that is left was never answered.
//! - R3. The chain reaches the record before `replay_from`: who names that has it durable.

use std::path::Path;
use std::rc::Rc;

use runtime::buffer::{BLOCK_BYTES, Slice};

use super::files::JournalFile;
use super::format::{FILLER, GROUP_HEADER_BYTES, GroupHeader};
use super::reader::GroupReader;
use super::scan::Found;
use super::{RecordView, ReplayReport, Sequence};
use crate::codec::FieldReader;
use crate::error::StorageError;

/// Where a file's first group stands.
const FIRST_GROUP_AT: u64 = BLOCK_BYTES as u64;

type Visitor<'a> = dyn FnMut(Sequence, RecordView<'_>) -> Result<(), StorageError> + 'a;

/// What the chain said.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Newest sequence of the chain.
    pub(super) last_sequence: u64,
    /// Newest generation in any file.
    pub(super) generation: u64,
    /// Newest lap in any file.
    pub(super) lap: u64,
    /// CRC of the group that the next start continues.
    pub(super) last_crc: u32,
    /// Number and newest sequence of the files that hold what was replayed, oldest first.
    pub(super) live: Vec<(u64, u64)>,
    pub(super) report: ReplayReport,
}

/// A file and the first group in it.
struct Candidate<'a> {
    file: &'a JournalFile,
    first: GroupHeader,
    /// Whether a second group follows the first.
    goes_on: bool,
}

/// Follows the chain in `dir` and gives its records from `replay_from` on to `visitor`.
pub(super) async fn replay(
    dir: &Path,
    found: &Found,
    replay_from: Sequence,
    visitor: &mut Visitor<'_>,
) -> Result<Replayed, StorageError> {
    let replay_from = u64::from(replay_from).max(1);
    let candidates = find_candidates(found).await?;
    let mut replayed = Replayed {
        lap: candidates
            .iter()
            .map(|candidate| candidate.first.lap)
            .max()
            .unwrap_or(0),
        generation: candidates
            .iter()
            .map(|candidate| candidate.first.generation)
            .max()
            .unwrap_or(0),
        ..Replayed::default()
    };
    let begin = candidates
        .iter()
        .rposition(|candidate| candidate.first.first <= replay_from);
    let mut end = None;
    if let Some(begin) = begin {
        let chain = Chain {
            replay_from,
            visitor,
            replayed: &mut replayed,
            tip: None,
        };
        end = Some(chain.follow(&candidates[begin..]).await?);
    } else if let Some(oldest) = candidates.first() {
        let found = format!("records from sequence {} on", oldest.first.first);
        let expected = format!("records from sequence {replay_from} on");
        return Err(StorageError::corruption(
            &oldest.file.path,
            FIRST_GROUP_AT,
            expected,
            found,
        ));
    }
    replayed.report.bytes_cut +=
        refuse_later_groups(found, &candidates, end.as_ref(), replayed.last_sequence).await?;
    if replayed.last_sequence + 1 < replay_from {
        let (file, position) = match end {
            Some(end) => (end.path, end.position),
            None => (dir.into(), 0),
        };
        let expected = format!(
            "records through sequence {}, which were durable",
            replay_from - 1
        );
        let found = format!("records through {}", replayed.last_sequence);
        return Err(StorageError::corruption(&file, position, expected, found));
    }
    Ok(replayed)
}

/// The files with a whole first group, by lap.
async fn find_candidates(found: &Found) -> Result<Vec<Candidate<'_>>, StorageError> {
    let mut candidates = Vec::new();
    for file in &found.files {
        let mut reader = GroupReader::new(file, found.journal);
        let Some((first, _)) = reader.group(FIRST_GROUP_AT).await? else {
            continue;
        };
        let second = reader.group(FIRST_GROUP_AT + first.padded_bytes()).await?;
        let goes_on = second
            .is_some_and(|(second, _)| second.lap == first.lap && second.previous_crc == first.crc);
        candidates.push(Candidate {
            file,
            first,
            goes_on,
        });
    }
    // A killed process's last write may reach the disk after the next start has looked there, found
    // nothing, and begun the same lap in another file. It is one group, without a second: the file that
    // goes on is the newer one.
    candidates.sort_by_key(|one| (one.first.lap, one.goes_on, one.first.generation));
    Ok(candidates)
}

/// Where the chain ended.
struct ChainEnd {
    path: Rc<Path>,
    position: u64,
    lap: u64,
}

/// The chain's newest group.
#[derive(Clone, Copy)]
struct Tip {
    crc: u32,
    last: u64,
    generation: u64,
}

struct Chain<'v, 'f> {
    replay_from: u64,
    visitor: &'v mut Visitor<'f>,
    replayed: &'v mut Replayed,
    /// None before the first group, which may follow anything.
    tip: Option<Tip>,
}

impl Chain<'_, '_> {
    async fn follow(mut self, candidates: &[Candidate<'_>]) -> Result<ChainEnd, StorageError> {
        let mut at = 0;
        loop {
            let candidate = &candidates[at];
            let before = self.tip;
            let (position, next) = self.follow_file(candidate, &candidates[at + 1..]).await?;
            let tip = self
                .tip
                .expect("a candidate's first group is whole and continues the chain");
            self.replayed.live.push((candidate.file.number, tip.last));
            if let Some(next) = next {
                at += 1 + next;
                continue;
            }
            self.replayed.last_sequence = tip.last;
            self.replayed.last_crc = tip.crc;
            // A start that took no record leaves nothing: the next one continues what it continued
            // (R2), so that starts alone do not use up files.
            if let Some(before) = before
                && before.last == tip.last
            {
                self.replayed.live.pop();
                self.replayed.last_crc = before.crc;
            }
            let (path, lap) = (candidate.file.path.clone(), candidate.first.lap);
            return Ok(ChainEnd {
                path,
                position,
                lap,
            });
        }
    }

    /// Follows the chain through one use of a file. Answers where it ended there, and which of the
    /// `later` candidates continues it.
    async fn follow_file(
        &mut self,
        candidate: &Candidate<'_>,
        later: &[Candidate<'_>],
    ) -> Result<(u64, Option<usize>), StorageError> {
        let mut reader = GroupReader::new(candidate.file, Some(candidate.first.journal));
        let mut position = FIRST_GROUP_AT;
        while let Some((header, group)) = reader.group(position).await? {
            let is_same_use = (header.lap, header.generation)
                == (candidate.first.lap, candidate.first.generation);
            if !is_same_use || !self.is_continued_by(&header) {
                break;
            }
            self.visit(&candidate.file.path, position, &header, &group)?;
            position += header.padded_bytes();
            let next = later
                .iter()
                .rposition(|later| self.is_continued_by(&later.first));
            if next.is_some() {
                return Ok((position, next));
            }
        }
        let begun = reader.header(position).await?;
        let torn = begun.filter(|header| header.lap == candidate.first.lap);
        self.replayed.report.bytes_cut = torn.map_or(0, |torn| torn.padded_bytes());
        Ok((position, None))
    }

    fn is_continued_by(&self, header: &GroupHeader) -> bool {
        self.tip.is_none_or(|tip| {
            header.previous_crc == tip.crc
                && header.first == tip.last + 1
                && header.generation >= tip.generation
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
        let unreadable = |index| {
            let expected = format!("record {index} of {} of its group", header.records);
            StorageError::corruption(path, position, expected, "bytes that are none")
        };
        for index in 0..u64::from(header.records) {
            let record = RecordView::decode(&mut records).map_err(|_| unreadable(index))?;
            let sequence = header.first + index;
            if sequence >= self.replay_from {
                (self.visitor)(Sequence::from(sequence), record)?;
                self.replayed.report.records += 1;
            }
        }
        if records.remaining() > 0 {
            return Err(unreadable(u64::from(header.records)));
        }
        let (crc, last, generation) = (header.crc, header.last(), header.generation);
        self.tip = Some(Tip {
            crc,
            last,
            generation,
        });
        self.replayed.report.was_closed = header.is_end;
        Ok(())
    }
}

/// Refuses an end of the chain after which a whole group stands that was written later (R1). Answers
/// the bytes of a file's first group that was begun after the end and is torn.
///
/// In a file whose first group is torn, a group without records whose next sequence is the chain's shows
/// no gap: it is the mark of an orderly end, after a start that took no record and whose place the next
/// start was about to take (R2).
async fn refuse_later_groups(
    found: &Found,
    candidates: &[Candidate<'_>],
    end: Option<&ChainEnd>,
    last_sequence: u64,
) -> Result<u64, StorageError> {
    let shows_gap = |_, group: &GroupHeader| group.records > 0 || group.first != last_sequence + 1;
    let mut bytes_cut = 0;
    let lap_after = end.map_or(0, |end| end.lap + 1);
    for file in &found.files {
        let mut reader = GroupReader::new(file, found.journal);
        let candidate = candidates
            .iter()
            .find(|candidate| candidate.file.number == file.number);
        let later = match (candidate, end) {
            (_, Some(end)) if end.path == file.path => {
                let rests_on_more = |position, group: &GroupHeader| {
                    position == end.position || group.durable > last_sequence
                };
                reader.find(end.position, end.lap, rests_on_more).await?
            }
            // The first group of a file use is written first: nothing later than it is behind it.
            (Some(candidate), _) => {
                Some((FIRST_GROUP_AT, candidate.first)).filter(|(_, first)| first.lap >= lap_after)
            }
            (None, _) => {
                let block = reader.bytes(FIRST_GROUP_AT, BLOCK_BYTES as u64).await?;
                if block.iter().all(|byte| *byte == FILLER) {
                    continue;
                }
                let begun = reader.header(FIRST_GROUP_AT).await?;
                let torn = begun.filter(|header| header.lap >= lap_after);
                bytes_cut += torn.map_or(0, |torn| torn.padded_bytes().min(file.bytes));
                reader.find(FIRST_GROUP_AT, lap_after, shows_gap).await?
            }
        };
        if let Some((position, later)) = later {
            return Err(damaged(file, position, &later, end));
        }
    }
    Ok(bytes_cut)
}

/// The chain ended at `end`, yet `later` stands at `position` of `file`.
fn damaged(
    file: &JournalFile,
    position: u64,
    later: &GroupHeader,
    end: Option<&ChainEnd>,
) -> StorageError {
    let (first, durable) = (later.first, later.durable);
    let later_at = format!("{} at {position}", file.path.display());
    let found = format!(
        "damage: a later group, from sequence {first}, is in {later_at} and states {durable} as durable"
    );
    let (path, at) = match end {
        // The end of the chain is full or whole: what is missing is the beginning of this file.
        Some(end) if end.path != file.path && position > FIRST_GROUP_AT => {
            (&file.path, FIRST_GROUP_AT)
        }
        Some(end) => (&end.path, end.position),
        None => (&file.path, FIRST_GROUP_AT),
    };
    StorageError::corruption(path, at, "the group that follows", found)
}
