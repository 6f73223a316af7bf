//! `ApiVersions`: what this broker serves (KIP-35, KIP-511).

use protocol::api_key::SERVED;
use protocol::error_code::ErrorCode;
use protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use crate::net::response::Response;

/// Answers with the table; remembers the client's software for the log.
pub(super) fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = ApiVersionsRequest::decode(decoder, context.version())?;
    let is_named = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let (name, version) = (
        &request.client_software_name,
        &request.client_software_version,
    );
    if context.version() >= 3 && !(is_named(name) && is_named(version)) {
        return Ok(answer(
            context,
            ErrorCode::InvalidRequest,
            context.version(),
        ));
    }
    *context.peer.software.borrow_mut() = format!("{name} {version}");
    Ok(answer(context, ErrorCode::None, context.version()))
}

/// Answers a version that is not served: in version 0, with the range of `ApiVersions` alone.
pub(super) fn refuse_version(context: &Context<'_>) -> Response {
    answer(context, ErrorCode::UnsupportedVersion, 0)
}

fn answer(context: &Context<'_>, error: ErrorCode, version: i16) -> Response {
    let listed = SERVED.iter().filter(|api| {
        error == ErrorCode::None
            || (error == ErrorCode::UnsupportedVersion
                && api.key == protocol::api_key::ApiKey::ApiVersions)
    });
    let response = ApiVersionsResponse {
        error_code: error.as_i16(),
        api_keys: listed
            .map(|api| ApiVersion {
                api_key: api.key.as_i16(),
                min_version: api.min_version,
                max_version: api.max_version,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    };
    context
        .reply()
        .with_version(version)
        .encode(Vec::new(), |encoder, version| {
            response.encode(encoder, version);
        })
}
