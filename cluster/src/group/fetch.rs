//! `OffsetFetch`: the durable offsets of a group.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::Uuid;

use super::event::{FetchReply, FetchTopic, FetchedOffset, FetchedTopic};
use super::group::Group;
use super::records::OffsetAndMetadata;

impl Group {
    /// What `OffsetFetch` shows: the asked partitions, or all that have an offset.
    pub(super) fn fetch(&self, topics: Option<&[FetchTopic]>) -> FetchReply {
        let topics = match topics {
            Some(topics) => topics.iter().map(|topic| self.fetch_topic(topic)).collect(),
            None => self.fetch_all(),
        };
        FetchReply {
            error: ErrorCode::None,
            topics,
        }
    }

    fn fetch_topic(&self, topic: &FetchTopic) -> FetchedTopic {
        let partitions = topic.partitions.iter().map(|partition| {
            let offset = self.offsets.get(&topic.name, *partition);
            let offset = offset.filter(|offset| is_same_topic(offset.topic_id, topic.topic_id));
            offset.map_or_else(|| no_offset(*partition), |offset| shown(*partition, offset))
        });
        let partitions = partitions.collect();
        FetchedTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions,
        }
    }

    fn fetch_all(&self) -> Vec<FetchedTopic> {
        let topics = self
            .offsets
            .by_topic()
            .map(|(name, partitions)| FetchedTopic {
                name: name.clone(),
                topic_id: Uuid::ZERO,
                partitions: partitions
                    .iter()
                    .map(|(p, offset)| shown(*p, offset))
                    .collect(),
            });
        topics.collect()
    }
}

/// What a group that does not exist shows.
pub(super) fn fetch_nothing(topics: Option<&[FetchTopic]>) -> FetchReply {
    let topics = topics.unwrap_or_default().iter().map(|topic| FetchedTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| no_offset(*partition))
            .collect(),
    });
    FetchReply {
        error: ErrorCode::None,
        topics: topics.collect(),
    }
}

/// An offset of a topic that was deleted and made again does not count.
fn is_same_topic(committed: Uuid, asked: Uuid) -> bool {
    committed == Uuid::ZERO || asked == Uuid::ZERO || committed == asked
}

fn shown(partition: i32, offset: &OffsetAndMetadata) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
    }
}

fn no_offset(partition: i32) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: -1,
        leader_epoch: -1,
        metadata: Arc::from(""),
    }
}
