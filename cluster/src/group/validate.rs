//! What is wrong with a request before any group is asked.

use protocol::ErrorCode;

use super::event::{JoinRequest, Request};
use super::settings::GroupSettings;

/// The longest name that a record takes is 32,767 bytes; a member id is a name and a suffix.
const NAME_BYTES_MAX: usize = 32_000;

pub(super) fn validate_request(
    request: &Request,
    settings: &GroupSettings,
) -> Result<(), ErrorCode> {
    // Offsets could be kept under an empty name before groups had members, and still can.
    let may_be_empty = matches!(
        request,
        Request::CommitOffsets(_) | Request::FetchOffsets(_)
    ) || matches!(
        request,
        Request::DeleteGroup { .. } | Request::DeleteOffsets(_)
    );
    let group_id = request.group_id();
    if (group_id.is_empty() && !may_be_empty) || group_id.len() > NAME_BYTES_MAX {
        return Err(ErrorCode::InvalidGroupId);
    }
    match request {
        Request::Join(request) => validate_join(request, settings),
        Request::CommitOffsets(request) => {
            let is_storable = request
                .topics
                .iter()
                .all(|topic| topic.name.len() <= NAME_BYTES_MAX);
            if is_storable {
                Ok(())
            } else {
                Err(ErrorCode::InvalidTopicException)
            }
        }
        Request::Sync(_)
        | Request::Heartbeat(_)
        | Request::Leave(_)
        | Request::FetchOffsets(_)
        | Request::DeleteOffsets(_)
        | Request::DeleteGroup { .. } => Ok(()),
    }
}

fn validate_join(request: &JoinRequest, settings: &GroupSettings) -> Result<(), ErrorCode> {
    let session_timeouts_ms = settings.session_timeout_ms_min..=settings.session_timeout_ms_max;
    if !session_timeouts_ms.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let names = [
        &*request.client_id,
        &*request.client_host,
        &*request.protocol_type,
        request.group_instance_id.as_deref().unwrap_or_default(),
    ];
    let protocol_names = request.protocols.iter().map(|protocol| &*protocol.name);
    if names
        .into_iter()
        .chain(protocol_names)
        .all(|name| name.len() <= NAME_BYTES_MAX)
    {
        Ok(())
    } else {
        Err(ErrorCode::InvalidRequest)
    }
}
