//! Requests in the shape that the load generator and the tests need, and what they give back.

use std::borrow::Cow;

use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::messages::find_coordinator::FindCoordinatorRequest;
use protocol::messages::init_producer_id::InitProducerIdRequest;
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use protocol::messages::{Request, Response};
use protocol::{ApiKey, Records};

use crate::connection::Connection;
use crate::error::ClientError;

/// A place in a log to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record at or after a time in milliseconds.
    Time(i64),
}

impl OffsetAt {
    fn timestamp(self) -> i64 {
        match self {
            OffsetAt::Earliest => -2,
            OffsetAt::Latest => -1,
            OffsetAt::Time(time) => time,
        }
    }
}

/// What a producer is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerId {
    /// The id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// What became of one partition's records in a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceAck {
    /// The partition.
    pub partition: i32,
    /// What went wrong, or 0.
    pub error_code: i16,
    /// Offset of the first record, or -1.
    pub base_offset: i64,
}

/// What a fetch of one partition gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOutcome {
    /// The end of what may be read (exclusive).
    pub high_watermark: i64,
    /// The first offset of the log.
    pub log_start_offset: i64,
    /// Record batches; the last may be cut.
    pub records: Vec<u8>,
}

/// A request that appends `records` to one partition.
pub fn produce_request<'a>(
    topic: &'a str,
    partition: i32,
    acks: i16,
    timeout_ms: i32,
    records: Records<'a>,
) -> Request<'a> {
    Request::Produce(ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms,
        topic_data: vec![TopicProduceData {
            name: Cow::Borrowed(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records,
            }],
            ..TopicProduceData::default()
        }],
    })
}

/// The outcome of each partition of a produce request.
pub fn produce_acks(response: &ProduceResponse<'_>) -> impl Iterator<Item = ProduceAck> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| ProduceAck {
        partition: partition.index,
        error_code: partition.error_code,
        base_offset: partition.base_offset,
    })
}

/// A request that reads one partition outside of a session.
pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_bytes: i32) -> Request<'_> {
    Request::Fetch(FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes,
        topics: vec![FetchTopic {
            topic: Cow::Borrowed(topic),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    })
}

/// The error for a response of another API than the request's: excluded by correlation ids.
pub(crate) fn mismatch(key: ApiKey) -> ClientError {
    ClientError::Incomplete {
        key,
        what: "a response of its own kind".to_owned(),
    }
}

fn lacks_partition(key: ApiKey) -> ClientError {
    ClientError::Incomplete {
        key,
        what: "the partition".to_owned(),
    }
}

impl Connection {
    /// Appends one batch with acks=all; returns the offset of its first record.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the partition's error code, and those of [`Self::call`].
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &[u8],
    ) -> Result<i64, ClientError> {
        let key = ApiKey::Produce;
        let request = produce_request(topic, partition, -1, 30_000, batch.into());
        let Response::Produce(response) = self.call(&request).await? else {
            return Err(mismatch(key));
        };
        let ack = produce_acks(&response)
            .next()
            .ok_or_else(|| lacks_partition(key))?;
        ClientError::check(key, ack.error_code, None)?;
        Ok(ack.base_offset)
    }

    /// Reads one partition from `offset` on, waiting up to half a second for a record.
    ///
    /// # Errors
    /// As [`Self::produce`].
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: i32,
    ) -> Result<FetchOutcome, ClientError> {
        let key = ApiKey::Fetch;
        let request = fetch_request(topic, partition, offset, max_bytes);
        let Response::Fetch(response) = self.call(&request).await? else {
            return Err(mismatch(key));
        };
        ClientError::check(key, response.error_code, None)?;
        let mut partitions = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        let found = partitions.next().ok_or_else(|| lacks_partition(key))?;
        ClientError::check(key, found.error_code, None)?;
        Ok(FetchOutcome {
            high_watermark: found.high_watermark,
            log_start_offset: found.log_start_offset,
            records: found.records.as_slice().unwrap_or_default().to_vec(),
        })
    }

    /// Looks up one place in each partition of a topic, all led by this broker; returns offsets
    /// in the order of `partitions`, -1 where there is none.
    ///
    /// # Errors
    /// As [`Self::produce`].
    pub async fn list_offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        at: OffsetAt,
    ) -> Result<Vec<i64>, ClientError> {
        let key = ApiKey::ListOffsets;
        let asked = partitions.iter().map(|partition| ListOffsetsPartition {
            partition_index: *partition,
            timestamp: at.timestamp(),
            ..ListOffsetsPartition::default()
        });
        let request = Request::ListOffsets(ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: asked.collect(),
            }],
            ..ListOffsetsRequest::default()
        });
        let Response::ListOffsets(response) = self.call(&request).await? else {
            return Err(mismatch(key));
        };
        let mut offsets = vec![None; partitions.len()];
        for found in response.topics.iter().flat_map(|topic| &topic.partitions) {
            ClientError::check(key, found.error_code, None)?;
            let position = partitions
                .iter()
                .position(|asked| *asked == found.partition_index);
            if let Some(offset) = position.and_then(|position| offsets.get_mut(position)) {
                *offset = Some(found.offset);
            }
        }
        offsets
            .into_iter()
            .map(|offset| offset.ok_or_else(|| lacks_partition(key)))
            .collect()
    }

    /// Gets the id for an idempotent producer.
    ///
    /// # Errors
    /// As [`Self::produce`].
    pub async fn init_producer_id(&mut self) -> Result<ProducerId, ClientError> {
        let key = ApiKey::InitProducerId;
        let request = Request::InitProducerId(InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        });
        let Response::InitProducerId(response) = self.call(&request).await? else {
            return Err(mismatch(key));
        };
        ClientError::check(key, response.error_code, None)?;
        Ok(ProducerId {
            id: response.producer_id,
            epoch: response.producer_epoch,
        })
    }

    /// Finds the broker that coordinates a group; returns its node id.
    ///
    /// # Errors
    /// As [`Self::produce`].
    pub async fn find_coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        let key = ApiKey::FindCoordinator;
        let is_batched = self.ranges().version(key)? >= 4;
        let request = Request::FindCoordinator(if is_batched {
            let coordinator_keys = vec![group.into()];
            FindCoordinatorRequest {
                coordinator_keys,
                ..FindCoordinatorRequest::default()
            }
        } else {
            FindCoordinatorRequest {
                key: group.into(),
                ..FindCoordinatorRequest::default()
            }
        });
        let Response::FindCoordinator(response) = self.call(&request).await? else {
            return Err(mismatch(key));
        };
        let first = response.coordinators.first();
        let (code, message, node_id) = match first {
            Some(found) => (
                found.error_code,
                found.error_message.as_deref(),
                found.node_id,
            ),
            None => (
                response.error_code,
                response.error_message.as_deref(),
                response.node_id,
            ),
        };
        ClientError::check(key, code, message)?;
        Ok(node_id)
    }
}
