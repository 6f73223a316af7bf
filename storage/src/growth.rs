//! How fast memory that nobody has used before is taken.
//!
//! *Place*: below the chunks of the logs and the windows of the read cache: instead of growing they use memory
//! again that holds what is oldest. The kernel clears a page that is touched first, and where the machine is a
//! guest its host may have to find one: 0.3 to 3 ms a MiB on the shard's core, more than all else that is done for the
//! same bytes. A cache that grows as fast as producers write would cost that for as long as it is not full.
//! What is taken is made ready on another thread (`AppendBuf::make_ready`), which shortens appends; the time is spent all the same.
//! *Limits*: [`BURST_BYTES`] at once, then [`BYTES_PER_SECOND`].

use std::cell::Cell;

use runtime::time::{Instant, now};

/// A cache of a few GiB is full after minutes, at a few percent of a core.
const BYTES_PER_SECOND: u64 = 16 << 20;
const BURST_BYTES: u64 = 64 << 20;

/// What may be taken now.
pub(crate) struct Growth {
    spare_bytes: Cell<u64>,
    counted_to: Cell<Instant>,
}

impl Growth {
    pub(crate) fn new() -> Self {
        Self {
            spare_bytes: Cell::new(BURST_BYTES),
            counted_to: Cell::new(now()),
        }
    }

    /// Whether `bytes` may be taken; then they are.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let now = now();
        let elapsed = now - self.counted_to.replace(now);
        let earned = elapsed.as_nanos() * u128::from(BYTES_PER_SECOND) / 1_000_000_000;
        let earned = u64::try_from(earned).unwrap_or(BURST_BYTES);
        let spare = self.spare_bytes.get().saturating_add(earned);
        let spare = spare.min(BURST_BYTES);
        let left = spare.checked_sub(bytes);
        self.spare_bytes.set(left.unwrap_or(spare));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::sim::Simulation;
    use runtime::time::sleep;

    use super::*;

    #[test]
    fn after_a_burst_so_much_a_second() {
        let program = async {
            let growth = Growth::new();
            assert!(growth.take(BURST_BYTES));
            assert!(!growth.take(1));
            sleep(Duration::from_millis(500)).await;
            assert!(!growth.take(BYTES_PER_SECOND / 2 + 1));
            assert!(growth.take(BYTES_PER_SECOND / 2));
            sleep(Duration::from_hours(1)).await;
            assert!(!growth.take(BURST_BYTES + 1));
            assert!(growth.take(BURST_BYTES));
        };
        Simulation::new(1).run(program).value();
    }
}
