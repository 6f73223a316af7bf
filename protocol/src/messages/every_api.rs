//! A request or a response of any API.
//!
//! Place: for code that handles all APIs alike: dispatch, tests, tools. The exhaustive match makes
//! the compiler point at what is missing when an API is added.

#[cfg(test)]
use super::tests::sample::{Generator, Sample};
use super::{
    alter_configs, api_versions, create_partitions, create_topics, delete_groups, delete_records,
    delete_topics, describe_cluster, describe_configs, describe_groups, describe_log_dirs,
    describe_producers, describe_topic_partitions, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_groups,
    list_offsets, metadata, offset_commit, offset_delete, offset_fetch, offset_for_leader_epoch,
    produce, sync_group,
};
use crate::api_key::ApiKey;
#[cfg(test)]
use crate::primitives::wire::Format;
use crate::primitives::{DecodeError, Decoder, Encoder};

macro_rules! every_api {
    ($($key:ident: $request:ty, $response:ty;)*) => {
        /// A request of any API.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the variants are the APIs")]
        pub enum Request<'a> {
            $($key($request),)*
        }

        impl<'a> Request<'a> {
            /// Reads a request.
            pub fn decode(
                key: ApiKey,
                decoder: &mut Decoder<'a>,
                version: i16,
            ) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$key => <$request>::decode(decoder, version).map(Self::$key),)*
                }
            }

            /// Writes the request.
            pub fn encode(&self, encoder: &mut Encoder, version: i16) {
                match self {
                    $(Self::$key(request) => request.encode(encoder, version),)*
                }
            }

            /// The API that this is a request of.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$key(_) => ApiKey::$key,)*
                }
            }
        }

        /// A response of any API.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the variants are the APIs")]
        pub enum Response<'a> {
            $($key($response),)*
        }

        impl<'a> Response<'a> {
            /// Reads a response.
            pub fn decode(
                key: ApiKey,
                decoder: &mut Decoder<'a>,
                version: i16,
            ) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$key => <$response>::decode(decoder, version).map(Self::$key),)*
                }
            }

            /// Writes the response.
            pub fn encode(&self, encoder: &mut Encoder, version: i16) {
                match self {
                    $(Self::$key(response) => response.encode(encoder, version),)*
                }
            }

            /// The API that this is a response of.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$key(_) => ApiKey::$key,)*
                }
            }
        }

        #[cfg(test)]
        impl Request<'_> {
            /// A request with every field at its default.
            pub(super) fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$key => Self::$key(Default::default()),)*
                }
            }

            /// A request that the version can say.
            pub(super) fn sample(generator: &mut Generator, key: ApiKey, format: Format) -> Self {
                match key {
                    $(ApiKey::$key => Self::$key(Sample::sample(generator, format)),)*
                }
            }
        }

        #[cfg(test)]
        impl Response<'_> {
            /// A response with every field at its default.
            pub(super) fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$key => Self::$key(Default::default()),)*
                }
            }

            /// A response that the version can say.
            pub(super) fn sample(generator: &mut Generator, key: ApiKey, format: Format) -> Self {
                match key {
                    $(ApiKey::$key => Self::$key(Sample::sample(generator, format)),)*
                }
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;
            use crate::api_key::SERVED;

            #[test]
            fn messages_have_the_versions_of_the_table() {
                check_table(&());
            }

            /// Has the lifetime that the types in the table name.
            fn check_table<'a>((): &'a ()) {
                $(
                    let api = ApiKey::$key.served();
                    let flexible = ApiKey::$key.first_flexible_version();
                    assert_eq!(<$request>::VERSIONS, <$response>::VERSIONS);
                    assert_eq!(<$request>::FIRST_FLEXIBLE, flexible);
                    assert_eq!(<$response>::FIRST_FLEXIBLE, flexible);
                    for version in -1..=api.max_version + 1 {
                        let known = <$request>::VERSIONS.contains(&version);
                        assert_eq!(known, api.accepts(version), "{} {version}", api.key);
                    }
                )*
                assert_eq!([$(ApiKey::$key),*].len(), SERVED.len());
            }
        }
    };
}

