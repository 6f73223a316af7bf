//! `DescribeLogDirs`: sizes of partitions in this broker's data directory (KIP-113, KIP-827).

use std::collections::BTreeMap;

use protocol::error_code::ErrorCode;
use protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use crate::net::response::Response;
use crate::partition::table::PartitionKey;

/// Serves `DescribeLogDirs`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeLogDirsRequest::decode(decoder, context.version())?;
    let sizes = context.handlers.shard.call_all(|shard| async move {
        let replicas = shard.table.replicas();
        replicas
            .iter()
            .map(|replica| (replica.key, replica.log.size_bytes()))
            .collect::<Vec<_>>()
    });
    let sizes: BTreeMap<PartitionKey, u64> = sizes
        .await
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    let image = context.image();
    let mut topics = Vec::new();
    for topic in image.topics() {
        let wanted = |partition: i32| match &request.topics {
            None => true,
            Some(asked) => asked
                .iter()
                .any(|asked| asked.topic == *topic.name && asked.partitions.contains(&partition)),
        };
        let partitions: Vec<_> = (0..topic.partitions.len() as i32)
            .filter(|partition| wanted(*partition))
            .filter_map(|partition| {
                let size = sizes.get(&PartitionKey {
                    topic: topic.id,
                    partition,
                })?;
                Some(DescribeLogDirsPartition {
                    partition_index: partition,
                    partition_size: i64::try_from(*size).unwrap_or(i64::MAX),
                    ..Default::default()
                })
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic {
                name: (&*topic.name).into(),
                partitions,
            });
        }
    }
    let data_dir = &context.handlers.shard.config.data_dir;
    let wire = |bytes: std::io::Result<u64>| {
        let bytes = bytes.ok().and_then(|bytes| i64::try_from(bytes).ok());
        bytes.unwrap_or(-1)
    };
    let total_bytes = wire(runtime::dir::total_bytes(data_dir).await);
    let usable_bytes = wire(runtime::dir::free_bytes(data_dir).await);
    let response = DescribeLogDirsResponse {
        error_code: ErrorCode::None.as_i16(),
        results: vec![DescribeLogDirsResult {
            error_code: ErrorCode::None.as_i16(),
            log_dir: data_dir.display().to_string().into(),
            topics,
            total_bytes,
            usable_bytes,
            is_cordoned: false,
        }],
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
