//! A timer with microsecond resolution.
//!
//! tokio's timers tick in milliseconds, which would add up to a millisecond of the client's own
//! lateness to every scheduled request; a timerfd in the same poll set does not.

use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::LoadError;

/// Puts a timer into the runtime's poll set.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an `OwnedFd` upholds what that asks for"
)]
fn register(timer: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// One timer; only the latest [`Timer::wait_ns`] counts.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: AsyncFd<OwnedFd>,
}

impl Timer {
    pub(crate) fn new() -> Result<Timer, LoadError> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(std::io::Error::from)
            .and_then(register)
            .map_err(LoadError::io("cannot create a timer"))?;
        Ok(Timer { timer })
    }

    /// Waits for `wait_ns` nanoseconds.
    pub(crate) async fn wait_ns(&self, wait_ns: u64) -> Result<(), LoadError> {
        // A zero would disarm the timer.
        let wait_ns = wait_ns.max(1);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let it_value = Timespec {
            tv_sec: (wait_ns / 1_000_000_000) as i64,
            tv_nsec: (wait_ns % 1_000_000_000) as i64,
        };
        let setting = Itimerspec {
            it_interval: zero,
            it_value,
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &setting)
            .map_err(std::io::Error::from)
            .map_err(LoadError::io("cannot set a timer"))?;
        loop {
            let mut ready = self
                .timer
                .readable()
                .await
                .map_err(LoadError::io("cannot wait for a timer"))?;
            let expired = ready.try_io(|timer| {
                let mut expirations = [0; 8];
                rustix::io::read(timer.get_ref(), &mut expirations).map_err(std::io::Error::from)
            });
            // An error here means that readiness was from an earlier setting: wait on.
            if let Ok(outcome) = expired {
                return outcome
                    .map(drop)
                    .map_err(LoadError::io("cannot read a timer"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn short_waits_are_kept_short_and_never_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let timer = Timer::new().unwrap();
            for wait_ns in [0, 50_000, 300_000] {
                let start = Instant::now();
                timer.wait_ns(wait_ns).await.unwrap();
                assert!(start.elapsed().as_nanos() as u64 >= wait_ns);
            }
        });
    }
}
