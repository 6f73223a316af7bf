//! Metadata: brokers and topics; creates topics that are asked for and do not exist, if it may.

use std::sync::Arc;

use cluster::metadata::{Image, Partition, Topic};
use protocol::error_code::ErrorCode;
use protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::primitives::{DecodeError, Decoder};

use super::authorized_operations;
use super::context::Context;
use super::create_topics;
use crate::net::response::Response;
use crate::partition::table::PartitionKey;

/// Leader of a partition that has none.
pub(super) const NO_LEADER: i32 = -1;

/// Serves Metadata.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = MetadataRequest::decode(decoder, context.version())?;
    // Version 0 has no null: there an empty list means all topics.
    let wants_all = request
        .topics
        .as_ref()
        .is_none_or(|topics| context.version() == 0 && topics.is_empty());
    if request.allow_auto_topic_creation && context.handlers.shard.config.topics.auto_create {
        create_missing(context, request.topics.as_deref().unwrap_or_default()).await;
    }
    let image = context.image();
    let mut topics = Vec::new();
    if wants_all {
        let all = image.topics();
        topics.extend(all.map(|topic| topic_response(context, topic, &request)));
    }
    for asked in request.topics.iter().flatten() {
        topics.push(answer_topic(context, &image, asked, &request));
    }
    let response = MetadataResponse {
        brokers: brokers(&image),
        cluster_id: Some(image.cluster_id().into()),
        controller_id: context.handlers.shard.config.node_id,
        topics,
        cluster_authorized_operations: authorized_operations::cluster(
            request.include_cluster_authorized_operations,
        ),
        ..MetadataResponse::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Creates the named topics that do not exist; what cannot be created is told as unknown below.
async fn create_missing(context: &Context<'_>, asked: &[MetadataRequestTopic<'_>]) {
    let image = context.image();
    let missing: Vec<String> = asked
        .iter()
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| image.topic(name).is_none())
        .map(str::to_owned)
        .collect();
    for name in missing {
        create_topics::create_automatically(context.handlers, &name).await;
    }
}

fn brokers(image: &Image) -> Vec<MetadataResponseBroker<'_>> {
    image
        .brokers()
        .map(|broker| MetadataResponseBroker {
            node_id: broker.id,
            host: broker.host.as_str().into(),
            port: i32::from(broker.port),
            rack: broker.rack.as_deref().map(Into::into),
        })
        .collect()
}

fn answer_topic<'a>(
    context: &Context<'_>,
    image: &'a Image,
    asked: &'a MetadataRequestTopic<'_>,
    request: &MetadataRequest<'_>,
) -> MetadataResponseTopic<'a> {
    let by_id = !asked.topic_id.is_zero();
    let name = asked.name.as_deref();
    let topic = if by_id {
        image.topic_by_id(asked.topic_id)
    } else {
        name.and_then(|name| image.topic(name))
    };
    if let Some(topic) = topic {
        return topic_response(context, topic, request);
    }
    let error = match name {
        _ if by_id => ErrorCode::UnknownTopicId,
        Some(name) if cluster::controller::validate_topic_name(name).is_err() => {
            ErrorCode::InvalidTopicException
        }
        _ => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic {
        error_code: error.as_i16(),
        name: name.map(Into::into),
        topic_id: asked.topic_id,
        ..MetadataResponseTopic::default()
    }
}

fn topic_response<'a>(
    context: &Context<'_>,
    topic: &'a Arc<Topic>,
    request: &MetadataRequest<'_>,
) -> MetadataResponseTopic<'a> {
    MetadataResponseTopic {
        error_code: ErrorCode::None.as_i16(),
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: topic
            .partitions
            .iter()
            .enumerate()
            .map(|(index, partition)| {
                let index = index as i32;
                let is_offline = is_offline(context, topic, index);
                partition_response(index, partition, is_offline)
            })
            .collect(),
        topic_authorized_operations: authorized_operations::topic(
            request.include_topic_authorized_operations,
        ),
    }
}

/// A partition whose log directory is offline has no leader, nobody in sync, and its replica is offline; so
/// Kafka's controller leaves it with eligible leader replicas (KIP-966), as new clusters have them.
fn partition_response(
    index: i32,
    partition: &Partition,
    is_offline: bool,
) -> MetadataResponsePartition {
    let told = MetadataResponsePartition {
        error_code: ErrorCode::None.as_i16(),
        partition_index: index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: replicas(partition),
        isr_nodes: partition.isr.clone(),
        offline_replicas: Vec::new(),
    };
    if !is_offline {
        return told;
    }
    MetadataResponsePartition {
        error_code: ErrorCode::LeaderNotAvailable.as_i16(),
        leader_id: NO_LEADER,
        isr_nodes: Vec::new(),
        offline_replicas: replicas(partition),
        ..told
    }
}

/// The brokers of a partition's replicas.
pub(super) fn replicas(partition: &Partition) -> Vec<i32> {
    let replicas = partition.replicas.iter();
    replicas.map(|replica| replica.broker).collect()
}

/// Whether the partition's log directory is offline.
pub(super) fn is_offline(context: &Context<'_>, topic: &Topic, partition: i32) -> bool {
    context.handlers.shard.table.is_offline(PartitionKey {
        topic: topic.id,
        partition,
    })
}
