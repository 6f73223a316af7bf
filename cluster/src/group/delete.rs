//! The ways in which offsets and groups go: `OffsetDelete`, `DeleteGroups`, deleted topics, and age (KIP-211).
//!
//! *Durability*: offsets go, and the requests are answered, when the tombstones are durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ErrorCode;
use protocol::Uuid;

use super::effects::{Effects, Then};
use super::event::{DeleteOffsetsReply, DeleteOffsetsRequest, Reply, Token, TopicResult};
use super::group::Group;
use super::offsets::OffsetUpdate;
use super::records::{OffsetAndMetadata, OffsetsRecord};
use super::state::GroupState;

/// A topic that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub topic_id: Uuid,
}

impl Group {
    pub(super) fn delete_offsets(
        &mut self,
        token: Token,
        request: &DeleteOffsetsRequest,
        fx: &mut Effects<'_>,
    ) {
        if let Err(error) = self.validate_delete_offsets() {
            let reply = DeleteOffsetsReply {
                error,
                topics: Vec::new(),
            };
            fx.reply(token, Reply::DeleteOffsets(reply));
            return;
        }
        let known = self.known_offsets(fx);
        let mut updates = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for (name, partitions) in &request.topics {
            let is_subscribed = self.is_subscribed_to(name);
            let error = if is_subscribed {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            };
            for partition in partitions {
                let has_offset = known.contains(&(name.clone(), *partition));
                if !is_subscribed && has_offset {
                    updates.push(tombstone(name, *partition));
                }
            }
            let partitions = partitions
                .iter()
                .map(|partition| (*partition, error))
                .collect();
            topics.push(TopicResult {
                name: name.clone(),
                topic_id: Uuid::ZERO,
                partitions,
            });
        }
        let reply = Reply::DeleteOffsets(DeleteOffsetsReply {
            error: ErrorCode::None,
            topics,
        });
        if updates.is_empty() {
            fx.reply(token, reply);
        } else {
            self.append_updates(updates, Some((token, reply)), fx);
        }
    }

