//! Bytes that Apache Kafka 4.3.1 wrote, for every API and version.
//!
//! `tests/golden/kafka-4.3.1.tsv` has a line for each message: name, version, what it is, bytes in
//! hex. They were recorded by a small Java program over kafka-clients 4.3.1: for `default`, a message
//! as its constructor makes it; for `random`, a seeded random value of the version's schema, read
//! and written again by Kafka's own class for the message.

use super::{ApiKey, Kind, SERVED};

const GOLDEN: &str = include_str!("../../../tests/golden/kafka-4.3.1.tsv");

struct Line {
    kind: Kind,
    is_default: bool,
    bytes: Vec<u8>,
}

fn key_named(name: &str) -> ApiKey {
    SERVED
        .iter()
        .map(|api| api.key)
        .find(|key| key.name() == name)
        .expect(name)
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn lines() -> impl Iterator<Item = Line> {
    GOLDEN.lines().map(|line| {
        let mut columns = line.split('\t');
        let mut column = || columns.next().expect(line);
        let name = column();
        let (key, is_request) = match name.strip_suffix("Request") {
            Some(api) => (key_named(api), true),
            None => (key_named(name.strip_suffix("Response").expect(line)), false),
        };
        let kind = Kind {
            key,
            is_request,
            version: column().parse().unwrap(),
        };
        Line {
            kind,
            is_default: column() == "default",
            bytes: bytes_of(column()),
        }
    })
}

#[test]
fn kafkas_bytes_are_read_and_written_back() {
    for Line { kind, bytes, .. } in lines() {
        let message = kind
            .decode(&bytes)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(kind.encode(&message), bytes, "{kind:?}\n{message:#?}");
    }
}

#[test]
fn defaults_are_kafkas() {
    for Line { kind, bytes, .. } in lines().filter(|line| line.is_default) {
        assert_eq!(kind.encode(&kind.default_message()), bytes, "{kind:?}");
        assert_eq!(
            kind.decode(&bytes).unwrap(),
            kind.default_message(),
            "{kind:?}"
        );
    }
}

#[test]
fn every_version_has_a_golden_line() {
    for kind in Kind::all() {
        let of_kind = lines().filter(|line| line.kind == kind);
        let (defaults, others): (Vec<_>, Vec<_>) = of_kind.partition(|line| line.is_default);
        assert_eq!(defaults.len(), 1, "{kind:?}");
        assert!(!others.is_empty(), "{kind:?}");
    }
}
