//! Space on the data directory's file system: an append is admitted only while its segment can take
//! it later, and long before that it is told that little is left.
//!
//! ```text
//!   Normal ──▶ Warn ──▶ Throttle ──▶ Refuse      by what is free, each at a setting of its own; or
//!                                                because an append needs more than may be admitted
//!      ◀────────◀───────────◀───────────         back when a quarter more than that is free again
//! ```
//!
//! *Place*: asked by every append; measured by the write-behind. *Invariants*: **I1** bytes admitted
//! since a measurement, plus those that were dirty then, are at most what was free then less the
//! reserve, over all shards: each admits half of its share. The reserve is for checkpoints, journal files,
//! commits of consumers, and whatever else shares the file system. **I2** where the disk turned out to
//! be full all the same, nothing is admitted until a write has found space again; that is tried once
//! between two measurements.
//! *Limits*: `warn_bytes`, `throttle_bytes`, `reserve_bytes`, each at most a part of the file system;
//! measured at most once a second, sooner only when what was admitted is half used up.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::dir::{self, DiskSpace};
use runtime::time::{Instant, now};

use crate::config::StorageConfig;
use crate::error::StorageError;

/// Least time between two measurements, and before a write that found no space is tried again.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// The same when an append waits for a new share.
const MEASURE_INTERVAL_WANTED: Duration = Duration::from_millis(10);
/// While appends are paced, what is left above the reserve lasts for so long at least.
const PACED_SECONDS: u64 = 60;
/// Slowest pace of a shard, in bytes a second.
const PACE_MIN: u64 = 1 << 20;
/// Longest wait of one append; clients take longer ones for a broker that hangs.
const PACE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How full the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceStage {
    /// There is enough.
    #[default]
    Normal,
    /// Somebody should look after it.
    Warn,
    /// Appends are paced.
    Throttle,
    /// Appends are refused; everything else goes on from the reserve.
    Refuse,
}

/// Bytes that must be free in a stage; less is the next one.
#[derive(Clone, Copy, Debug)]
struct Thresholds {
    warn: u64,
    throttle: u64,
    reserve: u64,
}

impl Thresholds {
    /// As set; on a small disk the part of it that makes sense for all of them.
    fn new(config: &StorageConfig, total_bytes: u64) -> Self {
        Thresholds {
            warn: config.warn_bytes.min(total_bytes / 5),
            throttle: config.throttle_bytes.min(total_bytes / 10),
            reserve: config.reserve_bytes.min(total_bytes / 20),
        }
    }

    /// The stage when `left` bytes are left. One that was reached is left only when there is a quarter
    /// more than it takes to reach it, so that it does not flap.
    fn stage(&self, left: u64, before: SpaceStage) -> SpaceStage {
        let is_below = |threshold: u64, stage: SpaceStage| {
            let margin = if before >= stage { threshold / 4 } else { 0 };
            left < threshold + margin
        };
        if is_below(self.reserve, SpaceStage::Refuse) {
            SpaceStage::Refuse
        } else if is_below(self.throttle, SpaceStage::Throttle) {
            SpaceStage::Throttle
        } else if is_below(self.warn, SpaceStage::Warn) {
            SpaceStage::Warn
        } else {
            SpaceStage::Normal
        }
    }
}

/// What may still be admitted.
pub(crate) struct Space {
    config: StorageConfig,
    data_dir: PathBuf,
    /// Only one of the shards says what all of them see.
    tells: bool,
    disk: Cell<DiskSpace>,
    stage: Cell<SpaceStage>,
    admissible_bytes: Cell<u64>,
    /// The same at the last measurement.
    admitted_bytes: Cell<u64>,
    /// Nothing was admitted since the last measurement.
    is_fresh: Cell<bool>,
    /// An append waits for a measurement.
    is_wanted: Cell<bool>,
    measured: Cell<Option<Instant>>,
    /// The last write that needed space found none.
    is_out: Cell<bool>,
    /// There was a measurement since then.
    may_write: Cell<bool>,
    /// When the next paced append may be made.
    next_turn: RefCell<Option<Instant>>,
}

impl Space {
    pub(crate) fn new(config: &StorageConfig, shard: u32, data_dir: &Path) -> Self {
        Space {
            config: config.clone(),
            data_dir: data_dir.to_path_buf(),
            tells: shard == 0,
            disk: Cell::default(),
            stage: Cell::default(),
            admissible_bytes: Cell::new(0),
            admitted_bytes: Cell::new(0),
            is_fresh: Cell::new(false),
            is_wanted: Cell::new(false),
            measured: Cell::new(None),
            is_out: Cell::new(false),
            may_write: Cell::new(true),
            next_turn: RefCell::new(None),
        }
    }

