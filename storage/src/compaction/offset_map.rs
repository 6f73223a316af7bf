//! The newest offset of every key in the dirty part of a log, in bounded memory.
//!
//! *Place*: filled by a cleaning round's first pass, asked by its second. *Invariants*: **I1** keys are
//! known by 128 bits of two keyed hashes drawn afresh for each map: nobody can choose keys that are
//! taken for one another, and by chance it takes some 2⁶⁴ of them. **I2** an offset below
//! [`OffsetMap::end`] is that of the newest record of its key below there, or is not in the map.
//! *Limits*: 24 bytes a key, nine tenths of the memory given. Memory is taken a page at a time, with the first key
//! that belongs there: all of it at once would stop the shard for as long as the kernel clears it (10 to 40 ms for
//! 16 MiB). *Source*: the table of Kafka's cleaner
//! (`log.cleaner.dedupe.buffer.size`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Two hashes, and the offset plus one: zeros are a free slot.
type Slot = [u64; 3];
/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();
/// Slots of a page (48 KiB).
const PAGE_SLOTS: usize = 2048;

/// Keys and their newest offsets.
pub(crate) struct OffsetMap {
    /// A page without a key is empty.
    pages: Vec<Box<[Slot]>>,
    slots: usize,
    hashes: [RandomState; 2],
    keys: usize,
    keys_max: usize,
    end: i64,
}

impl OffsetMap {
    /// Bytes of a map with room for `keys`.
    pub(crate) fn bytes_for(keys: u64) -> u64 {
        keys.saturating_mul(10)
            .div_ceil(9)
            .max(2)
            .saturating_mul(SLOT_BYTES as u64)
    }

    /// An empty map in `bytes` of memory, for records from offset `begin` on.
    pub(crate) fn new(bytes: usize, begin: i64) -> Self {
        let slots = (bytes / SLOT_BYTES).max(2);
        OffsetMap {
            pages: vec![Box::default(); slots.div_ceil(PAGE_SLOTS)],
            slots,
            hashes: [RandomState::new(), RandomState::new()],
            keys: 0,
            keys_max: (slots * 9 / 10).max(1),
            end: begin,
        }
    }

    /// The offset through which (exclusive) records are in the map.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Notes that records below `offset` have been seen.
    pub(crate) fn advance(&mut self, offset: i64) {
        debug_assert!(self.end <= offset, "offsets ascend");
        self.end = offset;
    }

    /// Notes the record of `key` at `offset`, above all noted before; `false` when there is no
    /// room for another key.
    pub(crate) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        assert!(offset >= self.end, "{offset} comes after {}", self.end);
        let hashes = self.hash(key);
        let at = self.find(hashes);
        if self.slot(at)[2] == 0 {
            if self.keys == self.keys_max {
                return false;
            }
            self.keys += 1;
        }
        *self.slot_mut(at) = [hashes[0], hashes[1], offset as u64 + 1];
        self.end = offset + 1;
        true
    }

    /// Offset of the newest record of `key`.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<i64> {
        let slot = self.slot(self.find(self.hash(key)));
        slot[2].checked_sub(1).map(|offset| offset as i64)
    }

    fn slot(&self, at: usize) -> Slot {
        let page = &self.pages[at / PAGE_SLOTS];
        page.get(at % PAGE_SLOTS).copied().unwrap_or_default()
    }

    fn slot_mut(&mut self, at: usize) -> &mut Slot {
        let number = at / PAGE_SLOTS;
        let page = &mut self.pages[number];
        if page.is_empty() {
            let slots = (self.slots - number * PAGE_SLOTS).min(PAGE_SLOTS);
            *page = vec![Slot::default(); slots].into_boxed_slice();
        }
        &mut page[at % PAGE_SLOTS]
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashes[0].hash_one(key), self.hashes[1].hash_one(key)]
    }

    /// The slot with these hashes, or the free one where they belong. There always is one (I2 of
    /// the limits: a tenth is free).
    fn find(&self, hashes: [u64; 2]) -> usize {
        let count = self.slots;
        let mut at = ((u128::from(hashes[0]) * count as u128) >> 64) as usize;
        loop {
            let slot = self.slot(at);
            if slot[2] == 0 || slot[..2] == hashes {
                return at;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_newest_offset_of_a_key_is_found() {
        let mut map = OffsetMap::new(3 * PAGE_SLOTS * SLOT_BYTES + 100, 0);
        let mut expected = HashMap::new();
        for offset in 0..30_000_i64 {
            let key = format!("key {}", offset * 7919 % 5500);
            assert!(map.put(key.as_bytes(), offset));
            expected.insert(key, offset);
        }
        assert_eq!((map.end(), map.keys), (30_000, 5500));
        for (key, offset) in expected {
            assert_eq!(map.newest(key.as_bytes()), Some(offset), "{key}");
        }
        assert_eq!(map.newest(b"another"), None);
        assert_eq!(map.newest(b""), None);
    }

    #[test]
    fn a_map_is_as_large_as_its_keys_need() {
        for keys in [0, 1, 8, 9, 10, 1000, 123_456] {
            let map = OffsetMap::new(OffsetMap::bytes_for(keys) as usize, 0);
            assert!(map.keys_max as u64 >= keys, "{keys}");
            assert!(map.keys_max as u64 <= keys + 1, "{keys}");
            assert!(
                map.pages.iter().all(|page| page.is_empty()),
                "no memory before the first key"
            );
        }
        assert!(OffsetMap::bytes_for(u64::MAX) > 1 << 60);
    }

    #[test]
    fn a_full_map_takes_known_keys_only_and_says_where_it_ended() {
        let mut map = OffsetMap::new(20 * SLOT_BYTES, 5);
        assert_eq!(map.end(), 5);
        for key in 0..18_u8 {
            assert!(map.put(&[key], 10 + i64::from(key)));
        }
        assert!(!map.put(b"one more", 28));
        assert_eq!(map.end(), 28, "what found no room was not seen");
        assert!(map.put(&[3], 28));
        assert_eq!(map.newest(&[3]), Some(28));
        assert_eq!(map.newest(b"one more"), None);
    }
}
