//! Shard threads: one per data core, each with its own executor, ring and memory.
//!
//! *Place*: `node` starts them once per process; they run until their main futures are done.
//! *Core*: pinned from the process's affinity mask (never by absolute numbers: a cpuset may leave
//! out core 0) where there are CPUs enough ([`Pinning`]). More shards than allowed cores run unpinned.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;

use thiserror::Error;

use crate::real::{self, system};

/// A CPU, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub usize);

/// A shard's index, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub usize);

impl ShardId {
    /// The index.
    pub fn index(self) -> usize {
        self.0
    }
}

/// From how many allowed CPUs on [`Pinning::Auto`] pins. On fewer there is none that interrupts, kernel threads, control
/// and clients could be kept off, and the scheduler, which sees them, places a shard better (docs/performance.md).
const PINNED_CPUS_MIN: usize = 4;

/// Whether shards stay on one CPU each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Where the process may use four CPUs or more.
    #[default]
    Auto,
    /// Wherever there is a CPU for each shard.
    On,
    /// The scheduler places them, among the CPUs that the process may use.
    Off,
}

/// Which CPU each shard runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    shards: Vec<Option<CpuId>>,
}

/// CPUs of the process before any thread was pinned.
static PROCESS_CPUS: OnceLock<Vec<CpuId>> = OnceLock::new();

thread_local! {
    static CURRENT_SHARD: Cell<Option<(ShardId, usize)>> = const { Cell::new(None) };
}

/// The CPUs this process may use, as it was when first asked (at start, before shards are pinned).
pub(crate) fn process_cpus() -> &'static [CpuId] {
    PROCESS_CPUS.get_or_init(|| system::allowed_cpus().unwrap_or_default())
}

/// The shard this thread runs, if it does.
pub fn current_shard() -> Option<ShardId> {
    CURRENT_SHARD.get().map(|(shard, _)| shard)
}

/// Keeps `files` open until no operation of this shard's files is in flight any more, however the process ends:
/// who holds a lock on one of them knows then that nothing of a killed process is still on its way to the disk.
/// Once for each shard.
///
/// # Errors
/// What the kernel says; `EBUSY` the second time.
///
/// # Panics
/// Outside of a shard's thread.
pub fn hold_open_for_operations(files: &[File]) -> io::Result<()> {
    let descriptors: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    real::shard::current().hold(&descriptors)
}

/// How many shards this thread's group has, if it is a shard.
pub fn shard_count() -> Option<usize> {
    CURRENT_SHARD.get().map(|(_, count)| count)
}

impl Topology {
    /// The given number of shards, or one per allowed CPU but the last: that is left to the control thread, to the
    /// kernel's work for disks and sockets, and on a small machine to clients. With two CPUs one shard does as much
    /// as two, at less CPU a record.
    ///
    /// # Panics
    /// If the number is zero.
    pub fn detect(shards: Option<usize>, pinning: Pinning) -> Self {
        Self::assign(process_cpus(), shards, pinning)
    }

    /// Shards that are not pinned.
    pub fn unpinned(shards: usize) -> Self {
        assert!(shards > 0, "a node without shards");
        Self {
            shards: vec![None; shards],
        }
    }