    fn validate_delete_offsets(&self) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Dead => Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => Ok(()),
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => {
                // Of other protocols it is not known what the members read.
                if self.uses_consumer_protocol() {
                    Ok(())
                } else {
                    Err(ErrorCode::NonEmptyGroup)
                }
            }
        }
    }

    /// Begins to delete the group, if nobody is in it. Its offsets stay visible until that is durable.
    pub(super) fn delete(&mut self, token: Option<Token>, fx: &mut Effects<'_>) {
        let refusal = match self.state {
            GroupState::Dead => Some(ErrorCode::GroupIdNotFound),
            GroupState::Empty => None,
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => Some(ErrorCode::NonEmptyGroup),
        };
        if let Some(error) = refusal {
            if let Some(token) = token {
                fx.reply(token, Reply::DeleteGroup(error));
            }
            return;
        }
        let offsets = self.known_offsets(fx);
        let mut records: Vec<_> = offsets
            .iter()
            .map(|(topic, partition)| tombstone(topic, *partition).to_record(&self.id))
            .collect();
        records.push(OffsetsRecord::group_tombstone(&self.id));
        for member_id in std::mem::take(&mut self.pending_members) {
            // Told later that it is unknown, it begins anew.
            self.remove_member(&member_id, fx);
        }
        let state_since_ms = self.state_since_ms;
        self.transition_to(GroupState::Dead, fx.now);
        // Should the tombstone fail, the retention counts on from when the group became empty.
        self.state_since_ms = state_since_ms;
        fx.append(&self.id, records, Then::DeleteGroup { token });
    }

    /// The tombstone could not be written: the group lives on.
    pub(super) fn undo_delete(&mut self, fx: &Effects<'_>) {
        let state_since_ms = self.state_since_ms;
        self.transition_to(GroupState::Empty, fx.now);
        self.state_since_ms = state_since_ms;
    }

    /// Deletes the offsets of deleted topics. An offset of unknown topic id goes by the name.
    pub(super) fn forget_topics(&mut self, deleted: &[DeletedTopic], fx: &mut Effects<'_>) {
        if self.state == GroupState::Dead {
            return;
        }
        let is_deleted = |topic: &str, offset: &OffsetAndMetadata| {
            deleted.iter().any(|gone| {
                *gone.name == *topic
                    && (offset.topic_id == Uuid::ZERO || offset.topic_id == gone.topic_id)
            })
        };
        let durable = self
            .offsets
            .iter()
            .filter(|(topic, _, offset)| is_deleted(topic, offset));
        let mut gone: BTreeSet<(Arc<str>, i32)> = durable
            .map(|(topic, partition, _)| (topic.clone(), partition))
            .collect();
        for update in fx.in_flight.updates_of(&self.id) {
            if update
                .value
                .as_ref()
                .is_some_and(|offset| is_deleted(&update.topic, offset))
            {
                gone.insert((update.topic.clone(), update.partition));
            }
        }
        let updates: Vec<_> = gone.iter().map(|(topic, p)| tombstone(topic, *p)).collect();
        if !updates.is_empty() {
            self.append_updates(updates, None, fx);
        }
    }

    /// Deletes the offsets that are too old, and the group if nothing is left of it.
    ///
    /// *Source*: KIP-211. A group that had members keeps its offsets for the retention after the last
    /// left; offsets that were committed without membership, and those of topics that a stable group no
    /// longer subscribes to, are kept for the retention after the commit.
    pub(super) fn expire(&mut self, fx: &mut Effects<'_>) {
        if self.state == GroupState::Dead || fx.in_flight.last_of(&self.id).is_some() {
            // Offsets on their way are young: the next check will do.
            return;
        }
        let mut updates = Vec::new();
        let mut keeps_offsets = false;
        for (topic, partition, offset) in self.offsets.iter() {
            if !self.is_subscribed_to(topic) && self.is_expired(offset, fx) {
                updates.push(tombstone(topic, partition));
            } else {
                keeps_offsets = true;
            }
        }
        if !keeps_offsets && self.state == GroupState::Empty && self.pending_members.is_empty() {
            self.delete(None, fx);
        } else if !updates.is_empty() {
            self.append_updates(updates, None, fx);
        }
    }

    fn is_expired(&self, offset: &OffsetAndMetadata, fx: &Effects<'_>) -> bool {
        let knows_subscriptions = self.uses_consumer_protocol() && self.subscribed_topics.is_some();
        let since_ms = if self.protocol_type.is_none() {
            offset.commit_timestamp_ms
        } else if self.state == GroupState::Empty {
            self.state_since_ms.unwrap_or(offset.commit_timestamp_ms)
        } else if self.state == GroupState::Stable && knows_subscriptions {
            offset.commit_timestamp_ms
        } else {
            return false;
        };
        match offset.expire_timestamp_ms {
            Some(expire_timestamp_ms) => fx.now.wall_ms >= expire_timestamp_ms,
            None => fx.now.wall_ms.saturating_sub(since_ms) >= fx.settings.offsets_retention_ms,
        }
    }

    /// Every offset that is durable or on its way: a tombstone must follow either.
    fn known_offsets(&self, fx: &Effects<'_>) -> BTreeSet<(Arc<str>, i32)> {
        let durable = self
            .offsets
            .iter()
            .map(|(topic, partition, _)| (topic.clone(), partition));
        let mut known: BTreeSet<_> = durable.collect();
        for update in fx.in_flight.updates_of(&self.id) {
            if update.value.is_some() {
                known.insert((update.topic.clone(), update.partition));
            }
        }
        known
    }

    fn append_updates(
        &mut self,
        updates: Vec<OffsetUpdate>,
        reply: Option<(Token, Reply)>,
        fx: &mut Effects<'_>,
    ) {
        let records = updates
            .iter()
            .map(|update| update.to_record(&self.id))
            .collect();
        fx.append(&self.id, records, Then::Offsets { updates, reply });
    }
}

fn tombstone(topic: &Arc<str>, partition: i32) -> OffsetUpdate {
    OffsetUpdate {
        topic: topic.clone(),
        partition,
        value: None,
    }
}
