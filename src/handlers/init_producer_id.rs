//! `InitProducerId`: ids and epochs of idempotent producers (KIP-98, KIP-360).

use protocol::error_code::ErrorCode;
use protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use crate::net::response::Response;

/// Serves `InitProducerId` for idempotent producers; transactional ones come with transactions.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = InitProducerIdRequest::decode(decoder, context.version())?;
    let mut response = InitProducerIdResponse::default();
    match request.transactional_id.as_deref() {
        Some("") => response.error_code = ErrorCode::InvalidRequest.as_i16(),
        // A producer that asks for transactions must fail at once, not wait for a coordinator.
        Some(_) => response.error_code = ErrorCode::TransactionalIdAuthorizationFailed.as_i16(),
        // A producer without transactions always starts anew, whatever id it had (as Kafka does).
        None => match context.handlers.next_producer_id().await {
            Ok(producer_id) => response.producer_id = producer_id,
            Err(code) => response.error_code = code.as_i16(),
        },
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
