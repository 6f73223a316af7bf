//! What is kept of batches, rule by rule.

use protocol::compression::Codec;
use protocol::record_batch::{BatchBuilder, BatchOptions};

use super::*;

const NOW: i64 = 1_700_000_000_000;
const DAY: i64 = 86_400_000;

/// Key and value; an empty key is none.
type KeyValue<'a> = (&'a str, Option<&'a str>);

fn build(options: BatchOptions, records: &[KeyValue<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (key, value) in records {
        let key = (!key.is_empty()).then_some(key.as_bytes());
        builder.push(NOW - 5, key, value.map(str::as_bytes), &[]);
    }
    builder.build().unwrap()
}

fn at(base_offset: i64) -> BatchOptions {
    BatchOptions {
        base_offset,
        codec: Codec::Lz4,
        ..BatchOptions::default()
    }
}

fn of_producer(base_offset: i64, producer_id: i64) -> BatchOptions {
    BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence: base_offset as i32,
        ..at(base_offset)
    }
}

fn in_transaction(base_offset: i64, producer_id: i64) -> BatchOptions {
    BatchOptions {
        is_transactional: true,
        ..of_producer(base_offset, producer_id)
    }
}

fn marker(base_offset: i64, producer_id: i64, is_commit: bool) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions {
        is_control: true,
        base_sequence: -1,
        codec: Codec::None,
        ..in_transaction(base_offset, producer_id)
    });
    builder.push(
        NOW,
        Some(&[0, 0, 0, u8::from(is_commit)]),
        Some(&[0; 6]),
        &[],
    );
    builder.build().unwrap()
}

/// What a pass is made with.
struct Pass {
    last_writes: HashMap<i64, LastWrite>,
    round_end: i64,
    now_ms: i64,
    map_bytes: usize,
}

impl Default for Pass {
    fn default() -> Self {
        Pass {
            last_writes: HashMap::new(),
            round_end: i64::MAX,
            now_ms: NOW,
            map_bytes: 1 << 16,
        }
    }
}

fn header(bytes: &[u8]) -> BatchHeader {
    BatchHeader::decode_prefix(bytes).unwrap()
}

impl Pass {
    /// Cleans `batches`, the dirty part of a log.
    fn run(&self, batches: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut outcomes = Outcomes::default();
        let mut map = OffsetMap::new(self.map_bytes, 0);
        for bytes in batches {
            let view = BatchView::parse(bytes).unwrap();
            let marker = view.is_control().then(|| marker_of(&view).unwrap());
            outcomes.note(&header(bytes), marker.flatten());
        }
        'full: for bytes in batches {
            let view = BatchView::parse(bytes).unwrap();
            if !view.is_control() && !outcomes.is_aborted(&header(bytes)) {
                let mut buffer = Vec::new();
                let mut context = DecompressContext::default();
                for record in view.records(&mut context, &mut buffer, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    let key = record.key.filter(|_| record.offset >= map.end());
                    if key.is_some_and(|key| !map.put(key, record.offset)) {
                        break 'full;
                    }
                }
            }
            map.advance(view.next_offset().max(map.end()));
        }
        let mut filter = Filter::new(Rules {
            map: &map,
            outcomes: &outcomes,
            last_writes: &self.last_writes,
            round_end: self.round_end,
            now_ms: self.now_ms,
            delete_retention_ms: DAY,
        });
        let mut kept = Vec::new();
        for bytes in batches {
            let mut output = Vec::new();
            if filter.pass(&header(bytes), bytes, &mut output).unwrap() {
                kept.push(output);
            }
        }
        kept
    }
}

/// `offset key=value` of every record, and the offsets of batches without any.
fn seen(batches: &[Vec<u8>]) -> Vec<String> {
    let mut seen = Vec::new();
    for bytes in batches {
        let view = BatchView::parse(bytes).unwrap();
        view.check_crc().unwrap();
        if view.record_count() == 0 {
            seen.push(format!(
                "{}-{} empty",
                view.base_offset(),
                view.last_offset()
            ));
        }
        let mut buffer = Vec::new();
        let mut context = DecompressContext::default();
        for record in view.records(&mut context, &mut buffer, 1 << 20).unwrap() {
            let record = record.unwrap();
            if view.is_control() {
                seen.push(format!("{} marker", record.offset));
                continue;
            }
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or("-".to_owned(), |b| String::from_utf8_lossy(b).into_owned())
            };
            let (key, value) = (text(record.key), text(record.value));
            seen.push(format!("{} {key}={value}", record.offset));
        }
    }
    seen
}

#[test]
fn the_newest_record_of_each_key_stays_where_it_is() {
    let batches = [
        build(
            at(0),
            &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))],
        ),
        build(at(3), &[("c", Some("1"))]),
        build(at(4), &[("a", Some("3")), ("d", Some("1"))]),
        build(at(6), &[("c", Some("2"))]),
    ];
    let kept = Pass::default().run(&batches);
    assert_eq!(seen(&kept), ["1 b=1", "4 a=3", "5 d=1", "6 c=2"]);
    assert_eq!(kept[1..], batches[2..], "what is whole stays byte for byte");
    assert_eq!(header(&kept[0]).last_offset(), 2, "offsets do not move");
}

