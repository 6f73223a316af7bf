//! A connection against a broker of a few lines: negotiation, pipelining, and everything that a
//! broken or lying broker can do to it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test are tests")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use client::{ClientError, Connection, ConnectionOptions, produce_acks, produce_request};
use protocol::header::{RequestHeader, encode_response_header};
use protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use protocol::messages::produce::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use protocol::messages::{Request, Response};
use protocol::{ApiKey, Decoder, Encoder, ErrorCode, Records};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as the broker sees it.
struct Seen {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Vec<u8>,
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.ok()?;
    let mut decoder = Decoder::new(&frame);
    let header = RequestHeader::decode(&mut decoder).unwrap();
    Some(Seen {
        key: ApiKey::from_i16(header.api_key).unwrap(),
        version: header.api_version,
        correlation_id: header.correlation_id,
        body: decoder.rest().to_vec(),
    })
}

/// A response frame with its length.
fn frame(seen: &Seen, correlation_id: i32, response: &Response<'_>, version: i16) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.put_i32(0);
    encode_response_header(&mut encoder, seen.key.as_i16(), version, correlation_id);
    response.encode(&mut encoder, version);
    encoder.patch_i32(0, encoder.frame_bytes() as i32 - 4);
    encoder.into_parts().0
}

fn versions(ranges: &[(ApiKey, i16, i16)], error: ErrorCode) -> Response<'static> {
    let api = |(key, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: key.as_i16(),
        min_version: *min_version,
        max_version: *max_version,
    };
    Response::ApiVersions(ApiVersionsResponse {
        error_code: error as i16,
        api_keys: ranges.iter().map(api).collect(),
        ..ApiVersionsResponse::default()
    })
}

async fn answer_versions(stream: &mut TcpStream) {
    let seen = read_request(stream).await.unwrap();
    assert_eq!((seen.key, seen.version), (ApiKey::ApiVersions, 3));
    let response = versions(&[(ApiKey::Produce, 0, 13)], ErrorCode::None);
    stream
        .write_all(&frame(&seen, seen.correlation_id, &response, 3))
        .await
        .unwrap();
}

/// The answer to a produce request: its base offset is the request's partition.
fn produce_answer(seen: &Seen) -> Response<'static> {
    let request = Request::decode(seen.key, &mut Decoder::new(&seen.body), seen.version).unwrap();
    let Request::Produce(request) = request else {
        panic!("not a produce request")
    };
    let partition = request.topic_data[0].partition_data[0].index;
    Response::Produce(ProduceResponse {
        responses: vec![TopicProduceResponse {
            name: "t".into(),
            partition_responses: vec![PartitionProduceResponse {
                index: partition,
                base_offset: i64::from(partition),
                ..PartitionProduceResponse::default()
            }],
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponse::default()
    })
}

/// Runs a broker for one connection beside a client.
fn check<B, C>(broker: impl FnOnce(TcpStream) -> B, client: impl FnOnce(SocketAddr) -> C)
where
    B: Future<Output = ()>,
    C: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async { broker(listener.accept().await.unwrap().0).await };
        let both = async { tokio::join!(serve, client(address)) };
        tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("hangs");
    });
}

fn options() -> ConnectionOptions {
    ConnectionOptions {
        in_flight_max: 64,
        ..ConnectionOptions::default()
    }
}

async fn open(address: SocketAddr) -> Connection {
    Connection::open(address, options()).await.unwrap()
}

fn queue(connection: &mut Connection, partition: i32, records: &[u8]) -> i32 {
    let external = Records::External {
        bytes: records.len(),
    };
    let request = produce_request("t", partition, -1, 1000, external);
    connection.queue(&request, &[records]).unwrap()
}

#[test]
fn requests_are_pipelined_and_answered_in_order() {
    // More bytes both ways than the sockets hold, so that neither side may wait for the other.
    static RECORDS: [u8; 300_000] = [7; 300_000];
    const ROUNDS: i32 = 64;
    check(
        async |mut stream| {
            answer_versions(&mut stream).await;
            for _ in 0..ROUNDS {
                let seen = read_request(&mut stream).await.unwrap();
                assert_eq!((seen.key, seen.version), (ApiKey::Produce, 12));
                let answer = frame(&seen, seen.correlation_id, &produce_answer(&seen), 12);
                stream.write_all(&answer).await.unwrap();
            }
        },
        async |address| {
            let mut connection = open(address).await;
            for partition in 0..ROUNDS {
                queue(&mut connection, partition, &RECORDS);
            }
            assert!(!connection.has_room());
            for partition in 0..ROUNDS {
                let reply = connection.receive().await.unwrap();
                let Response::Produce(response) = reply.decode().unwrap() else {
                    panic!()
                };
                let ack = produce_acks(&response).next().unwrap();
                assert_eq!(
                    (ack.partition, ack.base_offset),
                    (partition, i64::from(partition))
                );
            }
            assert_eq!((connection.in_flight(), connection.unsent_bytes()), (0, 0));
        },
    );
}

