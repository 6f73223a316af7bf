//! The dispatch table: API key → handler, and what is answered to requests that have none.

use protocol::api_key::ApiKey;
use protocol::header::RequestHeader;
use protocol::primitives::{DecodeError, Decoder};
use runtime::buffer::Slice;
use runtime::time::{self, Instant};

use super::context::{Context, Handlers};
use super::{
    api_versions, configs, create_partitions, create_topics, delete_records, delete_topics,
    describe_cluster, describe_log_dirs, describe_producers, describe_topic_partitions, fetch,
    find_coordinator, group_membership, group_offsets, groups, init_producer_id, list_offsets,
    metadata, offset_for_leader_epoch, produce,
};
use crate::net::connection::{Answer, Dispatched, Dispatcher, Peer};
use crate::net::response::Response;

impl Dispatcher for Handlers {
    async fn dispatch(&self, peer: &Peer, frame: Slice) -> Dispatched {
        let begun = time::now();
        let mut decoder = Decoder::new(&frame);
        let header = match RequestHeader::decode(&mut decoder) {
            Ok(header) => header,
            Err(error) => return Dispatched::Close(format!("request header: {error}")),
        };
        let context = Context {
            handlers: self,
            peer,
            header,
            frame: &frame,
        };
        let served =
            ApiKey::from_i16(header.api_key).filter(|api| api.served().accepts(header.api_version));
        let Some(api) = served else {
            return refuse(&context);
        };
        let dispatched = match api {
            ApiKey::Produce => {
                let started = produce::start(&context, &mut decoder).await;
                started.map(|answer| self.counted_later(header.api_key, frame.len(), begun, answer))
            }
            ApiKey::Fetch => fetch::handle(&context, &mut decoder)
                .await
                .map(Dispatched::Ready),
            _ => handle(&context, api, decoder).await.map(Dispatched::Ready),
        };
        match dispatched {
            Ok(dispatched) => {
                self.count(header.api_key, frame.len(), begun, &dispatched);
                dispatched
            }
            Err(error) => {
                self.shard.metrics.count_failure(header.api_key);
                let (name, version) = (api.name(), header.api_version);
                Dispatched::Close(format!("{name} v{version} cannot be decoded: {error}"))
            }
        }
    }
}

/// An API or version that is not served. `ApiVersions` is answered in version 0 with the table, so that
/// a newer client learns what there is (KIP-511); anything else ends the connection, as in Kafka.
fn refuse(context: &Context<'_>) -> Dispatched {
    if context.header.api_key == ApiKey::ApiVersions.as_i16() {
        return Dispatched::Ready(api_versions::refuse_version(context));
    }
    context
        .handlers
        .shard
        .metrics
        .count_failure(context.header.api_key);
    let (key, version) = (context.header.api_key, context.header.api_version);
    Dispatched::Close(match ApiKey::from_i16(key) {
        Some(api) => format!("{} v{version} is not served", api.name()),
        None => format!("API key {key} is not served"),
    })
}

/// Every API but Produce and Fetch, whose futures are boxed: they are rare and large.
async fn handle(
    context: &Context<'_>,
    api: ApiKey,
    mut decoder: Decoder<'_>,
) -> Result<Response, DecodeError> {
    let d = &mut decoder;
    match api {
        ApiKey::Produce | ApiKey::Fetch => unreachable!("dispatched before"),
        ApiKey::ApiVersions => api_versions::handle(context, d),
        ApiKey::Metadata => Box::pin(metadata::handle(context, d)).await,
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::handle(context, d),
        ApiKey::DescribeCluster => describe_cluster::handle(context, d),
        ApiKey::ListOffsets => Box::pin(list_offsets::handle(context, d)).await,
        ApiKey::OffsetForLeaderEpoch => Box::pin(offset_for_leader_epoch::handle(context, d)).await,
        ApiKey::CreateTopics => Box::pin(create_topics::handle(context, d)).await,
        ApiKey::DeleteTopics => Box::pin(delete_topics::handle(context, d)).await,
        ApiKey::CreatePartitions => Box::pin(create_partitions::handle(context, d)).await,
        ApiKey::DescribeConfigs => configs::describe(context, d),
        ApiKey::AlterConfigs => Box::pin(configs::alter(context, d)).await,
        ApiKey::IncrementalAlterConfigs => Box::pin(configs::alter_incrementally(context, d)).await,
        ApiKey::DeleteRecords => Box::pin(delete_records::handle(context, d)).await,
        ApiKey::DescribeLogDirs => Box::pin(describe_log_dirs::handle(context, d)).await,
        ApiKey::DescribeProducers => Box::pin(describe_producers::handle(context, d)).await,
        ApiKey::InitProducerId => Box::pin(init_producer_id::handle(context, d)).await,
        ApiKey::FindCoordinator => Box::pin(find_coordinator::handle(context, d)).await,
        ApiKey::JoinGroup => Box::pin(group_membership::join(context, d)).await,
        ApiKey::SyncGroup => Box::pin(group_membership::sync(context, d)).await,
        ApiKey::Heartbeat => Box::pin(group_membership::heartbeat(context, d)).await,
        ApiKey::LeaveGroup => Box::pin(group_membership::leave(context, d)).await,
        ApiKey::OffsetCommit => Box::pin(group_offsets::commit(context, d)).await,
        ApiKey::OffsetFetch => Box::pin(group_offsets::fetch(context, d)).await,
        ApiKey::OffsetDelete => Box::pin(group_offsets::delete(context, d)).await,
        ApiKey::DescribeGroups => Box::pin(groups::describe(context, d)).await,
        ApiKey::ListGroups => Box::pin(groups::list(context, d)).await,
        ApiKey::DeleteGroups => Box::pin(groups::delete(context, d)).await,
    }
}

impl Handlers {
    /// Counts a request whose answer comes later, once it is finished.
    fn counted_later(
        &self,
        api_key: i16,
        bytes_in: usize,
        begun: Instant,
        answer: impl Future<Output = Answer> + 'static,
    ) -> Dispatched {
        let metrics = self.shard.metrics.clone();
        Dispatched::Later(Box::pin(async move {
            let answer = answer.await;
            let latency = time::now() - begun;
            match &answer {
                Ok(response) => {
                    metrics.count_request(api_key, bytes_in, response.bytes(), latency);
                }
                Err(_) => metrics.count_failure(api_key),
            }
            answer
        }))
    }

    /// Counts a request that is finished; one that is not counts itself.
    fn count(&self, api_key: i16, bytes_in: usize, begun: Instant, dispatched: &Dispatched) {
        let bytes_out = match dispatched {
            Dispatched::Ready(response) => response.bytes(),
            Dispatched::Later(_) => return,
            Dispatched::Close(_) => return self.shard.metrics.count_failure(api_key),
        };
        let latency = time::now() - begun;
        self.shard
            .metrics
            .count_request(api_key, bytes_in, bytes_out, latency);
    }
}
