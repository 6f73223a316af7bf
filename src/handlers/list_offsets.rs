//! `ListOffsets`: earliest, latest, by timestamp, and the record with the largest timestamp.
//!
//! Source: Kafka's `ListOffsets`; −3 is KIP-734 (max timestamp), −4 and −5 are KIP-405/KIP-1005.

use protocol::error_code::ErrorCode;
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, partition_key};
use crate::net::response::Response;
use crate::partition::produce::storage_error_code;
use crate::partition::replica::Replica;
use crate::partition::table::PartitionKey;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// An offset with its timestamp and leader epoch; −1 where there is none.
#[derive(Debug, Clone, Copy)]
struct Position {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

/// Serves `ListOffsets`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = ListOffsetsRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut response = ListOffsetsResponse::default();
    for asked in &request.topics {
        let topic = image.topic(&asked.name);
        let mut answer = ListOffsetsTopicResponse {
            name: asked.name.clone(),
            ..Default::default()
        };
        for partition in &asked.partitions {
            let key = topic.and_then(|topic| partition_key(topic, partition.partition_index));
            let found = match key {
                Some(key) => look_up(context, key, partition).await,
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            answer.partitions.push(partition_response(
                partition.partition_index,
                found,
                context.version(),
            ));
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
    asked: &ListOffsetsPartition,
) -> Result<Position, ErrorCode> {
    let shard = &context.handlers.shard;
    let (timestamp, client_epoch) = (asked.timestamp, asked.current_leader_epoch);
    let work = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
        let replica = shard.table.find(key)?;
        replica.check_leader_epoch(client_epoch)?;
        position(&replica, timestamp).await
    };
    let owner = shard.owner(key);
    shard
        .call(owner, work)
        .await
        .unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}

async fn position(replica: &Replica, timestamp: i64) -> Result<Position, ErrorCode> {
    let log = &replica.log;
    let leader_epoch = replica.leader_epoch();
    let at = |offset| Position {
        offset,
        timestamp: -1,
        leader_epoch,
    };
    let none = Position {
        offset: -1,
        timestamp: -1,
        leader_epoch: -1,
    };
    let found = match timestamp {
        LATEST => return Ok(at(replica.high_watermark())),
        EARLIEST | EARLIEST_LOCAL => return Ok(at(log.log_start_offset())),
        LATEST_TIERED => return Ok(none),
        MAX_TIMESTAMP => log.max_timestamp_offset().await,
        0.. => log.offset_for_timestamp(timestamp).await,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    match found {
        Ok(Some(found)) if found.offset < replica.high_watermark() => Ok(Position {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }),
        Ok(_) => Ok(none),
        Err(error) => Err(storage_error_code(&error)),
    }
}

fn partition_response(
    partition_index: i32,
    found: Result<Position, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let mut answer = ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    };
    match found {
        Ok(position) => {
            answer.timestamp = position.timestamp;
            answer.offset = position.offset;
            if version >= 4 {
                answer.leader_epoch = position.leader_epoch;
            }
        }
        Err(code) => answer.error_code = code.as_i16(),
    }
    answer
}
