//! What goes wrong on a disk, and when.
//!
//! *Place*: tests plan faults through [`Disk`](super::Disk); every operation asks here first.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use super::node::NodeId;

/// Operations that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// `sync_data`, and the sync inside `write_file_atomic`.
    Sync,
    /// Everything that changes names or sizes, and the sync of a directory.
    Metadata,
    /// Opening what exists: a file, or a directory that is to be synced. And asking for the space that is left.
    Open,
}

/// What an operation suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with EIO. A failed write may have written anything up to all of it; a failed sync
    /// drops some of what it should have made durable, for good, as Linux does.
    Eio,
    /// As EIO, but it says ENOSPC, and a write does nothing.
    Enospc,
    /// As ENOSPC, but it says EMFILE: the process has too many open files.
    Emfile,
    /// It succeeds and does nothing: a write that the device lost. Reads are not affected.
    Lie,
}

/// How many operations were begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Reads from files.
    pub reads: u64,
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Changes of names and sizes, and syncs of directories.
    pub metadata: u64,
    /// Files and directories opened that exist.
    pub opens: u64,
}

impl OpCounts {
    /// Those that can change what is on the disk, which [`Disk::crash_after`](super::Disk::crash_after) counts.
    pub fn mutations(&self) -> u64 {
        self.writes + self.syncs + self.metadata
    }

    fn count(&mut self, kind: OpKind) -> u64 {
        let counter = match kind {
            OpKind::Read => &mut self.reads,
            OpKind::Write => &mut self.writes,
            OpKind::Sync => &mut self.syncs,
            OpKind::Metadata => &mut self.metadata,
            OpKind::Open => &mut self.opens,
        };
        *counter += 1;
        *counter - 1
    }
}

/// The least and the most virtual time that an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// At least.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            min: Duration::from_micros(20),
            max: Duration::from_micros(400),
        }
    }
}

/// Planned and sown faults of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) counts: OpCounts,
    /// The mutation with this number, from zero, is the last, and is cut short.
    pub(super) crash_at: Option<u64>,
    /// From the mutation with this number on, everything fails.
    pub(super) broken_from: Option<u64>,
    /// The n-th operation of a kind, from zero.
    pub(super) planned: BTreeMap<(OpKind, u64), Fault>,
    /// One in so many operations of a kind fails.
    pub(super) one_in: BTreeMap<OpKind, (u64, Fault)>,
    /// Ranges that cannot be read until they are written again.
    pub(super) unreadable: Vec<(NodeId, Range<u64>)>,
    pub(super) latency: Latency,
}

/// What is to become of an operation that begins.
pub(super) struct Verdict {
    /// The power fails while it is under way.
    pub(super) crash: bool,
    pub(super) fault: Option<Fault>,
}

impl Verdict {
    /// The error that the fault stands for.
    pub(super) fn error(&self) -> Option<io::Error> {
        match self.fault {
            Some(Fault::Eio) => Some(eio()),
            Some(Fault::Enospc) => Some(enospc()),
            Some(Fault::Emfile) => Some(emfile()),
            Some(Fault::Lie) | None => None,
        }
    }
}

impl Faults {
    pub(super) fn begin(&mut self, kind: OpKind, random: &mut super::Random) -> Verdict {
        let mutations = self.counts.mutations();
        let number = self.counts.count(kind);
        let is_mutation = !matches!(kind, OpKind::Read | OpKind::Open);
        let crash = is_mutation && self.crash_at.is_some_and(|at| mutations >= at);
        let sown = self.one_in.get(&kind).copied();
        let sown = sown
            .filter(|(cases, _)| random.chance(1, *cases))
            .map(|(_, fault)| fault);
        let broken = self.broken_from.is_some_and(|from| mutations >= from);
        let broken = broken.then_some(Fault::Eio);
        let fault = broken
            .or(self.planned.get(&(kind, number)).copied())
            .or(sown);
        Verdict { crash, fault }
    }

    pub(super) fn is_unreadable(&self, node: NodeId, range: &Range<u64>) -> bool {
        let mut bad = self.unreadable.iter().filter(|(other, _)| *other == node);
        bad.any(|(_, bad)| bad.start < range.end && range.start < bad.end)
    }

    /// Writing to a bad sector makes the device put a good one in its place.
    pub(super) fn rewritten(&mut self, node: NodeId, range: &Range<u64>) {
        self.unreadable.retain(|(other, bad)| {
            *other != node || bad.start < range.start || bad.end > range.end
        });
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

pub(super) fn emfile() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}