#[test]
fn records_beyond_a_full_map_stay() {
    let batches = [
        build(at(0), &[("a", Some("1")), ("b", Some("1"))]),
        build(
            at(2),
            &[("a", Some("2")), ("c", Some("1")), ("a", Some("3"))],
        ),
    ];
    let small = Pass {
        map_bytes: 3 * crate::compaction::offset_map::SLOT_BYTES,
        ..Pass::default()
    };
    let kept = small.run(&batches);
    assert_eq!(seen(&kept), ["1 b=1", "2 a=2", "3 c=1", "4 a=3"]);
}

#[test]
fn a_tombstone_is_dated_once_and_goes_when_its_time_has_come() {
    let batches = [
        build(at(0), &[("a", Some("1")), ("b", Some("1"))]),
        build(at(2), &[("a", None), ("c", Some("1"))]),
    ];
    let first = Pass::default().run(&batches);
    assert_eq!(seen(&first), ["1 b=1", "2 a=-", "3 c=1"]);
    let view = BatchView::parse(&first[1]).unwrap();
    assert!(view.has_delete_horizon());
    assert_eq!(view.base_timestamp(), NOW + DAY);
    let later = |now_ms| Pass {
        now_ms,
        ..Pass::default()
    };
    let second = later(NOW + DAY - 1).run(&first);
    assert_eq!(second, first, "not dated again");
    let third = later(NOW + DAY).run(&second);
    assert_eq!(seen(&third), ["1 b=1", "3 c=1"]);
}

#[test]
fn the_last_batch_of_a_producer_and_of_the_round_stays() {
    let batches = [
        build(of_producer(0, 7), &[("a", Some("1"))]),
        build(of_producer(1, 7), &[("a", Some("2"))]),
        build(of_producer(2, 8), &[("a", Some("3"))]),
        build(at(3), &[("a", Some("4"))]),
        build(at(4), &[("", Some("no key"))]),
    ];
    let pass = Pass {
        last_writes: HashMap::from([
            (7, LastWrite::Data { last_offset: 1 }),
            (8, LastWrite::Data { last_offset: 90 }),
        ]),
        round_end: 5,
        ..Pass::default()
    };
    let kept = pass.run(&batches);
    assert_eq!(seen(&kept), ["1-1 empty", "3 a=4", "4-4 empty"]);
    assert_eq!(header(&kept[0]).last_sequence(), 1);
    // Nothing changes when it is done again.
    assert_eq!(pass.run(&kept), kept);
}

#[test]
fn aborted_data_goes_and_its_marker_after_it() {
    let batches = [
        build(at(0), &[("a", Some("before"))]),
        build(
            in_transaction(1, 5),
            &[("a", Some("aborted")), ("b", Some("aborted"))],
        ),
        build(in_transaction(3, 6), &[("c", Some("committed"))]),
        marker(4, 5, false),
        marker(5, 6, true),
    ];
    let first = Pass::default().run(&batches);
    assert_eq!(
        seen(&first),
        ["0 a=before", "3 c=committed", "4 marker", "5 marker"]
    );
    assert!(!BatchView::parse(&first[2]).unwrap().has_delete_horizon());
    // Now no data of producer 5 is left: the marker is dated, and goes a day later.
    let second = Pass::default().run(&first);
    assert_eq!(seen(&second), seen(&first));
    assert!(BatchView::parse(&second[2]).unwrap().has_delete_horizon());
    assert!(!BatchView::parse(&second[3]).unwrap().has_delete_horizon());
    let later = Pass {
        now_ms: NOW + DAY,
        ..Pass::default()
    };
    let third = later.run(&second);
    assert_eq!(seen(&third), ["0 a=before", "3 c=committed", "5 marker"]);
}

#[test]
fn the_last_marker_of_a_producer_keeps_its_epoch() {
    let batches = [marker(0, 5, true), marker(1, 6, true)];
    let pass = |now_ms| Pass {
        last_writes: HashMap::from([(5, LastWrite::Marker { epoch: 0 })]),
        now_ms,
        ..Pass::default()
    };
    let dated = pass(NOW).run(&batches);
    let kept = pass(NOW + DAY).run(&dated);
    assert_eq!(seen(&kept), ["0-0 empty"]);
    assert!(header(&kept[0]).is_control());
}

#[test]
fn a_record_that_cannot_be_read_is_an_error() {
    let mut bytes = build(at(0), &[("a", Some("1"))]);
    let last = bytes.len() - 5;
    bytes[last] ^= 0xff;
    let map = OffsetMap::new(1024, 0);
    let (outcomes, last_writes) = (Outcomes::default(), HashMap::new());
    let mut filter = Filter::new(Rules {
        map: &map,
        outcomes: &outcomes,
        last_writes: &last_writes,
        round_end: 1,
        now_ms: NOW,
        delete_retention_ms: DAY,
    });
    let mut output = Vec::new();
    assert!(filter.pass(&header(&bytes), &bytes, &mut output).is_err());
    assert!(output.is_empty());
}
