//! What a compacted log may lack, and what it must have.
//!
//! A record may be gone once a round was begun above a newer one of its key; a tombstone also once a round
//! was begun after its horizon. All others are there. What no round was begun above is as it was
//! appended, byte for byte. Nothing comes back: where the newest record of a key is gone, all of them are.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::compression::DecompressContext;
use protocol::record_batch::{BatchError, BatchView, Batches};
use storage::{CompactionConfig, PartitionLog, StorageError};

use crate::model::{ModelBatch, ModelLog};

const DELETE_RETENTION_MS: i64 = 700;

/// Whether random work compacts this log.
pub(crate) fn is_compacted(log: u32) -> bool {
    log % 4 >= 2
}

pub(crate) fn compaction() -> CompactionConfig {
    CompactionConfig {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: DELETE_RETENTION_MS,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyedRecord {
    offset: i64,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

pub(crate) fn records_of(batch: &BatchView<'_>) -> Result<Vec<KeyedRecord>, BatchError> {
    let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
    let records = batch.records(&mut context, &mut buffer, 1 << 20)?;
    let records = records.map(|record| {
        let record = record?;
        Ok::<_, BatchError>(KeyedRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.unwrap_or_default().to_vec(),
            value: record.value.map(<[u8]>::to_vec),
        })
    });
    records.collect()
}

/// The records of a compacted log, and what rounds may have done to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyedLog {
    records: BTreeMap<i64, Rc<KeyedRecord>>,
    /// No round was begun above this offset.
    cleaned_to: i64,
    may_be_gone: BTreeSet<i64>,
    /// Tombstones, and the earliest time at which a round may take each.
    horizons: BTreeMap<i64, i64>,
    /// A truncation finds the newest batches of producers from here on; others may be gone.
    pub(crate) producers_from: i64,
}

impl KeyedLog {
    pub(crate) fn append(&mut self, batch: &ModelBatch) {
        let records = batch.records.iter();
        let records = records.map(|record| (record.offset, Rc::clone(record)));
        self.records.extend(records);
    }

    /// The log ends at `to`, its last whole batch at `batches_end`.
    pub(crate) fn truncate(&mut self, batches_end: i64, to: i64) {
        drop(self.records.split_off(&batches_end));
        drop(self.may_be_gone.split_off(&batches_end));
        drop(self.horizons.split_off(&batches_end));
        self.cleaned_to = self.cleaned_to.min(to);
        self.producers_from = self.cleaned_to;
    }

    /// A round begins that takes nothing from `upto` on.
    pub(crate) fn clean(&mut self, upto: i64, now_ms: i64) {
        let mut newest: BTreeMap<&[u8], &KeyedRecord> = BTreeMap::new();
        for record in self.records.range(..upto).map(|(_, record)| record) {
            if let Some(older) = newest.insert(&record.key, record) {
                self.may_be_gone.insert(older.offset);
            }
        }
        for tombstone in newest.into_values().filter(|one| one.value.is_none()) {
            let horizon = self.horizons.entry(tombstone.offset).or_insert(i64::MAX);
            if now_ms >= *horizon {
                self.may_be_gone.insert(tombstone.offset);
            }
            *horizon = (*horizon).min(now_ms + DELETE_RETENTION_MS);
        }
        self.cleaned_to = self.cleaned_to.max(upto);
    }

    /// A start found these records from `log_start` on: no others come back, and these stay until another round.
    fn keep_only(&mut self, found: &BTreeSet<i64>, log_start: i64) {
        self.records
            .retain(|offset, _| *offset < log_start || found.contains(offset));
        self.may_be_gone.clear();
    }

    fn check_batch(&self, batch: &BatchView<'_>, original: &ModelBatch) -> Result<(), String> {
        let base_offset = batch.base_offset();
        if base_offset >= self.cleaned_to && *batch.bytes() != *original.bytes {
            return Err(format!("the batch at {base_offset} was changed"));
        }
        let header = |batch: &BatchView<'_>| {
            let producer = (batch.producer_id(), batch.producer_epoch());
            let epoch = batch.partition_leader_epoch();
            (batch.last_offset(), epoch, producer, batch.base_sequence())
        };
        let original = BatchView::parse(&original.bytes).map_err(|error| error.to_string())?;
        let (found, wanted) = (header(batch), header(&original));
        if found != wanted {
            return Err(format!(
                "the batch at {base_offset} has last offset, epoch and producer {found:?}, not {wanted:?}"
            ));
        }
        Ok(())
    }

    fn check_records(
        &self,
        found: &BTreeMap<i64, KeyedRecord>,
        log_start: i64,
    ) -> Result<(), String> {
        for (offset, record) in found {
            if self.records.get(offset).map(Rc::as_ref) != Some(record) {
                return Err(format!("the record at {offset} is not the one appended"));
            }
        }
        let wanted = self.records.range(log_start..);
        let mut missing = wanted.clone().filter(|(offset, _)| {
            !found.contains_key(*offset) && !self.may_be_gone.contains(*offset)
        });
        if let Some((offset, record)) = missing.next() {
            let key = String::from_utf8_lossy(&record.key);
            return Err(format!("the record of {key} at {offset} is gone"));
        }
        let newest = newest_of_keys(wanted.map(|(_, record)| record.as_ref()));
        for (key, offset) in newest_of_keys(found.values()) {
            if newest.get(key) != Some(&offset) {
                let (key, newest) = (String::from_utf8_lossy(key), newest.get(key));
                return Err(format!(
                    "{key} at {offset} is back: its newest record, at {newest:?}, is gone"
                ));
            }
        }
        Ok(())
    }
}