    fn assign(cpus: &[CpuId], shards: Option<usize>, pinning: Pinning) -> Self {
        let count = shards.unwrap_or(cpus.len().saturating_sub(1).max(1));
        assert!(count > 0, "a node without shards");
        let wants_pinned = match pinning {
            Pinning::Auto => cpus.len() >= PINNED_CPUS_MIN,
            Pinning::On => true,
            Pinning::Off => false,
        };
        if !wants_pinned || count > cpus.len() {
            return Self::unpinned(count);
        }
        Self {
            shards: cpus.iter().take(count).copied().map(Some).collect(),
        }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The CPU of each shard; `None` where it is not pinned.
    pub fn cpus(&self) -> &[Option<CpuId>] {
        &self.shards
    }
}

/// Why shards did not start or did not end well.
#[derive(Debug, Error)]
pub enum ShardError {
    /// Its thread, executor or ring could not be made.
    #[error("shard {} could not start: {source}", shard.0)]
    Start {
        /// Which shard.
        shard: ShardId,
        /// What the system said.
        source: io::Error,
    },
    /// Its main future panicked.
    #[error("shard {} panicked", shard.0)]
    Panicked {
        /// Which shard.
        shard: ShardId,
    },
}

/// The running shard threads. Dropping it leaves them running.
#[derive(Debug)]
pub struct ShardThreads<T> {
    threads: Vec<(ShardId, JoinHandle<Option<T>>)>,
}

/// Starts a thread per shard; each runs the future that `make` makes on it. Returns when every
/// shard has its executor and ring.
///
/// # Errors
/// If any shard cannot start. The others are left to `make`'s futures; the caller exits.
pub fn start_shards<F, Fut, T>(topology: &Topology, make: F) -> Result<ShardThreads<T>, ShardError>
where
    F: Fn(ShardId) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let _ = process_cpus(); // remembered before any thread is pinned
    // The kernel clears a huge page when it is touched first: that stops a shard for 0.2 to 6 ms.
    system::forbid_huge_pages().map_err(|source| ShardError::Start {
        shard: ShardId(0),
        source,
    })?;
    let make = Arc::new(make);
    let count = topology.shard_count();
    let (started, starts) = mpsc::channel();
    let mut threads = Vec::with_capacity(count);
    for (index, cpu) in topology.shards.iter().copied().enumerate() {
        let shard = ShardId(index);
        let (make, started) = (Arc::clone(&make), started.clone());
        let body = move || run_one(shard, count, cpu, &started, move || make(shard));
        let thread = std::thread::Builder::new()
            .name(format!("streambus-{index}"))
            .spawn(body);
        threads.push((
            shard,
            thread.map_err(|source| ShardError::Start { shard, source })?,
        ));
    }
    drop(started);
    for _ in 0..count {
        // A closed channel means that a thread died without a word.
        starts
            .recv()
            .unwrap_or(Err(ShardError::Panicked { shard: ShardId(0) }))?;
    }
    Ok(ShardThreads { threads })
}

/// The body of a shard's thread. `None` if the shard could not start or its main future panicked.
fn run_one<Fut: Future<Output = T> + 'static, T: 'static>(
    shard: ShardId,
    count: usize,
    cpu: Option<CpuId>,
    started: &mpsc::Sender<Result<(), ShardError>>,
    make: impl FnOnce() -> Fut + 'static,
) -> Option<T> {
    CURRENT_SHARD.set(Some((shard, count)));
    let running = started.clone();
    let main = async move {
        let _ = running.send(Ok(()));
        drop(running);
        make().await
    };
    let pinned = cpu.map_or(Ok(()), |cpu| system::set_affinity(&[cpu]));
    match pinned.and_then(|()| real::run_shard(main)) {
        Ok(output) => output.ok(),
        Err(source) => {
            let _ = started.send(Err(ShardError::Start { shard, source }));
            None
        }
    }
}

impl<T> ShardThreads<T> {
    /// Waits for all shards; their outputs in the order of shards.
    ///
    /// # Errors
    /// The first shard that failed, after all have ended.
    pub fn join(self) -> Result<Vec<T>, ShardError> {
        let results: Vec<Result<T, ShardError>> = self
            .threads
            .into_iter()
            .map(|(shard, thread)| match thread.join() {
                Ok(Some(output)) => Ok(output),
                Ok(None) | Err(_) => Err(ShardError::Panicked { shard }),
            })
            .collect();
        results.into_iter().collect()
    }

    /// Whether any shard has ended.
    pub fn any_finished(&self) -> bool {
        self.threads.iter().any(|(_, thread)| thread.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_the_allowed_cpus_in_order() {
        let cpus = [CpuId(3), CpuId(5), CpuId(7)];
        let check = |shards, expected: &[Option<CpuId>]| {
            assert_eq!(
                Topology::assign(&cpus, shards, Pinning::On).cpus(),
                expected
            );
        };
        check(None, &[Some(CpuId(3)), Some(CpuId(5))]);
        check(Some(3), &[Some(CpuId(3)), Some(CpuId(5)), Some(CpuId(7))]);
        check(Some(4), &[None; 4]);
        let one = Topology::assign(&cpus[..1], None, Pinning::On);
        assert_eq!(one.cpus(), &[Some(CpuId(3))]);
    }

    #[test]
    fn shards_are_pinned_where_there_are_cpus_enough() {
        let cpus: Vec<CpuId> = (0..4).map(CpuId).collect();
        let is_pinned = |cpus: &[CpuId], pinning| {
            let topology = Topology::assign(cpus, Some(1), pinning);
            topology.cpus()[0].is_some()
        };
        assert!(is_pinned(&cpus, Pinning::Auto));
        assert!(!is_pinned(&cpus[..3], Pinning::Auto));
        assert!(is_pinned(&cpus[..1], Pinning::On));
        assert!(!is_pinned(&cpus, Pinning::Off));
    }
}
