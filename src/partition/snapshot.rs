//! What metrics show of a shard at one moment.

use storage::{Storage, StorageCounts};

use super::log_dirs::LogDir;
use super::shard::Shard;
use crate::metrics::{DirSnapshot, Histogram, Snapshot};

impl Shard {
    /// What metrics show of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            shard: self.id,
            connections_open: self.connections.count() as u64,
            partitions: self.table.count() as u64,
            memory_used_bytes: self.budget.used() as u64,
            memory_limit_bytes: self.budget.limit() as u64,
            zero_copy: self.connections.zero_copy_counts(),
            ..self.metrics.snapshot()
        };
        for dir in self.log_dirs.all() {
            snapshot.dirs.push(describe(dir));
            if let Ok(storage) = &dir.opened {
                add(&mut snapshot, storage);
            }
        }
        snapshot
    }
}

fn describe(dir: &LogDir) -> DirSnapshot {
    let (stage, disk) = dir.online().map(Storage::space).unwrap_or_default();
    DirSnapshot {
        path: dir.path.display().to_string(),
        offline: u64::from(dir.online().is_none()),
        stray_logs: dir.stray_logs.get(),
        stage: stage as u64,
        free_bytes: disk.free_bytes,
        total_bytes: disk.total_bytes,
    }
}

/// Adds what one directory's storage counts.
fn add(snapshot: &mut Snapshot, storage: &Storage) {
    let journal = storage.journal().counts();
    let latency = Histogram::from_log2(&journal.commit_us_log2, journal.commit_us_sum);
    snapshot.journal_commits += journal.commits;
    snapshot.journal_bytes += journal.bytes_written;
    snapshot.journal_commit_latency.merge(&latency);
    let StorageCounts {
        dirty_bytes,
        segment_bytes,
        direct_bytes,
        read_cache,
        cleaner,
        corruptions,
        scrubbed_segments,
        scrubbed_bytes,
        ..
    } = storage.counts();
    snapshot.cache_hits += read_cache.hits;
    snapshot.cache_misses += read_cache.misses;
    snapshot.corruptions += corruptions;
    snapshot.scrubbed_segments += scrubbed_segments;
    snapshot.scrubbed_bytes += scrubbed_bytes;
    snapshot.dirty_bytes += dirty_bytes;
    snapshot.segment_bytes += segment_bytes;
    snapshot.direct_bytes += direct_bytes;
    snapshot.cleaner.add(&cleaner);
}
