//! `DescribeCluster`: brokers and the cluster's id (KIP-700).

use protocol::error_code::ErrorCode;
use protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use protocol::primitives::{DecodeError, Decoder};

use super::authorized_operations;
use super::context::Context;
use crate::net::response::Response;

/// Endpoints for clients; controllers (2) have none of their own here.
const BROKERS: i8 = 1;

/// Serves `DescribeCluster`.
pub(super) fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeClusterRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: image.cluster_id().into(),
        controller_id: context.handlers.shard.config.node_id,
        cluster_authorized_operations: authorized_operations::cluster(
            request.include_cluster_authorized_operations,
        ),
        ..Default::default()
    };
    if request.endpoint_type == BROKERS {
        response.brokers = image
            .brokers()
            .map(|broker| DescribeClusterBroker {
                broker_id: broker.id,
                host: broker.host.as_str().into(),
                port: i32::from(broker.port),
                rack: broker.rack.as_deref().map(Into::into),
                is_fenced: false,
            })
            .collect();
    } else {
        response.error_code = ErrorCode::MismatchedEndpointType.as_i16();
        response.error_message = Some("this listener serves brokers, endpoint type 1".into());
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
