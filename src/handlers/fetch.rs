//! Fetch: reads from every owner, waits until there is enough, and sends record slices as they lie.
//!
//! Place: a session's partitions are kept here, on the shard of the client's connection; owners read
//! (`partition::fetch::read_many`) and tell when there is news (`partition::fetch::watch`).
//! Source: KIP-74 (limits), KIP-227 (sessions), KIP-320 (epochs), KIP-516 (topic ids).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cluster::metadata::Image;
use futures_lite::future::or;
use protocol::error_code::ErrorCode;
use protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use protocol::primitives::{DecodeError, Decoder, Records};
use runtime::time::{self, Instant};

use super::context::{Context, Handlers, TopicRef, partition_key};
use super::fetch_session::{Asked, Entry, Taken};
use crate::metrics;
use crate::net::response::Response;
use crate::partition::fetch::{Found, Want, WatchId, read_many, watch};
use crate::partition::shard::{Shard, Stopping};
use crate::partition::table::PartitionKey;

/// What the client wants of the answer as a whole.
struct Limits {
    bytes_min: usize,
    bytes_max: usize,
    deadline: Instant,
    reads_committed: bool,
}

/// Serves a fetch; waits up to the client's `max_wait_ms` for `min_bytes`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = FetchRequest::decode(decoder, context.version())?;
    let handlers = context.handlers;
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let limits = Limits {
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(handlers.shard.config.fetch.bytes_max),
        deadline: time::now() + wait,
        reads_committed: request.isolation_level == 1,
    };
    let mut taken = match handlers.sessions.take(asked(&request, context.version())) {
        Ok(taken) => taken,
        Err(code) => {
            let response = FetchResponse {
                error_code: code.as_i16(),
                ..Default::default()
            };
            return Ok(context.reply().encode(Vec::new(), |encoder, version| {
                response.encode(encoder, version);
            }));
        }
    };
    let visited = read_until_enough(handlers, &taken, &limits).await;
    let answer = encode(context, &mut taken, visited, &limits);
    handlers.sessions.put(taken);
    Ok(answer)
}

fn asked(request: &FetchRequest<'_>, version: i16) -> Asked {
    let by_id = version >= 13;
    let name = |name: &str, id| {
        if by_id {
            TopicRef::Id(id)
        } else {
            TopicRef::Name(name.into())
        }
    };
    let entries = request.topics.iter().flat_map(|topic| {
        let topic_ref = name(&topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| {
            let mut entry = Entry::new(
                topic_ref.clone(),
                partition.partition,
                partition.fetch_offset,
                partition.partition_max_bytes,
            );
            entry.current_leader_epoch = partition.current_leader_epoch;
            entry.last_fetched_epoch = partition.last_fetched_epoch;
            entry
        })
    });
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let topic_ref = name(&topic.topic, topic.topic_id);
        topic
            .partitions
            .iter()
            .map(move |partition| (topic_ref.clone(), *partition))
    });
    Asked {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        entries: entries.collect(),
        forgotten: forgotten.collect(),
    }
}

/// Reads again whenever an owner has news, until there are `bytes_min`, an error, or no time left.
async fn read_until_enough(handlers: &Handlers, taken: &Taken, limits: &Limits) -> Vec<Found> {
    let mut image = handlers.shard.image();
    let mut plan = Plan::new(handlers, &image, taken);
    loop {
        let visited = plan.read(handlers, limits).await;
        let bytes: usize = visited.iter().map(Found::record_bytes).sum();
        let has_error = visited
            .iter()
            .any(|found| found.error != ErrorCode::None || found.diverging.is_some());
        let is_late = time::now() >= limits.deadline || handlers.shard.is_stopping();
        if bytes >= limits.bytes_min || has_error || is_late || plan.is_empty() {
            return visited;
        }
        plan.wait_for_news(handlers, limits.deadline, &visited)
            .await;
        let newest = handlers.shard.image();
        if !Arc::ptr_eq(&newest, &image) {
            plan = Plan::new(handlers, &newest, taken);
            image = newest;
        }
    }
}

/// Which owner is asked for what, and what is known without asking. A partition's place is the one in
/// the session.
struct Plan {
    /// By shard.
    by_owner: Vec<Vec<Want>>,
    /// Partitions that do not exist.
    unknown: Vec<Found>,
}

impl Plan {
    fn new(handlers: &Handlers, image: &Image, taken: &Taken) -> Self {
        let mut by_owner = vec![Vec::new(); handlers.shard.count()];
        let mut unknown = Vec::new();
        for (place, entry) in taken.session.entries() {
            let topic = entry.topic.resolve(image);
            let key = topic.and_then(|topic| partition_key(topic, entry.partition));
            let Some(key) = key else {
                let error = match (&entry.topic, topic) {
                    (TopicRef::Id(_), None) => ErrorCode::UnknownTopicId,
                    _ => ErrorCode::UnknownTopicOrPartition,
                };
                unknown.push(Found::error(place, error));
                continue;
            };
            by_owner[handlers.shard.owner(key)].push(want(place, key, entry));
        }
        Self { by_owner, unknown }
    }

    fn is_empty(&self) -> bool {
        self.by_owner.iter().all(Vec::is_empty)
    }

    async fn read(&self, handlers: &Handlers, limits: &Limits) -> Vec<Found> {
        let mut visited = self.unknown.clone();
        let mut left = limits.bytes_max;
        let shards = self.by_owner.len();
        // The own shard first: what it has costs no message. Then the others get what is left.
        for step in 0..shards {
            let owner = (handlers.shard.id + step) % shards;
            let wants = &self.by_owner[owner];
            if wants.is_empty() {
                continue;
            }
            let found = if owner == handlers.shard.id {
                read_many(&handlers.shard, wants, left).await
            } else {
                read_elsewhere(&handlers.shard, owner, wants, left).await
            };
            let bytes = found.iter().map(Found::record_bytes).sum();
            left = left.saturating_sub(bytes);
            if visited.is_empty() {
                visited = found;
            } else {
                visited.extend(found);
            }
        }
        visited
    }

