//! Arbitrary bytes as every message: no panic, and memory within the frame's bound.
//!
//! One test function, because it measures the memory of the whole process.

use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use protocol::header::RequestHeader;
use protocol::messages::{Request, Response};
use protocol::primitives::Decoder;
use protocol::primitives::decoder::MEMORY_FACTOR;
use protocol::{ApiKey, SERVED};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that Kafka wrote; what is almost right reaches deeper than noise.
const GOLDEN: &str = include_str!("golden/kafka-4.3.1.tsv");

/// What a decoder may use for a frame of so many bytes: its documented bound, twice because a
/// growing vector is there twice for a moment.
fn memory_bound(frame_bytes: usize) -> usize {
    2 * (MEMORY_FACTOR * frame_bytes + 4096)
}

/// Peak of memory while `decode` runs, and what it returned is dropped.
fn peak_of<T>(decode: impl FnOnce() -> T) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    drop(decode());
    MEMORY.peak_usage().saturating_sub(before)
}

fn check_one(key: ApiKey, version: i16, is_request: bool, frame: &[u8]) {
    let decoder = &mut Decoder::new(frame);
    let peak = if is_request {
        peak_of(|| Request::decode(key, decoder, version))
    } else {
        peak_of(|| Response::decode(key, decoder, version))
    };
    let bound = memory_bound(frame.len());
    assert!(
        peak <= bound,
        "{key} {version}: {peak} bytes for a frame of {}",
        frame.len()
    );
}

/// Every message in every version, known or not.
fn check_all(frame: &[u8]) {
    for api in SERVED {
        for version in api.min_version - 1..=api.max_version + 1 {
            check_one(api.key, version, true, frame);
            check_one(api.key, version, false, frame);
        }
    }
    assert_eq!(
        peak_of(|| RequestHeader::decode(&mut Decoder::new(frame))),
        0
    );
}

struct Golden {
    key: ApiKey,
    version: i16,
    is_request: bool,
    bytes: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let parse = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let (name, is_request) = match columns[0].strip_suffix("Request") {
            Some(name) => (name, true),
            None => (columns[0].strip_suffix("Response").expect(line), false),
        };
        let key = SERVED
            .iter()
            .find(|api| api.key.name() == name)
            .expect(line)
            .key;
        let digits = columns[3].as_bytes().chunks(2);
        let pairs = digits.map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        let bytes = pairs
            .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
            .collect();
        let version = columns[1].parse().expect("a version");
        Golden {
            key,
            version,
            is_request,
            bytes,
        }
    };
    GOLDEN
        .lines()
        .map(parse)
        .filter(|golden| !golden.bytes.is_empty())
        .collect()
}

/// Values that mean something as a length, a count or a varint.
const TELLING: [&[u8]; 8] = [
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0x00, 0x0f, 0x42, 0x40], // A million.
    &[0x00, 0x00, 0x00, 0x40],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x00],
    &[0xff, 0x7f],
];

/// Overwrites places in a message with telling values or with noise, then cuts it or makes it longer.
fn damage(bytes: &[u8], changes: &[(usize, usize, u8)], resize: Option<usize>) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for (place, what, noise) in changes {
        let place = place % damaged.len();
        let noise = [*noise];
        let value = TELLING.get(*what).copied().unwrap_or(&noise);
        for (byte, new) in damaged[place..].iter_mut().zip(value) {
            *byte = *new;
        }
    }
    if let Some(bytes) = resize {
        damaged.resize(bytes, 0x01);
    }
    damaged
}

#[test]
fn no_bytes_panic_or_use_memory_beyond_the_bound() {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(1000)
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&vec(any::<u8>(), 0..400), |frame| {
            check_all(&frame);
            Ok(())
        })
        .unwrap();

    let golden = golden();
    let change = (any::<usize>(), 0..TELLING.len() + 4, any::<u8>());
    let strategy = (vec(change, 1..6), proptest::option::of(0..5000_usize));
    let damages = |(changes, resize): (Vec<_>, Option<usize>)| {
        for message in &golden {
            let frame = damage(&message.bytes, &changes, resize);
            check_one(message.key, message.version, message.is_request, &frame);
        }
        Ok::<(), TestCaseError>(())
    };
    runner.run(&strategy, damages).unwrap();

    // Large frames of one byte: arrays of as many elements as can be.
    for byte in [0x00, 0x01, 0x02, 0x03, 0x04, 0x7f, 0xff] {
        check_all(&vec![byte; 200_000]);
    }
    for count in [1_000_000_i32, 100_000, 49_999] {
        for byte in [0x00, 0x01, 0x02] {
            let mut frame = vec![byte; 200_000];
            frame[..4].copy_from_slice(&count.to_be_bytes());
            check_all(&frame);
            frame[..4].copy_from_slice(&[0x80 | byte, 0x80, 0x06, byte]);
            check_all(&frame);
        }
    }
    produce_and_fetch_allocate_only_their_arrays(&golden);
}

/// The hot path: memory is exactly that of the vectors.
fn produce_and_fetch_allocate_only_their_arrays(golden: &[Golden]) {
    let mut compared = 0;
    for message in golden.iter().filter(|golden| golden.is_request) {
        let mut expected = 0;
        let peak = peak_of(|| {
            let decoder = &mut Decoder::new(&message.bytes);
            let request = Request::decode(message.key, decoder, message.version).expect("golden");
            expected = match &request {
                Request::Produce(produce) => {
                    let inner = produce
                        .topic_data
                        .iter()
                        .map(|topic| size_of_all(&topic.partition_data));
                    size_of_all(&produce.topic_data) + inner.sum::<usize>()
                }
                Request::Fetch(fetch) => {
                    let inner = fetch
                        .topics
                        .iter()
                        .map(|topic| size_of_all(&topic.partitions));
                    let forgotten = fetch.forgotten_topics_data.iter();
                    size_of_all(&fetch.topics)
                        + inner.sum::<usize>()
                        + size_of_all(&fetch.forgotten_topics_data)
                        + forgotten
                            .map(|topic| size_of_all(&topic.partitions))
                            .sum::<usize>()
                }
                _ => return None,
            };
            Some(request)
        });
        if matches!(message.key, ApiKey::Produce | ApiKey::Fetch) {
            assert_eq!(peak, expected, "{} {}", message.key, message.version);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} messages");
}

fn size_of_all<T>(elements: &[T]) -> usize {
    size_of_val(elements)
}
