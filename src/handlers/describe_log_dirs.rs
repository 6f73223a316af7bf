//! `DescribeLogDirs`: sizes of partitions in each of this broker's log directories (KIP-113, KIP-827).
//! A directory that is offline is told with its error only, as in Kafka.

use std::collections::BTreeMap;

use cluster::metadata::Image;
use protocol::error_code::ErrorCode;
use protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use crate::net::response::Response;
use crate::partition::log_dirs::DirIndex;
use crate::partition::table::PartitionKey;

/// Serves `DescribeLogDirs`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeLogDirsRequest::decode(decoder, context.version())?;
    let sizes = sizes(context).await;
    let mut results = Vec::new();
    for (index, dir) in context.handlers.shard.log_dirs.all().iter().enumerate() {
        let log_dir = dir.path.display().to_string().into();
        if dir.online().is_none() {
            results.push(DescribeLogDirsResult {
                error_code: ErrorCode::KafkaStorageError.as_i16(),
                log_dir,
                topics: Vec::new(),
                total_bytes: -1,
                usable_bytes: -1,
                is_cordoned: false,
            });
            continue;
        }
        results.push(DescribeLogDirsResult {
            error_code: ErrorCode::None.as_i16(),
            log_dir,
            topics: topics(&context.image(), &request, &sizes, index),
            total_bytes: wire(runtime::dir::total_bytes(&dir.path).await),
            usable_bytes: wire(runtime::dir::free_bytes(&dir.path).await),
            is_cordoned: false,
        });
    }
    let response = DescribeLogDirsResponse {
        error_code: ErrorCode::None.as_i16(),
        results,
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Directory and bytes of every partition.
type Sizes = BTreeMap<PartitionKey, (DirIndex, u64)>;

async fn sizes(context: &Context<'_>) -> Sizes {
    let sizes = context.handlers.shard.call_all(|shard| async move {
        let replicas = shard.table.replicas();
        replicas
            .iter()
            .map(|replica| (replica.key, (replica.dir, replica.log.size_bytes())))
            .collect::<Vec<_>>()
    });
    sizes
        .await
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect()
}

/// The wanted partitions in one directory, by topic.
fn topics(
    image: &Image,
    request: &DescribeLogDirsRequest<'_>,
    sizes: &Sizes,
    dir: DirIndex,
) -> Vec<DescribeLogDirsTopic<'static>> {
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
                let key = PartitionKey {
                    topic: topic.id,
                    partition,
                };
                let (_, size) = sizes.get(&key).filter(|(index, _)| *index == dir)?;
                Some(DescribeLogDirsPartition {
                    partition_index: partition,
                    partition_size: i64::try_from(*size).unwrap_or(i64::MAX),
                    ..Default::default()
                })
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic {
                name: topic.name.to_string().into(),
                partitions,
            });
        }
    }
    topics
}

fn wire(bytes: std::io::Result<u64>) -> i64 {
    let bytes = bytes.ok().and_then(|bytes| i64::try_from(bytes).ok());
    bytes.unwrap_or(-1)
}
