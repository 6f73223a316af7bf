//! Reading many partitions on one connection with a fetch session.
//!
//! Ordering: the batches of a partition come in offset order. After the first request only
//! partitions whose position moved are named again, so that 10,000 partitions cost little when few
//! have anything new.
//! Limits: one request in flight; `--fetch-bytes-max` of records in its answer.
//! Source: KIP-227 (fetch sessions).

use std::collections::HashMap;
use std::sync::Arc;

use client::{Connection, OffsetAt};
use protocol::ErrorCode;
use protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use protocol::messages::{Request, Response};
use protocol::record_batch::{BatchError, BatchView, Batches};

use crate::args::FetchArgs;
use crate::error::LoadError;
use crate::layout::Target;
use crate::retry::until_ready;
use crate::tally::ErrorCounts;

/// A partition and where its next fetch begins.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) target: Target,
    pub(crate) offset: i64,
}

/// What one fetch brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fetched {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// A session over fixed partitions.
#[derive(Debug)]
pub(crate) struct FetchSession {
    pub(crate) positions: Vec<Position>,
    /// Index into `positions` by topic, then partition.
    indexes: HashMap<Arc<str>, Vec<Option<usize>>>,
    args: FetchArgs,
    session_id: i32,
    /// 0 asks for a new session, in which all partitions are named.
    epoch: i32,
    /// Partitions to be named in the next request.
    changed: Vec<usize>,
}

/// Asks for the offsets of one place in all partitions, which the connection's broker leads.
pub(crate) async fn list_positions(
    connection: &mut Connection,
    targets: &[Target],
    at: OffsetAt,
) -> Result<Vec<Position>, LoadError> {
    let mut positions = Vec::with_capacity(targets.len());
    for part in targets.chunk_by(|a, b| a.topic == b.topic) {
        let partitions: Vec<i32> = part.iter().map(|target| target.partition).collect();
        let topic = part.first().map_or("", |target| &target.topic);
        let ask = async || connection.list_offsets(topic, &partitions, at).await;
        let offsets = until_ready(ask).await?;
        let pairs = part.iter().zip(offsets);
        positions.extend(pairs.map(|(target, offset)| Position {
            target: target.clone(),
            offset,
        }));
    }
    Ok(positions)
}

impl FetchSession {
    pub(crate) fn new(positions: Vec<Position>, args: FetchArgs) -> FetchSession {
        let mut indexes: HashMap<Arc<str>, Vec<Option<usize>>> = HashMap::new();
        for (index, Position { target, .. }) in positions.iter().enumerate() {
            let of_topic = indexes.entry(Arc::clone(&target.topic)).or_default();
            let partition = usize::try_from(target.partition).unwrap_or_default();
            if of_topic.len() <= partition {
                of_topic.resize(partition + 1, None);
            }
            of_topic[partition] = Some(index);
        }
        let mut session = FetchSession {
            positions,
            indexes,
            args,
            session_id: 0,
            epoch: 0,
            changed: Vec::new(),
        };
        session.start_again();
        session
    }

    /// Forgets the session: the next request names every partition.
    pub(crate) fn start_again(&mut self) {
        self.session_id = 0;
        self.epoch = 0;
        self.changed = (0..self.positions.len()).collect();
    }

