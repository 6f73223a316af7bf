//! `ApiVersions`: what this broker serves (KIP-35, KIP-511).

use protocol::api_key::SERVED;
use protocol::error_code::ErrorCode;
use protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use crate::net::response::Response;

/// The feature whose level says which Kafka the cluster's metadata is equal to.
const METADATA_VERSION: &str = "metadata.version";
/// Its oldest level, 3.3-IV3: the first that Kafka 4 still knows.
const METADATA_VERSION_MIN: i16 = 7;
/// Its newest level, and the one in force: 4.0-IV3.
const METADATA_VERSION_MAX: i16 = 25;
/// Epoch of the finalized features. They are the same in every cluster, so they never had another.
const FEATURES_EPOCH: i64 = 0;

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
    let mut response = ApiVersionsResponse {
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
    if error == ErrorCode::None {
        tell_features(&mut response);
    }
    context
        .reply()
        .with_version(version)
        .encode(Vec::new(), |encoder, version| {
            response.encode(encoder, version);
        })
}

/// Only `metadata.version` is told: the other features of Kafka name what is not served here.
/// Versions before 3 have no field for features and leave them out.
fn tell_features(response: &mut ApiVersionsResponse<'_>) {
    response.supported_features = vec![SupportedFeatureKey {
        name: METADATA_VERSION.into(),
        min_version: METADATA_VERSION_MIN,
        max_version: METADATA_VERSION_MAX,
    }];
    response.finalized_features_epoch = FEATURES_EPOCH;
    response.finalized_features = vec![FinalizedFeatureKey {
        name: METADATA_VERSION.into(),
        max_version_level: METADATA_VERSION_MAX,
        min_version_level: METADATA_VERSION_MAX,
    }];
}

#[cfg(test)]
mod tests {
    use protocol::primitives::Encoder;

    use super::*;

    fn told_in(version: i16) -> ApiVersionsResponse<'static> {
        let mut response = ApiVersionsResponse::default();
        tell_features(&mut response);
        let mut encoder = Encoder::new();
        response.encode(&mut encoder, version);
        let bytes = encoder.into_parts().0.leak();
        ApiVersionsResponse::decode(&mut Decoder::new(bytes), version).expect("our own bytes")
    }

    #[test]
    fn the_level_in_force_is_one_of_the_supported() {
        for version in 3..=4 {
            let told = told_in(version);
            let (supported, finalized) = (&told.supported_features[0], &told.finalized_features[0]);
            assert_eq!(supported.name, finalized.name);
            assert_eq!(finalized.min_version_level, finalized.max_version_level);
            assert!(
                (supported.min_version..=supported.max_version)
                    .contains(&finalized.max_version_level)
            );
            assert!(told.finalized_features_epoch >= 0);
        }
    }

    #[test]
    fn older_versions_leave_features_out() {
        assert_eq!(told_in(2), ApiVersionsResponse::default());
    }
}
