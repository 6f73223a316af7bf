//! `OffsetForLeaderEpoch`: where an epoch ended, so that a client can tell whether it diverged (KIP-320).

use protocol::error_code::ErrorCode;
use protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, partition_key};
use crate::net::response::Response;
use crate::partition::table::PartitionKey;

/// Serves `OffsetForLeaderEpoch`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = OffsetForLeaderEpochRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut response = OffsetForLeaderEpochResponse::default();
    for asked in &request.topics {
        let topic = image.topic(&asked.topic);
        let mut answer = OffsetForLeaderTopicResult {
            topic: asked.topic.clone(),
            ..Default::default()
        };
        for partition in &asked.partitions {
            let key = topic.and_then(|topic| partition_key(topic, partition.partition));
            let found = match key {
                Some(key) => look_up(context, key, partition).await,
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            answer
                .partitions
                .push(end_offset(partition.partition, found));
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
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let shard = &context.handlers.shard;
    let (client_epoch, epoch) = (asked.current_leader_epoch, asked.leader_epoch);
    let work = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
        let replica = shard.table.find(key)?;
        replica.check_leader_epoch(client_epoch)?;
        let (found, end) = replica.log.end_offset_for_epoch(epoch);
        Ok((found, end.min(replica.high_watermark())))
    };
    let owner = shard.owner(key);
    shard
        .call(owner, work)
        .await
        .unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}

fn end_offset(partition: i32, found: Result<(i32, i64), ErrorCode>) -> EpochEndOffset {
    let mut answer = EpochEndOffset {
        partition,
        ..Default::default()
    };
    match found {
        Ok((leader_epoch, end_offset)) => {
            answer.leader_epoch = leader_epoch;
            answer.end_offset = end_offset;
        }
        Err(code) => answer.error_code = code.as_i16(),
    }
    answer
}
