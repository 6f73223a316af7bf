//! `OffsetCommit`, `OffsetFetch` and `OffsetDelete`: the wire's versions around `cluster::group`.

use std::sync::Arc;

use cluster::group::{
    CommitPartition, CommitReply, CommitRequest, CommitTopic, DeleteOffsetsRequest, FetchReply,
    FetchRequest, FetchTopic, Reply, Request, TopicResult,
};
use cluster::metadata::Image;
use protocol::ErrorCode;
use protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use protocol::primitives::{DecodeError, Decoder, Uuid};

use super::context::{Context, partition_key};
use super::coordination::wrong_reply;
use crate::net::response::Response;

/// First version of `OffsetCommit` and `OffsetFetch` that names topics by id.
const BY_ID: i16 = 10;

/// Serves `OffsetCommit`; topics that do not exist are refused one by one.
pub(super) async fn commit(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = OffsetCommitRequest::decode(decoder, context.version())?;
    let image = context.image();
    let by_id = context.version() >= BY_ID;
    let unknown = if by_id {
        ErrorCode::UnknownTopicId
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    let (mut known, mut results) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let found = if by_id {
            image.topic_by_id(topic.topic_id)
        } else {
            image.topic(&topic.name)
        };
        let Some(found) = found else {
            let refused = commit_topic(topic, (*topic.name).into(), topic.topic_id);
            results.extend(CommitReply::error(&[refused], unknown).topics);
            continue;
        };
        let mut asked = commit_topic(topic, found.name.clone(), topic.topic_id);
        let mut refused = asked.clone();
        let exists = |one: &CommitPartition| partition_key(found, one.partition).is_some();
        asked.partitions.retain(exists);
        refused.partitions.retain(|one| !exists(one));
        let missing = ErrorCode::UnknownTopicOrPartition;
        results.extend(CommitReply::error(&[refused], missing).topics);
        known.push(asked);
    }
    known.retain(|topic| !topic.partitions.is_empty());
    if !known.is_empty() {
        let asked = CommitRequest {
            group_id: request.group_id.to_string(),
            member_id: request.member_id.to_string(),
            group_instance_id: request.group_instance_id.as_deref().map(str::to_owned),
            generation_id: request.generation_id_or_member_epoch,
            retention_time_ms: request.retention_time_ms,
            topics: known,
            api_version: context.version(),
        };
        match context
            .handlers
            .ask_group(Request::CommitOffsets(asked))
            .await
        {
            Reply::CommitOffsets(reply) => merge(&mut results, reply.topics),
            other => wrong_reply(&other),
        }
    }
    let response = commit_response(&results);
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

fn commit_response(results: &[TopicResult]) -> OffsetCommitResponse<'_> {
    OffsetCommitResponse {
        topics: results
            .iter()
            .map(|topic| OffsetCommitResponseTopic {
                name: (&*topic.name).into(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|(partition, error)| OffsetCommitResponsePartition {
                        partition_index: *partition,
                        error_code: error.as_i16(),
                    })
                    .collect(),
            })
            .collect(),
        ..Default::default()
    }
}

/// Adds results to those of the same topic.
fn merge(results: &mut Vec<TopicResult>, more: Vec<TopicResult>) {
    for topic in more {
        let same =
            |other: &&mut TopicResult| other.name == topic.name && other.topic_id == topic.topic_id;
        match results.iter_mut().find(same) {
            Some(known) => known.partitions.extend(topic.partitions),
            None => results.push(topic),
        }
    }
}

fn commit_topic(
    topic: &OffsetCommitRequestTopic<'_>,
    name: Arc<str>,
    topic_id: Uuid,
) -> CommitTopic {
    let partitions = topic.partitions.iter().map(|one| CommitPartition {
        partition: one.partition_index,
        offset: one.committed_offset,
        leader_epoch: one.committed_leader_epoch,
        metadata: one.committed_metadata.as_deref().map(str::to_owned),
    });
    CommitTopic {
        name,
        topic_id,
        partitions: partitions.collect(),
    }
}

