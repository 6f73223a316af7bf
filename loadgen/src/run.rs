//! What all threads of a run share: its clock, its phases, the counters of the progress line.
//!
//! Ordering: the phases are set between two barriers, before any work starts; the counters are
//! only for display.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counters since the start, warm-up included.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) requests: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) errors: AtomicU64,
}

impl Progress {
    pub(crate) fn add(&self, requests: u64, records: u64, bytes: u64) {
        self.requests.fetch_add(requests, Relaxed);
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn add_error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }
}

/// One run. Times are nanoseconds since `epoch`.
#[derive(Debug)]
pub(crate) struct Run {
    epoch: Instant,
    start_ns: AtomicU64,
    measure_ns: AtomicU64,
    end_ns: AtomicU64,
    is_stopped: AtomicBool,
    /// When the last job had done its work, for runs that end by themselves.
    done_ns: AtomicU64,
    pub(crate) progress: Progress,
}

impl Run {
    pub(crate) fn new() -> Run {
        Run {
            epoch: Instant::now(),
            start_ns: AtomicU64::new(0),
            measure_ns: AtomicU64::new(0),
            end_ns: AtomicU64::new(u64::MAX),
            is_stopped: AtomicBool::new(false),
            done_ns: AtomicU64::new(0),
            progress: Progress::default(),
        }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Starts the clock's phases now: warm-up, then measurement.
    pub(crate) fn start(&self, warmup: Duration, duration: Duration) {
        let start_ns = self.now_ns();
        let measure_ns = start_ns.saturating_add(nanos(warmup));
        self.start_ns.store(start_ns, Relaxed);
        self.measure_ns.store(measure_ns, Relaxed);
        self.end_ns
            .store(measure_ns.saturating_add(nanos(duration)), Relaxed);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Relaxed)
    }

    pub(crate) fn measure_ns(&self) -> u64 {
        self.measure_ns.load(Relaxed)
    }

    pub(crate) fn end_ns(&self) -> u64 {
        self.end_ns.load(Relaxed)
    }

    /// Ends the run early, at the user's wish.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        self.end_ns.fetch_min(self.now_ns(), Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Relaxed)
    }

    /// Whether an event at `at_ns` belongs to the measurement.
    pub(crate) fn is_measured(&self, at_ns: u64) -> bool {
        at_ns >= self.measure_ns() && at_ns < self.end_ns()
    }

    /// Notes that a job has done its work.
    pub(crate) fn note_done(&self) {
        self.done_ns.fetch_max(self.now_ns(), Relaxed);
    }

    pub(crate) fn done_ns(&self) -> u64 {
        self.done_ns.load(Relaxed)
    }
}

/// A duration in nanoseconds; endless ones are as long as the clock runs.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
