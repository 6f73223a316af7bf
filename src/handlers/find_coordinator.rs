//! `FindCoordinator`: which broker coordinates a group.

use cluster::group::partition_for;
use cluster::metadata::{CONSUMER_OFFSETS, Image};
use protocol::error_code::ErrorCode;
use protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use super::metadata;
use crate::net::response::Response;

/// Key types: consumer groups, transactional ids, share groups.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Serves `FindCoordinator`; the offsets topic is created on the first question.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = FindCoordinatorRequest::decode(decoder, context.version())?;
    let image = match request.key_type {
        GROUP => context.handlers.image_with_offsets_topic().await,
        _ => context.image(),
    };
    let leader = image.topic(CONSUMER_OFFSETS).and_then(|topic| {
        // One broker leads every partition of the offsets topic.
        image.broker(topic.partitions.first()?.leader)
    });
    let find = |key: &str| {
        let (code, message) = match request.key_type {
            GROUP if is_offline(context, &image, key) => (
                ErrorCode::CoordinatorNotAvailable,
                Some("the log directory of the group's offsets is offline"),
            ),
            GROUP if leader.is_some() => (ErrorCode::None, None),
            GROUP => (
                ErrorCode::CoordinatorNotAvailable,
                Some("no offsets topic yet"),
            ),
            TRANSACTION => (
                ErrorCode::TransactionalIdAuthorizationFailed,
                Some("transactions are not supported by this version of StreamBus"),
            ),
            _ => (
                ErrorCode::InvalidRequest,
                Some("unknown coordinator key type"),
            ),
        };
        let found = leader.filter(|_| code == ErrorCode::None);
        Coordinator {
            key: key.to_owned().into(),
            node_id: found.map_or(-1, |broker| broker.id),
            host: found.map_or("", |broker| broker.host.as_str()).into(),
            port: found.map_or(-1, |broker| i32::from(broker.port)),
            error_code: code.as_i16(),
            error_message: message.map(Into::into),
        }
    };
    let mut response = FindCoordinatorResponse {
        error_message: None,
        ..Default::default()
    };
    if context.version() >= 4 {
        response.coordinators = request
            .coordinator_keys
            .iter()
            .map(|key| find(key))
            .collect();
    } else {
        let found = find(&request.key);
        response.error_code = found.error_code;
        response.error_message = found.error_message;
        response.node_id = found.node_id;
        response.host = found.host;
        response.port = found.port;
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Whether the offsets of a group are in a log directory that is offline.
fn is_offline(context: &Context<'_>, image: &Image, group_id: &str) -> bool {
    image.topic(CONSUMER_OFFSETS).is_some_and(|topic| {
        let partition = partition_for(group_id, topic.partitions.len() as i32);
        metadata::is_offline(context, topic, partition)
    })
}
