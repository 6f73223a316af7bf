//! Log compaction: of every key in a compacted topic the newest record stays, in its place.
//!
//! *Place*: [`Cleaner`] is asked by the broker's background task, again and again, to clean the log
//! that needs it most; one round at a time. *Core*: the logs' shard. *Invariants*: **I1** the newest
//! record of a key is never lost, offsets and order never change ([`filter`]). **I2** appends and
//! reads never wait for a round. **I3** a log that cannot be cleaned is set aside alone and tried
//! again, later each time. *Limits*: `cleaner_map_bytes_max` for keys, `cleaner_io_bytes_per_second`
//! of reads and writes, one round. *Source*: Kafka's log cleaner; `docs/storage-format.md`,
//! "Compaction".

mod cleanable;
mod filter;
mod offset_map;
mod output;
mod pace;
mod round;
mod set_aside;
mod source;
mod transactions;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use runtime::time::wall_clock_ms;

use crate::engine::Engine;
use crate::log_id::LogId;
use crate::partition_log::{Log, PartitionLog};
use crate::tasks::{Task, TaskKind};
use cleanable::{Cleanable, cleanable};
pub(crate) use filter::marker_of;
use pace::Pace;
use round::{Ended, Round};
use set_aside::SetAside;
pub(crate) use transactions::Outcomes;

/// A compacted log that may be cleaned, and the offset below which its records are there for good
/// (its high watermark).
pub type Candidate = (PartitionLog, i64);

/// What came of asking the cleaner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// No log needs it.
    Nothing,
    /// A round of this log was finished; there may be more to do, here or elsewhere.
    Log(LogId),
    /// The log changed, or there was no memory, or it could not be read: later.
    NotNow(LogId),
}

/// Figures of the cleaner for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanerCounts {
    /// Rounds that were finished.
    pub rounds: u64,
    /// Rounds that failed.
    pub failures: u64,
    /// Bytes read, both passes.
    pub bytes_read: u64,
    /// Bytes of rewritten segments.
    pub bytes_written: u64,
    /// Bytes that are gone for good.
    pub bytes_dropped: u64,
    /// Segments rewritten.
    pub segments: u64,
    /// Records without a key that were dropped.
    pub records_without_key: u64,
    /// Logs that are set aside now.
    pub logs_set_aside: u64,
    /// When the last round ended, ms since 1970; 0: there was none.
    pub last_round_ms: i64,
}

impl CleanerCounts {
    /// Adds what another cleaner has done.
    pub fn add(&mut self, other: &CleanerCounts) {
        self.rounds += other.rounds;
        self.failures += other.failures;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.bytes_dropped += other.bytes_dropped;
        self.segments += other.segments;
        self.records_without_key += other.records_without_key;
        self.logs_set_aside += other.logs_set_aside;
        self.last_round_ms = self.last_round_ms.max(other.last_round_ms);
    }
}

/// What one round did.
#[derive(Default)]
struct Counted {
    segments: u64,
    bytes_dropped: u64,
    records_without_key: u64,
}

#[derive(Default)]
struct Counts {
    counts: Cell<CleanerCounts>,
}

