//! The values of numbered records.
//!
//! ```text
//!  0 magic u32   4 run id u64   12 partition u32   16 sequence u64   24 crc u32   28 noise
//! ```
//! The CRC-32C covers everything but itself, so that a record whose bytes were mixed with another's
//! is found even if its batch's CRC was computed over the mixture.

use protocol::crc32c;

/// Bytes before the noise.
pub(super) const HEADER_BYTES: usize = 28;
const MAGIC: u32 = 0x5342_5652;
const CRC_AT: usize = 24;

/// What a numbered record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) run_id: u64,
    pub(super) partition: u32,
    pub(super) sequence: u64,
}

/// What a value turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// A numbered record, whole.
    Whole(Numbered),
    /// A numbered record with wrong bytes.
    Corrupt,
    /// Something else.
    Foreign,
}

fn crc_of(value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&value[..CRC_AT]), &value[HEADER_BYTES..])
}

impl Numbered {
    /// Writes the header over the front of `value`, whose noise stays.
    pub(super) fn write(self, value: &mut [u8]) {
        assert!(
            value.len() >= HEADER_BYTES,
            "a numbered record of {} bytes",
            value.len()
        );
        value[..4].copy_from_slice(&MAGIC.to_be_bytes());
        value[4..12].copy_from_slice(&self.run_id.to_be_bytes());
        value[12..16].copy_from_slice(&self.partition.to_be_bytes());
        value[16..CRC_AT].copy_from_slice(&self.sequence.to_be_bytes());
        let crc = crc_of(value);
        value[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads and checks a value.
    pub(super) fn read(value: &[u8]) -> Value {
        let Some(header) = value.first_chunk::<HEADER_BYTES>() else {
            return Value::Foreign;
        };
        let u32_at = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if u32_at(0) != MAGIC {
            return Value::Foreign;
        }
        if u32_at(CRC_AT) != crc_of(value) {
            return Value::Corrupt;
        }
        let (run_id, partition, sequence) = (u64_at(4), u32_at(12), u64_at(16));
        Value::Whole(Numbered {
            run_id,
            partition,
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_is_noticed() {
        let numbered = Numbered {
            run_id: 1 << 40,
            partition: 7,
            sequence: (1 << 33) + 5,
        };
        let mut value = vec![b'x'; 40];
        numbered.write(&mut value);
        assert_eq!(Numbered::read(&value), Value::Whole(numbered));
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] ^= 1;
            let expected = if at < 4 {
                Value::Foreign
            } else {
                Value::Corrupt
            };
            assert_eq!(Numbered::read(&changed), expected, "byte {at}");
        }
        assert_eq!(Numbered::read(&value[..27]), Value::Foreign);
    }
}
