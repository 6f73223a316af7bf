//! Holds the cleaner to its bytes per second.
//!
//! *Place*: asked after every read and write of a cleaning round. *Limits*: a burst of one second's
//! bytes after a pause.

use std::cell::Cell;
use std::time::Duration;

use runtime::task::yield_now;
use runtime::time::{Instant, now, sleep};

/// Longest sleep before it is looked again whether the round goes on.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// What was not used for longer than this is forgotten.
const BURST: Duration = Duration::from_secs(1);

/// A rate of I/O.
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When everything spent so far is paid for.
    paid_at: Cell<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Pace {
            bytes_per_second,
            paid_at: Cell::new(None),
        }
    }

    /// Lets others run, and waits until `bytes` are paid for or `is_over`.
    pub(super) async fn spend(&self, bytes: u64, is_over: impl Fn() -> bool) {
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let time = now();
        let earliest = Instant::from_nanos(time.as_nanos().saturating_sub(BURST.as_nanos() as u64));
        let paid_at = self.paid_at.get().map_or(earliest, |at| at.max(earliest)) + price;
        self.paid_at.set(Some(paid_at));
        yield_now().await;
        while !is_over() {
            let left = paid_at - now();
            if left.is_zero() {
                return;
            }
            sleep(left.min(SLEEP_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::sim::Simulation;

    use super::*;

    #[test]
    fn bytes_take_their_time_and_an_end_is_noticed() {
        let took = Simulation::new(1).run(async {
            let pace = Pace::new(1000);
            let begun = now();
            for _ in 0..10 {
                pace.spend(500, || false).await;
            }
            let paced = begun.elapsed();
            pace.spend(1_000_000, || true).await;
            (paced, begun.elapsed())
        });
        let (paced, all) = took.value();
        // Five seconds' worth, less the burst.
        assert!(
            paced >= Duration::from_secs(4) && paced < Duration::from_secs(6),
            "{paced:?}"
        );
        assert!(all < Duration::from_secs(6), "{all:?}");
    }
}
