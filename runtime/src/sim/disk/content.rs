//! What a file holds: blocks that copies share until one of them is written.
//!
//! *Invariants*: **I1** bytes at or above the size read as zeros when the file grows again.

use std::sync::Arc;

use crate::buffer::BLOCK_BYTES;

/// The unit that a power loss keeps or loses.
pub(super) const SECTOR_BYTES: usize = 512;
/// Blocks an extent holds: copying an image copies one pointer for each of these.
const EXTENT_BLOCKS: usize = 64;
const BLOCK: u64 = BLOCK_BYTES as u64;

type Block = [u8; BLOCK_BYTES];
static ZEROS: Block = [0; BLOCK_BYTES];

#[derive(Clone)]
enum Place {
    Hole,
    /// Allocated, never written.
    Reserved,
    Data(Arc<Block>),
}

type Extent = [Place; EXTENT_BLOCKS];
const EMPTY_EXTENT: Extent = [const { Place::Hole }; EXTENT_BLOCKS];

/// The bytes of a file.
#[derive(Clone, Default)]
pub(super) struct Content {
    extents: Vec<Option<Arc<Extent>>>,
    bytes: u64,
    blocks: u64,
}

impl Content {
    /// Size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Blocks that take up space.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    fn place(&self, block: u64) -> &Place {
        let (extent, at) = split(block);
        match self.extents.get(extent) {
            Some(Some(extent)) => &extent[at],
            Some(None) | None => &Place::Hole,
        }
    }

    fn block(&self, block: u64) -> &Block {
        match self.place(block) {
            Place::Data(data) => data,
            Place::Hole | Place::Reserved => &ZEROS,
        }
    }

    fn place_mut(&mut self, block: u64) -> &mut Place {
        let (extent, at) = split(block);
        if self.extents.len() <= extent {
            self.extents.resize(extent + 1, None);
        }
        let extent = self.extents[extent].get_or_insert_with(|| Arc::new(EMPTY_EXTENT));
        let place = &mut Arc::make_mut(extent)[at];
        if matches!(place, Place::Hole) {
            self.blocks += 1;
            *place = Place::Reserved;
        }
        place
    }

    /// How many blocks of the range take up no space yet.
    pub(super) fn holes(&self, offset: u64, len: u64) -> u64 {
        if len == 0 {
            return 0;
        }
        let blocks = offset / BLOCK..=(offset + len - 1) / BLOCK;
        blocks
            .filter(|block| matches!(self.place(*block), Place::Hole))
            .count() as u64
    }

    /// `len` bytes at `offset`, fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.bytes.min(offset.saturating_add(len as u64));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let inside = (at % BLOCK) as usize;
            let count = (BLOCK_BYTES - inside).min((end - at) as usize);
            bytes.extend_from_slice(&self.block(at / BLOCK)[inside..inside + count]);
            at += count as u64;
        }
        bytes
    }

    /// Writes without growing the file: the caller rules over the size.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let inside = (at % BLOCK) as usize;
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - inside));
            let place = self.place_mut(at / BLOCK);
            if let Ok(whole) = <&Block>::try_from(now) {
                *place = Place::Data(Arc::new(*whole));
            } else {
                if !matches!(place, Place::Data(_)) {
                    *place = Place::Data(Arc::new(ZEROS));
                }
                if let Place::Data(block) = place {
                    Arc::make_mut(block)[inside..inside + now.len()].copy_from_slice(now);
                }
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Makes the range take up space.
    pub(super) fn reserve(&mut self, offset: u64, len: u64) {
        if len > 0 {
            (offset / BLOCK..=(offset + len - 1) / BLOCK).for_each(|block| {
                self.place_mut(block);
            });
        }
    }

    /// Grows the file to `bytes` if it is shorter. What was written there beforehand is in it.
    pub(super) fn grow(&mut self, bytes: u64) {
        self.bytes = self.bytes.max(bytes);
    }

    /// Sets the size, and forgets what lies above it (I1).
    pub(super) fn resize(&mut self, bytes: u64) {
        self.bytes = bytes;
        let blocks = bytes.div_ceil(BLOCK);
        let (extent, at) = split(blocks);
        if let Some(Some(last)) = self.extents.get_mut(extent) {
            let last = Arc::make_mut(last);
            last[at..].iter_mut().for_each(|place| *place = Place::Hole);
        }
        self.extents.truncate(extent + usize::from(at > 0));
        self.blocks = self.count_blocks();
        let inside = (bytes % BLOCK) as usize;
        if inside > 0 && matches!(self.place(bytes / BLOCK), Place::Data(_)) {
            self.write(bytes, &ZEROS[inside..]);
        }
    }

    fn count_blocks(&self) -> u64 {
        let extents = self.extents.iter().flatten();
        let places = extents.flat_map(|extent| extent.iter());
        places.filter(|place| !matches!(place, Place::Hole)).count() as u64
    }
}

fn split(block: u64) -> (usize, usize) {
    let block = usize::try_from(block).expect("simulated files are small");
    (block / EXTENT_BLOCKS, block % EXTENT_BLOCKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_do_not_see_later_writes() {
        let mut first = Content::default();
        first.write(0, &[1; BLOCK_BYTES]);
        first.resize(BLOCK);
        let second = first.clone();
        first.write(10, b"xyz");
        assert_eq!(second.read(0, BLOCK_BYTES), [1; BLOCK_BYTES]);
        assert_eq!(first.read(10, 3), b"xyz");
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros() {
        let mut content = Content::default();
        content.write(0, &[7; 3 * BLOCK_BYTES]);
        content.resize(3 * BLOCK);
        content.resize(100);
        assert_eq!(content.blocks(), 1);
        content.resize(2 * BLOCK);
        assert_eq!(content.read(0, 100), [7; 100]);
        assert_eq!(
            content.read(100, 2 * BLOCK_BYTES),
            [0; 2 * BLOCK_BYTES - 100]
        );
    }

    #[test]
    fn blocks_are_counted_once() {
        let mut content = Content::default();
        assert_eq!(content.holes(0, 3 * BLOCK), 3);
        content.reserve(0, 2 * BLOCK);
        content.write(BLOCK, &[1; BLOCK_BYTES]);
        assert_eq!((content.blocks(), content.holes(0, 3 * BLOCK)), (2, 1));
        content.write(100 * BLOCK, &[1; BLOCK_BYTES]);
        content.resize(101 * BLOCK);
        assert_eq!(content.blocks(), 3);
        assert_eq!(content.read(99 * BLOCK, 10), [0; 10]);
    }
}