impl Counts {
    fn change(&self, change: impl FnOnce(&mut CleanerCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn note_read(&self, bytes: u64) {
        self.change(|counts| counts.bytes_read += bytes);
    }

    fn note_written(&self, bytes: u64) {
        self.change(|counts| counts.bytes_written += bytes);
    }
}

/// The right to clean a log, given back when dropped.
struct Turn {
    log: Rc<Log>,
    /// The round came to its end, and left no files that the log does not know.
    is_finished: bool,
    _task: Task,
}

impl Turn {
    fn begin(engine: &Rc<Engine>, log: &Rc<Log>) -> Self {
        log.is_in_cleaning.set(true);
        Turn {
            log: Rc::clone(log),
            is_finished: false,
            _task: Task::begin(engine, TaskKind::Cleaning),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.log.is_in_cleaning.set(false);
        if !self.is_finished {
            self.log.is_tidied.set(false);
        }
    }
}

/// Cleans the compacted logs of one shard.
pub(crate) struct Cleaner {
    engine: Rc<Engine>,
    pace: Pace,
    counts: Counts,
    set_aside: RefCell<SetAside>,
}

impl Cleaner {
    pub(crate) fn new(engine: &Rc<Engine>) -> Self {
        Cleaner {
            engine: Rc::clone(engine),
            pace: Pace::new(engine.config.cleaner_io_bytes_per_second),
            counts: Counts::default(),
            set_aside: RefCell::default(),
        }
    }

    pub(crate) fn counts(&self) -> CleanerCounts {
        CleanerCounts {
            logs_set_aside: self.set_aside.borrow().len() as u64,
            ..self.counts.counts.get()
        }
    }

    fn is_stopping(&self) -> bool {
        self.engine.stops_cleaning.get() || self.engine.is_offline()
    }

    /// Cleans the candidate of which the greatest part is dirty, if any is dirty enough.
    pub(crate) async fn clean_next(&self, candidates: impl Iterator<Item = Candidate>) -> Cleaned {
        let is_busy = self.engine.tasks.count(TaskKind::Cleaning) > 0 || self.is_stopping();
        let now_ms = wall_clock_ms();
        let Some((log, plan)) = self.dirtiest(candidates, now_ms).filter(|_| !is_busy) else {
            return Cleaned::Nothing;
        };
        let config = Rc::clone(&log.config.borrow());
        let Some(compaction) = config.compaction else {
            return Cleaned::Nothing;
        };
        let mut turn = Turn::begin(&self.engine, &log);
        tidy(&log).await;
        let round = Round::new(self, &log, &compaction, plan, now_ms);
        let ended = round.run().await;
        turn.is_finished = ended.is_ok();
        drop(turn);
        self.note_end(&log, ended)
    }

    fn dirtiest(
        &self,
        candidates: impl Iterator<Item = Candidate>,
        now_ms: i64,
    ) -> Option<(Rc<Log>, Cleanable)> {
        let mut set_aside = self.set_aside.borrow_mut();
        let mut dirtiest: Option<(Rc<Log>, Cleanable)> = None;
        let mut seen = HashSet::new();
        for (log, stable_end) in candidates {
            let log = log.into_log();
            if set_aside.is_known(log.incarnation) {
                seen.insert(log.incarnation);
            }
            let config = Rc::clone(&log.config.borrow());
            let Some(config) = &config.compaction else {
                continue;
            };
            let is_free =
                log.check_changeable().is_ok() && !set_aside.is_waiting(log.incarnation, now_ms);
            let found = cleanable(&log.state.borrow(), config, stable_end, now_ms);
            let found = found.filter(|found| is_free && found.is_due(config));
            let Some(found) = found else { continue };
            let is_dirtier = dirtiest
                .as_ref()
                .is_none_or(|(_, other)| found.dirty_ratio() > other.dirty_ratio());
            if is_dirtier {
                dirtiest = Some((log, found));
            }
        }
        set_aside.retain(|incarnation| seen.contains(&incarnation));
        dirtiest
    }

    fn note_end(&self, log: &Rc<Log>, ended: Result<Counted, Ended>) -> Cleaned {
        match ended {
            Ok(counted) => {
                self.set_aside.borrow_mut().forget(log.incarnation);
                self.counts.change(|counts| {
                    counts.rounds += 1;
                    counts.segments += counted.segments;
                    counts.bytes_dropped += counted.bytes_dropped;
                    counts.records_without_key += counted.records_without_key;
                    counts.last_round_ms = wall_clock_ms();
                });
                if counted.records_without_key > 0 {
                    let records = counted.records_without_key;
                    tracing::warn!(log = %log.id, records, "compaction dropped records without a key");
                }
                tracing::debug!(log = %log.id, segments = counted.segments, bytes_dropped = counted.bytes_dropped, "log cleaned");
                Cleaned::Log(log.id)
            }
            Err(Ended::Changed) => Cleaned::NotNow(log.id),
            Err(Ended::NoMemory) => {
                tracing::debug!(log = %log.id, "no memory for a compaction now");
                Cleaned::NotNow(log.id)
            }
            Err(Ended::NoSpace) => {
                tracing::warn!(log = %log.id, "no space for a compaction now");
                Cleaned::NotNow(log.id)
            }
            Err(Ended::Failed(error)) => {
                self.counts.change(|counts| counts.failures += 1);
                let mut set_aside = self.set_aside.borrow_mut();
                let retry_in_ms = set_aside.note_failure(log.incarnation, wall_clock_ms());
                tracing::warn!(log = %log.id, %error, retry_in_ms, "the log cannot be compacted and is set aside");
                Cleaned::NotNow(log.id)
            }
        }
    }
}

/// Removes files of segments that were rewritten and never came to use: the process was stopped, or the
/// round given up.
async fn tidy(log: &Rc<Log>) {
    if log.is_tidied.replace(true) {
        return;
    }
    let removed = async {
        // What a swap has replaced is needed until its record is durable.
        log.engine.committed(log.engine.last_sequence()).await?;
        log.remove_unknown_segments().await
    };
    match removed.await {
        Ok(0) => {}
        Ok(files) => {
            tracing::info!(log = %log.id, files, "removed what a compaction left");
        }
        Err(error) => {
            tracing::warn!(log = %log.id, %error, "what a compaction left stays for now");
            log.is_tidied.set(false);
        }
    }
}
