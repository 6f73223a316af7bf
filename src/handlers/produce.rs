//! Produce: appends on the owners at once, answers when all of it is durable.
//!
//! Place: started by `dispatch` in request order; appends happen before this returns, so that two
//! produce requests of one connection are appended in their order and share one group commit.

use std::rc::Rc;
use std::sync::Arc;

use cluster::metadata::Topic;
use protocol::error_code::ErrorCode;
use protocol::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use protocol::primitives::{DecodeError, Decoder, Uuid};
use runtime::buffer::Slice;
use runtime::oneshot_remote;

use super::context::{Context, Reply, partition_key};
use crate::metrics;
use crate::net::connection::Dispatched;
use crate::partition::produce::{Accepted, Refused, Rules, append};
use crate::partition::shard::{Shard, Stopping};
use crate::partition::table::PartitionKey;

/// First version of Produce that names topics by id.
const BY_ID: i16 = 13;

/// One partition's part of a request, in the order of the request.
struct Part {
    topic: usize,
    partition: i32,
    outcome: Outcome,
}

enum Outcome {
    /// Refused, or appended on this shard.
    Known(Result<Accepted, Refused>),
    /// At this place in the answer of the shard with this index.
    Elsewhere { answer: usize, position: usize },
}

/// How the request named a topic, for the answer.
enum TopicName {
    Known(Arc<Topic>),
    Unknown { name: String, id: Uuid },
}

/// What goes to another shard.
#[derive(Default)]
struct Batches {
    work: Vec<(PartitionKey, Slice)>,
}

type Answer = oneshot_remote::Receiver<Vec<Result<Accepted, Refused>>>;

