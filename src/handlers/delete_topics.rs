//! `DeleteTopics`, by name or by id.

use cluster::controller::{Refusal, delete_topic};
use cluster::metadata::Command;
use protocol::error_code::ErrorCode;
use protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use protocol::primitives::{DecodeError, Decoder, Uuid};

use super::context::Context;
use crate::control::Decision;
use crate::net::response::Response;

/// Serves `DeleteTopics`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DeleteTopicsRequest::decode(decoder, context.version())?;
    let by_name = request
        .topic_names
        .iter()
        .map(|name| (Some(name.to_string()), Uuid::ZERO));
    let by_either = request
        .topics
        .iter()
        .map(|one| (one.name.as_deref().map(str::to_owned), one.topic_id));
    let wanted: Vec<(Option<String>, Uuid)> = by_name.chain(by_either).collect();
    let decisions = wanted
        .iter()
        .map(|(name, id)| decision(name.clone(), *id))
        .collect();
    let image = context.image();
    let decided = context.handlers.control.decide(decisions, false).await;
    let mut response = DeleteTopicsResponse::default();
    for (index, (name, id)) in wanted.iter().enumerate() {
        let result = match &decided {
            Ok(decided) => decided.results[index].clone(),
            Err(code) => Err(Refusal {
                code: *code,
                message: String::new(),
            }),
        };
        let mut answer = DeletableTopicResult {
            name: name.as_deref().map(Into::into),
            topic_id: *id,
            ..Default::default()
        };
        match result {
            Ok(Command::DeleteTopic { id }) => {
                answer.topic_id = id;
                let known = image
                    .topic_by_id(id)
                    .map(|topic| topic.name.to_string().into());
                answer.name = answer.name.or(known);
            }
            Ok(_) => answer.error_code = ErrorCode::UnknownServerError.as_i16(),
            Err(refusal) => {
                answer.error_code = refusal.code.as_i16();
                answer.error_message = Some(refusal.message.into());
            }
        }
        if context.version() < 6 && answer.name.is_none() {
            answer.name = Some("".into());
        }
        response.responses.push(answer);
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

fn decision(name: Option<String>, id: Uuid) -> Decision {
    Box::new(move |image| {
        if name.is_some() != id.is_zero() {
            let message = "a topic is named by its name or by its id, not by both".to_owned();
            return Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message,
            });
        }
        delete_topic(image, name.as_deref(), id)
    })
}
