//! What one thread counts, and how threads are added up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Latencies beyond this are counted as this.
const LATENCY_MAX_NS: u64 = 600_000_000_000;
/// Three digits: percentiles are exact to a thousandth.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS);
        Latency(histogram.expect("the bounds are constants that fit"))
    }
}

impl Latency {
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.0.saturating_record(latency_ns);
    }

    fn add(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value below which `percentile` percent lie, in microseconds.
    pub(crate) fn percentile_us(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    pub(crate) fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    pub(crate) fn mean_us(&self) -> f64 {
        self.0.mean() / 1e3
    }
}

/// How often each error code was answered for a partition.
pub(crate) type ErrorCounts = BTreeMap<i16, u64>;

/// Requests of one kind inside the measurement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Records acknowledged or received.
    pub(crate) records: u64,
    /// Their bytes: values when producing, whole batches when consuming.
    pub(crate) bytes: u64,
    /// Time from when the request was due to its answer.
    pub(crate) latency: Latency,
    /// Longest latency in each second of the measurement, in nanoseconds. Empty for what is not produced.
    pub(crate) slowest_ns: Vec<u64>,
    /// Error codes, by partition answer.
    pub(crate) errors: ErrorCounts,
}

impl Flow {
    /// Counts a latency `since_ns` after the measurement began.
    pub(crate) fn record(&mut self, since_ns: u64, latency_ns: u64) {
        self.latency.record(latency_ns);
        let second = (since_ns / 1_000_000_000) as usize;
        if self.slowest_ns.len() <= second {
            self.slowest_ns.resize(second + 1, 0);
        }
        self.slowest_ns[second] = self.slowest_ns[second].max(latency_ns);
    }

    fn add(&mut self, other: &Flow) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.latency.add(&other.latency);
        let seconds = self.slowest_ns.len().max(other.slowest_ns.len());
        self.slowest_ns.resize(seconds, 0);
        for (slowest, other) in self.slowest_ns.iter_mut().zip(&other.slowest_ns) {
            *slowest = (*slowest).max(*other);
        }
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }
}

/// Everything one thread counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Produce requests.
    pub(crate) produce: Flow,
    /// Fetch requests.
    pub(crate) fetch: Flow,
    /// Time from when a record was due to when a consumer had it.
    pub(crate) end_to_end: Latency,
    /// Longest time a request was sent after it was due, because too many were unanswered.
    pub(crate) lateness_max_ns: u64,
    /// Connections that were lost and opened again.
    pub(crate) reconnects: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.produce.add(&other.produce);
        self.fetch.add(&other.fetch);
        self.end_to_end.add(&other.end_to_end);
        self.lateness_max_ns = self.lateness_max_ns.max(other.lateness_max_ns);
        self.reconnects += other.reconnects;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_each_second_is_that_of_all_threads() {
        const SECOND: u64 = 1_000_000_000;
        let (mut one, mut other) = (Flow::default(), Flow::default());
        one.record(SECOND / 2, 30);
        one.record(SECOND - 1, 20);
        other.record(2 * SECOND, 50);
        other.record(1, 25);
        one.add(&other);
        assert_eq!(one.slowest_ns, [30, 0, 50]);
        assert_eq!(one.latency.count(), 4);
    }
}
