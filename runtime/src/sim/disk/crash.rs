//! What is left of a disk after the power failed, or after its process was killed.
//!
//! *Durability*: the rules of `node`: what is durable or sure stays; every other change is kept, lost, kept in
//! part or torn, as the seed says. Because each sector of each change has its own fate, the outcome is
//! also what any reordering of the writes could leave.

use std::sync::Arc;

use super::content::{Content, SECTOR_BYTES};
use super::node::{Change, ChangeKind, Fate, FileNode, Node};
use super::state::State;
use super::{Latency, OpCounts, Random};

/// How thoroughly things are lost. One style for all makes the extremes likely, which independent
/// choices for each sector never would.
#[derive(Clone, Copy, Debug)]
enum Style {
    LoseAll,
    KeepAll,
    /// Each change as a whole.
    Whole,
    /// Each sector for itself.
    Sectors,
}

impl State {
    /// After a loss of power.
    pub(super) fn crash(&self, seed: u64) -> State {
        let mut random = Random::new(seed ^ 0xC5A5_4000);
        let style = match random.below(8) {
            0 => Style::LoseAll,
            1 => Style::KeepAll,
            2 | 3 => Style::Whole,
            _ => Style::Sectors,
        };
        let mut after = self.clone();
        // What had not ended is like what has, but not synced.
        for op in std::mem::take(&mut after.in_flight).into_values() {
            let change = Change {
                id: after.fresh_id(),
                kind: op.kind,
                fate: Fate::Open,
            };
            after.file_mut(op.node).pending.push(change);
        }
        for change in std::mem::take(&mut after.name_changes) {
            if style.keeps(&mut random) {
                after.make_names_durable(&change);
            }
        }
        for node in after.nodes.values_mut() {
            settle(node, style, &mut random);
        }
        after.begin_life();
        after
    }

    /// After the end of the process alone.
    pub(super) fn kill(&self) -> State {
        let mut after = self.clone();
        after.end_process();
        after.begin_life();
        after
    }

    /// The kernel has what was handed to it; what was under way may end, or get half-way.
    pub(super) fn end_process(&mut self) {
        for op in std::mem::take(&mut self.in_flight).into_values() {
            match self.random.below(4) {
                0 => {}
                1 => self.change_file(op.node, op.kind, op.durability),
                _ => self.change_partly(op.node, &op.kind),
            }
        }
    }

    /// As it is, with whatever has not ended left out.
    pub(super) fn fork(&self) -> State {
        let mut after = self.clone();
        after.in_flight.clear();
        after.begin_life();
        after
    }

    /// A new process finds the disk without plans against it; damaged sectors and the capacity stay.
    fn begin_life(&mut self) {
        self.handles.clear();
        self.unnamed.clear();
        self.crashed = false;
        self.faults.counts = OpCounts::default();
        self.faults.crash_at = None;
        self.faults.broken_from = None;
        self.faults.planned.clear();
        self.faults.one_in.clear();
        self.faults.latency = Latency::default();
        self.drop_unreachable();
        self.count_used_blocks();
    }
}

impl Style {
    fn keeps(self, random: &mut Random) -> bool {
        match self {
            Style::LoseAll => false,
            Style::KeepAll => true,
            Style::Whole | Style::Sectors => random.chance(1, 2),
        }
    }
}

fn settle(node: &mut Arc<Node>, style: Style, random: &mut Random) {
    match node.as_ref() {
        Node::File(file) => {
            if !file.is_settled() {
                let content = survive(file, style, random);
                *node = Arc::new(Node::File(FileNode::settled(content)));
            }
        }
        Node::Directory(directory) => {
            if directory.entries != directory.durable
                && let Node::Directory(directory) = Arc::make_mut(node)
            {
                directory.entries = directory.durable.clone();
            }
        }
    }
}

/// The content of a file after a loss of power.
fn survive(file: &FileNode, style: Style, random: &mut Random) -> Content {
    let mut content = file.durable.clone();
    let mut size = content.bytes();
    for change in &file.pending {
        // The size travels apart from the data: it may be there without it, or be missing.
        let (kept, grown) = match change.fate {
            Fate::Sure => (true, true),
            Fate::Doomed => continue,
            Fate::Open => (style.keeps(random), style.keeps(random)),
        };
        let torn = change.fate == Fate::Open && matches!(style, Style::Sectors);
        match &change.kind {
            ChangeKind::Write { offset, data } => {
                match (kept, torn) {
                    (true, false) => content.write(*offset, data),
                    (true, true) => write_some_sectors(&mut content, *offset, data, random),
                    (false, _) => {}
                }
                if grown {
                    size = size.max(*offset + data.len() as u64);
                }
            }
            ChangeKind::Truncate { bytes } if kept => {
                content.resize(*bytes);
                size = *bytes;
            }
            ChangeKind::Allocate { offset, bytes } if kept => {
                content.reserve(*offset, *bytes);
                size = size.max(*offset + *bytes);
            }
            ChangeKind::Truncate { .. } | ChangeKind::Allocate { .. } => {}
        }
    }
    content.resize(size);
    content
}

/// Keeps, loses, tears or spoils each sector of a write; or keeps its beginning only, or all of it.
fn write_some_sectors(content: &mut Content, offset: u64, data: &[u8], random: &mut Random) {
    if random.chance(1, 4) {
        content.write(offset, data);
        return;
    }
    let sectors = data.len().div_ceil(SECTOR_BYTES);
    let prefix_only = random.chance(1, 2);
    let prefix = random.index(sectors + 1);
    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        let at = offset + (index * SECTOR_BYTES) as u64;
        let kept = if prefix_only {
            index < prefix
        } else {
            random.chance(1, 2)
        };
        if kept {
            content.write(at, sector);
            continue;
        }
        match random.below(32) {
            // Torn: the head of the sector is new, the rest is what was there.
            0 | 1 => content.write(at, &sector[..random.index(sector.len())]),
            // Spoilt: neither. What was durable there before is gone too.
            2 => content.write(at, &noise(sector.len(), random)),
            _ => {}
        }
    }
}

fn noise(count: usize, random: &mut Random) -> Vec<u8> {
    (0..count).map(|_| random.below(256) as u8).collect()
}
