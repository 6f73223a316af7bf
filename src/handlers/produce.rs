//! Produce: appends on the owners at once, answers when all of it is durable.
//!
//! Place: started by `dispatch` in request order; appends happen before this returns, so that two
//! produce requests of one connection are appended in their order and share one group commit.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::metadata::Topic;
use protocol::error_code::ErrorCode;
use protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use protocol::primitives::{DecodeError, Decoder};
use runtime::buffer::Slice;
use runtime::oneshot_remote;

use super::context::{Context, partition_key};
use crate::metrics;
use crate::net::connection::Answer;
use crate::net::response::Response;
use crate::partition::log_dirs::{Awaited, DirIndex};
use crate::partition::produce::{Accepted, Refused, Rules, append, storage_error_code};
use crate::partition::replica::Replica;
use crate::partition::shard::Shard;
use crate::partition::table::PartitionKey;

/// First version of Produce that names topics by id.
const BY_ID: i16 = 13;

/// A request waits so long at most on a shard, however many batches it has there.
const THROTTLE_MAX: Duration = Duration::from_secs(1);

/// What became of one batch.
type Outcome = Result<Accepted, Refused>;

/// The batches of a request that another shard appends.
#[derive(Default)]
struct Elsewhere {
    work: Vec<(PartitionKey, Slice)>,
    /// Where each belongs in the answer: topic, partition.
    places: Vec<(usize, usize)>,
    /// What became of them, and how long the last one should have waited for its turn.
    outcomes: Option<oneshot_remote::Receiver<(Vec<Outcome>, Duration)>>,
}

/// A request whose batches are appended, or on their way to their owners.
struct Appended {
    /// The answer; parts that are elsewhere are not known yet.
    response: ProduceResponse<'static>,
    /// What the producer waits for on this shard.
    awaited: Awaited,
    /// How long it has waited for its turn.
    waited: Duration,
    /// By shard; empty when all is here.
    elsewhere: Vec<Elsewhere>,
}

