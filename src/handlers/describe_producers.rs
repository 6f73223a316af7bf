//! `DescribeProducers`: the idempotent producers that partitions remember (KIP-664).
//!
//! Limits: a partition is told once in a request, so that a small request cannot ask for a huge answer.

use std::collections::BTreeSet;

use protocol::error_code::ErrorCode;
use protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use protocol::primitives::{DecodeError, Decoder};
use storage::ProducerSummary;

use super::context::{Context, partition_key};
use crate::net::response::Response;
use crate::partition::table::PartitionKey;

/// Serves `DescribeProducers`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeProducersRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut told = BTreeSet::new();
    let mut response = DescribeProducersResponse::default();
    for asked in &request.topics {
        let topic = image.topic(&asked.name);
        let mut answer = TopicResponse {
            name: asked.name.clone(),
            ..Default::default()
        };
        for index in &asked.partition_indexes {
            let key = topic.and_then(|topic| partition_key(topic, *index));
            let found = match key {
                Some(key) if told.insert(key) => look_up(context, key).await,
                Some(_) => Err(ErrorCode::InvalidRequest),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            answer.partitions.push(partition(*index, found));
        }
        response.topics.push(answer);
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

async fn look_up(
    context: &Context<'_>,
    key: PartitionKey,
) -> Result<Vec<ProducerSummary>, ErrorCode> {
    let shard = &context.handlers.shard;
    let work = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
        let replica = shard.table.find(key)?;
        Ok(replica.log.producers())
    };
    let owner = shard.owner(key);
    shard
        .call(owner, work)
        .await
        .unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}

fn partition(
    partition_index: i32,
    found: Result<Vec<ProducerSummary>, ErrorCode>,
) -> PartitionResponse<'static> {
    let mut answer = PartitionResponse {
        partition_index,
        ..Default::default()
    };
    match found {
        Ok(producers) => answer.active_producers = producers.into_iter().map(state).collect(),
        Err(code) => answer.error_code = code.as_i16(),
    }
    answer
}

/// No transaction is served, so no producer has a coordinator or an open transaction.
fn state(producer: ProducerSummary) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}
