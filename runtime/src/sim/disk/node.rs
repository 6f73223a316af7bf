//! What the disk holds under one name: a file or a directory, as the process sees it and as a loss of
//! power would leave it.
//!
//! *Invariants*: **I1** `durable` and the sure changes in `pending` survive every crash; any other part of
//! `pending` may or may not.

use std::collections::BTreeMap;

use super::Random;
use super::content::Content;
use crate::buffer::Slice;
use crate::file::Durability;

/// Identity of a file or directory on a disk.
pub(super) type NodeId = u64;

/// A file or directory.
#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Directory(Directory),
}

/// A file.
#[derive(Clone, Default)]
pub(super) struct FileNode {
    /// What reads see.
    pub(super) current: Content,
    /// What was there when it was last synced.
    pub(super) durable: Content,
    /// Changes since, in the order in which they ended.
    pub(super) pending: Vec<Change>,
    /// A failed sync dropped something: `current` shows what `durable` will never have.
    pub(super) diverged: bool,
}

/// A change of a file that no sync has covered.
#[derive(Clone)]
pub(super) struct Change {
    /// Ascending in the order in which changes ended.
    pub(super) id: u64,
    pub(super) kind: ChangeKind,
    pub(super) fate: Fate,
}

#[derive(Clone)]
pub(super) enum ChangeKind {
    Write { offset: u64, data: Slice },
    Truncate { bytes: u64 },
    Allocate { offset: u64, bytes: u64 },
}

/// What a loss of power does to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kept, lost, torn or spoilt, as the seed says.
    Open,
    /// Kept: a durable write that has older, open changes below it.
    Sure,
    /// Lost: a failed sync dropped it from the cache.
    Doomed,
}

impl ChangeKind {
    /// Makes the whole change, size included.
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            ChangeKind::Write { offset, data } => {
                content.write(*offset, data);
                content.grow(*offset + data.len() as u64);
            }
            ChangeKind::Truncate { bytes } => content.resize(*bytes),
            ChangeKind::Allocate { offset, bytes } => {
                content.reserve(*offset, *bytes);
                content.grow(*offset + *bytes);
            }
        }
    }

    /// Space it would take from the free blocks.
    pub(super) fn blocks_needed(&self, content: &Content) -> u64 {
        match self {
            ChangeKind::Write { offset, data } => content.holes(*offset, data.len() as u64),
            ChangeKind::Truncate { .. } => 0,
            ChangeKind::Allocate { offset, bytes } => content.holes(*offset, *bytes),
        }
    }
}

impl FileNode {
    /// A file that holds `content`, all of it durable.
    pub(super) fn settled(content: Content) -> Self {
        FileNode {
            current: content.clone(),
            durable: content,
            ..FileNode::default()
        }
    }

    /// Whether a loss of power changes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.diverged
    }

    /// Makes a change that has ended.
    pub(super) fn change(&mut self, id: u64, kind: ChangeKind, durability: Durability) {
        kind.apply(&mut self.current);
        let fate = match durability {
            Durability::Buffered => Fate::Open,
            Durability::DataSync if self.pending.is_empty() => {
                kind.apply(&mut self.durable);
                return;
            }
            // Behind open changes, which a crash must not be able to put on top of it.
            Durability::DataSync => Fate::Sure,
        };
        self.pending.push(Change { id, kind, fate });
    }

    /// Makes the changes below `bound` durable.
    pub(super) fn sync(&mut self, bound: u64) {
        let count = self.pending.partition_point(|change| change.id < bound);
        if count == self.pending.len() && !self.diverged {
            self.durable = self.current.clone();
            self.pending.clear();
            return;
        }
        for change in self
            .pending
            .drain(..count)
            .filter(|change| change.fate != Fate::Doomed)
        {
            change.kind.apply(&mut self.durable);
        }
    }

    /// A sync of the changes below `bound` failed: some will never be durable.
    pub(super) fn fail_sync(&mut self, bound: u64, random: &mut Random) {
        let open = self
            .pending
            .iter_mut()
            .filter(|change| change.fate == Fate::Open);
        for change in open.filter(|change| change.id < bound) {
            if random.chance(1, 2) {
                change.fate = Fate::Doomed;
                self.diverged = true;
            }
        }
    }
}

/// A directory.
#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) entries: BTreeMap<String, NodeId>,
    /// The entries when it was last synced.
    pub(super) durable: BTreeMap<String, NodeId>,
}

/// A change of names that no sync has covered: all of it survives a loss of power or none does.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) id: u64,
    /// The directory whose sync makes it durable.
    pub(super) directory: NodeId,
    /// Directory, name, and what the name stands for afterwards.
    pub(super) entries: Vec<(NodeId, String, Option<NodeId>)>,
}
