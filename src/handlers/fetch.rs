//! Fetch: reads from every owner, waits until there is enough, and sends record slices as they lie.
//!
//! Place: a session's partitions are kept here, on the shard of the client's connection; owners read
//! (`partition::fetch::read_many`) and tell when there is news (`partition::fetch::watch`).
//! Source: KIP-74 (limits), KIP-227 (sessions), KIP-320 (epochs), KIP-516 (topic ids).

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

/// What the client wants of the answer as a whole.
struct Limits {
    bytes_min: usize,
    bytes_max: usize,
    deadline: Instant,
    reads_committed: bool,
}

/// One partition's place in the session and what was found.
struct Visited {
    place: u64,
    found: Found,
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
async fn read_until_enough(handlers: &Handlers, taken: &Taken, limits: &Limits) -> Vec<Visited> {
    loop {
        let image = handlers.shard.image();
        let plan = Plan::new(handlers, &image, taken);
        let visited = plan.read(handlers, limits).await;
        let bytes: usize = visited.iter().map(|one| one.found.record_bytes()).sum();
        let has_error = visited
            .iter()
            .any(|one| one.found.error != ErrorCode::None || one.found.diverging.is_some());
        let is_late = time::now() >= limits.deadline || handlers.shard.is_stopping();
        if bytes >= limits.bytes_min || has_error || is_late || plan.is_empty() {
            return visited;
        }
        plan.wait_for_news(handlers, limits.deadline, &visited)
            .await;
    }
}

/// Which owner is asked for what, and what is known without asking.
struct Plan {
    /// By shard: place in the session and what is wanted.
    by_owner: Vec<Vec<(u64, Want)>>,
    /// Partitions that do not exist.
    unknown: Vec<Visited>,
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
                unknown.push(Visited {
                    place,
                    found: Found::error(error),
                });
                continue;
            };
            by_owner[handlers.shard.owner(key)].push((place, want(key, entry)));
        }
        Self { by_owner, unknown }
    }

    fn is_empty(&self) -> bool {
        self.by_owner.iter().all(Vec::is_empty)
    }

    async fn read(&self, handlers: &Handlers, limits: &Limits) -> Vec<Visited> {
        let mut visited: Vec<Visited> = self
            .unknown
            .iter()
            .map(|one| Visited {
                place: one.place,
                found: one.found.clone(),
            })
            .collect();
        let mut left = limits.bytes_max;
        let shards = self.by_owner.len();
        // The own shard first: what it has costs no message. Then the others get what is left.
        for step in 0..shards {
            let owner = (handlers.shard.id + step) % shards;
            let (places, wants): (Vec<u64>, Vec<Want>) =
                self.by_owner[owner].iter().copied().unzip();
            if wants.is_empty() {
                continue;
            }
            let count = wants.len();
            let found = if owner == handlers.shard.id {
                read_many(&handlers.shard, &wants, left).await
            } else {
                let read = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
                    read_many(&shard, &wants, left).await
                };
                let gone = || vec![Found::error(ErrorCode::NotLeaderOrFollower); count];
                handlers
                    .shard
                    .call(owner, read)
                    .await
                    .unwrap_or_else(|_| gone())
            };
            for (place, found) in places.into_iter().zip(found) {
                left = left.saturating_sub(found.record_bytes());
                visited.push(Visited { place, found });
            }
        }
        visited
    }

    /// Waits until an owner has something beyond what was just read, or the deadline.
    async fn wait_for_news(&self, handlers: &Handlers, deadline: Instant, visited: &[Visited]) {
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
                .map(|(place, want)| Want {
                    fetch_offset: seen(*place, want, visited),
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
            let cancel = move |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
                shard.watches.cancel(id);
            };
            handlers.shard.post(*owner, cancel).await;
        }
    }
}

/// The offset after what was just found at a place: only what comes later is news.
fn seen(place: u64, want: &Want, visited: &[Visited]) -> i64 {
    visited
        .iter()
        .find(|one| one.place == place && one.found.record_bytes() > 0)
        .map_or(want.fetch_offset, |one| one.found.high_watermark)
}

fn want(key: crate::partition::table::PartitionKey, entry: &Entry) -> Want {
    Want {
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
    mut visited: Vec<Visited>,
    limits: &Limits,
) -> Response {
    visited.sort_by_key(|one| one.place);
    let mut response = FetchResponse {
        session_id: taken.id,
        ..Default::default()
    };
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut topics: Vec<(TopicRef, FetchableTopicResponse<'_>)> = Vec::new();
    for Visited { place, found } in visited {
        let Some(entry) = taken.session.entry_mut(place) else {
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
        if topics.last().is_none_or(|(last, _)| *last != topic) {
            topics.push((topic.clone(), topic_response(&topic)));
        }
        if let Some((_, last)) = topics.last_mut() {
            last.partitions.push(data);
        }
        if has_records {
            records.push(found.records);
            taken.session.served(place);
        }
    }
    response.responses = topics.into_iter().map(|(_, topic)| topic).collect();
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
