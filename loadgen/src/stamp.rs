//! The mark in an end-to-end record: which run it belongs to and when it was due.

/// Bytes of a stamp at the front of a value.
pub(crate) const STAMP_BYTES: usize = 16;

/// Identity of a run; records of earlier runs in the same topics carry another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    run_id: u64,
}

impl Stamp {
    /// A stamp for a run that starts now.
    pub(crate) fn new() -> Stamp {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Stamp {
            run_id: since.as_nanos() as u64,
        }
    }

    /// Writes the stamp over the front of `value`.
    pub(crate) fn write(self, due_ns: u64, value: &mut [u8]) {
        assert!(value.len() >= STAMP_BYTES, "records too small for a stamp");
        value[..8].copy_from_slice(&self.run_id.to_be_bytes());
        value[8..STAMP_BYTES].copy_from_slice(&due_ns.to_be_bytes());
    }

    /// When the record was due, if it is one of this run.
    pub(crate) fn read(self, value: &[u8]) -> Option<u64> {
        let (run_id, rest) = value.split_first_chunk::<8>()?;
        let due_ns = rest.first_chunk::<8>()?;
        (u64::from_be_bytes(*run_id) == self.run_id).then(|| u64::from_be_bytes(*due_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_of_the_same_run_are_read() {
        let stamp = Stamp { run_id: 5 };
        let mut value = [9; 20];
        stamp.write(77, &mut value);
        assert_eq!(stamp.read(&value), Some(77));
        assert_eq!(Stamp { run_id: 6 }.read(&value), None);
        assert_eq!(stamp.read(&value[..15]), None);
    }
}
