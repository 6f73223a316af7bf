//! Zig-zag varints of records: 32 bits for lengths and deltas, 64 bits for timestamp deltas.
//!
//! Limits: at most 5 bytes (10 for 64 bits); a longer one is an error, as in Kafka.
//! Source: Kafka protocol guide, VARINT and VARLONG.

#[inline]
pub(super) fn zigzag_i32(raw: u32) -> i32 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

#[inline]
pub(super) fn zigzag_i64(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

fn unzigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Appends a zig-zag varint. A 32-bit value has the same bytes in both widths.
#[inline]
pub(super) fn put_varint(output: &mut Vec<u8>, value: i64) {
    let mut raw = unzigzag_i64(value);
    while raw >= 0x80 {
        output.push((raw as u8) | 0x80);
        raw >>= 7;
    }
    output.push(raw as u8);
}

/// Bytes that [`put_varint`] writes for `value`.
#[inline]
pub(super) fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (unzigzag_i64(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![0x7e]),
            (64, vec![0x80, 1]),
            (-64, vec![0x7f]),
            (-65, vec![0x81, 1]),
            (i64::from(i32::MAX), vec![0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ] {
            let mut output = Vec::new();
            put_varint(&mut output, value);
            assert_eq!(output, bytes, "{value}");
            assert_eq!(varint_bytes(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn zigzag_undoes_itself() {
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(zigzag_i64(unzigzag_i64(value)), value);
        }
        assert_eq!(zigzag_i32(u32::MAX), i32::MIN);
    }
}