    /// Whether `bytes` may be appended.
    ///
    /// # Errors
    /// [`StorageError::SpaceExhausted`]; [`StorageError::NoRoom`]: it will be known after the next
    /// measurement, for which the write-behind has to be woken.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), StorageError> {
        if bytes <= self.admissible_bytes.get() {
            return Ok(());
        }
        if self.stage.get() < SpaceStage::Refuse && !self.is_fresh.get() {
            self.is_wanted.set(true);
            return Err(StorageError::NoRoom);
        }
        self.admissible_bytes.set(0);
        self.enter(SpaceStage::Refuse);
        Err(self.exhausted())
    }

    /// Whether `bytes` may be written that nobody waits for.
    pub(crate) fn has(&self, bytes: u64) -> bool {
        bytes <= self.admissible_bytes.get()
    }

    pub(crate) fn exhausted(&self) -> StorageError {
        StorageError::SpaceExhausted {
            free_bytes: self.disk.get().free_bytes,
            reserve_bytes: self.thresholds().reserve,
        }
    }

    /// Takes `bytes` that were appended off what may be.
    pub(crate) fn take(&self, bytes: u64) {
        self.is_fresh.set(false);
        let rest = self.admissible_bytes.get().saturating_sub(bytes);
        self.admissible_bytes.set(rest);
        // Measured again before an append has to wait for it.
        if rest < self.admitted_bytes.get() / 2 {
            self.is_wanted.set(true);
        }
    }

    /// A write found no space: what was measured was wrong, or is by now.
    pub(crate) fn note_out(&self, error: &StorageError) {
        if !self.is_out.replace(true) {
            tracing::warn!(%error, "the disk is full; tried again every second");
        }
        self.admissible_bytes.set(0);
        self.is_fresh.set(true);
        // Measured and tried again when the interval is over, and not before.
        self.measured.set(Some(now()));
        self.may_write.set(false);
        self.enter(SpaceStage::Refuse);
    }

    /// A write lacked open files or memory: tried again after the next measurement. Appends go on as long as
    /// there is room in the journal.
    pub(crate) fn note_short(&self, error: &StorageError) {
        tracing::warn!(%error, "too few open files or too little memory; tried again in a second");
        self.measured.set(Some(now()));
        self.is_wanted.set(false);
        self.may_write.set(false);
    }

    /// A write found space, or there is nothing left to write.
    pub(crate) fn note_written(&self) {
        if self.is_out.replace(false) {
            self.is_wanted.set(true);
        }
    }

    /// Whether the last write that needed space found none.
    pub(crate) fn is_out(&self) -> bool {
        self.is_out.get()
    }

    /// Whether what needs space may be tried: not when it was just now, in vain.
    pub(crate) fn may_write(&self) -> bool {
        self.may_write.get()
    }

    pub(crate) fn stage(&self) -> SpaceStage {
        self.stage.get()
    }

    pub(crate) fn disk(&self) -> DiskSpace {
        self.disk.get()
    }

    /// Something was deleted: who is slowed down or refused wants to know what is free now.
    pub(crate) fn note_freed(&self) {
        if self.stage.get() >= SpaceStage::Throttle {
            self.is_wanted.set(true);
        }
    }

    /// After how long it should be measured again, if that must be soon.
    pub(crate) fn next_measurement(&self) -> Option<Duration> {
        let is_short = self.stage.get() >= SpaceStage::Throttle || self.is_out.get();
        if self.is_wanted.get() && !self.is_out.get() {
            Some(MEASURE_INTERVAL_WANTED)
        } else {
            (is_short || !self.may_write.get()).then_some(MEASURE_INTERVAL)
        }
    }

    /// The greatest step by which a segment's space should be allocated ahead: a small part of what is
    /// free, so that many logs together do not take it all.
    pub(crate) fn allocate_step_max(&self) -> u64 {
        self.disk.get().free_bytes / 256
    }

    /// How long an append of `bytes` has to wait for its turn: in the throttle stage the rate is what
    /// would use up the rest in a minute, so it falls as the rest does, and never ends at once.
    pub(crate) fn pace(&self, bytes: u64) -> Duration {
        if self.stage.get() != SpaceStage::Throttle {
            return Duration::ZERO;
        }
        let rate = (self.admissible_bytes.get() / PACED_SECONDS).max(PACE_MIN);
        let now = now();
        let mut next_turn = self.next_turn.borrow_mut();
        let turn = next_turn.map_or(now, |turn| turn.max(now));
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
        *next_turn = Some((turn + takes).min(now + PACE_WAIT_MAX));
        turn - now
    }

    /// Measures again if the last time is long ago. `dirty_bytes` are in memory only. Answers whether
    /// it did.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub(crate) async fn measure(
        &self,
        dirty_bytes: impl Fn() -> u64,
    ) -> Result<bool, StorageError> {
        let data_dir = &self.data_dir;
        let is_wanted = self.is_wanted.get() && !self.is_out.get();
        let interval = if is_wanted {
            MEASURE_INTERVAL_WANTED
        } else {
            MEASURE_INTERVAL
        };
        let is_recent = |measured: Instant| measured.elapsed() < interval;
        if self.measured.get().is_some_and(is_recent) {
            return Ok(false);
        }
        self.measured.set(Some(now()));
        let disk = dir::disk_space(data_dir).await;
        let disk = disk.map_err(|e| StorageError::io("measure free space of", data_dir, e))?;
        self.note_measured(disk, dirty_bytes());
        Ok(true)
    }

    fn note_measured(&self, disk: DiskSpace, dirty_bytes: u64) {
        self.disk.set(disk);
        self.may_write.set(true);
        self.is_wanted.set(false);
        self.is_fresh.set(true);
        // The others may have as much in memory as this shard.
        let shards = u64::from(self.config.shards.max(1));
        let left = disk.free_bytes.saturating_sub(dirty_bytes * shards);
        if !self.is_out.get() {
            self.enter(self.thresholds().stage(left, self.stage.get()));
        }
        // Half of this shard's share: however fast appends come, no stage is jumped over.
        let admitted = match self.stage.get() {
            SpaceStage::Refuse => 0,
            _ => left.saturating_sub(self.thresholds().reserve) / shards / 2,
        };
        self.admitted_bytes.set(admitted);
        self.admissible_bytes.set(admitted);
    }

    fn thresholds(&self) -> Thresholds {
        Thresholds::new(&self.config, self.disk.get().total_bytes)
    }

    fn enter(&self, stage: SpaceStage) {
        let before = self.stage.replace(stage);
        if before == stage || !self.tells {
            return;
        }
        let free_bytes = self.disk.get().free_bytes;
        let directory = self.data_dir.display();
        let Thresholds {
            warn,
            throttle,
            reserve,
        } = self.thresholds();
        match stage {
            SpaceStage::Normal => {
                tracing::info!(%directory, free_bytes, "the disk has enough space again");
            }
            SpaceStage::Warn => tracing::warn!(
                %directory,
                free_bytes,
                warn_bytes = warn,
                "the disk fills up: appends are slowed down below {throttle} bytes"
            ),
            SpaceStage::Throttle => tracing::warn!(
                %directory,
                free_bytes,
                throttle_bytes = throttle,
                "the disk is nearly full: appends are slowed down, and refused below {reserve} bytes"
            ),
            SpaceStage::Refuse => tracing::error!(
                %directory,
                free_bytes,
                reserve_bytes = reserve,
                "the disk is full: appends are refused; reads, deletions and commits go on"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn thresholds(total_bytes: u64) -> Thresholds {
        let config = StorageConfig {
            warn_bytes: 100 * MIB,
            throttle_bytes: 40 * MIB,
            reserve_bytes: 20 * MIB,
            ..StorageConfig::default()
        };
        Thresholds::new(&config, total_bytes)
    }

    #[test]
    fn a_stage_is_left_only_with_a_quarter_more_than_it_takes_to_reach_it() {
        let thresholds = thresholds(u64::MAX);
        let check = |left: u64, before, expected| {
            assert_eq!(thresholds.stage(left * MIB, before), expected, "{left} MiB");
        };
        check(100, SpaceStage::Normal, SpaceStage::Normal);
        check(99, SpaceStage::Normal, SpaceStage::Warn);
        check(124, SpaceStage::Warn, SpaceStage::Warn);
        check(125, SpaceStage::Warn, SpaceStage::Normal);
        check(39, SpaceStage::Warn, SpaceStage::Throttle);
        check(49, SpaceStage::Throttle, SpaceStage::Throttle);
        check(50, SpaceStage::Throttle, SpaceStage::Warn);
        check(0, SpaceStage::Normal, SpaceStage::Refuse);
        check(24, SpaceStage::Refuse, SpaceStage::Refuse);
        check(25, SpaceStage::Refuse, SpaceStage::Throttle);
        check(1000, SpaceStage::Refuse, SpaceStage::Normal);
    }

    /// Appends that outrun every measurement, and the write-behind.
    #[test]
    fn no_stage_is_jumped_over() {
        let config = StorageConfig {
            shards: 2,
            ..StorageConfig::default()
        };
        let space = Space::new(&config, 1, Path::new("/d"));
        let disk = DiskSpace {
            free_bytes: 100 * MIB,
            total_bytes: 100 * MIB,
        };
        let (mut dirty, mut seen) = (0, vec![SpaceStage::Normal]);
        while space.stage() < SpaceStage::Refuse {
            space.note_measured(disk, dirty);
            if seen.last() != Some(&space.stage()) {
                seen.push(space.stage());
            }
            while space.check(60_000).is_ok() {
                space.take(60_000);
                dirty += 60_000;
            }
        }
        let before = [SpaceStage::Normal, SpaceStage::Warn, SpaceStage::Throttle];
        assert_eq!(seen, before);
        assert!(dirty < 95 * MIB / 2);
    }

    #[test]
    fn a_small_disk_has_room_for_every_stage() {
        let Thresholds {
            warn,
            throttle,
            reserve,
        } = thresholds(100 * MIB);
        assert_eq!((warn, throttle, reserve), (20 * MIB, 10 * MIB, 5 * MIB));
    }
}
