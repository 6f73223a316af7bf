//! `CreatePartitions`: more partitions for topics.

use cluster::controller::{Refusal, add_partitions};
use protocol::error_code::ErrorCode;
use protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, Handlers};
use super::create_topics::policy;
use crate::control::Decision;
use crate::net::response::Response;

/// Serves `CreatePartitions`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = CreatePartitionsRequest::decode(decoder, context.version())?;
    let decisions = request
        .topics
        .iter()
        .map(|topic| decision(context.handlers, topic))
        .collect();
    let decided = context
        .handlers
        .control
        .decide(decisions, request.validate_only)
        .await;
    let mut response = CreatePartitionsResponse::default();
    for (index, topic) in request.topics.iter().enumerate() {
        let refusal = match &decided {
            Ok(decided) => decided.results[index].clone().err(),
            Err(code) => Some(Refusal {
                code: *code,
                message: String::new(),
            }),
        };
        let code = refusal
            .as_ref()
            .map_or(ErrorCode::None, |refusal| refusal.code);
        response.results.push(CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code: code.as_i16(),
            error_message: refusal.map(|refusal| refusal.message.into()),
        });
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

fn decision(handlers: &Handlers, topic: &CreatePartitionsTopic<'_>) -> Decision {
    let policy = policy(&handlers.shard.config);
    let (name, count) = (topic.name.to_string(), topic.count);
    let assignments: Option<Vec<Vec<i32>>> = topic
        .assignments
        .as_ref()
        .map(|list| list.iter().map(|one| one.broker_ids.clone()).collect());
    Box::new(move |image| add_partitions(image, &policy, &name, count, assignments.as_deref()))
}
