//! Which shard owns a partition, the partitions that this shard owns, and those of the node that are offline.
//!
//! Core: every shard has one, with the replicas of its own partitions only.
//! Invariants:
//! - I1 the owner of a partition is a function of its topic id, its number and the shard count, the
//!   same on every shard and in `storage::migrate_shards`.
//! - I2 a partition whose log directory is offline has no replica; every shard knows of it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;

use super::log_dirs::DirIndex;
use super::replica::Replica;

/// Names one partition of one incarnation of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// Topic id; a topic that is deleted and created again has another.
    pub topic: Uuid,
    /// Partition number within the topic.
    pub partition: i32,
}

/// The shard that owns a partition: successive partitions of a topic go to successive shards, topics
/// begin at a shard taken from their (random) id.
pub fn owner(key: PartitionKey, shards: usize) -> usize {
    assert!(shards > 0, "a node has at least one shard");
    let first = u32::from_be_bytes(key.topic.0[..4].try_into().unwrap_or_default());
    (first as usize).wrapping_add(key.partition as usize) % shards
}

/// The partitions of one shard.
#[derive(Default)]
pub struct Table {
    replicas: RefCell<HashMap<PartitionKey, Rc<Replica>>>,
    offline: RefCell<BTreeSet<PartitionKey>>,
}

impl Table {
    /// The partition's replica on this shard.
    pub fn get(&self, key: PartitionKey) -> Option<Rc<Replica>> {
        self.replicas.borrow().get(&key).cloned()
    }

    /// The replica of a partition that this shard owns.
    ///
    /// # Errors
    /// What a client is told: its log directory is offline, or it is being opened or closed right now.
    pub fn find(&self, key: PartitionKey) -> Result<Rc<Replica>, ErrorCode> {
        self.get(key).ok_or_else(|| {
            if self.is_offline(key) {
                ErrorCode::KafkaStorageError
            } else {
                ErrorCode::NotLeaderOrFollower
            }
        })
    }

    /// Adds a replica; the shard has no other of that key.
    pub fn insert(&self, key: PartitionKey, replica: Rc<Replica>) {
        let before = self.replicas.borrow_mut().insert(key, replica);
        assert!(before.is_none(), "partition {key:?} is opened once");
    }

    /// Takes a replica out.
    pub fn remove(&self, key: PartitionKey) -> Option<Rc<Replica>> {
        self.replicas.borrow_mut().remove(&key)
    }

    /// Whether the partition's log directory is offline, whichever shard owns it.
    pub fn is_offline(&self, key: PartitionKey) -> bool {
        self.offline.borrow().contains(&key)
    }

    /// The partitions that are offline.
    pub fn offline(&self) -> Vec<PartitionKey> {
        self.offline.borrow().iter().copied().collect()
    }

    /// Notes partitions, of whichever shard, as offline.
    pub fn note_offline(&self, keys: impl IntoIterator<Item = PartitionKey>) {
        self.offline.borrow_mut().extend(keys);
    }

    /// Takes the replicas in a failed directory out; their partitions are offline.
    pub fn take_offline(&self, dir: DirIndex) -> Vec<Rc<Replica>> {
        let is_in = |_: &PartitionKey, replica: &mut Rc<Replica>| replica.dir == dir;
        let mut replicas = self.replicas.borrow_mut();
        let taken = replicas.extract_if(is_in).map(|(_, replica)| replica);
        let taken: Vec<_> = taken.collect();
        self.note_offline(taken.iter().map(|replica| replica.key));
        taken
    }

    /// Forgets the offline partitions of a topic that is gone.
    pub fn forget_offline(&self, topic: Uuid) {
        self.offline.borrow_mut().retain(|key| key.topic != topic);
    }

    /// All replicas, in no order.
    pub fn replicas(&self) -> Vec<Rc<Replica>> {
        self.replicas.borrow().values().cloned().collect()
    }

    /// Number of partitions.
    pub fn count(&self) -> usize {
        self.replicas.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_spread_over_all_shards() {
        for shards in 1..5 {
            let mut counts = vec![0; shards];
            for partition in 0..12 * shards as i32 {
                counts[owner(
                    PartitionKey {
                        topic: Uuid([7; 16]),
                        partition,
                    },
                    shards,
                )] += 1;
            }
            assert!(counts.iter().all(|count| *count == 12), "{counts:?}");
        }
    }
}
