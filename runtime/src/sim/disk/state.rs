//! Nodes, names and operations in flight: what a disk is made of, and what completed operations do.
//!
//! *Invariants*: **I1** every node is reachable by a name, now or after a crash, or is open.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use super::faults::{Faults, emfile, enospc};
use super::node::{ChangeKind, Directory, FileNode, NameChange, Node, NodeId};
use super::{Fault, Random};
use crate::buffer::BLOCK_BYTES;
use crate::dir::DirEntry;
use crate::file::Durability;

pub(super) const ROOT: NodeId = 0;

/// A change of a file that was handed to the kernel and has not ended.
#[derive(Clone)]
pub(super) struct InFlight {
    pub(super) node: NodeId,
    pub(super) kind: ChangeKind,
    pub(super) durability: Durability,
}

/// Everything about a disk.
#[derive(Clone)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(super) next_id: u64,
    pub(super) name_changes: Vec<NameChange>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    /// Open handles by node.
    pub(super) handles: BTreeMap<NodeId, usize>,
    /// Open files whose last name is gone.
    pub(super) unnamed: BTreeSet<NodeId>,
    /// Names that went away since unreachable nodes were last looked for.
    removals: usize,
    pub(super) used_blocks: u64,
    pub(super) capacity_blocks: u64,
    pub(super) faults: Faults,
    pub(super) random: Random,
    /// The power has failed: nothing changes any more.
    pub(super) crashed: bool,
}

