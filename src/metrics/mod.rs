//! What a shard counts, and how it is shown to Prometheus.
//!
//! Core: every shard counts for itself in plain cells; the HTTP handler asks each shard for a
//! [`Snapshot`] and merges them on the control thread ([`exporter`]). Nothing here is shared.
//! Limits: series are bounded by the number of APIs and shards, never by topics or clients.

pub mod exporter;
mod histogram;

use std::cell::{Cell, RefCell};
use std::time::Duration;

pub use histogram::Histogram;

/// Highest API key that is counted by its own name.
const API_KEYS: usize = 96;

/// Requests of one API on one shard.
#[derive(Debug, Clone, Default)]
pub struct ApiCounts {
    /// Requests answered.
    pub requests: u64,
    /// Requests that could not be decoded or served.
    pub failures: u64,
    /// Bytes of request frames.
    pub bytes_in: u64,
    /// Bytes of response frames.
    pub bytes_out: u64,
    /// From the decoded frame to the finished answer.
    pub latency: Histogram,
}

/// Counters of one shard.
#[derive(Debug)]
pub struct ShardMetrics {
    apis: RefCell<Vec<Option<Box<ApiCounts>>>>,
    /// Records appended.
    pub records_in: Cell<u64>,
    /// Bytes of appended batches.
    pub record_bytes_in: Cell<u64>,
    /// Bytes of batches sent to readers.
    pub record_bytes_out: Cell<u64>,
    /// Connections ever accepted.
    pub connections_accepted: Cell<u64>,
    /// Connections closed because the peer broke the protocol.
    pub connections_broken: Cell<u64>,
    /// Batches that were put off because the disk is nearly full.
    pub batches_throttled: Cell<u64>,
    /// Batches that were refused because the disk is full.
    pub batches_without_space: Cell<u64>,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            apis: RefCell::new(vec![None; API_KEYS]),
            records_in: Cell::default(),
            record_bytes_in: Cell::default(),
            record_bytes_out: Cell::default(),
            connections_accepted: Cell::default(),
            connections_broken: Cell::default(),
            batches_throttled: Cell::default(),
            batches_without_space: Cell::default(),
        }
    }
}

/// Adds to a counter cell.
pub fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}

impl ShardMetrics {
    /// Counts one answered request.
    pub fn count_request(
        &self,
        api_key: i16,
        bytes_in: usize,
        bytes_out: usize,
        latency: Duration,
    ) {
        self.with_api(api_key, |counts| {
            counts.requests += 1;
            counts.bytes_in += bytes_in as u64;
            counts.bytes_out += bytes_out as u64;
            counts.latency.record(latency);
        });
    }

    /// Counts one request that could not be served.
    pub fn count_failure(&self, api_key: i16) {
        self.with_api(api_key, |counts| counts.failures += 1);
    }

    fn with_api(&self, api_key: i16, change: impl FnOnce(&mut ApiCounts)) {
        let mut apis = self.apis.borrow_mut();
        let slot = usize::try_from(api_key)
            .ok()
            .and_then(|index| apis.get_mut(index));
        if let Some(slot) = slot {
            change(slot.get_or_insert_default());
        }
    }

    /// A copy that can leave the shard; gauges are filled in by the caller.
    pub fn snapshot(&self) -> Snapshot {
        let apis = self.apis.borrow();
        Snapshot {
            apis: apis
                .iter()
                .enumerate()
                .filter_map(|(key, counts)| Some((key as i16, counts.as_deref()?.clone())))
                .collect(),
            records_in: self.records_in.get(),
            record_bytes_in: self.record_bytes_in.get(),
            record_bytes_out: self.record_bytes_out.get(),
            connections_accepted: self.connections_accepted.get(),
            connections_broken: self.connections_broken.get(),
            batches_throttled: self.batches_throttled.get(),
            batches_without_space: self.batches_without_space.get(),
            ..Snapshot::default()
        }
    }
}

/// Everything one shard tells at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Which shard.
    pub shard: usize,
    /// Counts by API key.
    pub apis: Vec<(i16, ApiCounts)>,
    /// Records appended.
    pub records_in: u64,
    /// Bytes of appended batches.
    pub record_bytes_in: u64,
    /// Bytes of batches sent to readers.
    pub record_bytes_out: u64,
    /// Connections ever accepted.
    pub connections_accepted: u64,
    /// Connections closed because the peer broke the protocol.
    pub connections_broken: u64,
    /// Open connections.
    pub connections_open: u64,
    /// Partitions of this shard.
    pub partitions: u64,
    /// Memory budget used, in bytes.
    pub memory_used_bytes: u64,
    /// Memory budget, in bytes.
    pub memory_limit_bytes: u64,
    /// What became of zero-copy sends.
    pub zero_copy: runtime::net::ZeroCopyCounts,
    /// Journal groups committed.
    pub journal_commits: u64,
    /// Bytes committed to the journal.
    pub journal_bytes: u64,
    /// Bytes written to segments by appends or behind them.
    pub segment_bytes: u64,
    /// Bytes of batches that did not go through the journal.
    pub direct_bytes: u64,
    /// Time of one durable group write.
    pub journal_commit_latency: Histogram,
    /// Batch reads served from memory.
    pub cache_hits: u64,
    /// Batch reads that went to the disk.
    pub cache_misses: u64,
    /// Damaged places that reads and the scrubber have met.
    pub corruptions: u64,
    /// Segments that the scrubber has read again.
    pub scrubbed_segments: u64,
    /// Bytes of them.
    pub scrubbed_bytes: u64,
    /// Bytes in the journal that no segment has yet.
    pub dirty_bytes: u64,
    /// What is told of each log directory.
    pub dirs: Vec<DirSnapshot>,
    /// What compaction has done.
    pub cleaner: storage::CleanerCounts,
    /// Batches that were put off because the disk is nearly full.
    pub batches_throttled: u64,
    /// Batches that were refused because the disk is full.
    pub batches_without_space: u64,
}

/// One log directory, as one shard has it at one moment.
#[derive(Debug, Clone, Default)]
pub struct DirSnapshot {
    /// Where it is.
    pub path: String,
    /// 1 when it has failed, or could not be opened.
    pub offline: u64,
    /// Logs that the metadata did not know at the start, and that were kept.
    pub stray_logs: u64,
    /// How full its disk is: 0 enough, 1 warning, 2 producers are slowed down, 3 they are refused.
    pub stage: u64,
    /// Free bytes of its file system.
    pub free_bytes: u64,
    /// Bytes of its file system.
    pub total_bytes: u64,
}
