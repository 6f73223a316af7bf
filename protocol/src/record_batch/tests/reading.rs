//! Golden bytes, views, patches and iteration.

use super::*;

/// One record (key "k", value "value", timestamp 1000), written out by hand from the format; the
/// CRC comes from an independent computation over the bytes after it.
#[rustfmt::skip]
const GOLDEN: [u8; 74] = [
    0, 0, 0, 0, 0, 0, 0, 0, // base offset
    0, 0, 0, 62, // batch length
    0xff, 0xff, 0xff, 0xff, // leader epoch
    2, // magic
    0, 0, 0, 0, // crc, filled in by the test
    0, 0, // attributes
    0, 0, 0, 0, // last offset delta
    0, 0, 0, 0, 0, 0, 3, 0xe8, // base timestamp
    0, 0, 0, 0, 0, 0, 3, 0xe8, // max timestamp
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id
    0xff, 0xff, // producer epoch
    0xff, 0xff, 0xff, 0xff, // base sequence
    0, 0, 0, 1, // record count
    24, 0, 0, 0, 2, b'k', 10, b'v', b'a', b'l', b'u', b'e', 0,
];

/// CRC-32C bit by bit, to check the library's use and range.
fn crc32c_slow(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn golden() -> Vec<u8> {
    let mut bytes = GOLDEN.to_vec();
    let crc = crc32c_slow(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn builder_writes_the_golden_bytes() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1000, Some(b"k"), Some(b"value"), &[]);
    assert_eq!(builder.plain_bytes(), GOLDEN.len());
    assert_eq!(builder.build().unwrap(), golden());
}

#[test]
fn view_reads_the_golden_bytes() {
    let bytes = golden();
    assert_eq!(check(&bytes).unwrap().plain_bytes, 13);
    let view = BatchView::parse(&bytes).unwrap();
    assert_eq!(
        (view.base_offset(), view.last_offset(), view.next_offset()),
        (0, 0, 1)
    );
    assert_eq!(
        (view.partition_leader_epoch(), view.batch_bytes()),
        (-1, 74)
    );
    assert_eq!((view.base_timestamp(), view.max_timestamp()), (1000, 1000));
    assert_eq!(
        (
            view.producer_id(),
            view.producer_epoch(),
            view.base_sequence()
        ),
        (-1, -1, -1)
    );
    assert!(!view.is_control() && !view.is_transactional() && !view.has_producer_id());
}

#[test]
fn patches_of_offset_and_epoch_keep_the_crc() {
    let mut bytes = batch(BatchOptions::default(), 4);
    set_base_offset(&mut bytes, 1 << 40);
    set_partition_leader_epoch(&mut bytes, 9);
    check(&bytes).unwrap();
    let view = BatchView::parse(&bytes).unwrap();
    assert_eq!(
        (view.base_offset(), view.partition_leader_epoch()),
        (1 << 40, 9)
    );
    assert_eq!(view.last_offset(), (1 << 40) + 3);
}

#[test]
fn log_append_time_stamps_every_record() {
    for codec in Codec::ALL {
        let mut bytes = batch(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            4,
        );
        set_log_append_time(&mut bytes, 77);
        let view = BatchView::parse(&bytes).unwrap();
        view.check_crc().unwrap();
        let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
        let records = view.records(&mut context, &mut buffer, 1 << 20).unwrap();
        assert!(
            records.map(|record| record.unwrap().timestamp).eq([77; 4]),
            "{codec:?}"
        );
    }
}

#[test]
fn max_timestamp_is_corrected() {
    let mut bytes = batch(BatchOptions::default(), 9);
    set_max_timestamp(&mut bytes, 1);
    let summary = check(&bytes).unwrap();
    assert_eq!(summary.max_timestamp, 1_700_000_000_004);
    assert_eq!(summary.max_timestamp_delta, 4);
    set_max_timestamp(&mut bytes, summary.max_timestamp);
    assert_eq!(bytes, batch(BatchOptions::default(), 9));
}

#[test]
fn sequences_wrap_to_zero() {
    let base_sequence = i32::MAX - 1;
    let options = BatchOptions {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence,
        ..Default::default()
    };
    let bytes = batch(options, 4);
    assert_eq!(BatchView::parse(&bytes).unwrap().last_sequence(), 1);
    assert_eq!(
        BatchView::parse(&golden()).unwrap().last_sequence(),
        NO_SEQUENCE
    );
}

#[test]
fn batches_are_iterated_until_the_cut() {
    let mut bytes = batch(BatchOptions::default(), 2);
    let second = batch(
        BatchOptions {
            base_offset: 2,
            ..BatchOptions::default()
        },
        5,
    );
    bytes.extend_from_slice(&second);
    let offsets = |bytes: &[u8]| -> Vec<Option<i64>> {
        Batches::new(bytes)
            .map(|view| view.ok().map(|view| view.last_offset()))
            .collect()
    };
    assert_eq!(offsets(&bytes), [Some(1), Some(6)]);
    assert_eq!(offsets(&bytes[..bytes.len() - 1]), [Some(1), None]);
    assert_eq!(offsets(&[]), []);
}

#[test]
fn builder_is_reused_after_finishing() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let mut output = Vec::new();
    for _ in 0..2 {
        builder.push(5, None, Some(b"x"), &[]);
        builder.finish_into(&mut output).unwrap();
    }
    let half = output.len() / 2;
    assert_eq!(output[..half], output[half..]);
    assert_eq!(Batches::new(&output).count(), 2);
}
