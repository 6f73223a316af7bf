//! Writes Kafka's primitive types into one frame, leaving gaps for record bytes kept elsewhere.
//!
//! Place: one for each frame; every message's `encode` appends its fields in order.
//! Invariants: I1 positions of splices ascend. I2 after the first error the bytes mean nothing and
//! cannot be taken out.
//! Source: Kafka protocol guide, "Protocol Primitive Types"; KIP-482.

use super::error::EncodeError;
use super::uuid::Uuid;

/// Builds one frame from front to back.
///
/// A value that cannot be said (a string longer than its length field, a field that the version
/// does not have) is a bug of the caller; it is remembered, and told when the bytes are taken.
#[derive(Debug, Default)]
pub struct Encoder {
    buf: Vec<u8>,
    splices: Vec<usize>,
    spliced_bytes: usize,
    error: Option<EncodeError>,
}

impl Encoder {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty frame with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            buf: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Bytes written so far, without those that are spliced in later.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Bytes of the frame so far, with those that are spliced in later.
    pub fn frame_bytes(&self) -> usize {
        self.buf.len() + self.spliced_bytes
    }

    /// The bytes, and the positions in them (ascending) at which external records belong.
    ///
    /// # Panics
    /// If the message could not be said in its version: a bug of whoever built it.
    pub fn into_parts(self) -> (Vec<u8>, Vec<usize>) {
        match self.finish() {
            Ok(parts) => parts,
            Err(error) => panic!("a message was built that its version cannot say: {error}"),
        }
    }

    /// As [`Self::into_parts`], for callers that choose the version after the message.
    pub fn finish(self) -> Result<(Vec<u8>, Vec<usize>), EncodeError> {
        match self.error {
            None => Ok((self.buf, self.splices)),
            Some(error) => Err(error),
        }
    }

    /// Remembers the first error.
    #[cold]
    pub(crate) fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// Bytes as they are.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// `BOOLEAN`.
    #[inline]
    pub fn put_bool(&mut self, value: bool) {
        self.buf.push(value.into());
    }

    /// `INT8`.
    #[inline]
    pub fn put_i8(&mut self, value: i8) {
        self.put_slice(&value.to_be_bytes());
    }

    /// `INT16`.
    #[inline]
    pub fn put_i16(&mut self, value: i16) {
        self.put_slice(&value.to_be_bytes());
    }

    /// `INT32`.
    #[inline]
    pub fn put_i32(&mut self, value: i32) {
        self.put_slice(&value.to_be_bytes());
    }

    /// `INT64`.
    #[inline]
    pub fn put_i64(&mut self, value: i64) {
        self.put_slice(&value.to_be_bytes());
    }

    /// `UUID`.
    #[inline]
    pub fn put_uuid(&mut self, value: Uuid) {
        self.put_slice(&value.0);
    }

    /// `UNSIGNED_VARINT`: seven bits a byte, lowest first.
    #[inline]
    pub fn put_unsigned_varint(&mut self, value: u32) {
        self.put_unsigned_varlong(value.into());
    }

    /// `VARINT`: zigzag.
    pub fn put_varint(&mut self, value: i32) {
        self.put_unsigned_varint((value << 1 ^ value >> 31) as u32);
    }

    /// `VARLONG`: zigzag.
    pub fn put_varlong(&mut self, value: i64) {
        self.put_unsigned_varlong((value << 1 ^ value >> 63) as u64);
    }