fn newest_of_keys<'a>(records: impl Iterator<Item = &'a KeyedRecord>) -> BTreeMap<&'a [u8], i64> {
    records
        .map(|record| (record.key.as_slice(), record.offset))
        .collect()
}

/// Everything from the log start on; a log may end in a gap.
///
/// # Errors
/// Those of the reads.
pub(crate) async fn read_to_end(
    log: &PartitionLog,
    bytes_max: usize,
) -> Result<Vec<u8>, StorageError> {
    let (mut offset, mut bytes) = (log.log_start_offset(), Vec::new());
    while offset < log.log_end_offset() {
        let read = log.read(offset, bytes_max, i64::MAX).await?;
        if read.bytes == 0 {
            break;
        }
        assert!(read.next_offset > offset, "no progress at {offset}");
        bytes.extend(read.slices.iter().flat_map(|slice| slice.to_vec()));
        offset = read.next_offset;
    }
    Ok(bytes)
}

/// Holds the batches that were read from the log start on against what is `expected`; answers the offsets of
/// their records.
///
/// # Errors
/// What contradicts.
pub(crate) fn check(expected: &ModelLog, bytes: &[u8]) -> Result<BTreeSet<i64>, String> {
    let mut found: BTreeMap<i64, KeyedRecord> = BTreeMap::new();
    let mut next = 0;
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let base_offset = batch.base_offset();
        if base_offset < next {
            return Err(format!("a batch at {base_offset} where {next} is next"));
        }
        next = batch.next_offset();
        let at = expected
            .batches
            .binary_search_by_key(&base_offset, |other| other.base_offset);
        let Ok(at) = at else {
            return Err(format!("no batch was appended at {base_offset}"));
        };
        expected.keyed.check_batch(&batch, &expected.batches[at])?;
        for record in records_of(&batch).map_err(|error| error.to_string())? {
            let is_next = found
                .last_key_value()
                .is_none_or(|(last, _)| *last < record.offset);
            if !is_next {
                return Err(format!("the record at {} comes late", record.offset));
            }
            found.insert(record.offset, record);
        }
    }
    found.retain(|offset, _| *offset >= expected.log_start);
    expected.keyed.check_records(&found, expected.log_start)?;
    Ok(found.into_keys().collect())
}

/// A start has read `bytes` from the log start on, which agree with the model: this much is certain now.
///
/// # Panics
/// If they do not agree.
pub(crate) fn settle(log: &mut ModelLog, bytes: &[u8]) {
    let found = check(log, bytes).expect("what a start has read twice");
    log.keyed.keep_only(&found, log.log_start);
}
