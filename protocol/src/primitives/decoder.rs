//! Reads Kafka's primitive types from one frame, borrowing from it.
//!
//! Place: one for each frame; every message's `decode` pulls its fields from it in order.
//! Invariants: I1 no input makes it panic. I2 arrays that are being decoded may use at most
//! [`MEMORY_FACTOR`] bytes of memory for each byte of the frame, and each array at most
//! [`MAX_ELEMENTS`] elements. I3 strings, bytes and records are borrowed, never copied.
//! Source: Kafka protocol guide, "Protocol Primitive Types"; KIP-482.

use super::error::DecodeError;
use super::uuid::Uuid;

/// Most elements in one array.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// Most tagged fields in one structure.
pub const MAX_TAGGED_FIELDS: usize = 10_000;

/// Most bytes in one string; longer ones cannot be said in the versions with 16-bit lengths.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// Memory for decoded arrays, in bytes for each byte of the frame; twice that while one of them grows.
///
/// The densest message (an `OffsetFetch` of groups without names) takes 27 for what it really has;
/// a count that lies could claim 80 for each byte that is left.
pub const MEMORY_FACTOR: usize = 32;

/// Memory that even the smallest frame may use, so that [`MEMORY_FACTOR`] is no matter there.
const MEMORY_MIN_BYTES: usize = 4096;

/// Elements that are reserved at once even if the frame's length does not warrant it.
const RESERVED_ELEMENTS: usize = 1024;

/// Reads one frame from front to back.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// Position in the frame at which `rest` ends; tells positions in errors.
    end: usize,
    memory_limit: usize,
    memory_left: usize,
}

impl<'a> Decoder<'a> {
    /// Reads `frame` from its start.
    pub fn new(frame: &'a [u8]) -> Self {
        let memory = frame
            .len()
            .saturating_mul(MEMORY_FACTOR)
            .saturating_add(MEMORY_MIN_BYTES);
        Self {
            rest: frame,
            end: frame.len(),
            memory_limit: memory,
            memory_left: memory,
        }
    }

