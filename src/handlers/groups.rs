//! `DescribeGroups`, `ListGroups` and `DeleteGroups`.

use std::rc::Rc;

use cluster::group::{GROUP_TYPE, GroupDescription, ListFilter, Reply, Request};
use protocol::ErrorCode;
use protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use protocol::primitives::{DecodeError, Decoder};

use super::authorized_operations;
use super::context::{Context, Handlers};
use super::coordination::wrong_reply;
use crate::coordinator;
use crate::net::response::Response;
use crate::partition::shard::Shard;

/// Serves `DescribeGroups`.
pub(super) async fn describe(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeGroupsRequest::decode(decoder, context.version())?;
    let mut descriptions = Vec::with_capacity(request.groups.len());
    for group_id in &request.groups {
        descriptions.push(description(context.handlers, group_id).await);
    }
    let operations = authorized_operations::group(request.include_authorized_operations);
    let groups = request
        .groups
        .iter()
        .zip(&descriptions)
        .map(|(group_id, description)| {
            let mut answer = described(group_id, description, context.version());
            answer.authorized_operations = operations;
            answer
        });
    let response = DescribeGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

type Description = Result<Option<GroupDescription>, ErrorCode>;

async fn description(handlers: &Handlers, group_id: &str) -> Description {
    let place = handlers.place_of_group(group_id)?;
    let group_id = group_id.to_owned();
    let work = move |_: Rc<Shard>| async move {
        coordinator::current().describe(place.partition, &group_id)
    };
    let answer = handlers.shard.call(place.shard, work).await;
    answer.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
}

fn described<'a>(
    group_id: &'a str,
    description: &'a Description,
    version: i16,
) -> DescribedGroup<'a> {
    let mut answer = DescribedGroup {
        group_id: group_id.into(),
        ..Default::default()
    };
    match description {
        Err(code) => answer.error_code = code.as_i16(),
        // Before version 6 a group that does not exist is shown as dead (KIP-1043).
        Ok(None) => {
            answer.group_state = "Dead".into();
            if version >= 6 {
                answer.error_code = ErrorCode::GroupIdNotFound.as_i16();
                answer.error_message = Some(format!("Group {group_id} not found.").into());
            }
        }
        Ok(Some(group)) => {
            answer.group_state = group.state.name().into();
            answer.protocol_type = (&*group.protocol_type).into();
            answer.protocol_data = (&*group.protocol_data).into();
            answer.members = group
                .members
                .iter()
                .map(|member| DescribedGroupMember {
                    member_id: (&*member.member_id).into(),
                    group_instance_id: member.group_instance_id.as_deref().map(Into::into),
                    client_id: (&*member.client_id).into(),
                    client_host: (&*member.client_host).into(),
                    member_metadata: (&*member.metadata).into(),
                    member_assignment: (&*member.assignment).into(),
                })
                .collect();
        }
    }
    answer
}

/// Serves `ListGroups`: the groups of every shard.
pub(super) async fn list(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = ListGroupsRequest::decode(decoder, context.version())?;
    let filter = ListFilter {
        states: request
            .states_filter
            .iter()
            .map(ToString::to_string)
            .collect(),
        types: request
            .types_filter
            .iter()
            .map(ToString::to_string)
            .collect(),
    };
    let work = move |_: Rc<Shard>| async move { coordinator::current().list(&filter) };
    let answers = context.handlers.shard.call_all(work).await;
    let mut response = ListGroupsResponse::default();
    let mut listings = Vec::new();
    for answer in answers.unwrap_or_else(|_| vec![Err(ErrorCode::CoordinatorNotAvailable)]) {
        match answer {
            Ok(groups) => listings.extend(groups),
            Err(code) => response.error_code = code.as_i16(),
        }
    }
    response.groups = listings
        .iter()
        .map(|group| ListedGroup {
            group_id: (&*group.group_id).into(),
            protocol_type: (&*group.protocol_type).into(),
            group_state: group.state.name().into(),
            group_type: GROUP_TYPE.into(),
        })
        .collect();
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Serves `DeleteGroups`.
pub(super) async fn delete(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DeleteGroupsRequest::decode(decoder, context.version())?;
    let mut response = DeleteGroupsResponse::default();
    for group_id in &request.groups_names {
        let asked = Request::DeleteGroup {
            group_id: group_id.to_string(),
        };
        let error = match context.handlers.ask_group(asked).await {
            Reply::DeleteGroup(error) => error,
            other => wrong_reply(&other),
        };
        let (group_id, error_code) = (group_id.clone(), error.as_i16());
        response.results.push(DeletableGroupResult {
            group_id,
            error_code,
        });
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
