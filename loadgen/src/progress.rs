//! The line that shows each second how the run goes, if standard error is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;

use crate::run::Run;

const INTERVAL_NS: u64 = 1_000_000_000;

/// Shows rates since the last line.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    is_shown: bool,
    shown_ns: u64,
    records: u64,
    bytes: u64,
    requests: u64,
}

impl ProgressLine {
    pub(crate) fn new(is_json: bool) -> ProgressLine {
        let is_shown = !is_json && std::io::stderr().is_terminal();
        ProgressLine {
            is_shown,
            shown_ns: 0,
            records: 0,
            bytes: 0,
            requests: 0,
        }
    }

    /// Prints a line if a second has passed.
    pub(crate) fn show(&mut self, run: &Run, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.shown_ns);
        if !self.is_shown || since_ns < INTERVAL_NS {
            return;
        }
        let progress = &run.progress;
        let records = progress.records.load(Relaxed);
        let bytes = progress.bytes.load(Relaxed);
        let requests = progress.requests.load(Relaxed);
        let seconds = since_ns as f64 / 1e9;
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let elapsed_s = now_ns.saturating_sub(run.start_ns()) / INTERVAL_NS;
        let phase = if now_ns < run.measure_ns() {
            "warm-up"
        } else {
            ""
        };
        // Failing to show progress is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{elapsed_s:>4} s  {:>10.0} records/s  {:>8.1} MiB/s  {:>8.0} requests/s  {} errors  {phase}",
            rate(records, self.records),
            rate(bytes, self.bytes) / f64::from(1 << 20),
            rate(requests, self.requests),
            progress.errors.load(Relaxed),
        );
        (self.shown_ns, self.records, self.bytes, self.requests) =
            (now_ns, records, bytes, requests);
    }

    /// Clears the line.
    pub(crate) fn finish(&self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
