//! Decoding requests and encoding responses of the hot path: nanoseconds for each message.
//!
//! Expected: a Produce request is two small vectors and a few dozen bounds checks, whatever the
//! size of its records; a Fetch of a hundred partitions is a hundred times 33 bytes; a Metadata answer
//! is mostly its arrays of broker ids.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use protocol::primitives::{Decoder, Encoder, Records, Uuid};

/// Newest versions, which current clients use.
const PRODUCE_VERSION: i16 = 13;
const FETCH_VERSION: i16 = 18;
const METADATA_VERSION: i16 = 13;

const RECORD_BYTES: usize = 16 * 1024;

fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    write(&mut encoder);
    encoder.into_parts().0
}

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce");
    let records = vec![7; RECORD_BYTES];
    group.throughput(Throughput::Elements(1));
    for count in [1, 10] {
        let partition = |index| PartitionProduceData {
            index,
            records: records.as_slice().into(),
        };
        let topic = TopicProduceData {
            topic_id: Uuid([1; 16]),
            partition_data: (0..count).map(partition).collect(),
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let frame = encoded(|encoder| request.encode(encoder, PRODUCE_VERSION));
        group.bench_function(format!("decode request, {count} partitions"), |bencher| {
            bencher.iter(|| {
                ProduceRequest::decode(&mut Decoder::new(black_box(&frame)), PRODUCE_VERSION)
            });
        });

        let answer = |index| PartitionProduceResponse {
            index,
            base_offset: 1234,
            ..Default::default()
        };
        let topic = TopicProduceResponse {
            topic_id: Uuid([1; 16]),
            partition_responses: (0..count).map(answer).collect(),
            ..Default::default()
        };
        let response = ProduceResponse {
            responses: vec![topic],
            ..Default::default()
        };
        group.bench_function(format!("encode response, {count} partitions"), |bencher| {
            bencher.iter(|| {
                let mut encoder = Encoder::with_capacity(512);
                black_box(&response).encode(&mut encoder, PRODUCE_VERSION);
                encoder.into_parts()
            });
        });
    }
    group.finish();
}

fn fetch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch");
    group.throughput(Throughput::Elements(1));
    for count in [1, 100] {
        let partition = |partition| FetchPartition {
            partition,
            fetch_offset: 1 << 40,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic_id: Uuid([1; 16]),
            partitions: (0..count).map(partition).collect(),
            ..Default::default()
        };
        let request = FetchRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let frame = encoded(|encoder| request.encode(encoder, FETCH_VERSION));
        group.bench_function(format!("decode request, {count} partitions"), |bencher| {
            bencher
                .iter(|| FetchRequest::decode(&mut Decoder::new(black_box(&frame)), FETCH_VERSION));
        });

        let partition = |partition_index| PartitionData {
            partition_index,
            high_watermark: 1 << 40,
            records: Records::External {
                bytes: RECORD_BYTES,
            },
            ..Default::default()
        };
        let topic = FetchableTopicResponse {
            topic_id: Uuid([1; 16]),
            partitions: (0..count).map(partition).collect(),
            ..Default::default()
        };
        let response = FetchResponse {
            responses: vec![topic],
            ..Default::default()
        };
        group.bench_function(format!("encode response, {count} partitions"), |bencher| {
            bencher.iter(|| {
                let mut encoder = Encoder::with_capacity(8192);
                black_box(&response).encode(&mut encoder, FETCH_VERSION);
                encoder.into_parts()
            });
        });
    }
    group.finish();
}

fn metadata(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metadata");
    group.throughput(Throughput::Elements(1));
    let name = |index: usize| format!("topic-{index}");
    let topic = |index| MetadataRequestTopic {
        name: Some(name(index).into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some((0..10).map(topic).collect()),
        ..Default::default()
    };
    let frame = encoded(|encoder| request.encode(encoder, METADATA_VERSION));
    group.bench_function("decode request, 10 topics", |bencher| {
        bencher.iter(|| {
            MetadataRequest::decode(&mut Decoder::new(black_box(&frame)), METADATA_VERSION)
        });
    });

    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..Default::default()
    };
    let topic = |index| MetadataResponseTopic {
        name: Some(name(index).into()),
        topic_id: Uuid([1; 16]),
        partitions: (0..12).map(partition).collect(),
        ..Default::default()
    };
    let broker = |node_id| MetadataResponseBroker {
        node_id,
        host: "broker.example".into(),
        port: 9092,
        rack: None,
    };
    let response = MetadataResponse {
        brokers: (0..3).map(broker).collect(),
        topics: (0..10).map(topic).collect(),
        ..Default::default()
    };
    group.bench_function("encode response, 10 topics of 12 partitions", |bencher| {
        bencher.iter(|| {
            let mut encoder = Encoder::with_capacity(8192);
            black_box(&response).encode(&mut encoder, METADATA_VERSION);
            encoder.into_parts()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = produce, fetch, metadata
}
criterion_main!(benches);
