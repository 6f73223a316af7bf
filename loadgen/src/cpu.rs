//! CPU time of a process, from `/proc/PID/stat`.
//!
//! Source: proc(5).

use std::fs;

/// Linux reports process times in hundredths of a second to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// Positions of `utime` and `stime` behind the command's closing parenthesis.
const USER_AT: usize = 11;
const SYSTEM_AT: usize = 12;

/// Seconds of CPU that a process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl CpuTime {
    /// The CPU time of a process, `None` if it cannot be read.
    pub(crate) fn of(pid: u32) -> Option<CpuTime> {
        CpuTime::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<CpuTime> {
        // The command may contain spaces and parentheses.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let seconds = |at: usize| -> Option<f64> {
            Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND)
        };
        Some(CpuTime {
            user_s: seconds(USER_AT)?,
            system_s: seconds(SYSTEM_AT)?,
        })
    }

    /// CPU time since an earlier reading.
    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
        }
    }

    pub(crate) fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_command() {
        let stat = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 75 0 0 20 0";
        let expected = CpuTime {
            user_s: 2.5,
            system_s: 0.75,
        };
        assert_eq!(CpuTime::parse(stat), Some(expected));
        assert!(CpuTime::of(std::process::id()).is_some());
        assert_eq!(CpuTime::parse("nonsense"), None);
    }
}
