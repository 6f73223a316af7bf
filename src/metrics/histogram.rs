//! A latency histogram with fixed bounds: cheap to record, additive over shards.

use std::time::Duration;

/// Upper bounds in microseconds: steps of about 1.5 from 50 µs to 30 s, then the rest.
pub(super) const BOUNDS_US: [u64; 28] = [
    50, 75, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000,
    20_000, 30_000, 50_000, 75_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Counts by bound, their sum and their number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len()],
    count: u64,
    sum_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// From counts by powers of two of microseconds: bucket `n` holds durations below 2ⁿ µs.
    pub fn from_log2(counts: &[u64], sum_us: u64) -> Self {
        let mut histogram = Self {
            sum_us,
            ..Self::default()
        };
        for (power, count) in counts.iter().enumerate() {
            let us = 1_u64 << power.min(63);
            let index = BOUNDS_US.partition_point(|bound| *bound < us);
            if let Some(bucket) = histogram.counts.get_mut(index) {
                *bucket += count;
            }
            histogram.count += count;
        }
        histogram
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// (upper bound in seconds, count within that bucket), the last bound being infinite.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let within: u64 = self.counts.iter().sum();
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let mut buckets: Vec<_> = bounds.zip(self.counts).collect();
        buckets.push((f64::MAX, self.count - within));
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_below_its_bound_and_the_rest_in_the_last() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(50));
        histogram.record(Duration::from_micros(51));
        histogram.record(Duration::from_mins(1));
        let buckets = histogram.buckets();
        assert_eq!(buckets[0], (50e-6, 1));
        assert_eq!(buckets[1], (75e-6, 1));
        assert_eq!(buckets.last(), Some(&(f64::MAX, 1)));
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!(twice.count(), 6);
    }
}