/// Appends everything in the request; the answer waits for durability. With acks=0 it is empty and waits for the
/// appends only, so that no more of them are on their way to other shards than a connection may have requests; what
/// was refused closes the connection, which is how such a producer learns that it has to ask for the metadata again.
pub(super) async fn start(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<impl Future<Output = Answer> + use<>, DecodeError> {
    let request = ProduceRequest::decode(decoder, context.version())?;
    let shard = &context.handlers.shard;
    let rules = Rules {
        needs_all_replicas: request.acks == -1,
        waits_for_disk: request.acks != 0,
        is_zstd_allowed: context.version() >= 7,
    };
    let mut appended = append_all(context, &request, rules).await;
    for (to, batches) in appended.elsewhere.iter_mut().enumerate() {
        forward(shard, to, batches, rules).await;
    }
    let shard = shard.clone();
    let reply = context.reply();
    let wants_no_answer = request.acks == 0;
    let finish = async move {
        let response = settle(&shard, appended).await;
        if wants_no_answer {
            return first_refusal(&response).map_or_else(|| Ok(Response::default()), Err);
        }
        Ok(reply.encode(Vec::new(), |encoder, version| {
            response.encode(encoder, version);
        }))
    };
    Ok(finish)
}

/// What a producer with acks=0 is not told, for the log.
fn first_refusal(response: &ProduceResponse<'_>) -> Option<String> {
    response.responses.iter().find_map(|topic| {
        let mut parts = topic.partition_responses.iter();
        let refused = parts.find(|part| part.error_code != 0)?;
        let (index, code) = (refused.index, refused.error_code);
        let why = refused.error_message.as_deref().unwrap_or_default();
        let name = match &*topic.name {
            "" => topic.topic_id.to_string(),
            name => name.to_owned(),
        };
        Some(format!(
            "produce with acks=0 to {name}-{index} was refused: error {code} {why}"
        ))
    })
}

/// Appends what this shard owns, and gathers what others own.
async fn append_all(context: &Context<'_>, request: &ProduceRequest<'_>, rules: Rules) -> Appended {
    let shard = &context.handlers.shard;
    let image = context.image();
    let mut appended = Appended {
        response: ProduceResponse::default(),
        awaited: Awaited::default(),
        waited: Duration::ZERO,
        elsewhere: Vec::new(),
    };
    let mut waited = Duration::ZERO;
    let topics = &mut appended.response.responses;
    topics.reserve_exact(request.topic_data.len());
    for data in &request.topic_data {
        let (topic, name) = if context.version() >= BY_ID {
            (image.topic_by_id(data.topic_id), String::new())
        } else {
            (image.topic(&data.name), data.name.to_string())
        };
        let mut parts = Vec::with_capacity(data.partition_data.len());
        for one in &data.partition_data {
            let records = one.records.as_slice().unwrap_or_default();
            let mut part = PartitionProduceResponse {
                index: one.index,
                ..Default::default()
            };
            match place(context, topic, one.index, request.acks) {
                Err(refused) => tell(&mut part, Err(refused)),
                Ok((key, owner)) if owner == shard.id => {
                    let outcome = match find(shard, key) {
                        Ok(replica) => {
                            let turn = turn(shard, replica.dir, records.len());
                            slow_down(shard, turn, &mut waited).await;
                            append(shard, &replica, records, rules).await
                        }
                        Err(refused) => Err(refused),
                    };
                    wait_for(&mut appended.awaited, &outcome, rules);
                    tell(&mut part, outcome);
                }
                Ok((key, owner)) => {
                    appended
                        .elsewhere
                        .resize_with(shard.count(), Elsewhere::default);
                    let batches = &mut appended.elsewhere[owner];
                    batches.work.push((key, context.frame.sub_of(records)));
                    batches.places.push((topics.len(), parts.len()));
                }
            }
            parts.push(part);
        }
        topics.push(TopicProduceResponse {
            name: name.into(),
            topic_id: data.topic_id,
            partition_responses: parts,
        });
    }
    appended.waited = waited;
    appended
}

/// The partition's key and its owner, or why clients may not write there.
fn place(
    context: &Context<'_>,
    topic: Option<&Arc<Topic>>,
    partition: i32,
    acks: i16,
) -> Result<(PartitionKey, usize), Refused> {
    let refuse = |code, message: &str| Err(Refused::new(code, message));
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

/// A partition of this shard, or what a client is told that there is none.
fn find(shard: &Shard, key: PartitionKey) -> Result<Rc<Replica>, Refused> {
    let replica = shard.table.find(key);
    replica.map_err(|code| Refused::new(code, ""))
}

/// How long an append of `bytes` to a directory of this shard has to wait for its turn: the disk is nearly full.
fn turn(shard: &Shard, dir: DirIndex, bytes: usize) -> Duration {
    let storage = shard.log_dirs.opened(dir).ok();
    storage.map_or(Duration::ZERO, |storage| storage.pace(bytes as u64))
}

/// Waits for a turn. Later requests of the connection wait behind this one, and the client is told, as with
/// Kafka's quotas (KIP-219).
async fn slow_down(shard: &Shard, turn: Duration, waited: &mut Duration) {
    let wait = turn.min(THROTTLE_MAX.saturating_sub(*waited));
    if wait.is_zero() {
        return;
    }
    metrics::add(&shard.metrics.batches_throttled, 1);
    *waited += wait;
    runtime::time::sleep(wait).await;
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Has the producer wait for a batch, if it and its topic do.
fn wait_for(awaited: &mut Awaited, outcome: &Outcome, rules: Rules) {
    if rules.waits_for_disk
        && let Ok(Accepted {
            dir,
            sequence: Some(sequence),
            ..
        }) = outcome
    {
        awaited.note(*dir, *sequence);
    }
}

/// Sends batches to their owner, which appends them in the order in which they were sent.
async fn forward(shard: &Rc<Shard>, to: usize, batches: &mut Elsewhere, rules: Rules) {
    let work = std::mem::take(&mut batches.work);
    if work.is_empty() {
        return;
    }
    let (reply, outcomes) = oneshot_remote::channel();
    batches.outcomes = Some(outcomes);
    shard
        .post(to, move |owner| async move {
            let mut outcomes = Vec::with_capacity(work.len());
            // Waited for after the append, by the connection's shard: what is sent here is appended in order.
            let mut last_turn = Duration::ZERO;
            for (key, records) in &work {
                outcomes.push(match find(&owner, *key) {
                    Ok(replica) => {
                        last_turn = last_turn.max(turn(&owner, replica.dir, records.len()));
                        append(&owner, &replica, records, rules).await
                    }
                    Err(refused) => Err(refused),
                });
            }
            drop(work); // Lets go of the other shard's receive buffer before waiting.
            let mut awaited = Awaited::default();
            for outcome in &outcomes {
                wait_for(&mut awaited, outcome, rules);
            }
            for (dir, refused) in not_durable(&owner, &awaited).await {
                let is_lost = |outcome: &&mut Outcome| {
                    outcome.as_ref().is_ok_and(|accepted| accepted.dir == dir)
                };
                let lost = outcomes.iter_mut().filter(is_lost);
                lost.for_each(|outcome| *outcome = Err(refused.clone()));
            }
            let _ = reply.send((outcomes, last_turn));
        })
        .await;
}

/// Waits until everything is on disk, and answers the directories in which that failed. Whatever was accepted
/// there with it is refused, that of topics which do not wait for the disk too: it is lost.
async fn not_durable(shard: &Shard, awaited: &Awaited) -> Vec<(DirIndex, Refused)> {
    let mut failed = Vec::new();
    for (dir, sequence) in awaited.iter() {
        if let Err(error) = shard.log_dirs.committed(dir, sequence).await {
            let refused = Refused::new(storage_error_code(&error), error.to_string());
            failed.push((dir, refused));
        }
    }
    failed
}

/// Waits until every part is durable or refused; the answer is then known.
async fn settle(shard: &Shard, appended: Appended) -> ProduceResponse<'static> {
    let mut response = appended.response;
    for (dir, refused) in not_durable(shard, &appended.awaited).await {
        refuse_in(shard, dir, &mut response, &refused);
    }
    let mut last_turn = Duration::ZERO;
    for batches in appended.elsewhere {
        let Some(outcomes) = batches.outcomes else {
            continue;
        };
        let stopping = || Refused::new(ErrorCode::NotLeaderOrFollower, "the broker is stopping");
        let (outcomes, turn) = match outcomes.await {
            Ok(answer) => answer,
            Err(_) => (vec![Err(stopping()); batches.places.len()], Duration::ZERO),
        };
        last_turn = last_turn.max(turn);
        for ((topic, part), outcome) in batches.places.into_iter().zip(outcomes) {
            tell(
                &mut response.responses[topic].partition_responses[part],
                outcome,
            );
        }
    }
    let mut waited = appended.waited;
    slow_down(shard, last_turn, &mut waited).await;
    response.throttle_time_ms = milliseconds(waited);
    response
}

/// Refuses what was accepted in a directory of this shard. A partition that is not here is on its way out with
/// the directory, or elsewhere: those are told after this.
fn refuse_in(
    shard: &Shard,
    dir: DirIndex,
    response: &mut ProduceResponse<'static>,
    refused: &Refused,
) {
    let image = shard.image();
    for answer in &mut response.responses {
        let topic = match &*answer.name {
            "" => image.topic_by_id(answer.topic_id),
            name => image.topic(name),
        };
        for part in &mut answer.partition_responses {
            let key = topic.and_then(|topic| partition_key(topic, part.index));
            let replica = key.and_then(|key| shard.table.get(key));
            if part.error_code == 0 && replica.is_none_or(|replica| replica.dir == dir) {
                tell(part, Err(refused.clone()));
            }
        }
    }
}

/// Puts an outcome into its part of the answer.
fn tell(part: &mut PartitionProduceResponse<'static>, outcome: Outcome) {
    match outcome {
        Ok(accepted) => {
            part.error_code = ErrorCode::None.as_i16();
            part.error_message = None;
            part.base_offset = accepted.base_offset;
            part.log_append_time_ms = accepted.log_append_time;
            part.log_start_offset = accepted.log_start_offset;
        }
        Err(refused) => {
            part.error_code = refused.code.as_i16();
            part.base_offset = -1;
            part.log_append_time_ms = -1;
            part.log_start_offset = -1;
            part.record_errors = refused
                .record_index
                .map(|batch_index| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(refused.message.clone().into()),
                })
                .into_iter()
                .collect();
            if !refused.message.is_empty() {
                part.error_message = Some(refused.message.into());
            }
        }
    }
}

#[cfg(test)]
#[path = "produce_tests.rs"]
mod tests;
