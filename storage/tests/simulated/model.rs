//! What a shard's logs should hold: plain lists, and the history of everything that was done to
//! them in the order of their journal records.

use std::collections::BTreeMap;
use std::rc::Rc;

use storage::{PartitionLog, SequenceCheck, StorageError};

use crate::compacted::{self, KeyedLog, KeyedRecord, is_compacted};
use crate::world::read_all;

/// A batch in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) bytes: Rc<[u8]>,
    /// Producer id, epoch, first and last sequence.
    pub(crate) producer: Option<(i64, i16, i32, i32)>,
    /// Of a compacted log.
    pub(crate) records: Rc<[Rc<KeyedRecord>]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelLog {
    pub(crate) incarnation: u64,
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    pub(crate) epochs: Vec<(i32, i64)>,
    /// Also those below the log start: producers are remembered longer than records.
    pub(crate) batches: Vec<ModelBatch>,
    /// Empty unless the log is compacted.
    pub(crate) keyed: KeyedLog,
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
    /// A round of compaction begins, which may take what it may take at any time from now on. It sees
    /// nothing that is not durable, and its own record comes after those of all changes before this.
    Clean {
        log: u32,
        upto: i64,
        now_ms: i64,
    },
}

pub(crate) type ModelState = BTreeMap<u32, ModelLog>;

/// Everything that was done to one shard since a state that is certain, and how much of it was
/// answered as durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    certain: Rc<ModelState>,
    changes: Vec<Change>,
    acknowledged: usize,
}

impl History {
    /// Nothing was done since `certain`.
    pub(crate) fn since(certain: ModelState) -> Self {
        History {
            certain: Rc::new(certain),
            ..History::default()
        }
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The last change did not come about.
    pub(crate) fn take_back(&mut self) {
        self.changes.pop();
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// The first `count` changes were answered as durable.
    pub(crate) fn acknowledge(&mut self, count: usize) {
        self.acknowledged = self.acknowledged.max(count);
    }

    pub(crate) fn state_after(&self, count: usize) -> ModelState {
        let mut state = ModelState::clone(&self.certain);
        for change in &self.changes[..count] {
            apply(&mut state, change);
        }
        state
    }
}

/// What was done to all shards: a history of each since their number changed or the machine stopped.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) histories: Vec<History>,
}

impl Past {
    pub(crate) fn new(shards: u32) -> Self {
        Past {
            histories: vec![History::default(); shards as usize],
        }
    }

    pub(crate) fn shards(&self) -> u32 {
        self.histories.len() as u32
    }

    /// The shard that owns a log.
    pub(crate) fn shard_of(&self, log: u32) -> usize {
        (log % self.shards()) as usize
    }

    pub(crate) fn acknowledge_all(&mut self) {
        for history in &mut self.histories {
            history.acknowledge(history.len());
        }
    }

    /// The state after everything.
    pub(crate) fn state(&self) -> ModelState {
        let counts: Vec<_> = self.histories.iter().map(History::len).collect();
        self.state_after(&counts)
    }

    fn state_after(&self, counts: &[usize]) -> ModelState {
        let each = self.histories.iter().zip(counts);
        each.flat_map(|(history, count)| history.state_after(*count))
            .collect()
    }

    /// Begins anew with `shards` shards: of each history the first `counts` are certain now.
    pub(crate) fn settle(&mut self, counts: &[usize], shards: u32) {
        let mut parts = vec![ModelState::new(); shards as usize];
        for (number, log) in self.state_after(counts) {
            parts[(number % shards) as usize].insert(number, log);
        }
        self.histories = parts.into_iter().map(History::since).collect();
    }

    /// What is certain of a log changes: nothing was done since.
    pub(crate) fn change_certain(&mut self, log: u32, change: impl FnOnce(&mut ModelLog)) {
        let shard = self.shard_of(log);
        let certain = Rc::make_mut(&mut self.histories[shard].certain);
        change(certain.get_mut(&log).expect("an existing log"));
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
            log.keyed.append(batch);
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
            let batches_end = log.batches.last().map_or(0, |batch| batch.last_offset + 1);
            log.keyed.truncate(batches_end, *to);
        }
        Change::Clean { log, upto, now_ms } => {
            let log = state.get_mut(log).expect("an existing log");
            log.keyed.clean(*upto, *now_ms);
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

/// How exactly a storage has to be as the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// Every byte can be read.
    Whole,
    /// The disk lied: bytes may be reported as damaged, but none may be other ones.
    OrReportedDamage,
}

/// What differs between logs and a model state, if anything.
///
/// # Errors
/// What a failing disk answers to reads.
pub(crate) async fn difference(
    logs: &[PartitionLog],
    model: &ModelState,
    bytes_max: usize,
    exactness: Exactness,
) -> Result<Option<String>, StorageError> {
    if logs.len() != model.len() {
        return Ok(Some(format!("{} logs, not {}", logs.len(), model.len())));
    }
    // First what needs no reading: few states of a history are alike in it.
    for log in logs {
        let number = log.id().partition;
        let Some(expected) = model.get(&number) else {
            return Ok(Some(format!("log {number} exists")));
        };
        if let Some(difference) = bounds_difference(log, expected) {
            return Ok(Some(format!("log {number}: {difference}")));
        }
    }
    for log in logs {
        let number = log.id().partition;
        let found = content_difference(log, &model[&number], bytes_max, exactness).await?;
        if let Some(difference) = found {
            return Ok(Some(format!("log {number}: {difference}")));
        }
    }
    Ok(None)
}

fn bounds_difference(log: &PartitionLog, expected: &ModelLog) -> Option<String> {
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
    producer_difference(log, expected)
}

async fn content_difference(
    log: &PartitionLog,
    expected: &ModelLog,
    bytes_max: usize,
    exactness: Exactness,
) -> Result<Option<String>, StorageError> {
    let bytes = match read_batches(log, expected, bytes_max).await {
        Ok(bytes) => bytes,
        Err(StorageError::Corruption { .. }) if exactness == Exactness::OrReportedDamage => {
            return Ok(None);
        }
        Err(error @ StorageError::Corruption { .. }) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
    };
    if is_compacted(log.id().partition) {
        return Ok(compacted::check(expected, &bytes).err());
    }
    let readable = expected
        .batches
        .iter()
        .filter(|batch| batch.last_offset >= expected.log_start);
    let wanted: Vec<u8> = readable
        .flat_map(|batch| batch.bytes.iter().copied())
        .collect();
    let differs = || {
        let at = bytes.iter().zip(&wanted).position(|(a, b)| a != b);
        let (found, wanted) = (bytes.len(), wanted.len());
        format!("{found} bytes, not {wanted}; first difference at {at:?}")
    };
    Ok((bytes != wanted).then(differs))
}

/// The log's bytes; a log may end with a gap after a truncation into a batch.
async fn read_batches(
    log: &PartitionLog,
    expected: &ModelLog,
    bytes_max: usize,
) -> Result<Vec<u8>, StorageError> {
    if is_compacted(log.id().partition) {
        return compacted::read_to_end(log, bytes_max).await;
    }
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
    let known_from = expected.log_start.max(expected.keyed.producers_from);
    for batch in expected
        .batches
        .iter()
        .filter(|batch| batch.base_offset >= known_from)
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
