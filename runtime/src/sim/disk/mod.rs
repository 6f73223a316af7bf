//! The simulated disk: keeps what was synced, and loses the rest as badly as a real one may.
//!
//! *Place*: a test makes a [`Disk`], plans faults, gives it to a
//! [`Simulation`](crate::sim::Simulation), and looks at what [`Disk::crash`] or [`Disk::kill`] leaves.
//!
//! *Durability*, as pessimistic as POSIX allows:
//! - a write is durable when it was made with `DataSync`, or when a `sync_data` of its file that began
//!   after the write had ended has ended well. Otherwise each sector of 512 bytes of it
//!   is kept, lost, torn (its head is new) or spoilt (nothing of old or new is left: an un-synced
//!   overwrite endangers what was durable below it);
//! - a file's size is durable like a write: with the durable write that grew it, or by `sync_data`;
//! - a name (created, renamed, removed) is durable when its directory was synced; syncing the file is
//!   not enough. A rename survives wholly or not at all, by the sync of the directory it went to;
//! - a failed `sync_data` may drop any of what it should have made durable, and later ones say nothing of it;
//! - a kill of the process loses nothing that an ended operation did.
//!
//! *Limits*: copies share their blocks; one costs a pointer for each node and 256 KiB of file.

mod content;
mod crash;
mod faults;
mod node;
mod operations;
mod state;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::random::Random;
use crate::buffer::BLOCK_BYTES;
use content::Content;
use node::{Directory, FileNode, Node, NodeId};
use state::{ROOT, State, names};

pub use faults::{Fault, Latency, OpCounts, OpKind};
pub(crate) use operations::SimFile;

/// A disk of a simulated machine; clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Rc<RefCell<State>>,
    observer: Rc<RefCell<Option<Observer>>>,
}

