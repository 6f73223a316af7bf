//! When requests are due: on a fixed schedule, or whenever there is room.
//!
//! Invariants: a schedule never waits for the broker; request k is due at `first + k × interval`
//! whatever happened before, so that lateness counts as latency (no coordinated omission).

/// When one connection's requests are due, in nanoseconds of the run's clock.
#[derive(Debug, Clone)]
pub(crate) enum Pace {
    /// As soon as there is room.
    Unlimited,
    /// On a schedule.
    Scheduled {
        /// When the first is due.
        first_ns: u64,
        /// Time between two.
        interval_ns: f64,
        /// Requests taken so far.
        taken: u64,
    },
}

impl Pace {
    /// One connection's part of a rate of `records_per_second`, `lane` of `lanes`; the lanes are
    /// evenly out of step.
    pub(crate) fn for_lane(
        records_per_second: Option<f64>,
        batch_records: u32,
        lane: usize,
        lanes: usize,
        start_ns: u64,
    ) -> Pace {
        let Some(rate) = records_per_second else {
            return Pace::Unlimited;
        };
        let all_interval_ns = f64::from(batch_records) * 1e9 / rate;
        Pace::Scheduled {
            first_ns: start_ns + (all_interval_ns * lane as f64) as u64,
            interval_ns: all_interval_ns * lanes as f64,
            taken: 0,
        }
    }

    /// When the next request is due.
    pub(crate) fn next_ns(&self, now_ns: u64) -> u64 {
        match self {
            Pace::Unlimited => now_ns,
            Pace::Scheduled {
                first_ns,
                interval_ns,
                taken,
            } => first_ns + (interval_ns * *taken as f64) as u64,
        }
    }

    /// Takes the next request if it is due; returns when it was.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns(now_ns);
        if due_ns > now_ns {
            return None;
        }
        if let Pace::Scheduled { taken, .. } = self {
            *taken += 1;
        }
        Some(due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_does_not_move_the_schedule() {
        let mut pace = Pace::for_lane(Some(1000.0), 1, 0, 1, 500);
        assert_eq!(pace.take(499), None);
        assert_eq!(pace.take(500), Some(500));
        assert_eq!(pace.take(500), None);
        // The sender was held up for three intervals: all three are due at once, at their own times.
        let late = 500 + 3_200_000;
        let due: Vec<_> = std::iter::from_fn(|| pace.take(late)).collect();
        assert_eq!(due, [1_000_500, 2_000_500, 3_000_500]);
        assert_eq!(pace.next_ns(late), 4_000_500);
    }

    #[test]
    fn lanes_share_the_rate_out_of_step() {
        let mut due: Vec<u64> = (0..4)
            .flat_map(|lane| {
                let mut pace = Pace::for_lane(Some(8000.0), 2, lane, 4, 0);
                std::iter::from_fn(move || pace.take(999_999))
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 250_000, 500_000, 750_000]);
    }

    #[test]
    fn unlimited_is_always_due() {
        assert_eq!(Pace::for_lane(None, 1, 3, 4, 0).take(7), Some(7));
    }
}