    fn request(&self) -> Request<'_> {
        let mut topics: Vec<FetchTopic<'_>> = Vec::new();
        for position in self.changed.iter().map(|index| &self.positions[*index]) {
            let name: &str = &position.target.topic;
            let partition = FetchPartition {
                partition: position.target.partition,
                fetch_offset: position.offset,
                partition_max_bytes: self.args.partition_bytes_max,
                ..FetchPartition::default()
            };
            match topics.last_mut() {
                Some(topic) if topic.topic == name => topic.partitions.push(partition),
                Some(_) | None => topics.push(FetchTopic {
                    topic: name.into(),
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        Request::Fetch(FetchRequest {
            max_wait_ms: self.args.fetch_wait.as_millis() as i32,
            min_bytes: self.args.fetch_bytes_min,
            max_bytes: self.args.fetch_bytes_max,
            session_id: self.session_id,
            session_epoch: self.epoch,
            topics,
            ..FetchRequest::default()
        })
    }

    /// One fetch; gives each whole batch to `on_batch` with its partition's index in `positions`.
    /// Errors of the broker are counted in `errors`.
    pub(crate) async fn fetch(
        &mut self,
        connection: &mut Connection,
        errors: &mut ErrorCounts,
        mut on_batch: impl FnMut(usize, &BatchView<'_>) -> Result<(), BatchError>,
    ) -> Result<Fetched, LoadError> {
        self.changed.sort_unstable();
        connection.queue(&self.request(), &[])?;
        let reply = connection.receive().await?;
        let Response::Fetch(response) = reply.decode()? else {
            return Err(LoadError::Setup("an answer to no fetch request".to_owned()));
        };
        if response.error_code != ErrorCode::None as i16 {
            *errors.entry(response.error_code).or_default() += 1;
            self.start_again();
            return Ok(Fetched::default());
        }
        self.take_response(&response, errors, &mut on_batch)
    }

    fn take_response(
        &mut self,
        response: &FetchResponse<'_>,
        errors: &mut ErrorCounts,
        on_batch: &mut impl FnMut(usize, &BatchView<'_>) -> Result<(), BatchError>,
    ) -> Result<Fetched, LoadError> {
        let mut fetched = Fetched::default();
        self.changed.clear();
        for topic in &response.responses {
            let of_topic = self.indexes.get(topic.topic.as_ref());
            for partition in &topic.partitions {
                let number = usize::try_from(partition.partition_index).ok();
                let index = number.and_then(|number| of_topic?.get(number).copied().flatten());
                let Some(index) = index else {
                    continue;
                };
                let position = &mut self.positions[index];
                let before = position.offset;
                take_partition(position, partition, errors, &mut fetched, |view| {
                    on_batch(index, view)
                })?;
                if position.offset != before {
                    self.changed.push(index);
                }
            }
        }
        self.session_id = response.session_id;
        if self.session_id == 0 {
            // The broker keeps no session for us.
            self.start_again();
        } else {
            self.epoch = if self.epoch == i32::MAX {
                1
            } else {
                self.epoch + 1
            };
        }
        Ok(fetched)
    }
}

/// Takes the whole batches of one partition's answer and moves its position behind them.
fn take_partition(
    position: &mut Position,
    answer: &PartitionData<'_>,
    errors: &mut ErrorCounts,
    fetched: &mut Fetched,
    mut on_batch: impl FnMut(&BatchView<'_>) -> Result<(), BatchError>,
) -> Result<(), LoadError> {
    if answer.error_code != ErrorCode::None as i16 {
        *errors.entry(answer.error_code).or_default() += 1;
        if answer.error_code == ErrorCode::OffsetOutOfRange as i16 {
            position.offset = answer.log_start_offset.max(0);
        }
        return Ok(());
    }
    let fetch_offset = position.offset;
    let at_batch = |source| LoadError::Batch {
        topic: position.target.topic.to_string(),
        partition: position.target.partition,
        offset: fetch_offset,
        source,
    };
    let mut offset = fetch_offset;
    for view in Batches::new(answer.records.as_slice().unwrap_or_default()) {
        let view = match view {
            Ok(view) => view,
            // The broker cuts at the byte limit; the rest comes with the next fetch.
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(at_batch(error)),
        };
        on_batch(&view).map_err(at_batch)?;
        fetched.records += u64::try_from(view.record_count()).unwrap_or_default();
        fetched.bytes += view.batch_bytes() as u64;
        offset = view.next_offset();
    }
    position.offset = offset;
    Ok(())
}