/// Is shown the disk as it is within each operation.
type Observer = Box<dyn FnMut(Disk)>;

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    /// An empty disk without faults or limits.
    pub fn new() -> Self {
        Self::from_state(State::new())
    }

    fn from_state(state: State) -> Self {
        Disk {
            state: Rc::new(RefCell::new(state)),
            observer: Rc::default(),
        }
    }

    fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// The faults and delays of a run follow from its seed.
    pub(super) fn begin_run(&self, seed: u64) {
        let mut state = self.state_mut();
        assert!(
            !state.crashed,
            "this disk has no power: run on what `crash` or `kill` gives"
        );
        state.random = Random::new(seed ^ 0xD15C);
        state.end_process();
    }

    /// What the disk holds after the power failed now: a new disk, without planned faults. The same
    /// seed loses the same things.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Disk {
        Self::from_state(self.state.borrow().crash(seed))
    }

    /// What the next process finds after this one was killed now: all that ended operations did, some
    /// of what others were doing; un-synced changes are as much at risk as before.
    #[must_use]
    pub fn kill(&self) -> Disk {
        Self::from_state(self.state.borrow().kill())
    }

    /// A copy, which goes its own way.
    #[must_use]
    pub fn fork(&self) -> Disk {
        Self::from_state(self.state.borrow().fork())
    }

    /// Lets `mutations` operations that change something be handed to the disk; the power fails during
    /// the next one, and the simulation stops there. Counted from now.
    pub fn crash_after(&self, mutations: u64) {
        let mut state = self.state_mut();
        state.faults.crash_at = Some(state.faults.counts.mutations() + mutations);
    }

    /// Shows `observer` a copy of the disk in the middle of every operation that changes something, those at
    /// which [`Self::crash_after`] could stop: what `crash` or `kill` of the copy gives is what that would have
    /// left. So one run gives all its crash points. It must not use this disk.
    pub fn observe_mutations(&self, observer: impl FnMut(Disk) + 'static) {
        *self.observer.borrow_mut() = Some(Box::new(observer));
    }

    /// Lets `mutations` operations that change something be; from the next one on everything fails
    /// with EIO, reads too. Counted from now.
    pub fn break_after(&self, mutations: u64) {
        let mut state = self.state_mut();
        state.faults.broken_from = Some(state.faults.counts.mutations() + mutations);
    }

    pub(super) fn power_off(&self) {
        self.state_mut().crashed = true;
    }

    /// Operations begun so far; [`OpCounts::mutations`] is the number of crash points.
    pub fn counts(&self) -> OpCounts {
        self.state.borrow().faults.counts
    }

    /// The `number`-th operation of this kind, counted from now and from zero, suffers `fault`.
    pub fn fail_nth(&self, kind: OpKind, number: u64, fault: Fault) {
        let mut state = self.state_mut();
        let counts = state.faults.counts;
        let begun = match kind {
            OpKind::Read => counts.reads,
            OpKind::Write => counts.writes,
            OpKind::Sync => counts.syncs,
            OpKind::Metadata => counts.metadata,
            OpKind::Open => counts.opens,
        };
        state.faults.planned.insert((kind, begun + number), fault);
    }

    /// One in `cases` operations of this kind, as the run's seed says, suffers `fault`.
    ///
    /// # Panics
    /// If `cases` is zero.
    pub fn fail_one_in(&self, kind: OpKind, cases: u64, fault: Fault) {
        assert!(cases > 0, "one in how many?");
        self.state_mut().faults.one_in.insert(kind, (cases, fault));
    }

    /// Forgets planned and sown faults, damaged sectors too.
    pub fn heal(&self) {
        let mut state = self.state_mut();
        state.faults.planned.clear();
        state.faults.one_in.clear();
        state.faults.unreadable.clear();
        state.faults.crash_at = None;
        state.faults.broken_from = None;
    }

    /// Limits the space to `bytes`; ENOSPC above.
    pub fn set_capacity(&self, bytes: u64) {
        self.state_mut().capacity_blocks = bytes / BLOCK_BYTES as u64;
    }

    /// How long each operation takes.
    pub fn set_latency(&self, latency: Latency) {
        assert!(latency.min <= latency.max, "{latency:?}");
        self.state_mut().faults.latency = latency;
    }

    /// Bytes that files take up, in whole blocks.
    pub fn used_bytes(&self) -> u64 {
        self.state.borrow().used_blocks * BLOCK_BYTES as u64
    }

    /// Flips bits in every 512-byte sector that `range` of a file touches; no operation reports it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn corrupt(&self, path: &Path, range: Range<u64>) {
        let mut state = self.state_mut();
        let id = state.lookup(path).expect("a file to corrupt");
        let random = state.random.fork();
        let file = state.file_mut(id);
        // The same bits in both: it is the same sector.
        for content in [&mut file.current, &mut file.durable] {
            flip_bits(content, range.clone(), random.clone());
        }
    }

    /// Reads of `range` of a file fail with EIO until it is written again.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, path: &Path, range: Range<u64>) {
        let mut state = self.state_mut();
        let id = state.lookup(path).expect("a file to damage");
        state.faults.unreadable.push((id, range));
    }

    /// What a process would read from the file now; `None` if there is none.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let file = state.file(state.lookup(path).ok()?).ok()?;
        let content = &file.current;
        Some(content.read(0, usize::try_from(content.bytes()).ok()?))
    }

    /// Puts a durable file there, with its directories, replacing what was there.
    ///
    /// # Panics
    /// If `path` is no path for a file.
    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let mut content = Content::default();
        content.write(0, bytes);
        content.grow(bytes.len() as u64);
        let mut state = self.state_mut();
        let mut names = names(path).expect("a plain path");
        let name = names.pop().expect("a path with a name");
        let parent = names.into_iter().fold(ROOT, |parent, name| {
            let known = state
                .directory(parent)
                .expect("a directory")
                .entries
                .get(&name)
                .copied();
            known.unwrap_or_else(|| {
                let new = state.insert(Node::Directory(Directory::default()));
                put_durable_name(&mut state, parent, name, new)
            })
        });
        let id = state.insert(Node::File(FileNode::settled(content)));
        put_durable_name(&mut state, parent, name, id);
        state.count_used_blocks();
    }

    /// Files of which something may be lost in a crash; their names are another matter.
    pub fn unsynced_files(&self) -> Vec<PathBuf> {
        let mut files = self.files();
        let state = self.state.borrow();
        let settled = |path: &PathBuf| {
            let node = state.lookup(path).and_then(|id| state.file(id));
            node.is_ok_and(FileNode::is_settled)
        };
        files.retain(|path| !settled(path));
        files
    }

    /// The paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state.borrow();
        let mut files = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = todo.pop() {
            match state.directory(id) {
                Ok(directory) => {
                    let entries = directory.entries.iter();
                    todo.extend(entries.map(|(name, id)| (path.join(name), *id)));
                }
                Err(_) => files.push(path),
            }
        }
        files.sort_unstable();
        files
    }
}

fn put_durable_name(state: &mut State, parent: NodeId, name: String, id: NodeId) -> NodeId {
    let parent = state.directory_mut(parent).expect("a directory");
    parent.entries.insert(name.clone(), id);
    parent.durable.insert(name, id);
    id
}

fn flip_bits(content: &mut Content, range: Range<u64>, mut random: Random) {
    let sector = content::SECTOR_BYTES as u64;
    for at in (range.start / sector * sector..range.end).step_by(content::SECTOR_BYTES) {
        let mut bytes = content.read(at, content::SECTOR_BYTES);
        if bytes.is_empty() {
            continue;
        }
        let position = random.index(bytes.len());
        bytes[position] ^= 1 << random.below(8);
        content.write(at, &bytes);
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Disk({} files, {} bytes)",
            self.files().len(),
            self.used_bytes()
        )
    }
}
