//! Which shard owns a partition, and the partitions that this shard owns.
//!
//! Core: every shard has one, with its own partitions only.
//! Invariants:
//! - I1 the owner of a partition is a function of its topic id, its number and the shard count, the
//!   same on every shard and in `storage::migrate_shards`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use protocol::primitives::Uuid;

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
}

impl Table {
    /// The partition's replica on this shard.
    pub fn get(&self, key: PartitionKey) -> Option<Rc<Replica>> {
        self.replicas.borrow().get(&key).cloned()
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

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<PartitionKey> {
        self.replicas.borrow().keys().copied().collect()
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
