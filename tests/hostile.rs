//! Whatever a stranger sends: an error or a closed connection, the others unharmed, memory bounded.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

mod support;

use protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use support::{Broker, Raw};

/// Resident memory that none of this may exceed.
const RESIDENT_BYTES_MAX: u64 = 400 << 20;

fn answers(broker: &Broker) -> bool {
    let request = ApiVersionsRequest::default();
    broker.connect().call(
        18,
        0,
        |encoder| request.encode(encoder, 0),
        |decoder| ApiVersionsResponse::decode(decoder, 0).unwrap().error_code == 0,
    )
}

fn check_closed(broker: &Broker, bytes: &[u8]) {
    let mut raw = broker.connect();
    raw.send(bytes);
    assert!(raw.is_closed(), "{bytes:?} is answered or kept");
    assert!(answers(broker), "another client is served after {bytes:?}");
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// Key, version, correlation id and an empty client id before `rest`.
fn request(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(key.to_be_bytes());
    body.extend(version.to_be_bytes());
    body.extend(7_i32.to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(rest);
    frame(&body)
}

#[test]
fn frames_that_are_none_close_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path());
    check_closed(&broker, &(-1_i32).to_be_bytes());
    check_closed(&broker, &0_i32.to_be_bytes());
    check_closed(&broker, &i32::MAX.to_be_bytes());
    check_closed(&broker, b"GET / HTTP/1.1\r\n\r\n");
    check_closed(&broker, &request(999, 0, &[]));
    check_closed(&broker, &request(3, 99, &[]));
    check_closed(&broker, &request(0, 2, &[]));
    // A client id of invalid UTF-8, and one that claims more than the frame.
    check_closed(&broker, &frame(&[0, 3, 0, 4, 0, 0, 0, 7, 0, 2, 0xff, 0xfe]));
    check_closed(&broker, &frame(&[0, 3, 0, 4, 0, 0, 0, 7, 0x7f, 0xff, b'x']));
    // Arrays that claim more than the frame holds.
    for key in [0, 1, 2, 3, 8, 9, 10, 11, 14, 19, 20, 21, 32, 33, 37, 42, 44] {
        let version = if key == 0 {
            3
        } else {
            4.min(max_inflexible(key))
        };
        check_closed(&broker, &request(key, version, &[0x7f; 24]));
    }
    assert!(broker.is_alive());
    assert!(
        broker.resident_bytes() < RESIDENT_BYTES_MAX,
        "{}",
        broker.resident_bytes()
    );
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// A version of the API without compact types.
fn max_inflexible(key: i16) -> i16 {
    match key {
        10 | 20 | 32 | 9 => 2,
        19 | 8 => 3,
        2 | 3 | 1 | 11 => 4,
        _ => 1,
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_with_the_known_ones() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::start(directory.path());
    let mut raw = broker.connect();
    raw.send(&request(18, 99, &[0])); // No tagged fields in the header.
    let frame = raw.receive().unwrap();
    let response =
        ApiVersionsResponse::decode(&mut protocol::primitives::Decoder::new(&frame[4..]), 0)
            .unwrap();
    assert_eq!(response.error_code, 35);
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(response.api_keys[0].api_key, 18);
}

#[test]
fn claims_slow_senders_and_silent_sockets_cost_little() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path());
    let before = broker.resident_bytes();
    let sockets: Vec<Raw> = (0..1500)
        .map(|number| {
            let mut raw = broker.connect();
            match number % 3 {
                // Claims 90 MB and sends a little, drips, or says nothing at all.
                0 => raw.send(&[&90_000_000_i32.to_be_bytes()[..], &[0; 100]].concat()),
                1 => raw.send(&[0, 0]),
                _ => {}
            }
            raw
        })
        .collect();
    assert!(answers(&broker));
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "1500 idle sockets cost {grown} bytes");
    drop(sockets);
    assert!(answers(&broker) && broker.is_alive());
}

#[test]
fn random_bytes_in_valid_frames_harm_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path());
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    println!("seed {state:#x}");
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..400 {
        let key = (random() % 70) as i16;
        let version = (random() % 14) as i16;
        let rest: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
        let mut raw = broker.connect();
        raw.stream
            .set_read_timeout(Some(std::time::Duration::from_millis(1)))
            .unwrap();
        raw.send(&request(key, version, &rest));
        let _ = raw.receive();
    }
    assert!(answers(&broker) && broker.is_alive());
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Descriptors that this process may open; the broker, its child, has as many.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let soft = line.split_whitespace().next().unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

#[test]
fn ten_thousand_connections_are_served_side_by_side() {
    const OTHER_DESCRIPTORS: usize = 4_000; // Of the tests beside this one.
    let count = 10_000.min(descriptors_max() - OTHER_DESCRIPTORS.min(descriptors_max() / 2));
    println!("{count} connections; 10,000 need a higher limit of open files if these are fewer");
    let directory = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(directory.path());
    let mut sockets: Vec<Raw> = (0..count).map(|_| broker.connect()).collect();
    for raw in &mut sockets {
        raw.send(&request(18, 0, &[]));
    }
    for raw in &mut sockets {
        assert!(raw.receive().is_some(), "every connection is answered");
    }
    assert!(answers(&broker));
    assert!(
        broker.resident_bytes() < RESIDENT_BYTES_MAX,
        "{}",
        broker.resident_bytes()
    );
    drop(sockets);
    assert!(answers(&broker) && broker.is_alive());
}
