//! A run of consecutive bytes of one segment, held in several buffers: batches on disk straddle read
//! windows, and the last of them reach into memory.
//!
//! *Place*: catch-up reads, lookups and rebuilding walk batches through this.

use protocol::crc32c;
use runtime::Slice;

use crate::segment::batch_header::{BadHeader, BatchHeader, CRC_FROM, HEADER_BYTES};

/// Bytes `start..end` of a segment.
#[derive(Default)]
pub(crate) struct ByteRun {
    start: u64,
    end: u64,
    /// Pieces in order, each with the position of its first byte; none is empty.
    pieces: Vec<(u64, Slice)>,
}

impl ByteRun {
    /// An empty run at `start`.
    pub(crate) fn new(start: u64) -> Self {
        ByteRun {
            start,
            end: start,
            pieces: Vec::new(),
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Adds the bytes that follow.
    pub(crate) fn push(&mut self, piece: Slice) {
        if !piece.is_empty() {
            let at = self.end;
            self.end += piece.len() as u64;
            self.pieces.push((at, piece));
        }
    }

    /// Lets go of pieces that end at or before `position`.
    pub(crate) fn discard_before(&mut self, position: u64) {
        let gone = self
            .pieces
            .partition_point(|(at, piece)| at + piece.len() as u64 <= position);
        self.pieces.drain(..gone);
        self.start = self.pieces.first().map_or(self.end, |(at, _)| *at);
    }

    /// Views of the bytes `from..to`, which the run must hold.
    pub(crate) fn slices(&self, from: u64, to: u64) -> Vec<Slice> {
        let mut slices = Vec::with_capacity(1);
        self.for_each(from, to, |piece, range| slices.push(piece.sub(range)));
        slices
    }

    /// Copies the bytes `from..to`.
    pub(crate) fn copy(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity((to - from) as usize);
        self.for_each(from, to, |piece, range| {
            bytes.extend_from_slice(&piece[range]);
        });
        bytes
    }

    /// The header of the batch at `position`; `None` when the run ends inside it.
    pub(crate) fn header_at(&self, position: u64) -> Option<Result<BatchHeader, BadHeader>> {
        if position < self.start || position + HEADER_BYTES as u64 > self.end {
            return None;
        }
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        self.for_each(position, position + HEADER_BYTES as u64, |piece, range| {
            let count = range.len();
            header[filled..filled + count].copy_from_slice(&piece[range]);
            filled += count;
        });
        Some(BatchHeader::decode(&header))
    }

    /// CRC-32C of the batch at `position`, computed over what its CRC field covers.
    pub(crate) fn batch_crc(&self, position: u64, batch: &BatchHeader) -> u32 {
        let mut crc = 0;
        self.for_each(
            position + CRC_FROM,
            position + batch.bytes,
            |piece, range| {
                crc = crc32c::crc32c_append(crc, &piece[range]);
            },
        );
        crc
    }

    fn for_each(&self, from: u64, to: u64, mut visit: impl FnMut(&Slice, std::ops::Range<usize>)) {
        assert!(
            self.start <= from && from <= to && to <= self.end,
            "{from}..{to} is not in {}..{}",
            self.start,
            self.end
        );
        let first = self
            .pieces
            .partition_point(|(at, piece)| at + piece.len() as u64 <= from);
        for (at, piece) in self
            .pieces
            .iter()
            .skip(first)
            .take_while(|(at, _)| *at < to)
        {
            let begin = from.saturating_sub(*at) as usize;
            let end = ((to - at) as usize).min(piece.len());
            visit(piece, begin..end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_gathered_from_its_pieces() {
        let mut run = ByteRun::new(100);
        for piece in [vec![0, 1, 2], vec![3], vec![4, 5, 6, 7]] {
            run.push(Slice::from(piece));
        }
        assert_eq!(run.end(), 108);
        for from in 100..108 {
            for to in from..=108 {
                let expected: Vec<u8> = (from..to).map(|at| (at - 100) as u8).collect();
                assert_eq!(run.copy(from, to), expected);
                let gathered: Vec<u8> = run
                    .slices(from, to)
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                assert_eq!(gathered, expected);
            }
        }
        assert!(run.header_at(100).is_none());
    }
}