    /// Bytes that are not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Position in the frame of the next byte.
    pub fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Checks that everything was read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::TrailingBytes {
            at: self.position(),
            bytes: self.rest.len(),
        })
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::Truncated {
            at: self.position(),
            needed,
            remaining: self.rest.len(),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        Ok(*head)
    }

    /// The next `bytes` bytes.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(bytes) else {
            return Err(self.truncated(bytes));
        };
        self.rest = rest;
        Ok(head)
    }

    /// `BOOLEAN`: every byte but zero is true.
    #[inline]
    pub fn get_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.get_i8()? != 0)
    }

    /// `INT8`.
    #[inline]
    pub fn get_i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// `INT16`.
    #[inline]
    pub fn get_i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// `INT32`.
    #[inline]
    pub fn get_i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// `INT64`.
    #[inline]
    pub fn get_i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// `UUID`.
    #[inline]
    pub fn get_uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.array()?))
    }

    /// `UNSIGNED_VARINT`: seven bits a byte, lowest first, at most 32 bits.
    #[inline]
    pub fn get_unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        // Almost every length is below 128.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(byte));
        }
        let value = self.unsigned_varint_bits(32)?;
        Ok(value as u32) // At most 32 bits.
    }

    /// `VARINT`: zigzag, at most 32 bits.
    pub fn get_varint(&mut self) -> Result<i32, DecodeError> {
        let value = self.get_unsigned_varint()?;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// `VARLONG`: zigzag, at most 64 bits.
    pub fn get_varlong(&mut self) -> Result<i64, DecodeError> {
        let value = self.unsigned_varint_bits(64)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn unsigned_varint_bits(&mut self, bits: u32) -> Result<u64, DecodeError> {
        let at = self.position();
        let mut value = 0;
        let mut shift = 0;
        loop {
            let [byte] = self.array()?;
            let low = u64::from(byte & 0x7f);
            // The last byte may carry only what is left of the type.
            if shift >= bits || (bits - shift < 7 && low >> (bits - shift) != 0) {
                return Err(DecodeError::VarintTooLong { at });
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A length with null: `INT16` (below zero is null), or compact (one more than the length).
    #[inline]
    fn string_length(&mut self, compact: bool) -> Result<Option<usize>, DecodeError> {
        let at = self.position();
        if compact {
            return Ok((self.get_unsigned_varint()? as usize).checked_sub(1));
        }
        match self.get_i16()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength {
                    at,
                    length: length.into(),
                }),
        }
    }

    /// As [`Self::string_length`] for what has 32-bit lengths: bytes, records, arrays.
    #[inline]
    fn length(&mut self, compact: bool) -> Result<Option<usize>, DecodeError> {
        let at = self.position();
        if compact {
            return Ok((self.get_unsigned_varint()? as usize).checked_sub(1));
        }
        match self.get_i32()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength { at, length }),
        }
    }

    /// `NULLABLE_STRING`, or `COMPACT_NULLABLE_STRING`.
    #[inline]
    pub fn get_nullable_string(&mut self, compact: bool) -> Result<Option<&'a str>, DecodeError> {
        let Some(bytes) = self.string_length(compact)? else {
            return Ok(None);
        };
        let at = self.position();
        if bytes > MAX_STRING_BYTES {
            return Err(DecodeError::StringTooLong { at, bytes });
        }
        let text = std::str::from_utf8(self.take(bytes)?);
        text.map(Some).map_err(|_| DecodeError::InvalidUtf8 { at })
    }

    /// `STRING`, or `COMPACT_STRING`.
    #[inline]
    pub fn get_string(&mut self, compact: bool) -> Result<&'a str, DecodeError> {
        let at = self.position();
        self.get_nullable_string(compact)?
            .ok_or(DecodeError::UnexpectedNull { at })
    }

    /// `NULLABLE_BYTES` or `RECORDS`, or their compact forms.
    #[inline]
    pub fn get_nullable_bytes(&mut self, compact: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(compact)? {
            Some(bytes) => self.take(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// `BYTES`, or `COMPACT_BYTES`.
    #[inline]
    pub fn get_bytes(&mut self, compact: bool) -> Result<&'a [u8], DecodeError> {
        let at = self.position();
        self.get_nullable_bytes(compact)?
            .ok_or(DecodeError::UnexpectedNull { at })
    }

    /// The count of an `ARRAY` or `COMPACT_ARRAY`, checked against the frame and the limits; null
    /// is `None`.
    ///
    /// `element_bytes` is the size of a decoded element in memory, charged to the frame's memory.
    #[inline]
    pub fn get_array_count(
        &mut self,
        compact: bool,
        element_bytes: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let at = self.position();
        let Some(count) = self.length(compact)? else {
            return Ok(None);
        };
        // Every element takes at least one byte.
        let limit = self.rest.len().min(MAX_ELEMENTS);
        if count > limit {
            return Err(DecodeError::TooManyElements { at, count, limit });
        }
        match self
            .memory_left
            .checked_sub(count.saturating_mul(element_bytes))
        {
            Some(left) => self.memory_left = left,
            None => {
                return Err(DecodeError::TooMuchMemory {
                    at,
                    limit: self.memory_limit,
                });
            }
        }
        Ok(Some(count))
    }

    /// An empty vector with room for as many of `count` elements as the frame makes likely.
    #[inline]
    pub(crate) fn vec_for<T>(&self, count: usize) -> Vec<T> {
        let likely = self.rest.len() / size_of::<T>().max(1);
        Vec::with_capacity(count.min(likely.max(RESERVED_ELEMENTS)))
    }

    /// Appends one of `count` elements; a vector that must grow never grows beyond `count`.
    #[inline]
    pub(crate) fn push<T>(elements: &mut Vec<T>, count: usize, element: T) {
        if elements.len() == elements.capacity() {
            elements.reserve_exact((count - elements.len()).min(elements.len()));
        }
        elements.push(element);
    }

    /// Reads the tagged fields at the end of a structure: `field` is called with each tag and a
    /// decoder of that field's bytes, and says whether it knows the tag. Unknown ones are skipped.
    pub fn get_tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Decoder<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let at = self.position();
        let count = self.get_unsigned_varint()? as usize;
        if count > MAX_TAGGED_FIELDS {
            return Err(DecodeError::TooManyTaggedFields { at, count });
        }
        for _ in 0..count {
            let tag = self.get_unsigned_varint()?;
            let bytes = self.get_unsigned_varint()? as usize;
            let start = self.position();
            let mut inner = Decoder {
                rest: self.take(bytes)?,
                end: start + bytes,
                memory_limit: self.memory_limit,
                memory_left: self.memory_left,
            };
            if field(tag, &mut inner)? {
                self.memory_left = inner.memory_left;
                inner.finish()?;
            }
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a structure that has none of its own.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(());
        }
        self.get_tagged_fields(|_, _| Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_take_exactly_their_bits() {
        let unsigned = |bytes: &[u8]| Decoder::new(bytes).get_unsigned_varint();
        assert_eq!(unsigned(&[0x7f]), Ok(127));
        assert_eq!(unsigned(&[0x80, 0x01]), Ok(128));
        assert_eq!(unsigned(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        let too_long = Err(DecodeError::VarintTooLong { at: 0 });
        assert_eq!(unsigned(&[0xff, 0xff, 0xff, 0xff, 0x1f]), too_long);
        assert_eq!(unsigned(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), too_long);
        assert!(matches!(
            unsigned(&[0x80]),
            Err(DecodeError::Truncated { .. })
        ));
        let long = |bytes: &[u8]| Decoder::new(bytes).get_varlong();
        let mut min = [0xff; 10];
        min[9] = 0x01;
        assert_eq!(long(&min), Ok(i64::MIN));
        min[9] = 0x02;
        assert_eq!(long(&min), Err(DecodeError::VarintTooLong { at: 0 }));
        assert_eq!(Decoder::new(&[0x01]).get_varint(), Ok(-1));
        assert_eq!(
            Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).get_varint(),
            Ok(i32::MIN)
        );
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        fn string(bytes: &[u8], compact: bool) -> Result<&str, DecodeError> {
            Decoder::new(bytes).get_string(compact)
        }
        assert_eq!(string(b"\0\x02ab", false), Ok("ab"));
        assert_eq!(string(b"\x03ab", true), Ok("ab"));
        assert!(matches!(
            string(b"\0\x03ab", false),
            Err(DecodeError::Truncated { at: 2, .. })
        ));
        assert_eq!(
            string(b"\xff\xff", false),
            Err(DecodeError::UnexpectedNull { at: 0 })
        );
        assert_eq!(
            string(b"\xff\xfe", false),
            Err(DecodeError::NegativeLength { at: 0, length: -2 })
        );
        assert_eq!(
            string(b"\0\x01\xff", false),
            Err(DecodeError::InvalidUtf8 { at: 2 })
        );
        let long = [&[0x81, 0x80, 0x02][..], &vec![b'a'; 32_768]].concat();
        assert_eq!(
            string(&long, true),
            Err(DecodeError::StringTooLong {
                at: 3,
                bytes: 32_768
            })
        );
    }

    #[test]
    fn arrays_are_bounded_by_the_frame_the_limit_and_memory() {
        let count = |bytes: &[u8], size| Decoder::new(bytes).get_array_count(false, size);
        assert_eq!(count(b"\xff\xff\xff\xff", 8), Ok(None));
        assert_eq!(count(b"\0\0\0\x02ab", 8), Ok(Some(2)));
        assert!(matches!(
            count(b"\0\0\0\x03ab", 8),
            Err(DecodeError::TooManyElements {
                at: 0,
                count: 3,
                limit: 2
            })
        ));
        let mut many = vec![0; 2_000_000];
        many[..4].copy_from_slice(&1_000_001_i32.to_be_bytes());
        assert!(matches!(
            count(&many, 1),
            Err(DecodeError::TooManyElements { .. })
        ));
        many[..4].copy_from_slice(&1_000_000_i32.to_be_bytes());
        assert_eq!(count(&many, 64), Ok(Some(1_000_000)));
        assert!(matches!(
            count(&many, 65),
            Err(DecodeError::TooMuchMemory { .. })
        ));
    }

    #[test]
    fn tagged_fields_are_skipped_counted_and_measured() {
        let mut decoder = Decoder::new(&[2, 7, 1, 0xaa, 9, 0, 0x55]);
        decoder.skip_tagged_fields().unwrap();
        assert_eq!(decoder.rest(), [0x55]);
        let too_many = [0x91, 0x4e]; // 10,001
        assert!(matches!(
            Decoder::new(&too_many).skip_tagged_fields(),
            Err(DecodeError::TooManyTaggedFields { count: 10_001, .. })
        ));
        let known = |bytes: &'static [u8]| {
            Decoder::new(bytes).get_tagged_fields(|_, field| field.get_i8().map(|_| true))
        };
        assert_eq!(known(&[1, 0, 1, 5]), Ok(()));
        assert_eq!(
            known(&[1, 0, 2, 5, 5]),
            Err(DecodeError::TrailingBytes { at: 4, bytes: 1 })
        );
        assert!(matches!(
            known(&[1, 0, 0, 5]),
            Err(DecodeError::Truncated { .. })
        ));
    }
}
