//! `JoinGroup`, `SyncGroup`, Heartbeat and `LeaveGroup`: the wire's versions around `cluster::group`.

use cluster::group::{
    HeartbeatRequest as Beat, JoinReply, JoinRequest as Join, LeaveRequest as Leave, LeavingMember,
    MemberProtocol, Reply, Request, SyncRequest as Sync,
};
use protocol::ErrorCode;
use protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use protocol::primitives::{DecodeError, Decoder};

use super::context::Context;
use super::coordination::wrong_reply;
use crate::net::response::Response;

/// Serves `JoinGroup`; waits until the rebalance is over.
pub(super) async fn join(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = JoinGroupRequest::decode(decoder, context.version())?;
    let asked = Join {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        client_id: context.header.client_id.unwrap_or_default().to_owned(),
        client_host: format!("/{}", context.peer.address.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|one| MemberProtocol {
                name: (*one.name).into(),
                metadata: (*one.metadata).into(),
            })
            .collect(),
        api_version: context.version(),
        ..Join::default()
    };
    let reply = match context.handlers.ask_group(Request::Join(asked)).await {
        Reply::Join(reply) => reply,
        other => wrong_reply(&other),
    };
    let response = join_response(&reply, context.version());
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

fn join_response(reply: &JoinReply, version: i16) -> JoinGroupResponse<'_> {
    let protocol_name = reply.protocol_name.as_deref();
    JoinGroupResponse {
        error_code: reply.error.as_i16(),
        generation_id: reply.generation_id,
        protocol_type: reply.protocol_type.as_deref().map(Into::into),
        // Before version 7 the field cannot be null.
        protocol_name: if version < 7 {
            protocol_name.or(Some(""))
        } else {
            protocol_name
        }
        .map(Into::into),
        leader: (&*reply.leader).into(),
        skip_assignment: version >= 9 && reply.skip_assignment,
        member_id: (&*reply.member_id).into(),
        members: reply
            .members
            .iter()
            .map(|member| JoinGroupResponseMember {
                member_id: (&*member.member_id).into(),
                group_instance_id: member.group_instance_id.as_deref().map(Into::into),
                metadata: (&*member.metadata).into(),
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

/// Serves `SyncGroup`; waits for the leader's assignment.
pub(super) async fn sync(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = SyncGroupRequest::decode(decoder, context.version())?;
    let asked = Sync {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        generation_id: request.generation_id,
        protocol_type: request.protocol_type.as_deref().map(str::to_owned),
        protocol_name: request.protocol_name.as_deref().map(str::to_owned),
        assignments: request
            .assignments
            .iter()
            .map(|one| (one.member_id.to_string(), (*one.assignment).into()))
            .collect(),
    };
    let reply = match context.handlers.ask_group(Request::Sync(asked)).await {
        Reply::Sync(reply) => reply,
        other => wrong_reply(&other),
    };
    let response = SyncGroupResponse {
        error_code: reply.error.as_i16(),
        protocol_type: reply.protocol_type.as_deref().map(Into::into),
        protocol_name: reply.protocol_name.as_deref().map(Into::into),
        assignment: (&*reply.assignment).into(),
        ..SyncGroupResponse::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Serves Heartbeat.
pub(super) async fn heartbeat(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = HeartbeatRequest::decode(decoder, context.version())?;
    let asked = Beat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        generation_id: request.generation_id,
    };
    let error = match context.handlers.ask_group(Request::Heartbeat(asked)).await {
        Reply::Heartbeat(error) => error,
        other => wrong_reply(&other),
    };
    let response = HeartbeatResponse {
        error_code: error.as_i16(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Serves `LeaveGroup`: one member before version 3, several from then on.
pub(super) async fn leave(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = LeaveGroupRequest::decode(decoder, context.version())?;
    let members = if context.version() < 3 {
        let member_id = request.member_id.to_string();
        vec![LeavingMember {
            member_id,
            group_instance_id: None,
        }]
    } else {
        let members = request.members.iter().map(|member| LeavingMember {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        });
        members.collect()
    };
    let asked = Leave {
        group_id: request.group_id.to_string(),
        members,
    };
    let reply = match context.handlers.ask_group(Request::Leave(asked)).await {
        Reply::Leave(reply) => reply,
        other => wrong_reply(&other),
    };
    let mut response = LeaveGroupResponse {
        error_code: reply.error.as_i16(),
        ..Default::default()
    };
    if context.version() < 3 {
        let of_member = reply
            .members
            .first()
            .map_or(ErrorCode::None, |member| member.error);
        if reply.error == ErrorCode::None {
            response.error_code = of_member.as_i16();
        }
    } else {
        response.members = reply
            .members
            .iter()
            .map(|left| MemberResponse {
                member_id: left.member.member_id.as_str().into(),
                group_instance_id: left.member.group_instance_id.as_deref().map(Into::into),
                error_code: left.error.as_i16(),
            })
            .collect();
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