#[test]
fn encoded_requests_are_sent_again_with_new_correlation_ids() {
    check(
        async |mut stream| {
            answer_versions(&mut stream).await;
            let mut bodies = Vec::new();
            for _ in 0..3 {
                let seen = read_request(&mut stream).await.unwrap();
                let answer = frame(&seen, seen.correlation_id, &produce_answer(&seen), 12);
                stream.write_all(&answer).await.unwrap();
                bodies.push(seen.body);
            }
            assert!(bodies.iter().all(|body| *body == bodies[0]));
        },
        async |address| {
            let mut connection = open(address).await;
            let request = produce_request("t", 5, -1, 1000, Records::External { bytes: 4 });
            let encoded = connection.encode(&request).unwrap();
            let ids: Vec<i32> = (0..3)
                .map(|_| connection.queue_encoded(&encoded, &[b"data"]))
                .collect();
            for id in ids {
                assert_eq!(connection.receive().await.unwrap().correlation_id, id);
            }
        },
    );
}

#[test]
fn old_brokers_tell_their_versions_in_the_oldest_format() {
    check(
        async |mut stream| {
            let seen = read_request(&mut stream).await.unwrap();
            let ranges = [(ApiKey::Produce, 0, 9), (ApiKey::ApiVersions, 0, 2)];
            let response = versions(&ranges, ErrorCode::UnsupportedVersion);
            stream
                .write_all(&frame(&seen, seen.correlation_id, &response, 0))
                .await
                .unwrap();
        },
        async |address| {
            let connection = open(address).await;
            assert_eq!(connection.ranges().version(ApiKey::Produce).unwrap(), 9);
            let missing = connection.ranges().version(ApiKey::Fetch).unwrap_err();
            assert!(matches!(
                missing,
                ClientError::VersionMissing { key: ApiKey::Fetch }
            ));
        },
    );
}

/// What the client makes of `answer`, given instead of a produce answer.
fn check_broken(answer: impl FnOnce(&Seen) -> Vec<u8>, is_expected: impl Fn(&ClientError) -> bool) {
    check(
        async |mut stream| {
            answer_versions(&mut stream).await;
            let seen = read_request(&mut stream).await.unwrap();
            stream.write_all(&answer(&seen)).await.unwrap();
        },
        async |address| {
            let mut connection = open(address).await;
            let outcome = connection.produce("t", 0, b"records").await;
            let error = outcome.unwrap_err();
            assert!(is_expected(&error), "{error}");
        },
    );
}

#[test]
fn broken_answers_are_told_apart() {
    check_broken(
        |_| Vec::new(),
        |error| matches!(error, ClientError::Closed { in_flight: 1 }),
    );
    check_broken(
        |seen| frame(seen, seen.correlation_id + 1, &produce_answer(seen), 12),
        |error| matches!(error, ClientError::OutOfStep { .. }),
    );
    check_broken(
        |_| (-1_i32).to_be_bytes().to_vec(),
        |error| matches!(error, ClientError::FrameInvalid { bytes: -1, .. }),
    );
    check_broken(
        |_| i32::MAX.to_be_bytes().to_vec(),
        |error| matches!(error, ClientError::FrameInvalid { .. }),
    );
    check_broken(
        |seen| {
            [
                8_i32.to_be_bytes(),
                seen.correlation_id.to_be_bytes(),
                [0, 99, 99, 99],
            ]
            .concat()
        },
        |error| {
            matches!(
                error,
                ClientError::Decode {
                    key: ApiKey::Produce,
                    version: 12,
                    ..
                }
            )
        },
    );
    check_broken(
        |seen| {
            let Response::Produce(mut response) = produce_answer(seen) else {
                panic!()
            };
            response.responses[0].partition_responses[0].error_code =
                ErrorCode::NotLeaderOrFollower as i16;
            frame(seen, seen.correlation_id, &Response::Produce(response), 12)
        },
        |error| error.is_retriable() && error.to_string().contains("NOT_LEADER_OR_FOLLOWER"),
    );
}

#[test]
fn silence_times_out() {
    check(
        async |mut stream| {
            answer_versions(&mut stream).await;
            while read_request(&mut stream).await.is_some() {}
        },
        async |address| {
            let timeout = Duration::from_millis(100);
            let options = ConnectionOptions {
                timeout,
                ..options()
            };
            let mut connection = Connection::open(address, options).await.unwrap();
            let outcome = connection.produce("t", 0, b"records").await;
            assert!(matches!(outcome, Err(ClientError::TimedOut { .. })));
        },
    );
}