    /// Waits until an owner has something beyond what was just read, or the deadline.
    async fn wait_for_news(&self, handlers: &Handlers, deadline: Instant, visited: &[Found]) {
        let number = handlers.next_watch.replace(handlers.next_watch.get() + 1);
        let id: WatchId = (handlers.shard.id, number);
        let mut watches = Vec::new();
        for (owner, wants) in self
            .by_owner
            .iter()
            .enumerate()
            .filter(|(_, w)| !w.is_empty())
        {
            let wants: Vec<Want> = wants
                .iter()
                .map(|want| Want {
                    fetch_offset: seen(want, visited),
                    ..*want
                })
                .collect();
            let shard = handlers.shard.clone();
            watches.push((
                owner,
                Box::pin(async move {
                    let _ = shard
                        .call(owner, move |shard| watch(shard, id, wants))
                        .await;
                }),
            ));
        }
        let any = std::future::poll_fn(|context| {
            let is_done = watches
                .iter_mut()
                .any(|(_, watch)| std::future::Future::poll(watch.as_mut(), context).is_ready());
            if is_done {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        or(any, time::sleep_until(deadline)).await;
        for (owner, _) in watches
            .iter()
            .filter(|(owner, _)| *owner != handlers.shard.id)
        {
            let cancel = move |shard: Rc<Shard>| async move {
                shard.watches.cancel(id);
            };
            handlers.shard.post(*owner, cancel).await;
        }
    }
}

/// Has another shard read.
async fn read_elsewhere(
    shard: &Rc<Shard>,
    owner: usize,
    wants: &[Want],
    left: usize,
) -> Vec<Found> {
    let sent = wants.to_vec();
    let read = move |shard: Rc<Shard>| async move { read_many(&shard, &sent, left).await };
    let gone = |want: &Want| Found::error(want.place, ErrorCode::NotLeaderOrFollower);
    match shard.call(owner, read).await {
        Ok(found) => found,
        Err(Stopping) => wants.iter().map(gone).collect(),
    }
}

/// The offset after what was just found: only what comes later is news.
fn seen(want: &Want, visited: &[Found]) -> i64 {
    visited
        .iter()
        .find(|found| found.place == want.place && found.record_bytes() > 0)
        .map_or(want.fetch_offset, |found| found.high_watermark)
}

fn want(place: u64, key: PartitionKey, entry: &Entry) -> Want {
    Want {
        place,
        key,
        fetch_offset: entry.fetch_offset,
        bytes_max: usize::try_from(entry.bytes_max).unwrap_or(0),
        current_leader_epoch: entry.current_leader_epoch,
        last_fetched_epoch: entry.last_fetched_epoch,
    }
}

/// Builds the answer; of an incremental session only what the client does not know yet.
fn encode(
    context: &Context<'_>,
    taken: &mut Taken,
    mut visited: Vec<Found>,
    limits: &Limits,
) -> Response {
    visited.sort_by_key(|found| found.place);
    let mut response = FetchResponse {
        session_id: taken.id,
        ..Default::default()
    };
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut last: Option<TopicRef> = None;
    for found in visited {
        let Some(entry) = taken.session.entry_mut(found.place) else {
            continue;
        };
        let is_news = entry.tell(found.high_watermark, found.log_start_offset);
        let has_records = !found.records.is_empty();
        let is_worth_telling =
            has_records || is_news || found.error != ErrorCode::None || found.diverging.is_some();
        if taken.is_incremental && !is_worth_telling {
            continue;
        }
        let (topic, partition) = (entry.topic.clone(), entry.partition);
        bytes += found.record_bytes();
        let data = partition_data(partition, &found, limits);
        if last.as_ref() != Some(&topic) {
            response.responses.push(topic_response(&topic));
            last = Some(topic);
        }
        if let Some(topic) = response.responses.last_mut() {
            topic.partitions.push(data);
        }
        if has_records {
            records.push(found.records);
            taken.session.served(found.place);
        }
    }
    metrics::add(
        &context.handlers.shard.metrics.record_bytes_out,
        bytes as u64,
    );
    context.reply().encode(records, |encoder, version| {
        response.encode(encoder, version);
    })
}

fn topic_response(topic: &TopicRef) -> FetchableTopicResponse<'static> {
    let mut answer = FetchableTopicResponse::default();
    match topic {
        TopicRef::Name(name) => answer.topic = name.to_string().into(),
        TopicRef::Id(id) => answer.topic_id = *id,
    }
    answer
}

fn partition_data(partition: i32, found: &Found, limits: &Limits) -> PartitionData<'static> {
    let bytes = found.record_bytes();
    PartitionData {
        partition_index: partition,
        error_code: found.error.as_i16(),
        high_watermark: found.high_watermark,
        // Without transactions everything below the high watermark is stable.
        last_stable_offset: found.high_watermark,
        log_start_offset: found.log_start_offset,
        diverging_epoch: found
            .diverging
            .map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset })
            .unwrap_or_default(),
        aborted_transactions: limits.reads_committed.then(Vec::new),
        preferred_read_replica: -1,
        records: if bytes > 0 {
            Records::External { bytes }
        } else {
            Records::Inline((&[][..]).into())
        },
        ..PartitionData::default()
    }
}
