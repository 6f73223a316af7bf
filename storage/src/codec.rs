//! Little-endian fields of our own on-disk structures, read with checks and written to a `Vec`.
//!
//! *Place*: checkpoint tables, producer snapshots, index blocks. Reading never panics and never
//! allocates by a count before the bytes for that count are known to be there.

/// A structure ended before the field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooShort;

/// Reads fields one after the other.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        FieldReader { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], TooShort> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], TooShort> {
        self.array_ref().copied()
    }

    pub(crate) fn array_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], TooShort> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, TooShort> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn i16(&mut self) -> Result<i16, TooShort> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TooShort> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, TooShort> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TooShort> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, TooShort> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, TooShort> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of elements of at least `element_bytes` each; refused when they cannot all be there.
    pub(crate) fn count(&mut self, element_bytes: usize) -> Result<usize, TooShort> {
        let count = self.u32()? as usize;
        match count.checked_mul(element_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(TooShort),
        }
    }
}

/// Fields appended to a byte vector.
pub(crate) trait PutField {
    fn put_u8(&mut self, value: u8);
    fn put_i16(&mut self, value: i16);
    fn put_u16(&mut self, value: u16);
    fn put_i32(&mut self, value: i32);
    fn put_u32(&mut self, value: u32);
    fn put_i64(&mut self, value: i64);
    fn put_u64(&mut self, value: u64);
    /// A count that the format holds in 32 bits.
    fn put_count(&mut self, count: usize);
}

impl PutField for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_i16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("counts in memory are far below 2^32");
        self.put_u32(count);
    }
}
