//! Work that no request asks for: retention and compaction, in small steps, on every shard.

use std::rc::Rc;
use std::time::Duration;

use runtime::{task, time};
use storage::{Cleaned, Storage};

use super::log_dirs::DirIndex;
use super::shard::Shard;

/// Enforces retention on every log, again and again, until the node stops.
pub async fn enforce_retention(shard: Rc<Shard>) {
    let interval = Duration::from_millis(shard.config.topics.retention_check_ms);
    while !shard.is_stopping() {
        time::sleep(interval).await;
        for replica in shard.table.replicas() {
            if let Err(error) = replica.log.enforce_retention(time::wall_clock_ms()) {
                tracing::warn!(partition = ?replica.key, %error, "retention failed; tried again later");
            }
            task::yield_if_needed().await;
        }
    }
}

/// Cleans compacted logs of a directory, the dirtiest first, as long as one needs it; then looks again after a
/// while. Each directory has its own: one that is always dirty, or hangs, does not keep the others dirty.
pub async fn compact(shard: Rc<Shard>, dir: DirIndex) {
    let interval = Duration::from_millis(shard.config.compaction.interval_ms);
    while !shard.is_stopping() {
        time::sleep(interval).await;
        let Ok(storage) = shard.log_dirs.opened(dir) else {
            return;
        };
        compact_all(&shard, dir, storage).await;
    }
}

async fn compact_all(shard: &Shard, dir: DirIndex, storage: &Storage) {
    loop {
        let replicas = shard.table.replicas().into_iter();
        let compacted = replicas
            .filter(|replica| replica.dir == dir && replica.log.config().compaction.is_some());
        let candidates = compacted.map(|replica| {
            // What is readable may still be lost where the topic asks for memory only.
            let stable_end = replica
                .high_watermark()
                .min(replica.log.durable_end_offset());
            (replica.log.clone(), stable_end)
        });
        match storage.clean_next(candidates).await {
            Cleaned::Log(_) if !shard.is_stopping() => {}
            Cleaned::Log(_) | Cleaned::NotNow(_) | Cleaned::Nothing => break,
        }
    }
}
