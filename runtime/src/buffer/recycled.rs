//! Large allocations that were freed on this thread and wait to be used again.
//!
//! *Place*: below [`super::AppendBuf`]. A shard under load takes and frees chunks, read and receive
//! buffers of a few sizes hundreds of times a second. The allocator gives such memory back to the kernel, which
//! then clears every page of it anew: a tenth of the CPU of a produce load.
//! *Limits*: [`KEPT_BYTES_MAX`] a thread, beyond its memory budget.

/// Smaller allocations are left to the allocator, which keeps them itself.
const BYTES_MIN: usize = 64 << 10;
/// Most that a thread keeps.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Freed memory by its capacity, oldest first.
pub(super) struct Recycled<T> {
    kept: Vec<(usize, T)>,
    kept_bytes: usize,
}

impl<T> Recycled<T> {
    /// Keeps nothing yet.
    pub(super) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            kept_bytes: 0,
        }
    }

    /// Memory of exactly `capacity` bytes; the newest, whose lines may still be in the CPU's cache.
    pub(super) fn take(&mut self, capacity: usize) -> Option<T> {
        if capacity < BYTES_MIN {
            return None;
        }
        let place = self
            .kept
            .iter()
            .rposition(|(bytes, _)| *bytes == capacity)?;
        self.kept_bytes -= capacity;
        Some(self.kept.remove(place).1)
    }

    /// Keeps memory that nobody uses any more, in place of what was kept longest.
    pub(super) fn put(&mut self, memory: T, capacity: usize) {
        if !(BYTES_MIN..=KEPT_BYTES_MAX).contains(&capacity) {
            return;
        }
        let mut surplus = 0;
        while self.kept_bytes + capacity > KEPT_BYTES_MAX {
            self.kept_bytes -= self.kept[surplus].0;
            surplus += 1;
        }
        self.kept.drain(..surplus);
        self.kept.push((capacity, memory));
        self.kept_bytes += capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_by_its_size_and_newest_first() {
        let mut recycled = Recycled::new();
        recycled.put(1, 1 << 20);
        recycled.put(2, 1 << 20);
        recycled.put(3, 2 << 20);
        assert_eq!(recycled.take(1 << 20), Some(2));
        assert_eq!(recycled.take(1 << 20), Some(1));
        assert_eq!(recycled.take(1 << 20), None);
        assert_eq!(recycled.take(2 << 20), Some(3));
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let mut recycled = Recycled::new();
        for address in 1..=20 {
            recycled.put(address, 1 << 20);
        }
        assert_eq!(recycled.kept_bytes, KEPT_BYTES_MAX);
        assert_eq!(recycled.kept[0].1, 5, "the oldest went first");
        recycled.put(21, KEPT_BYTES_MAX + 1);
        recycled.put(22, BYTES_MIN - 1);
        assert_eq!(recycled.kept.len(), 16, "neither is kept");
    }
}