impl State {
    pub(super) fn new() -> Self {
        let root = Arc::new(Node::Directory(Directory::default()));
        State {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_id: ROOT + 1,
            name_changes: Vec::new(),
            in_flight: BTreeMap::new(),
            handles: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            removals: 0,
            used_blocks: 0,
            capacity_blocks: u64::MAX,
            faults: Faults::default(),
            random: Random::new(0),
            crashed: false,
        }
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        let id = self.fresh_id();
        self.nodes.insert(id, Arc::new(node));
        id
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&id).map(Arc::as_ref) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> &mut FileNode {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::File(file)) => file,
            Some(Node::Directory(_)) | None => panic!("node {id} is not a file"),
        }
    }

    pub(super) fn directory(&self, id: NodeId) -> io::Result<&Directory> {
        match self.nodes.get(&id).map(Arc::as_ref) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::Directory(directory)) => Some(directory),
            Some(Node::File(_)) | None => None,
        }
    }

    /// The directory that holds `path`'s last name, and that name.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(ErrorKind::InvalidInput)?;
        Ok((self.walk(&names)?, name))
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<NodeId> {
        self.walk(&names(path)?)
    }

    pub(super) fn lookup_file(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.lookup(path)?;
        self.file(id).map(|_| id)
    }

    pub(super) fn lookup_directory(&self, path: &Path) -> io::Result<NodeId> {
        let id = self.lookup(path)?;
        self.directory(id).map(|_| id)
    }

    fn walk(&self, names: &[String]) -> io::Result<NodeId> {
        names.iter().try_fold(ROOT, |directory, name| {
            let entries = &self.directory(directory)?.entries;
            entries
                .get(name)
                .copied()
                .ok_or_else(|| ErrorKind::NotFound.into())
        })
    }

    /// Changes names, visible at once, durable when `directory` is synced.
    pub(super) fn change_names(
        &mut self,
        directory: NodeId,
        entries: Vec<(NodeId, String, Option<NodeId>)>,
    ) {
        for (parent, name, target) in &entries {
            let Some(parent) = self.directory_mut(*parent) else {
                continue;
            };
            let replaced = match target {
                Some(target) => parent.entries.insert(name.clone(), *target),
                None => parent.entries.remove(name),
            };
            let renamed = entries.iter().any(|(_, _, other)| *other == replaced);
            if let Some(replaced) = replaced.filter(|_| !renamed) {
                self.lose_name(replaced);
            }
        }
        let id = self.fresh_id();
        self.name_changes.push(NameChange {
            id,
            directory,
            entries,
        });
    }

    /// The name of `node` went away; its space is free once nobody has it open.
    fn lose_name(&mut self, node: NodeId) {
        self.removals += 1;
        if self.handles.contains_key(&node) {
            self.unnamed.insert(node);
        } else {
            self.release_space(node);
        }
    }

    fn release_space(&mut self, node: NodeId) {
        if let Ok(file) = self.file(node) {
            self.used_blocks -= file.current.blocks();
        }
    }

    pub(super) fn open_handle(&mut self, node: NodeId) {
        *self.handles.entry(node).or_default() += 1;
    }

    pub(super) fn close_handle(&mut self, node: NodeId) {
        let count = self
            .handles
            .get_mut(&node)
            .expect("an open file is counted");
        *count -= 1;
        if *count == 0 {
            self.handles.remove(&node);
            if self.unnamed.remove(&node) {
                self.release_space(node);
            }
        }
    }

    /// Makes durable what was done below `bound` to the names in `directory`.
    pub(super) fn sync_names(&mut self, directory: NodeId, bound: u64) {
        for change in std::mem::take(&mut self.name_changes) {
            if change.directory == directory && change.id < bound {
                self.make_names_durable(&change);
            } else {
                self.name_changes.push(change);
            }
        }
        // A sweep visits every node: not for each removal.
        if self.removals > self.nodes.len() / 4 {
            self.drop_unreachable();
        }
    }

    /// Makes durable what was done below `bound` to any name or file.
    pub(super) fn sync_everything(&mut self, bound: u64) {
        for change in std::mem::take(&mut self.name_changes) {
            if change.id < bound {
                self.make_names_durable(&change);
            } else {
                self.name_changes.push(change);
            }
        }
        self.each_file(|file| file.sync(bound));
    }

    /// A sync of everything below `bound` failed: some of it will never be durable.
    pub(super) fn fail_sync_of_everything(&mut self, bound: u64) {
        let mut random = self.random.fork();
        self.each_file(|file| file.fail_sync(bound, &mut random));
    }

    fn each_file(&mut self, mut change: impl FnMut(&mut FileNode)) {
        for node in self.nodes.values_mut() {
            if matches!(&**node, Node::File(file) if !file.is_settled())
                && let Node::File(file) = Arc::make_mut(node)
            {
                change(file);
            }
        }
    }

    pub(super) fn make_names_durable(&mut self, change: &NameChange) {
        for (parent, name, target) in &change.entries {
            let Some(parent) = self.directory_mut(*parent) else {
                continue;
            };
            match target {
                Some(target) => parent.durable.insert(name.clone(), *target),
                None => parent.durable.remove(name),
            };
        }
    }

    /// Takes a change of a file in hand.
    pub(super) fn submit(&mut self, change: InFlight) -> u64 {
        let op = self.fresh_id();
        self.in_flight.insert(op, change);
        op
    }

    /// Ends a change of a file.
    pub(super) fn finish_change(&mut self, op: u64, fault: Option<Fault>) -> io::Result<()> {
        let InFlight {
            node,
            kind,
            durability,
        } = self.in_flight.remove(&op).expect("ends once");
        let needed = kind.blocks_needed(&self.file(node)?.current);
        if self.used_blocks.saturating_add(needed) > self.capacity_blocks {
            return Err(enospc());
        }
        match fault {
            None => {}
            Some(Fault::Lie) => return Ok(()),
            Some(Fault::Enospc) => return Err(enospc()),
            Some(Fault::Emfile) => return Err(emfile()),
            Some(Fault::Eio) => {
                self.change_partly(node, &kind);
                return Err(super::faults::eio());
            }
        }
        self.change_file(node, kind, durability);
        Ok(())
    }

    /// What a failed or interrupted change leaves: some of its blocks.
    pub(super) fn change_partly(&mut self, node: NodeId, kind: &ChangeKind) {
        let ChangeKind::Write { offset, data } = kind else {
            if self.random.chance(1, 2) {
                self.change_file(node, kind.clone(), Durability::Buffered);
            }
            return;
        };
        let blocks = data.len().div_ceil(BLOCK_BYTES);
        let first = self.random.index(blocks);
        let end = first + self.random.index(blocks - first + 1);
        if first < end {
            let range = first * BLOCK_BYTES..(end * BLOCK_BYTES).min(data.len());
            let offset = offset + range.start as u64;
            let kind = ChangeKind::Write {
                offset,
                data: data.sub(range),
            };
            self.change_file(node, kind, Durability::Buffered);
        }
    }

    pub(super) fn change_file(&mut self, node: NodeId, kind: ChangeKind, durability: Durability) {
        if let ChangeKind::Write { offset, data } = &kind {
            let range = *offset..*offset + data.len() as u64;
            self.faults.rewritten(node, &range);
        }
        let id = self.fresh_id();
        let file = self.file_mut(node);
        let before = file.current.blocks();
        file.change(id, kind, durability);
        let after = file.current.blocks();
        self.used_blocks = self.used_blocks + after - before;
    }

    pub(super) fn list(&self, directory: NodeId) -> io::Result<Vec<DirEntry>> {
        let entries = self.directory(directory)?.entries.iter();
        let describe = |(name, id): (&String, &NodeId)| {
            let bytes = self.file(*id).ok().map(|file| file.current.bytes());
            DirEntry {
                name: name.clone(),
                is_dir: bytes.is_none(),
                bytes: bytes.unwrap_or(0),
            }
        };
        Ok(entries.map(describe).collect())
    }

    /// Drops nodes that no name, open file or possible crash leads to (I1).
    pub(super) fn drop_unreachable(&mut self) {
        self.removals = 0;
        let mut reached = BTreeSet::new();
        let mut todo = vec![ROOT];
        todo.extend(self.handles.keys());
        todo.extend(self.in_flight.values().map(|op| op.node));
        for change in &self.name_changes {
            todo.extend(change.entries.iter().filter_map(|(_, _, target)| *target));
        }
        while let Some(id) = todo.pop() {
            if reached.insert(id)
                && let Ok(directory) = self.directory(id)
            {
                todo.extend(directory.entries.values().chain(directory.durable.values()));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }

    pub(super) fn count_used_blocks(&mut self) {
        let blocks = self.nodes.values().map(|node| match node.as_ref() {
            Node::File(file) => file.current.blocks(),
            Node::Directory(_) => 0,
        });
        self.used_blocks = blocks.sum();
    }
}

/// The names on the way to `path`, from the root.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(ErrorKind::InvalidInput)?.to_owned());
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
