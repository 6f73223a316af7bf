//! Blocks of an `.index` file: 254 index entries with a CRC that also covers whose they are.
//!
//! *Place*: written behind the segment's blocks, read when a lookup needs entries that memory does
//! not hold. *Invariants*: **I1** a block is taken only if its CRC, incarnation, segment and number
//! are right: a stale block of another segment or time ends the index instead. *Source*:
//! `docs/storage-format.md`, "Index".

use protocol::crc32c;
use runtime::BLOCK_BYTES;

use super::offset_index::{IndexEntry, is_ordered};
use crate::codec::{FieldReader, PutField, TooShort};

const MAGIC: [u8; 4] = *b"SBIX";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 16;
/// Position of the CRC in the header.
const CRC_AT: usize = 28;
/// Entries of one block.
pub(crate) const BLOCK_ENTRIES: usize = (BLOCK_BYTES - HEADER_BYTES) / ENTRY_BYTES;
const _: () = assert!(BLOCK_ENTRIES * ENTRY_BYTES + HEADER_BYTES == BLOCK_BYTES);

/// Whose block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockOwner {
    pub(crate) incarnation: u64,
    pub(crate) segment_base: i64,
}

/// Encodes block `number` of the index of `owner`.
pub(crate) fn encode_block(owner: BlockOwner, number: u32, entries: &[IndexEntry]) -> Vec<u8> {
    assert_eq!(
        entries.len(),
        BLOCK_ENTRIES,
        "only full index blocks are written"
    );
    debug_assert!(is_ordered(entries), "index entries out of order");
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(&MAGIC);
    block.put_u16(VERSION);
    block.put_u16(BLOCK_ENTRIES as u16);
    block.put_u64(owner.incarnation);
    block.put_i64(owner.segment_base);
    block.put_u32(number);
    block.put_u32(0);
    for entry in entries {
        block.put_u32(entry.relative_offset);
        block.put_u32(entry.position);
        block.put_i64(entry.max_timestamp_before);
    }
    let crc = crc32c::crc32c(&block);
    block[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(block.len(), BLOCK_BYTES, "an index block is one block");
    block
}

/// Appends the entries of `block` to `to`; `false` (and nothing appended) when it is not the valid
/// block `number` of `owner`.
pub(crate) fn decode_block(
    owner: BlockOwner,
    number: u32,
    block: &[u8],
    to: &mut Vec<IndexEntry>,
) -> bool {
    let before = to.len();
    let valid = matches!(try_decode(owner, number, block, to), Ok(true)) && is_ordered(to);
    if !valid {
        to.truncate(before);
    }
    valid
}

fn try_decode(
    owner: BlockOwner,
    number: u32,
    block: &[u8],
    to: &mut Vec<IndexEntry>,
) -> Result<bool, TooShort> {
    let mut fields = FieldReader::new(block.get(..BLOCK_BYTES).ok_or(TooShort)?);
    let known = fields.array()? == MAGIC
        && fields.u16()? == VERSION
        && usize::from(fields.u16()?) == BLOCK_ENTRIES
        && fields.u64()? == owner.incarnation
        && fields.i64()? == owner.segment_base
        && fields.u32()? == number;
    if !known || fields.u32()? != crc_of(block) {
        return Ok(false);
    }
    for _ in 0..BLOCK_ENTRIES {
        to.push(IndexEntry {
            relative_offset: fields.u32()?,
            position: fields.u32()?,
            max_timestamp_before: fields.i64()?,
        });
    }
    Ok(true)
}

/// CRC of a block with its CRC field taken as zero.
fn crc_of(block: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&block[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &block[HEADER_BYTES..BLOCK_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: BlockOwner = BlockOwner {
        incarnation: 7,
        segment_base: 1000,
    };

    fn entries() -> Vec<IndexEntry> {
        (1..=BLOCK_ENTRIES as u32)
            .map(|n| IndexEntry {
                relative_offset: n * 3,
                position: n * 70_000,
                max_timestamp_before: i64::from(n),
            })
            .collect()
    }

    #[test]
    fn round_trip() {
        let block = encode_block(OWNER, 0, &entries());
        let mut decoded = Vec::new();
        assert!(decode_block(OWNER, 0, &block, &mut decoded));
        assert_eq!(decoded, entries());
    }

    #[test]
    fn a_block_of_another_owner_or_with_a_flipped_bit_is_not_taken() {
        let block = encode_block(OWNER, 0, &entries());
        let check = |owner, number, block: &[u8]| {
            let mut decoded = Vec::new();
            assert!(!decode_block(owner, number, block, &mut decoded));
            assert!(decoded.is_empty());
        };
        check(
            BlockOwner {
                incarnation: 8,
                ..OWNER
            },
            0,
            &block,
        );
        check(
            BlockOwner {
                segment_base: 0,
                ..OWNER
            },
            0,
            &block,
        );
        check(OWNER, 1, &block);
        check(OWNER, 0, &block[..100]);
        for at in [0, 30, 40, BLOCK_BYTES - 1] {
            let mut flipped = block.clone();
            flipped[at] ^= 0x10;
            check(OWNER, 0, &flipped);
        }
    }
}
