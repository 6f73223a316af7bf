//! `DescribeTopicPartitions`: partitions in pages, for clients with many of them (KIP-966).

use cluster::metadata::{Image, Partition, Topic};
use protocol::error_code::ErrorCode;
use protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use protocol::primitives::{DecodeError, Decoder};

use super::authorized_operations;
use super::context::Context;
use super::metadata::{NO_LEADER, is_offline, replicas};
use crate::net::response::Response;

/// Most partitions in one answer (Kafka: max.request.partition.size.limit).
const PARTITIONS_MAX: usize = 2000;

/// Serves `DescribeTopicPartitions`.
pub(super) fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeTopicPartitionsRequest::decode(decoder, context.version())?;
    let image = context.image();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(1);
    let response = page(context, &image, &request, limit.clamp(1, PARTITIONS_MAX));
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Topics in the order of their names, from the cursor on, until `limit` partitions are told.
fn page<'a>(
    context: &Context<'_>,
    image: &'a Image,
    request: &'a DescribeTopicPartitionsRequest<'_>,
    limit: usize,
) -> DescribeTopicPartitionsResponse<'a> {
    let mut names: Vec<&str> = if request.topics.is_empty() {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| &*topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (from_name, mut from_partition) = match &request.cursor {
        Some(cursor) => (
            &*cursor.topic_name,
            usize::try_from(cursor.partition_index).unwrap_or(0),
        ),
        None => ("", 0),
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names.into_iter().filter(|name| *name >= from_name) {
        if name != from_name {
            from_partition = 0;
        }
        if left == 0 {
            response.next_cursor = Some(Cursor {
                topic_name: name.into(),
                partition_index: from_partition as i32,
            });
            break;
        }
        let Some(topic) = image.topic(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let told = (topic.partitions.len().saturating_sub(from_partition)).min(left);
        let from = from_partition;
        response.topics.push(describe(context, topic, from, told));
        left -= told;
        if from_partition + told < topic.partitions.len() {
            let partition_index = (from_partition + told) as i32;
            response.next_cursor = Some(Cursor {
                topic_name: name.into(),
                partition_index,
            });
            break;
        }
    }
    response
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic<'_> {
    let error = match cluster::controller::validate_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.as_i16(),
        name: Some(name.into()),
        ..Default::default()
    }
}

fn describe<'a>(
    context: &Context<'_>,
    topic: &'a Topic,
    from: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.as_i16(),
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .enumerate()
            .skip(from)
            .take(count)
            .map(|(index, partition)| {
                let index = index as i32;
                partition_response(index, partition, is_offline(context, topic, index))
            })
            .collect(),
        topic_authorized_operations: authorized_operations::topic(true),
    }
}

fn partition_response(
    index: i32,
    partition: &Partition,
    is_offline: bool,
) -> DescribeTopicPartitionsResponsePartition {
    let told = DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode::None.as_i16(),
        partition_index: index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: replicas(partition),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    };
    if !is_offline {
        return told;
    }
    DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode::LeaderNotAvailable.as_i16(),
        leader_id: NO_LEADER,
        isr_nodes: Vec::new(),
        eligible_leader_replicas: Some(partition.isr.clone()),
        offline_replicas: replicas(partition),
        ..told
    }
}
