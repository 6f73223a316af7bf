//! Decides for each batch what compaction keeps of it, and writes that.
//!
//! *Place*: a cleaning round passes every batch of the log's cleanable part through here, in order;
//! pure. *Invariants*: **I1** the newest record of a key below the map's end stays, unless it is a
//! tombstone whose delete horizon has passed; records from the map's end on all stay. **I2** offsets,
//! sequences and order never change. **I3** the last batch of each producer and of the round stays,
//! if need be without records. *Source*: Kafka's `Cleaner`; KIP-534 for the horizon: the first round
//! that meets a tombstone (or a marker without data) dates its end.

use std::collections::HashMap;

use protocol::compression::DecompressContext;
use protocol::record_batch::{BatchError, BatchView, Record, retain_header, retain_records};

use super::offset_map::OffsetMap;
use super::transactions::{Marker, Markers, Outcomes};
use crate::partition_log::producers::LastWrite;
use crate::segment::batch_header::BatchHeader;

/// Decompressed bytes of one batch, at most.
pub(super) const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// What decides about batches.
pub(super) struct Rules<'a> {
    /// Newest offsets of keys.
    pub(super) map: &'a OffsetMap,
    /// What became of transactions.
    pub(super) outcomes: &'a Outcomes,
    /// What must stay of producers.
    pub(super) last_writes: &'a HashMap<i64, LastWrite>,
    /// The batch that ends here stays, so that the end of the part is known.
    pub(super) round_end: i64,
    /// The broker's time.
    pub(super) now_ms: i64,
    /// `delete.retention.ms`.
    pub(super) delete_retention_ms: i64,
}

/// Memory used again from batch to batch.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) context: DecompressContext,
    pub(super) plain: Vec<u8>,
}

/// One pass over a log.
pub(super) struct Filter<'a> {
    rules: Rules<'a>,
    markers: Markers,
    scratch: Scratch,
    /// Records without a key that were dropped: a compacted topic takes none.
    pub(super) without_key: u64,
}

/// What may become of a batch.
struct Fate {
    /// None of its records stays.
    drops_records: bool,
    /// It stays without records.
    keeps_header: bool,
    /// A marker that decides about nothing any more.
    is_spent_marker: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn new(rules: Rules<'a>) -> Self {
        Filter {
            rules,
            markers: Markers::default(),
            scratch: Scratch::default(),
            without_key: 0,
        }
    }

    /// Appends to `output` what stays of the batch that is `bytes`; answers whether anything does.
    ///
    /// # Errors
    /// Those of reading the batch's records.
    pub(super) fn pass(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<bool, BatchError> {
        let before = output.len();
        let view = BatchView::parse(bytes)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let passed = self.pass_view(header, &view, &mut scratch, output);
        self.scratch = scratch;
        passed.map(|()| output.len() > before)
    }

    fn pass_view(
        &mut self,
        header: &BatchHeader,
        view: &BatchView<'_>,
        scratch: &mut Scratch,
        output: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let fate = self.fate(header, view)?;
        let horizon = view.has_delete_horizon().then_some(view.base_timestamp());
        let mut records = Vec::new();
        let mut has_tombstone = false;
        if !fate.drops_records && view.record_count() > 0 {
            let all = view.records(
                &mut scratch.context,
                &mut scratch.plain,
                DECOMPRESSED_BYTES_MAX,
            )?;
            for record in all {
                let record = record?;
                if header.is_control() || self.keeps(&record, horizon) {
                    has_tombstone |= record.value.is_none();
                    records.push(record);
                }
            }
        }
        if records.is_empty() {
            if fate.keeps_header {
                retain_header(view, output);
            }
            return Ok(());
        }
        let needs_horizon = horizon.is_none() && (has_tombstone || fate.is_spent_marker);
        let new_horizon = needs_horizon.then(|| {
            self.rules
                .now_ms
                .saturating_add(self.rules.delete_retention_ms)
        });
        if records.len() as i64 == i64::from(view.record_count()) && new_horizon.is_none() {
            output.extend_from_slice(view.bytes());
            return Ok(());
        }
        retain_records(view, &records, new_horizon, output)
    }

    fn fate(&mut self, header: &BatchHeader, view: &BatchView<'_>) -> Result<Fate, BatchError> {
        let mut is_spent_marker = false;
        let drops_records = if header.is_control() {
            is_spent_marker = self.markers.is_spent(header, marker_of(view)?);
            is_spent_marker
                && view.has_delete_horizon()
                && view.base_timestamp() <= self.rules.now_ms
        } else {
            self.markers.note_data(header);
            self.rules.outcomes.is_aborted(header)
        };
        let is_last_of_producer = match self.rules.last_writes.get(&header.producer_id) {
            Some(LastWrite::Data { last_offset }) => *last_offset == header.last_offset(),
            Some(LastWrite::Marker { epoch }) => {
                header.is_control() && *epoch == header.producer_epoch
            }
            None => false,
        };
        Ok(Fate {
            drops_records,
            keeps_header: is_last_of_producer || header.next_offset() == self.rules.round_end,
            is_spent_marker,
        })
    }

    /// Whether a record of data stays. `horizon`: the end of its batch's tombstones.
    fn keeps(&mut self, record: &Record<'_>, horizon: Option<i64>) -> bool {
        if record.offset >= self.rules.map.end() {
            return true;
        }
        let Some(key) = record.key else {
            self.without_key += 1;
            return false;
        };
        let is_newest = self
            .rules
            .map
            .newest(key)
            .is_none_or(|newest| record.offset >= newest);
        let is_alive =
            record.value.is_some() || horizon.is_none_or(|horizon| self.rules.now_ms < horizon);
        is_newest && is_alive
    }
}

/// What a control batch says; `None`: its record is gone.
pub(crate) fn marker_of(view: &BatchView<'_>) -> Result<Option<Marker>, BatchError> {
    if view.record_count() == 0 {
        return Ok(None);
    }
    let mut buffer = Vec::new();
    let mut records = view.records(&mut DecompressContext::default(), &mut buffer, 1 << 20)?;
    let first = records.next().transpose()?;
    Ok(first.map(|record| Marker::from_key(record.key)))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