/// Appends everything in the request; the answer waits for durability.
pub(super) async fn start(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Dispatched, DecodeError> {
    let request = ProduceRequest::decode(decoder, context.version())?;
    let shard = &context.handlers.shard;
    let acks = request.acks;
    let rules = Rules {
        needs_all_replicas: acks == -1,
        is_zstd_allowed: context.version() >= 7,
    };
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut parts = Vec::new();
    let mut elsewhere: Vec<Batches> = Vec::new();
    let image = context.image();
    for data in &request.topic_data {
        let topic = if context.version() >= BY_ID {
            image.topic_by_id(data.topic_id)
        } else {
            image.topic(&data.name)
        };
        for one in &data.partition_data {
            let records = one.records.as_slice().unwrap_or_default();
            let outcome = match place(context, topic, one.index, acks) {
                Err(refused) => Outcome::Known(Err(refused)),
                Ok((key, owner)) if owner == shard.id => {
                    Outcome::Known(append_here(shard, key, records, rules).await)
                }
                Ok((key, owner)) => {
                    elsewhere.resize_with(shard.count(), Batches::default);
                    let work = &mut elsewhere[owner].work;
                    work.push((key, context.frame.sub_of(records)));
                    let position = work.len() - 1;
                    Outcome::Elsewhere {
                        answer: owner,
                        position,
                    }
                }
            };
            let (topic, partition) = (topics.len(), one.index);
            parts.push(Part {
                topic,
                partition,
                outcome,
            });
        }
        topics.push(match topic {
            Some(topic) => TopicName::Known(topic.clone()),
            None => TopicName::Unknown {
                name: data.name.to_string(),
                id: data.topic_id,
            },
        });
    }
    let mut answers = Vec::with_capacity(elsewhere.len());
    for (to, batches) in elsewhere.into_iter().enumerate() {
        answers.push(forward(shard, to, batches.work, rules).await);
    }
    let shard = shard.clone();
    let reply = context.reply();
    let finish = async move {
        settle(&shard, &mut parts, answers).await;
        encode(reply, &topics, &parts)
    };
    if acks == 0 {
        // Nobody waits: the appends are made, their fate is in the log and the metrics.
        return Ok(Dispatched::Silent);
    }
    Ok(Dispatched::Later(Box::pin(finish)))
}

/// The partition's key and its owner, or why clients may not write there.
fn place(
    context: &Context<'_>,
    topic: Option<&Arc<Topic>>,
    partition: i32,
    acks: i16,
) -> Result<(PartitionKey, usize), Refused> {
    let refuse = |code, message: &str| {
        let message = message.to_owned();
        Err(Refused { code, message })
    };
    if !matches!(acks, -1..=1) {
        let message = format!("acks is {acks}; -1, 0 and 1 are allowed");
        return refuse(ErrorCode::InvalidRequiredAcks, &message);
    }
    if topic.is_some_and(|topic| topic.is_internal()) {
        let message = "internal topics are written by their coordinators only";
        return refuse(ErrorCode::InvalidTopicException, message);
    }
    match topic.and_then(|topic| partition_key(topic, partition)) {
        Some(key) => Ok((key, context.handlers.shard.owner(key))),
        None if topic.is_none() && context.version() >= BY_ID => {
            refuse(ErrorCode::UnknownTopicId, "")
        }
        None => refuse(ErrorCode::UnknownTopicOrPartition, ""),
    }
}

/// Appends to a partition of this shard.
async fn append_here(
    shard: &Shard,
    key: PartitionKey,
    records: &[u8],
    rules: Rules,
) -> Result<Accepted, Refused> {
    let Some(replica) = shard.table.get(key) else {
        // In the image and not in the table: it is being opened or closed right now.
        return Err(Refused {
            code: ErrorCode::NotLeaderOrFollower,
            message: String::new(),
        });
    };
    let accepted = append(shard, &replica, records, rules).await;
    if accepted.is_ok() {
        metrics::add(&shard.metrics.record_bytes_in, records.len() as u64);
    }
    accepted
}

/// Sends batches to their owner, which appends them in the order in which they were sent.
async fn forward(
    shard: &Rc<Shard>,
    to: usize,
    work: Vec<(PartitionKey, Slice)>,
    rules: Rules,
) -> Option<Answer> {
    if work.is_empty() {
        return None;
    }
    let (reply, answer) = oneshot_remote::channel();
    shard
        .post(to, move |owner| async move {
            let mut results = Vec::with_capacity(work.len());
            for (key, records) in &work {
                results.push(append_here(&owner, *key, records, rules).await);
            }
            drop(work); // Lets go of the other shard's receive buffer before waiting.
            wait_until_durable(&owner, &mut results).await;
            let _ = reply.send(results);
        })
        .await;
    Some(answer)
}

/// Waits for the last of the appends; turns them into errors if the journal failed.
async fn wait_until_durable(shard: &Shard, results: &mut [Result<Accepted, Refused>]) {
    let last = results
        .iter()
        .flatten()
        .filter_map(|accepted| accepted.sequence)
        .max();
    let Some(last) = last else { return };
    if let Err(error) = shard.storage.committed(last).await {
        for result in results.iter_mut().filter(|result| {
            result
                .as_ref()
                .is_ok_and(|accepted| accepted.sequence.is_some())
        }) {
            let code = crate::partition::produce::storage_error_code(&error);
            *result = Err(Refused {
                code,
                message: error.to_string(),
            });
        }
    }
}

/// Waits until every part is durable or refused, and puts what other shards answered into its place.
async fn settle(shard: &Shard, parts: &mut [Part], answers: Vec<Option<Answer>>) {
    let last = parts.iter().filter_map(|part| match &part.outcome {
        Outcome::Known(Ok(accepted)) => accepted.sequence,
        _ => None,
    });
    let committed = match last.max() {
        Some(last) => shard.storage.committed(last).await,
        None => Ok(()),
    };
    let mut arrived = Vec::with_capacity(answers.len());
    for answer in answers {
        arrived.push(match answer {
            Some(answer) => answer.await.map_err(|_| Stopping),
            None => Ok(Vec::new()),
        });
    }
    for part in parts {
        let known = match &part.outcome {
            Outcome::Known(Ok(accepted)) => match (&committed, accepted.sequence) {
                (Err(error), Some(_)) => {
                    let code = crate::partition::produce::storage_error_code(error);
                    Err(Refused {
                        code,
                        message: error.to_string(),
                    })
                }
                _ => continue,
            },
            Outcome::Known(Err(_)) => continue,
            Outcome::Elsewhere { answer, position } => match &arrived[*answer] {
                Ok(results) => results[*position].clone(),
                Err(Stopping) => Err(Refused {
                    code: ErrorCode::NotLeaderOrFollower,
                    message: "the broker is stopping".to_owned(),
                }),
            },
        };
        part.outcome = Outcome::Known(known);
    }
}

fn encode(reply: Reply, topics: &[TopicName], parts: &[Part]) -> crate::net::response::Response {
    let mut response = ProduceResponse::default();
    for topic in topics {
        let mut answer = TopicProduceResponse::default();
        match topic {
            TopicName::Known(topic) => {
                answer.name = topic.name.as_ref().into();
                answer.topic_id = topic.id;
            }
            TopicName::Unknown { name, id } => {
                answer.name = name.as_str().into();
                answer.topic_id = *id;
            }
        }
        response.responses.push(answer);
    }
    for part in parts {
        let mut answer = PartitionProduceResponse {
            index: part.partition,
            ..Default::default()
        };
        match &part.outcome {
            Outcome::Known(Ok(accepted)) => {
                answer.base_offset = accepted.base_offset;
                answer.log_append_time_ms = accepted.log_append_time;
                answer.log_start_offset = accepted.log_start_offset;
            }
            Outcome::Known(Err(refused)) => {
                answer.error_code = refused.code.as_i16();
                answer.base_offset = -1;
                answer.log_append_time_ms = -1;
                answer.log_start_offset = -1;
                if !refused.message.is_empty() {
                    answer.error_message = Some(refused.message.as_str().into());
                }
            }
            Outcome::Elsewhere { .. } => unreachable!("settled before it is encoded"),
        }
        response.responses[part.topic]
            .partition_responses
            .push(answer);
    }
    reply.encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    })
}
