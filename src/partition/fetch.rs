//! Reading partitions for Fetch, and waiting until there is something to read.
//!
//! Place: `handlers/fetch` asks every owner for its partitions ([`read_many`]); a fetch that finds too
//! little registers a watch on every owner ([`watch`]) and asks again when one of them answers.
//! A parked fetch costs nothing until one of its partitions advances: nobody polls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use protocol::error_code::ErrorCode;
use runtime::buffer::Slice;
use runtime::sync::Notify;
use storage::StorageError;

use super::produce::storage_error_code;
use super::replica::Replica;
use super::shard::Shard;
use super::table::PartitionKey;

/// What one partition is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// What the asker calls the partition; its answer carries it.
    pub place: u64,
    /// Which partition.
    pub key: PartitionKey,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// Most bytes; the first batch comes whole even if it is larger, where `at_least_one` says so.
    pub bytes_max: usize,
    /// Leader epoch that the client believes in, or −1.
    pub current_leader_epoch: i32,
    /// Epoch of the last record that the client has, or −1.
    pub last_fetched_epoch: i32,
}

/// What a partition answers.
#[derive(Debug, Clone)]
pub struct Found {
    /// As in the [`Want`].
    pub place: u64,
    /// `None`, or why nothing could be read.
    pub error: ErrorCode,
    /// First offset that readers may not see.
    pub high_watermark: i64,
    /// First offset of the log.
    pub log_start_offset: i64,
    /// Where the client's log diverges: (epoch, end offset).
    pub diverging: Option<(i32, i64)>,
    /// Whole batches.
    pub records: Vec<Slice>,
}

impl Found {
    /// An answer without records.
    pub fn error(place: u64, error: ErrorCode) -> Self {
        Self {
            place,
            error,
            high_watermark: -1,
            log_start_offset: -1,
            diverging: None,
            records: Vec::new(),
        }
    }

    /// Bytes of all records.
    pub fn record_bytes(&self) -> usize {
        self.records.iter().map(|slice| slice.len()).sum()
    }
}

/// Reads the wanted partitions of this shard until `bytes_max` are found.
///
/// The first batch found comes whole even if it is larger than every limit, so that a reader always
/// gets on (KIP-74); later partitions get what is left.
pub async fn read_many(shard: &Shard, wants: &[Want], bytes_max: usize) -> Vec<Found> {
    let mut left = bytes_max;
    let mut is_first = true;
    let mut answers = Vec::with_capacity(wants.len());
    for want in wants {
        let answer = match shard.table.find(want.key) {
            Ok(replica) => read_one(&replica, want, left, is_first).await,
            Err(error) => Found::error(want.place, error),
        };
        let bytes = answer.record_bytes();
        is_first &= bytes == 0;
        left = left.saturating_sub(bytes);
        answers.push(answer);
    }
    answers
}

async fn read_one(replica: &Replica, want: &Want, left: usize, at_least_one: bool) -> Found {
    if let Err(error) = replica.check_leader_epoch(want.current_leader_epoch) {
        return Found::error(want.place, error);
    }
    let mut found = Found {
        place: want.place,
        error: ErrorCode::None,
        high_watermark: replica.high_watermark(),
        log_start_offset: replica.log.log_start_offset(),
        diverging: None,
        records: Vec::new(),
    };
    if want.fetch_offset < found.log_start_offset
        || want.fetch_offset > replica.log.log_end_offset()
    {
        found.error = ErrorCode::OffsetOutOfRange;
        return found;
    }
    found.diverging = divergence(replica, want);
    if found.diverging.is_some() || want.fetch_offset >= found.high_watermark {
        return found;
    }
    let bytes_max = want.bytes_max.min(left);
    if bytes_max == 0 && !at_least_one {
        return found;
    }
    match replica
        .log
        .read(want.fetch_offset, bytes_max, found.high_watermark)
        .await
    {
        // The log gives a whole batch even beyond the limit; only the first may go out so.
        Ok(read) if read.bytes > bytes_max && !at_least_one => {}
        Ok(read) => found.records = read.slices,
        Err(StorageError::OffsetOutOfRange { .. }) => found.error = ErrorCode::OffsetOutOfRange,
        Err(error) => {
            tracing::error!(partition = ?want.key, offset = want.fetch_offset, %error, "read failed");
            found.error = storage_error_code(&error);
        }
    }
    found
}

/// Where the client's log leaves ours (KIP-595), if it tells the epoch of its last record.
fn divergence(replica: &Replica, want: &Want) -> Option<(i32, i64)> {
    if want.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end) = replica.log.end_offset_for_epoch(want.last_fetched_epoch);
    (epoch < want.last_fetched_epoch || end < want.fetch_offset).then_some((epoch, end))
}

/// Watches of other shards, by the id that their home shard gave them.
#[derive(Default)]
pub struct Watches {
    by_id: RefCell<HashMap<WatchId, Rc<Notify>>>,
}

/// Names a watch: home shard and a number of that shard.
pub type WatchId = (usize, u64);

impl Watches {
    /// Ends a watch early: its `watch` call returns.
    pub fn cancel(&self, id: WatchId) {
        if let Some(notify) = self.by_id.borrow().get(&id) {
            notify.notify_one();
        }
    }
}

/// Returns when one of the wanted partitions of this shard has something to read, or when the watch
/// is cancelled. The caller bounds the time.
pub async fn watch(shard: Rc<Shard>, id: WatchId, wants: Vec<Want>) {
    let notify = Rc::new(Notify::default());
    let replicas: Vec<_> = wants
        .iter()
        .filter_map(|want| Some((shard.table.get(want.key)?, *want)))
        .collect();
    for (replica, _) in &replicas {
        replica.park(&notify);
    }
    shard.watches.by_id.borrow_mut().insert(id, notify.clone());
    let _parked = Parked {
        shard: &shard,
        id,
        replicas: &replicas,
        notify: &notify,
    };
    // Parked before this check, so that nothing that becomes durable in between is missed.
    let has_news = replicas
        .iter()
        .any(|(replica, want)| replica.high_watermark() > want.fetch_offset);
    if !has_news && !shard.is_stopping() {
        notify.notified().await;
    }
}

/// Takes a watch off all its partitions, also when its future is dropped.
struct Parked<'a> {
    shard: &'a Shard,
    id: WatchId,
    replicas: &'a [(Rc<Replica>, Want)],
    notify: &'a Rc<Notify>,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        for (replica, _) in self.replicas {
            replica.unpark(self.notify);
        }
        self.shard.watches.by_id.borrow_mut().remove(&self.id);
    }
}
