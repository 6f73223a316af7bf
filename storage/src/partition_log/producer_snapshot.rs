//! The `.producers` file: what was known of producers before a segment's first record.
//!
//! *Place*: written when a segment has been rolled, read when a truncation has to rebuild producer
//! states. A hint: one that is missing or invalid means that an older one is taken. *Source*:
//! `docs/storage-format.md`, "Producer states".

use protocol::crc32c;

use super::producers::Producers;
use crate::codec::{FieldReader, PutField, TooShort};

const MAGIC: [u8; 8] = *b"SBPROD01";
const VERSION: u32 = 1;
/// Position of the CRC, and of what follows it.
const CRC_AT: usize = 12;
const AFTER_CRC: usize = 16;

/// Encodes the states before `offset` of the log `incarnation`.
pub(crate) fn encode(incarnation: u64, offset: i64, producers: &Producers) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&MAGIC);
    file.put_u32(VERSION);
    file.put_u32(0);
    file.put_u64(incarnation);
    file.put_i64(offset);
    let mut states = Vec::new();
    producers.encode(&mut states);
    // The count, then four zero bytes, then the states.
    file.extend_from_slice(&states[..4]);
    file.put_u32(0);
    file.extend_from_slice(&states[4..]);
    let crc = crc32c::crc32c(&file);
    file[CRC_AT..AFTER_CRC].copy_from_slice(&crc.to_le_bytes());
    file
}

/// Decodes a file written for the same log and offset; `None` when it is anything else.
pub(crate) fn decode(incarnation: u64, offset: i64, file: &[u8]) -> Option<Producers> {
    try_decode(incarnation, offset, file).ok().flatten()
}

fn try_decode(incarnation: u64, offset: i64, file: &[u8]) -> Result<Option<Producers>, TooShort> {
    let mut fields = FieldReader::new(file);
    if fields.array()? != MAGIC || fields.u32()? != VERSION || fields.u32()? != crc_of(file) {
        return Ok(None);
    }
    if fields.u64()? != incarnation || fields.i64()? != offset {
        return Ok(None);
    }
    let mut states = fields.bytes(4)?.to_vec();
    fields.u32()?;
    states.extend_from_slice(fields.bytes(fields.remaining())?);
    Producers::decode(&mut FieldReader::new(&states)).map(Some)
}

fn crc_of(file: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&file[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &file[AFTER_CRC..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_log_and_offset_are_decoded() {
        let producers = Producers::default();
        let file = encode(3, 40, &producers);
        assert_eq!(decode(3, 40, &file), Some(producers));
        assert_eq!(decode(4, 40, &file), None);
        assert_eq!(decode(3, 41, &file), None);
        assert_eq!(decode(3, 40, &file[..20]), None);
        let mut flipped = file.clone();
        flipped[30] ^= 1;
        assert_eq!(decode(3, 40, &flipped), None);
    }
}
