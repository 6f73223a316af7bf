//! One partition of `__consumer_offsets` that this shard leads: its machine, what it has to write, who
//! waits.
//!
//! ```text
//!   Loading ──▶ Serving ──▶ Resigned
//!      │                        ▲
//!      └──▶ Failed ─────────────┘
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use cluster::group::records::{EncodedRecord, OffsetsRecord};
use cluster::group::{AppendId, Command, Groups, Now, Reply, Token};
use protocol::ErrorCode;
use runtime::sync::oneshot::Sender;

use super::now;

/// Something that happens to the groups of a partition.
pub(super) trait Event: FnOnce(&mut Groups, Now, &mut Vec<Command>) {}

impl<F: FnOnce(&mut Groups, Now, &mut Vec<Command>)> Event for F {}

/// Where a partition is in its life.
enum Stage {
    Loading,
    Serving(Box<Groups>),
    /// Its records cannot be read, or written.
    Failed,
    Resigned,
}

/// Records that a machine wants to have written.
pub(super) struct QueuedAppend {
    pub(super) id: AppendId,
    pub(super) records: Vec<EncodedRecord>,
    /// What they take in a batch, at most.
    pub(super) bytes: usize,
}

/// One partition that this shard leads.
pub(super) struct LedPartition {
    pub(super) number: i32,
    stage: RefCell<Stage>,
    /// Not yet given to the log, oldest first.
    appends: RefCell<VecDeque<QueuedAppend>>,
    waiting: RefCell<BTreeMap<Token, Sender<Reply>>>,
    is_writing: Cell<bool>,
}

/// Length, timestamp and offset deltas of a record, and the lengths of its fields, as varints.
const RECORD_OVERHEAD_BYTES_MAX: usize = 32;

impl LedPartition {
    pub(super) fn new(number: i32) -> Self {
        Self {
            number,
            stage: RefCell::new(Stage::Loading),
            appends: RefCell::default(),
            waiting: RefCell::default(),
            is_writing: Cell::new(false),
        }
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Loading)
    }

    pub(super) fn is_resigned(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Resigned)
    }

    /// Whether its records could not be read or written: it serves nothing until it is led anew.
    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Failed)
    }

    /// Whether its machine is gone, so that nothing more may be written for it.
    pub(super) fn has_ended(&self) -> bool {
        self.is_resigned() || self.has_failed()
    }

    /// The machine is ready, unless the partition was resigned meanwhile.
    pub(super) fn serve(&self, groups: Groups) {
        let mut stage = self.stage.borrow_mut();
        if matches!(*stage, Stage::Loading) {
            *stage = Stage::Serving(Box::new(groups));
        }
    }

    /// Reads something of the machine, or says why there is none.
    pub(super) fn look<R>(&self, read: impl FnOnce(&Groups) -> R) -> Result<R, ErrorCode> {
        match &*self.stage.borrow() {
            Stage::Serving(groups) => Ok(read(groups)),
            Stage::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            Stage::Failed => Err(ErrorCode::CoordinatorNotAvailable),
            Stage::Resigned => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Somebody waits for the reply to `token`.
    pub(super) fn wait_for(&self, token: Token, sender: Sender<Reply>) {
        self.waiting.borrow_mut().insert(token, sender);
    }

    /// Lets the machine do something; gives its next deadline. Nothing happens where there is none.
    pub(super) fn change(&self, event: impl Event) -> Option<i64> {
        let mut commands = Vec::new();
        let next_deadline_ms = match &mut *self.stage.borrow_mut() {
            Stage::Serving(groups) => {
                event(groups, now(), &mut commands);
                groups.next_deadline_ms()
            }
            Stage::Loading | Stage::Failed | Stage::Resigned => return None,
        };
        self.perform(commands);
        Some(next_deadline_ms)
    }

    /// Gives the machine up, and answers everything that waits.
    pub(super) fn resign(&self) {
        self.end(Stage::Resigned);
    }

    /// The partition cannot be served until it is led anew.
    pub(super) fn fail(&self) {
        if !self.is_resigned() {
            self.end(Stage::Failed);
        }
    }

    fn end(&self, stage: Stage) {
        let before = std::mem::replace(&mut *self.stage.borrow_mut(), stage);
        self.appends.borrow_mut().clear();
        let mut commands = Vec::new();
        if let Stage::Serving(groups) = before {
            groups.unload(&mut commands);
        }
        self.perform(commands);
        assert!(
            self.waiting.borrow().is_empty(),
            "a request was left without an answer"
        );
    }

    /// Whether there is something to write and nobody who writes; if so, the caller writes.
    pub(super) fn begin_writing(&self) -> bool {
        let begins = !self.is_writing.get() && !self.appends.borrow().is_empty();
        if begins {
            self.is_writing.set(true);
        }
        begins
    }

    /// The appends that fit into one batch together; at least one. None ends the writing.
    pub(super) fn next_appends(&self, bytes_max: usize) -> Vec<QueuedAppend> {
        let mut queue = self.appends.borrow_mut();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(append) = queue.front() {
            if !taken.is_empty() && bytes + append.bytes > bytes_max {
                break;
            }
            bytes += append.bytes;
            taken.extend(queue.pop_front());
        }
        if taken.is_empty() {
            self.is_writing.set(false);
        }
        taken
    }

    fn perform(&self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Reply(token, reply) => {
                    let sender = self.waiting.borrow_mut().remove(&token);
                    let sender = sender.expect("a reply has a request");
                    // Whoever asked may have gone.
                    let _ = sender.send(reply);
                }
                Command::Append { id, records } => {
                    let records: Vec<_> = records.iter().map(OffsetsRecord::encode).collect();
                    let bytes = records.iter().map(batch_bytes).sum();
                    self.appends
                        .borrow_mut()
                        .push_back(QueuedAppend { id, records, bytes });
                }
            }
        }
    }
}

/// What a record takes in a batch, at most.
pub(super) fn batch_bytes(record: &EncodedRecord) -> usize {
    let value_bytes = record.value.as_ref().map_or(0, Vec::len);
    record.key.len() + value_bytes + RECORD_OVERHEAD_BYTES_MAX
}
