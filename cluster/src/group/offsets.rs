//! The durable committed offsets of one group.
//!
//! *Invariants*
//! - I1. What is here has been written durably: `OffsetFetch` shows nothing that a crash could take back.
//! - I2. No topic without partitions is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::GroupId;
use super::records::{OffsetAndMetadata, OffsetsRecord};

/// A change of one committed offset; nothing deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetUpdate {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) value: Option<OffsetAndMetadata>,
}

impl OffsetUpdate {
    /// The record that makes the change durable.
    pub(super) fn to_record(&self, group_id: &GroupId) -> OffsetsRecord {
        OffsetsRecord::Offset {
            group_id: group_id.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            value: self.value.clone(),
        }
    }
}

/// The durable committed offsets of one group, by topic and partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CommittedOffsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, OffsetAndMetadata>>,
}

impl CommittedOffsets {
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetAndMetadata> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn by_topic(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<i32, OffsetAndMetadata>)> {
        self.topics.iter()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetAndMetadata)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic, *partition, offset))
        })
    }

    pub(super) fn apply(&mut self, update: OffsetUpdate) {
        match update.value {
            Some(offset) => {
                self.topics
                    .entry(update.topic)
                    .or_default()
                    .insert(update.partition, offset);
            }
            None => {
                if let Some(partitions) = self.topics.get_mut(&update.topic) {
                    partitions.remove(&update.partition);
                    if partitions.is_empty() {
                        self.topics.remove(&update.topic);
                    }
                }
            }
        }
    }

    pub(super) fn check_invariants(&self) {
        assert!(
            self.topics
                .values()
                .all(|partitions| !partitions.is_empty()),
            "I2"
        );
    }
}