/// Serves `OffsetFetch`: one group before version 8, several from then on.
pub(super) async fn fetch(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = OffsetFetchRequest::decode(decoder, context.version())?;
    let version = context.version();
    if version < 8 {
        let topics = request.topics.as_ref().map(|topics| {
            let topics = topics.iter().map(|topic| FetchTopic {
                name: (*topic.name).into(),
                topic_id: Uuid::ZERO,
                partitions: topic.partition_indexes.clone(),
            });
            topics.collect()
        });
        let group_id = request.group_id.to_string();
        let asked = FetchRequest {
            group_id,
            topics,
            require_stable: request.require_stable,
        };
        let reply = ask_fetch(context, asked).await;
        let response = single_group(&reply, version);
        return Ok(context.reply().encode(Vec::new(), |encoder, version| {
            response.encode(encoder, version);
        }));
    }
    let image = context.image();
    let mut replies = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        let (asked, unknown) = group_request(&image, group, request.require_stable, version);
        let mut reply = ask_fetch(context, asked).await;
        if version >= BY_ID {
            add_ids(&image, &mut reply);
        }
        replies.push((reply, unknown));
    }
    let groups = request
        .groups
        .iter()
        .zip(&replies)
        .map(|(group, (reply, unknown))| {
            let mut answer = group_response(&group.group_id, reply);
            answer.topics.extend(unknown.iter().map(unknown_topic));
            answer
        });
    let response = OffsetFetchResponse {
        groups: groups.collect(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

async fn ask_fetch(context: &Context<'_>, asked: FetchRequest) -> FetchReply {
    match context
        .handlers
        .ask_group(Request::FetchOffsets(asked))
        .await
    {
        Reply::FetchOffsets(mut reply) => {
            // Older consumers know only this code for "look for the coordinator again" here.
            if reply.error == ErrorCode::CoordinatorNotAvailable {
                reply.error = ErrorCode::NotCoordinator;
            }
            reply
        }
        other => wrong_reply(&other),
    }
}

/// What is asked of a group, and the topics of it that do not exist.
fn group_request(
    image: &Image,
    group: &OffsetFetchRequestGroup<'_>,
    require_stable: bool,
    version: i16,
) -> (FetchRequest, Vec<TopicResult>) {
    let mut unknown = Vec::new();
    let topics = group.topics.as_ref().map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            let partitions = topic.partition_indexes.clone();
            if version < BY_ID {
                let (name, topic_id) = ((*topic.name).into(), Uuid::ZERO);
                known.push(FetchTopic {
                    name,
                    topic_id,
                    partitions,
                });
                continue;
            }
            let topic_id = topic.topic_id;
            match image.topic_by_id(topic_id) {
                Some(found) => {
                    known.push(FetchTopic {
                        name: found.name.clone(),
                        topic_id,
                        partitions,
                    });
                }
                None => unknown.push(TopicResult {
                    name: "".into(),
                    topic_id,
                    partitions: partitions
                        .into_iter()
                        .map(|partition| (partition, ErrorCode::UnknownTopicId))
                        .collect(),
                }),
            }
        }
        known
    });
    let group_id = group.group_id.to_string();
    (
        FetchRequest {
            group_id,
            topics,
            require_stable,
        },
        unknown,
    )
}

/// Gives topics their ids where all of a group's offsets were asked for; offsets of topics that are gone
/// have none and are left out, as Kafka does.
fn add_ids(image: &Image, reply: &mut FetchReply) {
    reply.topics.retain_mut(|topic| {
        if topic.topic_id.is_zero() {
            match image.topic(&topic.name) {
                Some(found) => topic.topic_id = found.id,
                None => return false,
            }
        }
        true
    });
}

fn single_group(reply: &FetchReply, version: i16) -> OffsetFetchResponse<'_> {
    let error_code = reply.error.as_i16();
    OffsetFetchResponse {
        topics: reply
            .topics
            .iter()
            .map(|topic| OffsetFetchResponseTopic {
                name: (&*topic.name).into(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|one| OffsetFetchResponsePartition {
                        partition_index: one.partition,
                        committed_offset: one.offset,
                        committed_leader_epoch: one.leader_epoch,
                        metadata: Some((&*one.metadata).into()),
                        // Before version 2 an error has its place here only.
                        error_code: if version < 2 { error_code } else { 0 },
                    })
                    .collect(),
            })
            .collect(),
        error_code,
        ..Default::default()
    }
}

fn group_response<'a>(group_id: &'a str, reply: &'a FetchReply) -> OffsetFetchResponseGroup<'a> {
    OffsetFetchResponseGroup {
        group_id: group_id.into(),
        topics: reply
            .topics
            .iter()
            .map(|topic| OffsetFetchResponseTopics {
                name: (&*topic.name).into(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|one| OffsetFetchResponsePartitions {
                        partition_index: one.partition,
                        committed_offset: one.offset,
                        committed_leader_epoch: one.leader_epoch,
                        metadata: Some((&*one.metadata).into()),
                        error_code: 0,
                    })
                    .collect(),
            })
            .collect(),
        error_code: reply.error.as_i16(),
    }
}

fn unknown_topic(topic: &TopicResult) -> OffsetFetchResponseTopics<'_> {
    let partitions =
        topic
            .partitions
            .iter()
            .map(|(partition, error)| OffsetFetchResponsePartitions {
                partition_index: *partition,
                committed_offset: -1,
                error_code: error.as_i16(),
                ..Default::default()
            });
    OffsetFetchResponseTopics {
        name: (&*topic.name).into(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

/// Serves `OffsetDelete` (KIP-496).
pub(super) async fn delete(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = OffsetDeleteRequest::decode(decoder, context.version())?;
    let image = context.image();
    let (mut known, mut results) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let found = image.topic(&topic.name);
        let exists = |partition: i32| found.is_some_and(|t| partition_key(t, partition).is_some());
        let partitions = topic.partitions.iter().map(|one| one.partition_index);
        let (here, missing): (Vec<i32>, Vec<i32>) = partitions.partition(|one| exists(*one));
        let error = ErrorCode::UnknownTopicOrPartition;
        results.push(TopicResult {
            name: (*topic.name).into(),
            topic_id: Uuid::ZERO,
            partitions: missing
                .into_iter()
                .map(|partition| (partition, error))
                .collect(),
        });
        known.push(((*topic.name).into(), here));
    }
    let group_id = request.group_id.to_string();
    let asked = DeleteOffsetsRequest {
        group_id,
        topics: known,
    };
    let reply = match context
        .handlers
        .ask_group(Request::DeleteOffsets(asked))
        .await
    {
        Reply::DeleteOffsets(reply) => reply,
        other => wrong_reply(&other),
    };
    if reply.error == ErrorCode::None {
        merge(&mut results, reply.topics);
    } else {
        results.clear();
    }
    let response = OffsetDeleteResponse {
        error_code: reply.error.as_i16(),
        topics: results
            .iter()
            .map(|topic| OffsetDeleteResponseTopic {
                name: (&*topic.name).into(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|(partition, error)| OffsetDeleteResponsePartition {
                        partition_index: *partition,
                        error_code: error.as_i16(),
                    })
                    .collect(),
            })
            .collect(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
