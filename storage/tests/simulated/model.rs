//! What a shard's logs should hold: plain lists, and the history of everything that was done to
//! them in the order of their journal records.

use std::collections::BTreeMap;

use storage::{PartitionLog, SequenceCheck, Storage};

use crate::world::read_all;

/// A batch in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) bytes: Vec<u8>,
    /// Producer id, epoch, first and last sequence.
    pub(crate) producer: Option<(i64, i16, i32, i32)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelLog {
    pub(crate) incarnation: u64,
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    pub(crate) epochs: Vec<(i32, i64)>,
    /// Also those below the log start: producers are remembered longer than records.
    pub(crate) batches: Vec<ModelBatch>,
}

/// One change, as durable as its journal record.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create {
        log: u32,
        incarnation: u64,
    },
    Delete {
        log: u32,
    },
    Append {
        log: u32,
        batch: ModelBatch,
        epoch: i32,
    },
    Epoch {
        log: u32,
        epoch: i32,
    },
    LogStart {
        log: u32,
        offset: i64,
    },
    Truncate {
        log: u32,
        to: i64,
    },
}

pub(crate) type ModelState = BTreeMap<u32, ModelLog>;

/// Everything that was done, and how much of it was answered as durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) changes: Vec<Change>,
    pub(crate) acknowledged: usize,
}

impl History {
    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(crate) fn acknowledge_all(&mut self) {
        self.acknowledged = self.changes.len();
    }

    pub(crate) fn state_after(&self, count: usize) -> ModelState {
        let mut state = ModelState::new();
        for change in &self.changes[..count] {
            apply(&mut state, change);
        }
        state
    }

    pub(crate) fn state(&self) -> ModelState {
        self.state_after(self.changes.len())
    }
}

pub(crate) fn apply(state: &mut ModelState, change: &Change) {
    match change {
        Change::Create { log, incarnation } => {
            state.insert(
                *log,
                ModelLog {
                    incarnation: *incarnation,
                    ..ModelLog::default()
                },
            );
        }
        Change::Delete { log } => {
            state.remove(log);
        }
        Change::Append { log, batch, epoch } => {
            let log = state.get_mut(log).expect("an existing log");
            begin_epoch(log, *epoch);
            log.log_end = batch.last_offset + 1;
            log.batches.push(batch.clone());
        }
        Change::Epoch { log, epoch } => {
            begin_epoch(state.get_mut(log).expect("an existing log"), *epoch);
        }
        Change::LogStart { log, offset } => {
            let log = state.get_mut(log).expect("an existing log");
            log.log_start = log.log_start.max(*offset);
            let at = log
                .epochs
                .partition_point(|(_, start)| *start <= log.log_start);
            if let Some(spanning) = at.checked_sub(1) {
                log.epochs.drain(..spanning);
                log.epochs[0].1 = log.log_start;
            }
        }
        Change::Truncate { log, to } => {
            let log = state.get_mut(log).expect("an existing log");
            log.batches.retain(|batch| batch.last_offset < *to);
            log.epochs.retain(|(_, start)| start < to);
            log.log_end = *to;
        }
    }
}

fn begin_epoch(log: &mut ModelLog, epoch: i32) {
    if log.epochs.last().is_none_or(|(latest, _)| epoch > *latest) {
        let start = log.log_end;
        log.epochs.retain(|(_, other)| *other < start);
        log.epochs.push((epoch, start));
    }
}

/// What differs between a storage and a model state, if anything.
pub(crate) async fn difference(
    storage: &Storage,
    model: &ModelState,
    bytes_max: usize,
) -> Option<String> {
    let logs = storage.logs();
    if logs.len() != model.len() {
        return Some(format!("{} logs, not {}", logs.len(), model.len()));
    }
    for log in logs {
        let number = log.id().partition;
        let Some(expected) = model.get(&number) else {
            return Some(format!("log {number} exists"));
        };
        if let Some(difference) = log_difference(&log, expected, bytes_max).await {
            return Some(format!("log {number}: {difference}"));
        }
    }
    None
}

async fn log_difference(
    log: &PartitionLog,
    expected: &ModelLog,
    bytes_max: usize,
) -> Option<String> {
    let found = (
        log.incarnation(),
        log.log_start_offset(),
        log.log_end_offset(),
    );
    let wanted = (expected.incarnation, expected.log_start, expected.log_end);
    if found != wanted {
        return Some(format!(
            "incarnation, start and end {found:?}, not {wanted:?}"
        ));
    }
    let (found, wanted) = (
        log.latest_epoch(),
        expected.epochs.last().map(|(epoch, _)| *epoch),
    );
    if found != wanted {
        return Some(format!("latest epoch {found:?}, not {wanted:?}"));
    }
    for (at, (epoch, _)) in expected.epochs.iter().enumerate() {
        let end = expected
            .epochs
            .get(at + 1)
            .map_or(expected.log_end, |(_, start)| *start);
        let found = log.end_offset_for_epoch(*epoch);
        if found != (*epoch, end) {
            return Some(format!("epoch {epoch} ends at {found:?}, not {end}"));
        }
    }
    let readable = expected
        .batches
        .iter()
        .filter(|batch| batch.last_offset >= expected.log_start);
    let wanted: Vec<u8> = readable
        .flat_map(|batch| batch.bytes.iter().copied())
        .collect();
    match read_batches(log, expected, bytes_max).await {
        Err(error) => return Some(format!("unreadable: {error}")),
        Ok(bytes) if bytes != wanted => {
            let at = bytes.iter().zip(&wanted).position(|(a, b)| a != b);
            return Some(format!(
                "{} bytes, not {}; first difference at {at:?}",
                bytes.len(),
                wanted.len()
            ));
        }
        Ok(_) => {}
    }
    producer_difference(log, expected)
}

/// The log's bytes; a log may end with a gap after a truncation into a batch.
async fn read_batches(
    log: &PartitionLog,
    expected: &ModelLog,
    bytes_max: usize,
) -> Result<Vec<u8>, storage::StorageError> {
    let last_end = expected
        .batches
        .last()
        .map_or(0, |batch| batch.last_offset + 1);
    if last_end <= expected.log_start {
        Ok(Vec::new())
    } else {
        read_all(log, bytes_max, last_end).await
    }
}

fn producer_difference(log: &PartitionLog, expected: &ModelLog) -> Option<String> {
    let mut newest: BTreeMap<i64, &ModelBatch> = BTreeMap::new();
    for batch in expected
        .batches
        .iter()
        .filter(|batch| batch.base_offset >= expected.log_start)
    {
        if let Some((producer, ..)) = batch.producer {
            newest.insert(producer, batch);
        }
    }
    for batch in newest.into_values() {
        let (producer, epoch, first, last) = batch.producer?;
        let found = log.check_sequence(producer, epoch, first, last);
        let is_duplicate = matches!(found, SequenceCheck::Duplicate { base_offset, .. } if base_offset == batch.base_offset);
        if !is_duplicate {
            return Some(format!(
                "a retry of producer {producer}'s batch {first}..={last} is {found:?}"
            ));
        }
        let next = log.check_sequence(producer, epoch, last + 1, last + 1);
        if next != SequenceCheck::New {
            return Some(format!("producer {producer}'s next batch is {next:?}"));
        }
    }
    None
}
