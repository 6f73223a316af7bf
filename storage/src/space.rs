//! Space on the data directory's file system: an append is admitted only while its segment can take
//! it later, so that the journal never accepts what cannot be written behind.
//!
//! *Place*: asked by every append; measured by the write-behind. *Invariants*: **I1** bytes admitted
//! since a measurement, plus those that were dirty then, are at most what was free then less the
//! reserve. The reserve is for checkpoints, journal files and whatever else shares the file system.
//! *Limits*: `reserve_bytes`; measured at most once a second.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use runtime::dir;
use runtime::time::{Instant, now};

use crate::error::StorageError;

/// Least time between two measurements.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// What may still be admitted.
pub(crate) struct Space {
    reserve_bytes: u64,
    free_bytes: Cell<u64>,
    admissible_bytes: Cell<u64>,
    measured: Cell<Option<Instant>>,
}

impl Space {
    pub(crate) fn new(reserve_bytes: u64) -> Self {
        let nothing = || Cell::new(0);
        Space {
            reserve_bytes,
            free_bytes: nothing(),
            admissible_bytes: nothing(),
            measured: Cell::new(None),
        }
    }

    /// Whether `bytes` may be appended.
    ///
    /// # Errors
    /// [`StorageError::SpaceExhausted`].
    pub(crate) fn check(&self, bytes: u64) -> Result<(), StorageError> {
        if bytes <= self.admissible_bytes.get() {
            return Ok(());
        }
        Err(StorageError::SpaceExhausted {
            free_bytes: self.free_bytes.get(),
            reserve_bytes: self.reserve_bytes,
        })
    }

    /// Takes `bytes` that were appended off what may be.
    pub(crate) fn take(&self, bytes: u64) {
        self.admissible_bytes
            .set(self.admissible_bytes.get().saturating_sub(bytes));
    }

    /// Whether nothing much is left: then deletions elsewhere have to be noticed.
    pub(crate) fn is_short(&self) -> bool {
        self.admissible_bytes.get() < self.reserve_bytes
    }

    /// The greatest step by which a segment's space should be allocated ahead: a small part of what is
    /// free, so that many logs together do not take it all.
    pub(crate) fn allocate_step_max(&self) -> u64 {
        self.free_bytes.get() / 256
    }

    /// Measures again if the last time is long ago. `dirty_bytes` are in memory only.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub(crate) async fn measure(
        &self,
        data_dir: &Path,
        dirty_bytes: impl Fn() -> u64,
    ) -> Result<(), StorageError> {
        if self
            .measured
            .get()
            .is_some_and(|measured| measured.elapsed() < MEASURE_INTERVAL)
        {
            return Ok(());
        }
        self.measured.set(Some(now()));
        let free = dir::free_bytes(data_dir).await;
        let free = free.map_err(|e| StorageError::io("measure free space of", data_dir, e))?;
        self.free_bytes.set(free);
        self.admissible_bytes
            .set(free.saturating_sub(self.reserve_bytes + dirty_bytes()));
        Ok(())
    }
}
