//! Moments of sleep for a shard that goes on and on while a durable write is under way.
//!
//! ```text
//!   device ──▶ interrupt ──▶ worker of this core ──▶ flush ──▶ the same worker ──▶ completion
//! ```
//!
//! Where the device has a volatile cache and cannot write through it, the kernel ends a durable write in a worker
//! thread that is bound to the core of the device's interrupt. If a shard runs there, the scheduler lets it go on for
//! its slice (3 ms) before the worker has its turn: for as long as it takes to send a large answer, every write
//! waits. So it sleeps for an instant, and the worker is next. (`sched_yield` would do too, but gives up the rest of
//! the slice: with one other busy thread on the core, a shard that yields every 200 µs has 13 % of it. One that
//! sleeps has its half.)
//!
//! *Place*: the driver of the shard, before it enters the kernel. *Limits*: one nap in [`RUN_TIME`], while a durable
//! write is under way and the shard has not slept by itself.

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::system;
use crate::time::{self, Instant};

/// How long a shard runs without a nap while a durable write is under way.
const RUN_TIME: Duration = Duration::from_micros(200);
/// Shorter, and in a virtual machine, where setting the timer takes microseconds itself, the sleep is often over before
/// the scheduler has looked for another thread (a trace showed so; 10 µs: the worker waited for 4 ms now and then).
const NAP: Duration = Duration::from_micros(25);

/// When a shard naps.
#[derive(Debug, Default)]
pub(super) struct Naps {
    durable_writes: Cell<usize>,
    looked_at: Cell<Option<Instant>>,
    /// How often it had slept then.
    sleeps: Cell<i64>,
}

/// A durable write that is under way until this is dropped.
pub(super) struct DurableWrite(Rc<Naps>);

impl Naps {
    pub(super) fn begin_durable_write(self: &Rc<Self>) -> DurableWrite {
        if self.durable_writes.replace(self.durable_writes.get() + 1) == 0 {
            self.look();
        }
        DurableWrite(Rc::clone(self))
    }

    /// Naps if a durable write is under way and this thread has not slept for long.
    pub(super) fn nap_if_due(&self) {
        if self.durable_writes.get() == 0 {
            return;
        }
        let now = time::now();
        if let Some(looked_at) = self.looked_at.get()
            && now - looked_at < RUN_TIME
        {
            return;
        }
        let sleeps = system::sleeps();
        if sleeps == self.sleeps.get() {
            thread::sleep(NAP);
        }
        self.look();
    }

    fn look(&self) {
        self.looked_at.set(Some(time::now()));
        self.sleeps.set(system::sleeps());
    }
}

impl Drop for DurableWrite {
    fn drop(&mut self) {
        let left = self.0.durable_writes.get() - 1;
        self.0.durable_writes.set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for `time` as a shard does that never waits; answers whether it slept.
    fn has_slept_within(naps: &Naps, time: Duration) -> bool {
        let (begin, before) = (time::now(), system::sleeps());
        while time::now() - begin < time {
            naps.nap_if_due();
            if system::sleeps() > before {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_shard_that_goes_on_and_on_sleeps_while_a_durable_write_is_under_way() {
        let naps = Rc::<Naps>::default();
        assert!(!has_slept_within(&naps, 10 * RUN_TIME), "nothing waits");
        let first = naps.begin_durable_write();
        let second = naps.begin_durable_write();
        drop(first);
        // Bounded only so that a failure ends.
        assert!(has_slept_within(&naps, Duration::from_secs(10)));
        drop(second);
        assert!(!has_slept_within(&naps, 10 * RUN_TIME), "nothing waits now");
    }
}
