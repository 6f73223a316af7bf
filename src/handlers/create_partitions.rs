//! `CreatePartitions`: more partitions for topics.

use std::collections::BTreeMap;

use cluster::controller::{Refusal, add_partitions, check_request_total, partitions_to_add};
use cluster::metadata::Image;
use protocol::error_code::ErrorCode;
use protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, Handlers};
use super::create_topics::{policy, refusal_without_message};
use crate::control::Decision;
use crate::net::response::Response;

/// Serves `CreatePartitions`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = CreatePartitionsRequest::decode(decoder, context.version())?;
    let image = context.image();
    let asked = request.topics.iter();
    let asked = asked.map(|topic| partitions_to_add(&image, &topic.name, topic.count));
    let within_bound = check_request_total(&policy(&context.handlers.shard.config), asked);
    let decided = async {
        within_bound?;
        let decisions = decisions(context.handlers, &request);
        let control = &context.handlers.control;
        let decided = control.decide(decisions, request.validate_only).await;
        decided.map_err(refusal_without_message)
    };
    let decided = decided.await;
    let mut response = CreatePartitionsResponse::default();
    for (index, topic) in request.topics.iter().enumerate() {
        let refusal = match &decided {
            Ok(decided) => decided.results[index].clone().err(),
            Err(refusal) => Some(refusal.clone()),
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

fn decisions(handlers: &Handlers, request: &CreatePartitionsRequest<'_>) -> Vec<Decision> {
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&*topic.name).or_insert(0) += 1;
    }
    let decide = |topic: &CreatePartitionsTopic<'_>| match times.get(&*topic.name) {
        Some(2..) => Box::new(|_: &Image| {
            Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message: "Duplicate topic name.".to_owned(),
            })
        }) as Decision,
        _ => decision(handlers, topic),
    };
    request.topics.iter().map(decide).collect()
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