every_api! {
    Produce: produce::ProduceRequest<'a>, produce::ProduceResponse<'a>;
    Fetch: fetch::FetchRequest<'a>, fetch::FetchResponse<'a>;
    ListOffsets: list_offsets::ListOffsetsRequest<'a>, list_offsets::ListOffsetsResponse<'a>;
    Metadata: metadata::MetadataRequest<'a>, metadata::MetadataResponse<'a>;
    OffsetCommit: offset_commit::OffsetCommitRequest<'a>, offset_commit::OffsetCommitResponse<'a>;
    OffsetFetch: offset_fetch::OffsetFetchRequest<'a>, offset_fetch::OffsetFetchResponse<'a>;
    FindCoordinator: find_coordinator::FindCoordinatorRequest<'a>, find_coordinator::FindCoordinatorResponse<'a>;
    JoinGroup: join_group::JoinGroupRequest<'a>, join_group::JoinGroupResponse<'a>;
    Heartbeat: heartbeat::HeartbeatRequest<'a>, heartbeat::HeartbeatResponse;
    LeaveGroup: leave_group::LeaveGroupRequest<'a>, leave_group::LeaveGroupResponse<'a>;
    SyncGroup: sync_group::SyncGroupRequest<'a>, sync_group::SyncGroupResponse<'a>;
    DescribeGroups: describe_groups::DescribeGroupsRequest<'a>, describe_groups::DescribeGroupsResponse<'a>;
    ListGroups: list_groups::ListGroupsRequest<'a>, list_groups::ListGroupsResponse<'a>;
    ApiVersions: api_versions::ApiVersionsRequest<'a>, api_versions::ApiVersionsResponse<'a>;
    CreateTopics: create_topics::CreateTopicsRequest<'a>, create_topics::CreateTopicsResponse<'a>;
    DeleteTopics: delete_topics::DeleteTopicsRequest<'a>, delete_topics::DeleteTopicsResponse<'a>;
    DeleteRecords: delete_records::DeleteRecordsRequest<'a>, delete_records::DeleteRecordsResponse<'a>;
    InitProducerId: init_producer_id::InitProducerIdRequest<'a>, init_producer_id::InitProducerIdResponse;
    OffsetForLeaderEpoch: offset_for_leader_epoch::OffsetForLeaderEpochRequest<'a>, offset_for_leader_epoch::OffsetForLeaderEpochResponse<'a>;
    DescribeConfigs: describe_configs::DescribeConfigsRequest<'a>, describe_configs::DescribeConfigsResponse<'a>;
    AlterConfigs: alter_configs::AlterConfigsRequest<'a>, alter_configs::AlterConfigsResponse<'a>;
    DescribeLogDirs: describe_log_dirs::DescribeLogDirsRequest<'a>, describe_log_dirs::DescribeLogDirsResponse<'a>;
    CreatePartitions: create_partitions::CreatePartitionsRequest<'a>, create_partitions::CreatePartitionsResponse<'a>;
    DeleteGroups: delete_groups::DeleteGroupsRequest<'a>, delete_groups::DeleteGroupsResponse<'a>;
    IncrementalAlterConfigs: incremental_alter_configs::IncrementalAlterConfigsRequest<'a>, incremental_alter_configs::IncrementalAlterConfigsResponse<'a>;
    OffsetDelete: offset_delete::OffsetDeleteRequest<'a>, offset_delete::OffsetDeleteResponse<'a>;
    DescribeCluster: describe_cluster::DescribeClusterRequest, describe_cluster::DescribeClusterResponse<'a>;
    DescribeProducers: describe_producers::DescribeProducersRequest<'a>, describe_producers::DescribeProducersResponse<'a>;
    DescribeTopicPartitions: describe_topic_partitions::DescribeTopicPartitionsRequest<'a>, describe_topic_partitions::DescribeTopicPartitionsResponse<'a>;
}
