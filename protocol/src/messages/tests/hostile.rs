//! Bytes that no honest peer sends, where the expected error is known.
//!
//! `tests/hostile.rs` throws arbitrary bytes at every message and measures memory.

use super::sample::Generator;
use super::{DecodeError, Decoder, Kind};
use crate::messages::fetch::FetchRequest;
use crate::messages::heartbeat::HeartbeatRequest;
use crate::messages::metadata::{MetadataRequest, MetadataResponse, MetadataResponseTopic};
use crate::messages::offset_commit::OffsetCommitRequest;
use crate::messages::offset_fetch::OffsetFetchRequest;
use crate::messages::produce::ProduceRequest;
use crate::primitives::{EncodeError, Encoder};

#[test]
fn a_message_that_is_cut_off_is_refused_wherever_it_is_cut() {
    for kind in Kind::all() {
        for seed in 0..3 {
            let bytes = kind.encode(&kind.sample(&mut Generator::new(seed)));
            for cut in 0..bytes.len() {
                let outcome = kind.decode(&bytes[..cut]);
                assert!(
                    outcome.is_err(),
                    "{kind:?}, seed {seed}, cut at {cut}: {outcome:?}"
                );
            }
        }
    }
}

#[test]
fn bytes_after_a_message_are_noticed() {
    for kind in Kind::all() {
        let mut bytes = kind.encode(&kind.default_message());
        let at = bytes.len();
        bytes.push(0);
        assert_eq!(
            kind.decode(&bytes),
            Err(DecodeError::TrailingBytes { at, bytes: 1 })
        );
    }
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    for version in [-1, 0, 2, 14, i16::MAX] {
        let outcome = ProduceRequest::decode(&mut Decoder::new(&[0; 64]), version);
        let message = "ProduceRequest";
        assert_eq!(
            outcome,
            Err(DecodeError::UnsupportedVersion { message, version })
        );
    }
    let mut encoder = Encoder::new();
    ProduceRequest::default().encode(&mut encoder, 2);
    assert!(matches!(
        encoder.finish(),
        Err(EncodeError::UnsupportedVersion { version: 2, .. })
    ));
}

/// Metadata version 1, which is a count of topics and their names.
fn topics_claimed(count: i32, frame_bytes: usize) -> Result<usize, DecodeError> {
    let mut frame = vec![0; frame_bytes];
    frame[..4].copy_from_slice(&count.to_be_bytes());
    let request = MetadataRequest::decode(&mut Decoder::new(&frame), 1)?;
    Ok(request.topics.map_or(0, |topics| topics.len()))
}

#[test]
fn arrays_that_claim_more_than_the_frame_are_refused() {
    assert_eq!(topics_claimed(3, 4 + 2 * 3), Ok(3));
    assert_eq!(
        topics_claimed(7, 4 + 2 * 3),
        Err(DecodeError::TooManyElements {
            at: 0,
            count: 7,
            limit: 6
        })
    );
    assert_eq!(
        topics_claimed(i32::MAX, 100),
        Err(DecodeError::TooManyElements {
            at: 0,
            count: 0x7fff_ffff,
            limit: 96
        })
    );
    assert!(matches!(
        topics_claimed(-2, 100),
        Err(DecodeError::NegativeLength { .. })
    ));
    assert_eq!(
        topics_claimed(1_000_001, 4_000_000),
        Err(DecodeError::TooManyElements {
            at: 0,
            count: 1_000_001,
            limit: 1_000_000
        })
    );
    assert_eq!(topics_claimed(1_000_000, 4_000_000), Ok(1_000_000));
}

#[test]
fn large_elements_cannot_be_claimed_one_for_each_byte() {
    // Groups of an OffsetFetch: the densest of all, three bytes on the wire for 80 in memory.
    let groups_claimed = |count: u32| {
        let mut encoder = Encoder::new();
        encoder.put_unsigned_varint(count + 1);
        for _ in 0..200_000 {
            encoder.put_slice(&[1, 0, 0]); // No name, all topics, no tagged fields.
        }
        encoder.put_slice(&[0, 0]);
        let frame = encoder.into_parts().0;
        OffsetFetchRequest::decode(&mut Decoder::new(&frame), 8).map(|request| request.groups.len())
    };
    assert_eq!(groups_claimed(200_000), Ok(200_000));
    assert!(matches!(
        groups_claimed(500_000),
        Err(DecodeError::TooMuchMemory { at: 0, .. })
    ));
}

#[test]
fn too_many_tagged_fields_are_refused() {
    let mut encoder = Encoder::new();
    HeartbeatRequest::default().encode(&mut encoder, 4);
    let mut frame = encoder.into_parts().0;
    assert_eq!(frame.pop(), Some(0));
    let with_tags = |count: u32| {
        let mut encoder = Encoder::new();
        encoder.put_slice(&frame);
        encoder.put_unsigned_varint(count);
        for tag in 0..count {
            encoder.put_tagged_field(tag, |_| ());
        }
        let frame = encoder.into_parts().0;
        HeartbeatRequest::decode(&mut Decoder::new(&frame), 4).map(|_| ())
    };
    assert_eq!(with_tags(10_000), Ok(()));
    assert!(matches!(
        with_tags(10_001),
        Err(DecodeError::TooManyTaggedFields { .. })
    ));
}

#[test]
fn null_is_refused_in_versions_without_it() {
    let null_topics = [0xff; 4];
    let outcome = MetadataRequest::decode(&mut Decoder::new(&null_topics), 0);
    let (message, field, version) = ("MetadataRequest", "topics", 0);
    assert_eq!(
        outcome,
        Err(DecodeError::NullInVersion {
            message,
            field,
            version
        })
    );
    assert!(MetadataRequest::decode(&mut Decoder::new(&null_topics), 1).is_ok());
}

fn encode_error(write: impl FnOnce(&mut Encoder)) -> Option<EncodeError> {
    let mut encoder = Encoder::new();
    write(&mut encoder);
    encoder.finish().err()
}

#[test]
fn what_a_version_cannot_say_is_dropped_only_if_that_is_harmless() {
    // Harmless: a leader epoch that an old client would not check.
    let mut response = MetadataResponse {
        controller_id: 7,
        ..Default::default()
    };
    assert_eq!(encode_error(|encoder| response.encode(encoder, 0)), None);
    // Harmful: a topic that is named by an id, to a client that knows names only.
    response.topics.push(MetadataResponseTopic {
        name: None,
        ..Default::default()
    });
    let (message, field) = ("MetadataResponseTopic", "name");
    assert_eq!(
        encode_error(|encoder| response.encode(encoder, 11)),
        Some(EncodeError::NullInVersion {
            message,
            field,
            version: 11
        })
    );
    assert_eq!(encode_error(|encoder| response.encode(encoder, 12)), None);
    // Harmful: a check that an old broker would not make.
    let mut request = FetchRequest::default();
    request.replica_state.replica_epoch = 5;
    let (message, field) = ("FetchRequest", "replica_state");
    assert_eq!(
        encode_error(|encoder| request.encode(encoder, 14)),
        Some(EncodeError::FieldNotInVersion {
            message,
            field,
            version: 14
        })
    );
    let commit = OffsetCommitRequest {
        group_instance_id: Some("i".into()),
        ..Default::default()
    };
    assert!(encode_error(|encoder| commit.encode(encoder, 6)).is_some());
    assert_eq!(encode_error(|encoder| commit.encode(encoder, 7)), None);
}
