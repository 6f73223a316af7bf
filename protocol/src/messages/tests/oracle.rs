//! Against the crate `kafka-protocol`, for every API and version that it knows.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey as TheirApiKey, RequestKind as TheirRequest, ResponseKind as TheirResponse,
};

use super::sample::Generator;
use super::{ApiKey, Kind};

/// Values of each message and version.
const SEEDS: u64 = 60;

fn their_key(key: ApiKey) -> TheirApiKey {
    TheirApiKey::try_from(key.as_i16()).expect("a key that both know")
}

/// Versions that are newer than theirs (0.18); the golden bytes are the test for them.
const UNKNOWN_TO_THEM: [(ApiKey, i16); 4] = [
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::DescribeLogDirs, 5),
];

fn is_known_to_them(kind: Kind) -> bool {
    !UNKNOWN_TO_THEM.contains(&(kind.key, kind.version))
}

/// What they write for what they read from `bytes`.
fn through_their_codec(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut output = BytesMut::new();
    let written = if kind.is_request {
        TheirRequest::decode(their_key(kind.key), &mut input, kind.version)
            .and_then(|request| request.encode(&mut output, kind.version))
    } else {
        TheirResponse::decode(their_key(kind.key), &mut input, kind.version)
            .and_then(|response| response.encode(&mut output, kind.version))
    };
    written.unwrap_or_else(|error| panic!("{kind:?}: {error:#} in {bytes:02x?}"));
    assert!(
        input.is_empty(),
        "{kind:?}: they left {} bytes",
        input.len()
    );
    output.to_vec()
}

#[test]
fn the_other_codec_reads_and_writes_the_same_bytes() {
    for kind in Kind::all()
        .into_iter()
        .filter(|kind| is_known_to_them(*kind))
    {
        for seed in 0..SEEDS {
            let message = kind.sample(&mut Generator::new(seed));
            let ours = kind.encode(&message);
            let theirs = through_their_codec(kind, &ours);
            assert_eq!(theirs, ours, "{kind:?}, seed {seed}\n{message:#?}");
            assert_eq!(
                kind.decode(&theirs).as_ref(),
                Ok(&message),
                "{kind:?}, seed {seed}"
            );
        }
    }
}

#[test]
fn versions_that_are_left_out_are_still_unknown_to_the_other_codec() {
    for (key, version) in UNKNOWN_TO_THEM {
        let kind = Kind {
            key,
            is_request: true,
            version,
        };
        let mut input = Bytes::from(kind.encode(&kind.default_message()));
        let decoded = TheirRequest::decode(their_key(key), &mut input, version);
        assert!(decoded.is_err(), "{kind:?} can be compared now");
    }
}

#[test]
fn what_we_write_we_read_in_every_version() {
    for kind in Kind::all() {
        for seed in 0..SEEDS {
            let message = kind.sample(&mut Generator::new(seed));
            let bytes = kind.encode(&message);
            assert_eq!(kind.decode(&bytes), Ok(message), "{kind:?}, seed {seed}");
        }
    }
}
