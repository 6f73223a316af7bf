//! `OffsetCommit`: who may commit, and what becomes of it.
//!
//! *Durability*: answered, and visible to `OffsetFetch`, when the records are durable.

use protocol::ErrorCode;

use super::effects::{Effects, Then, append_error};
use super::event::{CommitPartition, CommitReply, CommitRequest, Reply, Token, TopicResult};
use super::group::Group;
use super::offsets::OffsetUpdate;
use super::records::OffsetAndMetadata;
use super::state::GroupState;

impl Group {
    pub(super) fn commit(&mut self, token: Token, request: &CommitRequest, fx: &mut Effects<'_>) {
        if let Err(error) = self.validate_commit(request) {
            let reply = CommitReply::error(&request.topics, error);
            fx.reply(token, Reply::CommitOffsets(reply));
            return;
        }
        if matches!(
            self.state,
            GroupState::Stable | GroupState::PreparingRebalance
        ) {
            // A commit keeps the session alive.
            self.touch_session(&request.member_id, fx);
        }
        let (updates, reply) = split_commit(request, fx);
        if updates.is_empty() {
            fx.reply(token, Reply::CommitOffsets(reply));
            return;
        }
        let records = updates
            .iter()
            .map(|update| update.to_record(&self.id))
            .collect();
        let reply = Some((token, Reply::CommitOffsets(reply)));
        fx.append(&self.id, records, Then::Offsets { updates, reply });
    }

    /// *Source*: members commit in their generation; a consumer without membership commits while the
    /// group is empty, with generation −1.
    fn validate_commit(&self, request: &CommitRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if request.generation_id < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let claims_membership = request.generation_id >= 0
            || !request.member_id.is_empty()
            || request.group_instance_id.is_some();
        if claims_membership {
            self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
            if request.generation_id != self.generation_id {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if self.state != GroupState::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == GroupState::CompletingRebalance {
            // Its generation is right, but the partitions are about to be assigned anew.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The records of offsets are durable, or not.
    pub(super) fn offsets_written(
        &mut self,
        updates: Vec<OffsetUpdate>,
        reply: Option<(Token, Reply)>,
        result: Result<(), ErrorCode>,
        fx: &mut Effects<'_>,
    ) {
        if result.is_ok() {
            for update in updates {
                self.offsets.apply(update);
            }
        }
        if let Some((token, reply)) = reply {
            fx.reply(token, failed_where_good(reply, result));
        }
    }
}

/// What can be committed, and the reply for the case that it becomes durable.
fn split_commit(request: &CommitRequest, fx: &Effects<'_>) -> (Vec<OffsetUpdate>, CommitReply) {
    let expire_timestamp_ms = (request.retention_time_ms >= 0)
        .then(|| fx.now.wall_ms.saturating_add(request.retention_time_ms));
    let mut updates = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            if is_metadata_too_long(partition, fx.settings.offset_metadata_chars_max) {
                partitions.push((partition.partition, ErrorCode::OffsetMetadataTooLarge));
                continue;
            }
            partitions.push((partition.partition, ErrorCode::None));
            let value = OffsetAndMetadata {
                offset: partition.offset,
                leader_epoch: partition.leader_epoch.max(-1),
                metadata: partition.metadata.as_deref().unwrap_or_default().into(),
                commit_timestamp_ms: fx.now.wall_ms,
                expire_timestamp_ms,
                topic_id: topic.topic_id,
            };
            updates.push(OffsetUpdate {
                topic: topic.name.clone(),
                partition: partition.partition,
                value: Some(value),
            });
        }
        topics.push(TopicResult {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    (updates, CommitReply { topics })
}

fn is_metadata_too_long(partition: &CommitPartition, chars_max: usize) -> bool {
    let metadata = partition.metadata.as_deref().unwrap_or_default();
    // UTF-8 never takes fewer bytes than UTF-16 takes units, so that counting is rarely needed.
    metadata.len() > chars_max && metadata.encode_utf16().count() > chars_max
}

/// Puts the error of an append where the reply says that all is well.
pub(super) fn failed_where_good(reply: Reply, result: Result<(), ErrorCode>) -> Reply {
    let Err(error) = result else { return reply };
    let error = append_error(error);
    let fail = |topics: &mut Vec<TopicResult>| {
        let results = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for (_, result) in results.filter(|(_, result)| *result == ErrorCode::None) {
            *result = error;
        }
    };
    match reply {
        Reply::CommitOffsets(mut reply) => {
            fail(&mut reply.topics);
            Reply::CommitOffsets(reply)
        }
        Reply::DeleteOffsets(mut reply) => {
            reply.error = error;
            reply.topics.clear();
            Reply::DeleteOffsets(reply)
        }
        Reply::Leave(mut reply) => {
            reply.error = error;
            Reply::Leave(reply)
        }
        Reply::DeleteGroup(_) => Reply::DeleteGroup(error),
        Reply::Join(_) | Reply::Sync(_) | Reply::Heartbeat(_) | Reply::FetchOffsets(_) => {
            unreachable!("{reply:?} does not wait for an append as it stands")
        }
    }
}
