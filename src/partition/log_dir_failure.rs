//! A log directory fails: its partitions go offline, on every shard, and those of the others stay.
//!
//! Place: `node` runs [`watch`] for each directory on each shard; a directory that could not be opened fails at once.
//! Durability: what was acknowledged is in the directory, and is served again when a start finds it. Until then
//! clients are told `KAFKA_STORAGE_ERROR`, and Metadata shows the partitions without a leader.

use std::rc::Rc;

use super::log_dirs::DirIndex;
use super::shard::Shard;
use super::table::PartitionKey;

/// Waits until a directory of this shard has failed, takes it offline on all, and answers the reason.
/// When the node stops, each shard closes what it has: a full disk that one gives up is no failure of the others.
pub async fn watch(shard: Rc<Shard>, dir: DirIndex) -> String {
    let reason = shard.log_dirs.failed(dir).await;
    if shard.is_stopping() {
        return reason;
    }
    for to in others(&shard) {
        let reason = reason.clone();
        let follow = move |shard: Rc<Shard>| async move {
            shard.log_dirs.take_offline(dir, &reason);
        };
        shard.post(to, follow).await;
    }
    let taken = shard.table.take_offline(dir);
    shard.notice_offline();
    for replica in &taken {
        replica.wake_fetches();
    }
    announce(&shard, taken.iter().map(|replica| replica.key).collect()).await;
    reason
}

/// Tells the other shards of partitions that are offline.
pub async fn announce(shard: &Rc<Shard>, keys: Vec<PartitionKey>) {
    if keys.is_empty() {
        return;
    }
    tracing::warn!(
        shard = shard.id,
        partitions = keys.len(),
        "partitions are offline with their log directory"
    );
    for to in others(shard) {
        let keys = keys.clone();
        let note = move |shard: Rc<Shard>| async move { shard.table.note_offline(keys) };
        shard.post(to, note).await;
    }
}

fn others(shard: &Shard) -> impl Iterator<Item = usize> + use<> {
    let own = shard.id;
    (0..shard.count()).filter(move |to| *to != own)
}

#[cfg(test)]
pub(super) mod tests;
