//! The coordinator on a real shard: its partitions are those of `__consumer_offsets` that the shard leads.
//!
//! *Core*: one per shard, found by work of other shards through [`current`].

use std::cell::RefCell;
use std::ops::Range;
use std::rc::{Rc, Weak};

use cluster::group::{DeletedTopic, GroupSettings};
use cluster::metadata::{CONSUMER_OFFSETS, Image, TopicChange};
use futures_lite::future::BoxedLocal;
use protocol::ErrorCode;
use runtime::Slice;
use runtime::task::{self, Class};

use super::{Coordinator, CoordinatorOptions, OffsetsLog};
use crate::partition::produce::storage_error_code;
use crate::partition::replica::Replica;
use crate::partition::shard::Shard;
use crate::partition::table::PartitionKey;

/// Bytes that one read of a loading partition asks for.
const READ_BYTES: usize = 1 << 20;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Coordinator>>> = const { RefCell::new(None) };
}

/// The coordinator of the shard on whose thread this runs.
pub fn current() -> Rc<Coordinator> {
    CURRENT
        .with_borrow(Clone::clone)
        .expect("every shard starts its coordinator before it serves")
}

/// Starts the coordinator of a shard; it leads what each new image gives the shard.
pub fn start(shard: &Rc<Shard>) -> Rc<Coordinator> {
    let log = Rc::new(ShardOffsets {
        shard: Rc::downgrade(shard),
    });
    let groups = &shard.config.groups;
    let settings = GroupSettings {
        initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms as i32,
        session_timeout_ms_min: groups.session_timeout_min_ms as i32,
        session_timeout_ms_max: groups.session_timeout_max_ms as i32,
        members_max: groups.members_max,
        offsets_retention_ms: groups.offsets_retention_ms,
        offset_metadata_chars_max: groups.offset_metadata_bytes_max,
        ..GroupSettings::default()
    };
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let options = CoordinatorOptions {
        settings,
        batch_bytes_max: READ_BYTES,
        seed,
    };
    let coordinator = Coordinator::new(log, options);
    CURRENT.set(Some(coordinator.clone()));
    task::spawn(Class::Network, coordinator.clone().keep_time()).detach();
    let (owner, follower) = (Rc::downgrade(shard), coordinator.clone());
    shard.set_image_observer(move |before, after| {
        if let Some(shard) = owner.upgrade() {
            follow(&shard, &follower, before, after);
        }
    });
    coordinator
}

/// Leads new partitions, resigns when they or their topic are gone, and forgets the offsets of topics that are gone.
fn follow(shard: &Shard, coordinator: &Rc<Coordinator>, before: &Image, after: &Image) {
    let offsets_topic = |image: &Image| image.topic(CONSUMER_OFFSETS).map(|topic| topic.id);
    if offsets_topic(before) != offsets_topic(after) {
        // Deleted, and perhaps made again: the groups of the old topic are no groups of the new one.
        coordinator.resign_all();
    }
    if let Some(topic) = after.topic(CONSUMER_OFFSETS) {
        for partition in 0..topic.partitions.len() as i32 {
            let key = PartitionKey {
                topic: topic.id,
                partition,
            };
            match shard.table.get(key) {
                Some(_) => coordinator.lead(partition),
                None => coordinator.resign(partition),
            }
        }
    }
    let deleted: Vec<DeletedTopic> = after
        .changes_since(before)
        .into_iter()
        .filter_map(|change| match change {
            TopicChange::Deleted(topic) => Some(DeletedTopic {
                name: topic.name.clone(),
                topic_id: topic.id,
            }),
            TopicChange::Created(_) | TopicChange::Changed(_) => None,
        })
        .collect();
    if !deleted.is_empty() {
        coordinator.forget_topics(&deleted);
    }
}

/// The shard's partitions of `__consumer_offsets`.
struct ShardOffsets {
    shard: Weak<Shard>,
}

impl ShardOffsets {
    fn replica(&self, partition: i32) -> Result<(Rc<Shard>, Rc<Replica>), ErrorCode> {
        let shard = self.shard.upgrade().ok_or(ErrorCode::NotCoordinator)?;
        let topic = shard.image().topic(CONSUMER_OFFSETS).map(|topic| topic.id);
        let key = topic.map(|topic| PartitionKey { topic, partition });
        let replica = key
            .and_then(|key| shard.table.get(key))
            .ok_or(ErrorCode::NotCoordinator)?;
        Ok((shard, replica))
    }
}

impl OffsetsLog for ShardOffsets {
    fn append(&self, partition: i32, batch: Vec<u8>) -> BoxedLocal<Result<(), ErrorCode>> {
        let replica = self.replica(partition);
        Box::pin(async move {
            let (shard, replica) = replica?;
            while !replica.log.has_room(batch.len()) {
                replica
                    .log
                    .reserve(batch.len())
                    .await
                    .map_err(|e| storage_error_code(&e))?;
            }
            let now_ms = runtime::time::wall_clock_ms();
            let appended = replica.log.append(&batch, replica.leader_epoch(), now_ms);
            let sequence = appended
                .map_err(|error| storage_error_code(&error))?
                .sequence;
            shard
                .log_dirs
                .committed(replica.dir, sequence)
                .await
                .map_err(|error| storage_error_code(&error))
        })
    }

    fn bounds(&self, partition: i32) -> Result<Range<i64>, ErrorCode> {
        let (_, replica) = self.replica(partition)?;
        Ok(replica.log.log_start_offset()..replica.log.log_end_offset())
    }

    fn read(&self, partition: i32, offset: i64) -> BoxedLocal<Result<Slice, ErrorCode>> {
        let replica = self.replica(partition);
        Box::pin(async move {
            let (_, replica) = replica?;
            let read = replica
                .log
                .read(offset, READ_BYTES, replica.high_watermark())
                .await;
            // A batch may begin in one slice and end in the next.
            read.map(|read| Slice::joined(read.slices))
                .map_err(|error| storage_error_code(&error))
        })
    }
}
