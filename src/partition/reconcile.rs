//! Makes this shard's partitions what the metadata image says: opens, closes, deletes, reconfigures.
//!
//! Place: the controller calls [`reconcile`] on every shard for every new image; `node` at start.
//! Core: each shard for the partitions that it owns.
//! Durability: a log is created and deleted through the journal of its directory; after a crash the next start
//! finds what the image names and deletes logs whose topic was deleted ([`delete_orphans`]). A log that is
//! nowhere is made, but not while a directory is offline: it may be in there, and an empty one elsewhere would
//! lose its records. Source: Kafka's `LogManager` has the same rule.

use std::rc::Rc;
use std::sync::Arc;

use cluster::configs::{BrokerLayers, TopicConfig};
use cluster::metadata::{Image, Partition, Topic, TopicChange};
use protocol::primitives::Uuid;
use storage::{CompactionConfig, LogConfig, LogId, PartitionLog, StorageError};

use super::log_dirs::{Awaited, DirIndex};
use super::replica::Replica;
use super::shard::Shard;
use super::table::PartitionKey;

/// Follows `image` from the image that the shard has.
pub async fn reconcile(shard: Rc<Shard>, image: Arc<Image>) -> Result<(), StorageError> {
    let before = shard.image();
    let mut outcome = Ok(());
    for change in image.changes_since(&before) {
        let done = match change {
            TopicChange::Created(topic) | TopicChange::Changed(topic) => {
                open_topic(&shard, &image, &topic).await
            }
            TopicChange::Deleted(topic) => delete_topic(&shard, &topic).await,
        };
        outcome = outcome.and(done);
    }
    if image.broker_configs(shard.config.node_id) != before.broker_configs(shard.config.node_id)
        || image.broker_defaults() != before.broker_defaults()
    {
        for topic in image.topics() {
            outcome = outcome.and(open_topic(&shard, &image, topic).await);
        }
    }
    shard.set_image(image);
    outcome
}

/// Opens what is not open yet, and brings epochs and configs of the rest up to date.
async fn open_topic(shard: &Shard, image: &Image, topic: &Topic) -> Result<(), StorageError> {
    let layers = BrokerLayers::new(image, shard.config.node_id, &shard.broker_configs);
    let config = Rc::new(TopicConfig::resolve(&topic.configs, &layers));
    let in_log = log_config(&config, topic.is_internal());
    let mut created = Awaited::default();
    for (index, partition) in topic.partitions.iter().enumerate() {
        let key = PartitionKey {
            topic: topic.id,
            partition: index as i32,
        };
        if partition.leader != shard.config.node_id || shard.owner(key) != shard.id {
            continue;
        }
        if let Some(replica) = shard.table.get(key) {
            let storage = shard.log_dirs.opened(replica.dir)?;
            storage.update_config(log_id(key), in_log.clone());
            replica.set_leader_epoch(partition.leader_epoch);
            replica.set_config(config.clone());
            continue;
        }
        let Some((dir, log)) = open_log(shard, key, partition, &in_log, &mut created)? else {
            shard.table.note_offline([key]);
            continue;
        };
        let replica = Replica::new(key, dir, log, partition.leader_epoch, config.clone());
        shard.table.insert(key, replica);
        runtime::task::yield_if_needed().await;
    }
    for (dir, last) in created.iter() {
        let committed = shard.log_dirs.committed(dir, last).await;
        shard.log_dirs.unless_failed(dir, committed)?;
    }
    Ok(())
}

/// The partition's log, made if it is new; nothing if it is in a directory that is offline.
fn open_log(
    shard: &Shard,
    key: PartitionKey,
    partition: &Partition,
    config: &LogConfig,
    created: &mut Awaited,
) -> Result<Option<(DirIndex, PartitionLog)>, StorageError> {
    let (id, dirs) = (log_id(key), &shard.log_dirs);
    if let Some((dir, log)) = dirs.find(id) {
        dirs.opened(dir)?.update_config(id, config.clone());
        return Ok(Some((dir, log)));
    }
    // A partition begins in leader epoch 0, and every start of its leader begins another.
    let is_new = partition.leader_epoch == 0;
    if shard.table.is_offline(key) || !is_new && dirs.has_offline() {
        return Ok(None);
    }
    let Some((dir, storage)) = dirs.place() else {
        return Ok(None);
    };
    let (log, sequence) = storage.begin_create_log(id, config.clone())?;
    created.note(dir, sequence);
    Ok(Some((dir, log)))
}

/// What is in a directory that is offline is deleted when a start finds it again.
async fn delete_topic(shard: &Shard, topic: &Topic) -> Result<(), StorageError> {
    shard.table.forget_offline(topic.id);
    let mut outcome = Ok(());
    for index in 0..topic.partitions.len() {
        let key = PartitionKey {
            topic: topic.id,
            partition: index as i32,
        };
        if let Some(replica) = shard.table.remove(key) {
            replica.wake_fetches();
            let storage = shard.log_dirs.opened(replica.dir)?;
            let deleted = storage.delete_log(log_id(key)).await;
            let deleted = shard.log_dirs.unless_failed(replica.dir, deleted);
            outcome = outcome.and(deleted.map(drop));
        }
    }
    outcome
}

/// Deletes logs whose topic was deleted: that was durable in the metadata and the crash came before the journal
/// had it, or their directory was offline. A log of which the metadata knows nothing was made after what this
/// metadata is a copy of: it is kept, and is there again with the right metadata. Kafka keeps stray logs, too.
/// How many were deleted.
pub async fn delete_orphans(shard: &Shard, image: &Image) -> Result<usize, StorageError> {
    let mut deleted = 0;
    for (dir, storage) in shard.log_dirs.online() {
        for log in storage.logs() {
            let id = log.id();
            let topic = Uuid(id.topic);
            let partitions = image.topic_by_id(topic).map(|topic| topic.partitions.len());
            if partitions.is_some_and(|count| (id.partition as usize) < count) {
                continue;
            }
            if !image.was_deleted(topic) && !shard.config.storage.delete_stray_logs {
                tracing::warn!(log = ?id, "the metadata does not know this log, which is kept: is it an old copy?");
                let stray = &shard.log_dirs.all()[dir].stray_logs;
                stray.set(stray.get() + 1);
                continue;
            }
            tracing::info!(log = ?id, "deleting the log of a deleted topic");
            let deletion = storage.delete_log(id).await;
            let is_deleted = shard.log_dirs.unless_failed(dir, deletion)?;
            deleted += usize::from(is_deleted == Some(true));
        }
    }
    Ok(deleted)
}

/// The name under which storage knows a partition.
pub fn log_id(key: PartitionKey) -> LogId {
    LogId {
        topic: key.topic.0,
        partition: key.partition as u32,
    }
}

/// The part of a topic's configs that storage follows. Coordinators write on when the disk is full.
fn log_config(config: &TopicConfig, is_internal: bool) -> LogConfig {
    let deletes = config.cleanup_policy.has_delete();
    let compaction = CompactionConfig {
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
    };
    let compaction = Some(compaction).filter(|_| config.cleanup_policy.has_compact());
    let segment_ms = i64::try_from(config.segment_ms).unwrap_or(i64::MAX);
    // What is in the active segment is never cleaned, so the lag bounds its age, too (KIP-354).
    let lag_ms = compaction.map_or(i64::MAX, |compaction| compaction.max_compaction_lag_ms);
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: segment_ms.min(lag_ms),
        retention_ms: config
            .retention_ms
            .filter(|_| deletes)
            .map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
        retention_bytes: config.retention_bytes.filter(|_| deletes),
        compaction,
        may_use_reserve: is_internal,
    }
}
