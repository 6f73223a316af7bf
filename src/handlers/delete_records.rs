//! `DeleteRecords`: moves the log start forward (KIP-107).

use protocol::error_code::ErrorCode;
use protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, partition_key};
use crate::net::response::Response;
use crate::partition::produce::storage_error_code;
use crate::partition::table::PartitionKey;

/// Offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// Serves `DeleteRecords`; a log start is told once it is durable.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DeleteRecordsRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut response = DeleteRecordsResponse::default();
    for asked in &request.topics {
        let topic = image.topic(&asked.name);
        let mut answer = DeleteRecordsTopicResult {
            name: asked.name.clone(),
            ..Default::default()
        };
        for partition in &asked.partitions {
            let key = topic.and_then(|topic| partition_key(topic, partition.partition_index));
            let deleted = match key {
                Some(_) if topic.is_some_and(|topic| topic.is_internal()) => {
                    Err(ErrorCode::InvalidTopicException)
                }
                Some(key) => delete(context, key, partition.offset).await,
                None => Err(ErrorCode::UnknownTopicOrPartition),
            };
            answer.partitions.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: *deleted.as_ref().unwrap_or(&-1),
                error_code: deleted.err().unwrap_or_default().as_i16(),
            });
        }
        response.topics.push(answer);
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

async fn delete(context: &Context<'_>, key: PartitionKey, offset: i64) -> Result<i64, ErrorCode> {
    let shard = &context.handlers.shard;
    let work = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
        let replica = shard.table.find(key)?;
        if !replica.config().cleanup_policy.has_delete() {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = replica.high_watermark();
        let offset = if offset == HIGH_WATERMARK {
            high_watermark
        } else {
            offset
        };
        if !(0..=high_watermark).contains(&offset) {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let moved = replica
            .log
            .advance_log_start(offset)
            .map_err(|e| storage_error_code(&e))?;
        if let Some(sequence) = moved {
            let durable = shard.log_dirs.committed(replica.dir, sequence).await;
            durable.map_err(|error| storage_error_code(&error))?;
        }
        Ok(replica.log.log_start_offset())
    };
    let owner = shard.owner(key);
    shard
        .call(owner, work)
        .await
        .unwrap_or(Err(ErrorCode::NotLeaderOrFollower))
}