    fn put_unsigned_varlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
    }

    /// Replaces the `INT32` at `position`, for a length that is known only later.
    ///
    /// # Panics
    /// If nothing was written there.
    pub fn patch_i32(&mut self, position: usize, value: i32) {
        let place = self.buf.get_mut(position..position + 4);
        place
            .expect("a place that was written before")
            .copy_from_slice(&value.to_be_bytes());
    }

    /// `NULLABLE_STRING`, or `COMPACT_NULLABLE_STRING`.
    #[inline]
    pub fn put_nullable_string(&mut self, text: Option<&str>, compact: bool) {
        let Some(text) = text else {
            if compact {
                self.put_unsigned_varint(0);
            } else {
                self.put_i16(-1);
            }
            return;
        };
        // Compact lengths could say more, and no reader takes it: versions would differ in meaning.
        let Ok(length) = i16::try_from(text.len()) else {
            return self.fail(EncodeError::TooLong { length: text.len() });
        };
        if compact {
            self.put_unsigned_varint(length as u32 + 1);
        } else {
            self.put_i16(length);
        }
        self.put_slice(text.as_bytes());
    }

    /// `STRING`, or `COMPACT_STRING`.
    #[inline]
    pub fn put_string(&mut self, text: &str, compact: bool) {
        self.put_nullable_string(Some(text), compact);
    }

    /// `NULLABLE_BYTES` or `RECORDS`, or their compact forms.
    #[inline]
    pub fn put_nullable_bytes(&mut self, bytes: Option<&[u8]>, compact: bool) {
        self.put_length(bytes.map(<[u8]>::len), compact);
        self.put_slice(bytes.unwrap_or_default());
    }

    /// `BYTES`, or `COMPACT_BYTES`.
    #[inline]
    pub fn put_bytes(&mut self, bytes: &[u8], compact: bool) {
        self.put_nullable_bytes(Some(bytes), compact);
    }

    /// The length of `bytes` bytes that whoever sends the frame sends at this place.
    pub fn put_external_bytes(&mut self, bytes: usize, compact: bool) {
        self.put_length(Some(bytes), compact);
        self.splices.push(self.buf.len());
        self.spliced_bytes += bytes;
    }

    /// The length of bytes or records, or the count of an array; null is `None`.
    #[inline]
    pub fn put_length(&mut self, length: Option<usize>, compact: bool) {
        let Some(length) = length else {
            if compact {
                self.put_unsigned_varint(0);
            } else {
                self.put_i32(-1);
            }
            return;
        };
        let Ok(length) = i32::try_from(length) else {
            return self.fail(EncodeError::TooLong { length });
        };
        if compact {
            self.put_unsigned_varint(length as u32 + 1);
        } else {
            self.put_i32(length);
        }
    }

    /// One tagged field: tag, length, then what `value` writes.
    pub fn put_tagged_field(&mut self, tag: u32, value: impl FnOnce(&mut Self)) {
        self.put_unsigned_varint(tag);
        let start = self.buf.len();
        value(self);
        let value_end = self.buf.len();
        self.put_unsigned_varint((value_end - start) as u32);
        // The length was written after the value, whose length nobody knew; move it to the front.
        let length_bytes = self.buf.len() - value_end;
        if let Some(field) = self.buf.get_mut(start..) {
            field.rotate_right(length_bytes);
        }
        debug_assert!(
            self.splices.last().is_none_or(|splice| *splice <= start),
            "no tagged field has external records"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;

    fn bytes(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new();
        write(&mut encoder);
        encoder.into_parts().0
    }

    #[test]
    fn varints_are_read_back() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, i32::MIN, i32::MAX] {
            let encoded = bytes(|encoder| encoder.put_varint(value));
            assert_eq!(Decoder::new(&encoded).get_varint(), Ok(value));
            let encoded = bytes(|encoder| encoder.put_unsigned_varint(value as u32));
            assert_eq!(
                Decoder::new(&encoded).get_unsigned_varint(),
                Ok(value as u32)
            );
        }
        for value in [0, -1, i64::from(i32::MAX) + 1, i64::MIN, i64::MAX] {
            let encoded = bytes(|encoder| encoder.put_varlong(value));
            assert_eq!(Decoder::new(&encoded).get_varlong(), Ok(value));
        }
    }

    #[test]
    fn a_tagged_field_carries_its_length_in_front() {
        let short = bytes(|encoder| encoder.put_tagged_field(3, |field| field.put_i16(0x0102)));
        assert_eq!(short, [3, 2, 1, 2]);
        let long = bytes(|encoder| encoder.put_tagged_field(0, |field| field.put_slice(&[9; 200])));
        assert_eq!(long[..4], [0, 0xc8, 0x01, 9]);
        assert_eq!(long.len(), 203);
    }

    #[test]
    fn external_bytes_leave_a_gap_that_counts() {
        let mut encoder = Encoder::new();
        encoder.put_external_bytes(1000, false);
        encoder.put_i8(7);
        encoder.put_external_bytes(3, true);
        assert_eq!(encoder.frame_bytes(), 4 + 1000 + 1 + 1 + 3);
        assert_eq!(
            encoder.into_parts(),
            (vec![0, 0, 3, 0xe8, 7, 4], vec![4, 6])
        );
    }

    #[test]
    fn a_string_that_is_too_long_is_told_at_the_end() {
        let mut encoder = Encoder::new();
        encoder.put_string(&"a".repeat(32_768), true);
        encoder.put_i32(1);
        assert_eq!(
            encoder.finish(),
            Err(EncodeError::TooLong { length: 32_768 })
        );
    }
}
