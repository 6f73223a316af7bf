//! Requests of typical shape as whole frames, encoded before they are timed, and what their answers say.

use protocol::header::{RequestHeader, decode_response_header};
use protocol::messages::create_topics::{
    CreatableTopic, CreateTopicsRequest, CreateTopicsResponse,
};
use protocol::messages::delete_topics::{
    DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use protocol::primitives::{Decoder, Encoder, Uuid};
use protocol::record_batch::{BatchBuilder, BatchOptions};

use super::Raw;

/// Correlation id of every request.
pub(crate) const CORRELATION_ID: i32 = 7;

const PRODUCE: (i16, i16) = (0, 13);
const FETCH: (i16, i16) = (1, 17);
const CREATE_TOPICS: (i16, i16) = (19, 7);
const DELETE_TOPICS: (i16, i16) = (20, 6);

/// A request with its length field.
pub(crate) fn frame(key: i16, version: i16, body: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.put_i32(0);
    let header = RequestHeader {
        api_key: key,
        api_version: version,
        correlation_id: CORRELATION_ID,
        client_id: Some("test"),
    };
    header.encode(&mut encoder);
    body(&mut encoder);
    let (mut frame, _) = encoder.finish().unwrap();
    let bytes = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    frame
}

fn body<'a>(answer: &'a [u8], (key, version): (i16, i16)) -> Decoder<'a> {
    let mut decoder = Decoder::new(answer);
    let correlation_id = decode_response_header(&mut decoder, key, version);
    assert_eq!(correlation_id, Ok(CORRELATION_ID));
    decoder
}

/// Creates a topic and returns its id.
pub(crate) fn create_topic(raw: &mut Raw, name: &str, partitions: i32) -> Uuid {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    let (key, version) = CREATE_TOPICS;
    raw.call(
        key,
        version,
        |encoder| request.encode(encoder, version),
        |decoder| {
            let response = CreateTopicsResponse::decode(decoder, version).unwrap();
            assert_eq!(response.topics[0].error_code, 0);
            response.topics[0].topic_id
        },
    )
}

/// Deletes a topic, which must succeed.
pub(crate) fn delete_topic(raw: &mut Raw, name: &str) {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.into()),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let (key, version) = DELETE_TOPICS;
    raw.call(
        key,
        version,
        |encoder| request.encode(encoder, version),
        |decoder| {
            let response = DeleteTopicsResponse::decode(decoder, version).unwrap();
            assert_eq!(response.responses[0].error_code, 0, "{response:?}");
        },
    );
}

/// Appends a batch to each partition in one request with acks=all; index, error and base offset of each.
pub(crate) fn produce_each<'a>(
    raw: &mut Raw,
    topic: Uuid,
    batches: impl Iterator<Item = (i32, &'a [u8])>,
) -> Vec<(i32, i16, i64)> {
    let data = batches.map(|(index, records)| PartitionProduceData {
        index,
        records: records.into(),
    });
    raw.send(&produce_data_frame(topic, -1, data.collect()));
    let answer = raw.receive().expect("an answer");
    let mut decoder = body(&answer, PRODUCE);
    let response = ProduceResponse::decode(&mut decoder, PRODUCE.1).unwrap();
    assert_eq!(response.responses[0].topic_id, topic);
    let parts = response.responses[0].partition_responses.iter();
    parts
        .map(|part| (part.index, part.error_code, part.base_offset))
        .collect()
}

/// A batch of `count` records of `value_bytes` bytes, not compressed.
pub(crate) fn batch(count: usize, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value: Vec<u8> = (0..value_bytes).map(|at| (at * 31) as u8).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.unwrap().as_millis() as i64;
    for _ in 0..count {
        builder.push(now_ms, None, Some(&value), &[]);
    }
    builder.build().unwrap()
}

/// A produce request with acks=all of `batch` to each of `partitions`.
pub(crate) fn produce_frame(topic: Uuid, partitions: &[i32], batch: &[u8]) -> Vec<u8> {
    produce_frame_with_acks(topic, -1, partitions, batch)
}

/// [`produce_frame`] with other acks.
pub(crate) fn produce_frame_with_acks(
    topic: Uuid,
    acks: i16,
    partitions: &[i32],
    batch: &[u8],
) -> Vec<u8> {
    let data = partitions.iter().map(|index| PartitionProduceData {
        index: *index,
        records: batch.into(),
    });
    produce_data_frame(topic, acks, data.collect())
}

fn produce_data_frame(
    topic: Uuid,
    acks: i16,
    partition_data: Vec<PartitionProduceData<'_>>,
) -> Vec<u8> {
    let request = ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            topic_id: topic,
            partition_data,
            ..Default::default()
        }],
        ..Default::default()
    };
    let (key, version) = PRODUCE;
    frame(key, version, |encoder| request.encode(encoder, version))
}

/// Base offset of the first partition of a produce answer; all must have succeeded.
pub(crate) fn produced(answer: &[u8]) -> i64 {
    let mut decoder = body(answer, PRODUCE);
    let response = ProduceResponse::decode(&mut decoder, PRODUCE.1).unwrap();
    let parts = || {
        response
            .responses
            .iter()
            .flat_map(|t| &t.partition_responses)
    };
    assert!(parts().all(|part| part.error_code == 0), "{response:?}");
    parts().next().unwrap().base_offset
}

/// What a fetch asks for, of every partition the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetch<'a> {
    pub topic: Uuid,
    pub partitions: &'a [i32],
    pub offset: i64,
    pub bytes_max: i32,
    pub wait_ms: i32,
    /// Session id and epoch; `(0, -1)` for none.
    pub session: (i32, i32),
}

impl Fetch<'_> {
    /// The request's frame. It waits for one byte.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let partitions = self.partitions.iter().map(|index| FetchPartition {
            partition: *index,
            fetch_offset: self.offset,
            partition_max_bytes: self.bytes_max,
            ..Default::default()
        });
        let topic = FetchTopic {
            topic_id: self.topic,
            partitions: partitions.collect(),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: self.wait_ms,
            min_bytes: 1,
            max_bytes: 64 << 20,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: if self.partitions.is_empty() {
                Vec::new()
            } else {
                vec![topic]
            },
            ..Default::default()
        };
        let (key, version) = FETCH;
        frame(key, version, |encoder| request.encode(encoder, version))
    }
}

/// What a fetch answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    pub session_id: i32,
    pub record_bytes: usize,
}

/// A fetch answer as it is.
pub(crate) fn fetch_response(answer: &[u8]) -> FetchResponse<'_> {
    FetchResponse::decode(&mut body(answer, FETCH), FETCH.1).unwrap()
}

/// Reads a fetch answer, which must hold no error.
pub(crate) fn fetched(answer: &[u8]) -> Fetched {
    let response = fetch_response(answer);
    let parts = || {
        response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
    };
    let has_error = response.error_code != 0 || parts().any(|part| part.error_code != 0);
    assert!(!has_error, "{response:?}");
    Fetched {
        session_id: response.session_id,
        record_bytes: parts().map(|part| part.records.bytes()).sum(),
    }
}
