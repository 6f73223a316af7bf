//! The bytes of records: cut from one pool of text-like noise that compresses about two to one.

use std::sync::Arc;

/// The pool is longer than any window of a codec, so that records do not repeat within it.
const POOL_BYTES: usize = 1 << 20;
/// Distance between the starts of successive records: odd, so that they sweep the pool.
const STEP_BYTES: usize = 7_919;

/// An endless supply of record values of one size; the same in every run. Clones share the pool.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pool: Arc<[u8]>,
    record_bytes: usize,
    next: usize,
}

impl Payload {
    pub(crate) fn new(record_bytes: usize) -> Payload {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"0123456789abcdef"[(state >> 60) as usize]
        });
        let pool = noise.take(POOL_BYTES + record_bytes).collect();
        Payload {
            pool,
            record_bytes,
            next: 0,
        }
    }

    /// The next value.
    pub(crate) fn take(&mut self) -> &[u8] {
        self.next = (self.next + STEP_BYTES) % POOL_BYTES;
        &self.pool[self.next..self.next + self.record_bytes]
    }
}
