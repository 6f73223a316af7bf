//! Each fault of a batch is named for what it is and gets Kafka's refusal.

use super::*;
use crate::compression::{self, CompressionError};

fn kind_of(bytes: &[u8]) -> BatchErrorKind {
    check(bytes).unwrap_err().kind()
}

fn record_fault(records: &[u8], record_count: i32) -> (i32, RecordFault) {
    match check(&batch_of_raw_records(records, record_count)) {
        Err(BatchError::Record { index, fault }) => (index, fault),
        other => panic!("expected a record fault, got {other:?}"),
    }
}

#[test]
fn flipped_bit_is_a_crc_mismatch() {
    let mut bytes = batch(BatchOptions::default(), 3);
    *bytes.last_mut().unwrap() ^= 1;
    assert!(matches!(check(&bytes), Err(BatchError::CrcMismatch { .. })));
    assert_eq!(kind_of(&bytes), BatchErrorKind::CorruptMessage);
}

#[test]
fn old_and_unknown_magic_are_unsupported_formats() {
    for magic in [0, 1, 3, 0xff] {
        let bytes = tampered(
            batch(BatchOptions::default(), 1),
            header::MAGIC_AT,
            &[magic],
        );
        assert_eq!(kind_of(&bytes), BatchErrorKind::UnsupportedForMessageFormat);
    }
}

#[test]
fn every_cut_is_truncated() {
    let bytes = batch(BatchOptions::default(), 2);
    for end in 0..bytes.len() {
        let error = BatchView::parse(&bytes[..end]).unwrap_err();
        assert!(
            matches!(error, BatchError::Truncated { .. }),
            "{end}: {error}"
        );
    }
}

#[test]
fn impossible_lengths_are_refused() {
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = batch(BatchOptions::default(), 1);
        header::put(&mut bytes, header::BATCH_LENGTH_AT, length.to_be_bytes());
        assert_eq!(
            BatchView::parse(&bytes).unwrap_err(),
            BatchError::LengthInvalid {
                batch_length: length
            }
        );
    }
    let mut two = batch(BatchOptions::default(), 1);
    two.extend(batch(BatchOptions::default(), 1));
    assert!(matches!(
        BatchView::parse(&two),
        Err(BatchError::LengthInvalid { .. })
    ));
}

#[test]
fn lying_counts_are_invalid_records() {
    let good = batch(BatchOptions::default(), 3);
    for (count, delta) in [(0, -1), (-1, -2), (3, 1), (2, 2), (i32::MAX, 2)] {
        let mut bytes = tampered(
            good.clone(),
            header::RECORD_COUNT_AT,
            &i32::to_be_bytes(count),
        );
        bytes = tampered(
            bytes,
            header::LAST_OFFSET_DELTA_AT,
            &i32::to_be_bytes(delta),
        );
        assert_eq!(
            check(&bytes),
            Err(BatchError::CountInvalid {
                record_count: count,
                last_offset_delta: delta
            })
        );
        assert_eq!(kind_of(&bytes), BatchErrorKind::InvalidRecord);
    }
    // Consistent with each other, but not with the records.
    for codec in Codec::ALL {
        let good = batch(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            3,
        );
        let more = tampered(good.clone(), header::RECORD_COUNT_AT, &4_i32.to_be_bytes());
        let more = tampered(more, header::LAST_OFFSET_DELTA_AT, &3_i32.to_be_bytes());
        let cut = BatchError::Record {
            index: 3,
            fault: RecordFault::CutShort,
        };
        assert_eq!(check(&more), Err(cut), "{codec:?}");
        let fewer = tampered(good, header::RECORD_COUNT_AT, &2_i32.to_be_bytes());
        let fewer = tampered(fewer, header::LAST_OFFSET_DELTA_AT, &1_i32.to_be_bytes());
        assert_eq!(
            check(&fewer),
            Err(BatchError::BytesRemain { record_count: 2 }),
            "{codec:?}"
        );
    }
}

#[test]
fn malformed_records_are_named() {
    // length, attributes, timestamp delta, offset delta, key, value, header count
    let good = [0x0e, 0, 0, 0, 1, 2, b'v', 0];
    assert_eq!(
        check(&batch_of_raw_records(&good, 1)).unwrap().record_count,
        1
    );
    for (records, expected) in [
        (
            &[0x0d, 0, 0, 0, 1, 2, b'v', 0][..],
            RecordFault::LengthInvalid(-7),
        ),
        (&[0x0c, 0, 0, 0, 1, 2, b'v', 0], RecordFault::LengthMismatch),
        (&[0x10, 0, 0, 0, 1, 2, b'v', 0], RecordFault::LengthMismatch),
        (&[0x0e, 0, 0, 2, 1, 2, b'v', 0], RecordFault::OffsetDelta(1)),
        (
            &[0x0e, 0, 0, 0, 1, 0x7e, b'v', 0],
            RecordFault::FieldTooLong,
        ),
        (
            &[0x0e, 0, 0, 0, 1, 2, b'v', 1],
            RecordFault::HeaderCountInvalid(-1),
        ),
        (
            &[0x0e, 0, 0, 0, 1, 2, b'v', 0x7e],
            RecordFault::HeaderCountInvalid(63),
        ),
        (
            &[0x12, 0, 0, 0, 1, 2, b'v', 2, 1, 1],
            RecordFault::HeaderKeyNull,
        ),
        (&[0x0e, 0, 0, 0], RecordFault::CutShort),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            RecordFault::VarintTooLong,
        ),
        (
            &[
                0x0e, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            RecordFault::VarintTooLong,
        ),
    ] {
        assert_eq!(record_fault(records, 1), (0, expected), "{records:?}");
    }
}

#[test]
fn unknown_codecs_are_unsupported() {
    for id in 5..8 {
        let bytes = tampered(
            batch(BatchOptions::default(), 1),
            header::ATTRIBUTES_AT,
            &[0, id],
        );
        assert_eq!(check(&bytes), Err(BatchError::CodecUnknown { id }));
        assert_eq!(kind_of(&bytes), BatchErrorKind::UnsupportedCompressionType);
    }
}

#[test]
fn zstd_needs_a_new_enough_request() {
    let bytes = batch(
        BatchOptions {
            codec: Codec::Zstd,
            ..BatchOptions::default()
        },
        1,
    );
    let limits = ValidateLimits {
        is_zstd_allowed: false,
        ..ValidateLimits::default()
    };
    let error = check_with(&bytes, &limits).unwrap_err();
    assert_eq!(error, BatchError::CodecNotAllowed { codec: Codec::Zstd });
    assert_eq!(error.kind(), BatchErrorKind::UnsupportedCompressionType);
}

/// As Kafka 4.3.1 does: its validator does not look at the bit, and stores it.
#[test]
fn a_delete_horizon_that_a_producer_states_is_left_as_it_is() {
    let mut batch = batch(BatchOptions::default(), 1);
    batch[22] |= 0x40;
    let crc = crate::crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    assert!(check(&batch).is_ok());
    assert!(BatchView::parse(&batch).unwrap().has_delete_horizon());
}

#[test]
fn producers_may_not_write_control_or_append_time() {
    let control = batch(
        BatchOptions {
            is_control: true,
            ..BatchOptions::default()
        },
        1,
    );
    assert_eq!(check(&control), Err(BatchError::ControlNotAllowed));
    let mut stamped = batch(BatchOptions::default(), 1);
    set_log_append_time(&mut stamped, 5);
    assert_eq!(check(&stamped), Err(BatchError::TimestampTypeInvalid));
    assert_eq!(kind_of(&stamped), BatchErrorKind::InvalidTimestamp);
    let broker = ValidateLimits {
        origin: BatchOrigin::Broker,
        ..ValidateLimits::default()
    };
    assert_eq!(check_with(&control, &broker).unwrap().record_count, 1);
    assert_eq!(check_with(&stamped, &broker).unwrap().max_timestamp, 5);
}

#[test]
fn producer_fields_must_fit() {
    let none = BatchOptions::default();
    for options in [
        BatchOptions {
            is_transactional: true,
            ..none
        },
        BatchOptions {
            producer_id: 1,
            producer_epoch: 0,
            ..none
        },
        BatchOptions {
            producer_id: 1,
            base_sequence: 0,
            ..none
        },
    ] {
        let error = check(&batch(options, 1)).unwrap_err();
        assert!(
            matches!(error, BatchError::ProducerInvalid { .. }),
            "{error}"
        );
    }
    let good = BatchOptions {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 7,
        ..none
    };
    assert!(check(&batch(good, 1)).is_ok());
    assert!(
        check(&batch(
            BatchOptions {
                is_transactional: true,
                ..good
            },
            1
        ))
        .is_ok()
    );
}

#[test]
fn timestamps_outside_the_range_are_refused() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(100, None, Some(b"x"), &[]);
    builder.push(300, None, Some(b"y"), &[]);
    builder.push(NO_TIMESTAMP, None, Some(b"z"), &[]);
    let bytes = builder.build().unwrap();
    let within = |earliest, latest| {
        let timestamps = Some((earliest, latest));
        check_with(
            &bytes,
            &ValidateLimits {
                timestamps,
                ..ValidateLimits::default()
            },
        )
    };
    let summary = within(100, 300).unwrap();
    assert_eq!(
        (summary.max_timestamp, summary.max_timestamp_delta),
        (300, 1)
    );
    assert!(matches!(
        within(101, 300),
        Err(BatchError::TimestampOutOfRange { index: 0, .. })
    ));
    assert!(matches!(
        within(100, 299),
        Err(BatchError::TimestampOutOfRange { index: 1, .. })
    ));
}

#[test]
fn compacted_topics_need_keys() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(0, Some(b""), Some(b"x"), &[]);
    builder.push(0, None, Some(b"y"), &[]);
    let limits = ValidateLimits {
        is_key_required: true,
        ..ValidateLimits::default()
    };
    let error = check_with(&builder.build().unwrap(), &limits).unwrap_err();
    assert_eq!(
        error,
        BatchError::Record {
            index: 1,
            fault: RecordFault::KeyMissing
        }
    );
}

#[test]
fn batches_over_the_limit_are_too_large() {
    let bytes = batch(BatchOptions::default(), 10);
    let limits = ValidateLimits {
        batch_bytes_max: bytes.len() - 1,
        ..Default::default()
    };
    let error = check_with(&bytes, &limits).unwrap_err();
    assert_eq!(
        error,
        BatchError::TooLarge {
            bytes: bytes.len(),
            limit: bytes.len() - 1
        }
    );
    assert_eq!(error.kind(), BatchErrorKind::MessageTooLarge);
}

#[test]
fn decompression_bombs_stop_at_the_limit_in_a_small_window() {
    let zeros = vec![0_u8; 24 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(BatchOptions {
            codec,
            ..BatchOptions::default()
        });
        builder.push(0, None, Some(&zeros), &[]);
        let bytes = builder.build().unwrap();
        let limits = ValidateLimits {
            batch_bytes_max: usize::MAX,
            decompressed_bytes_max: 1 << 20,
            ..ValidateLimits::default()
        };
        let error = check_with(&bytes, &limits).unwrap_err();
        let expected = CompressionError::TooLarge { limit: 1 << 20 };
        assert_eq!(error, BatchError::Compression(expected), "{codec:?}");
        assert_eq!(error.kind(), BatchErrorKind::MessageTooLarge);
        let roomy = ValidateLimits {
            decompressed_bytes_max: 25 << 20,
            ..limits
        };
        assert!(check_with(&bytes, &roomy).is_ok(), "{codec:?}");
    }
}

#[test]
fn broken_compression_is_corrupt_and_the_scratch_survives() {
    let mut scratch = ValidateScratch::default();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let good = batch(
            BatchOptions {
                codec,
                ..BatchOptions::default()
            },
            50,
        );
        let bad = tampered(good.clone(), HEADER_BYTES, &[0xee; 8]);
        let view = BatchView::parse(&bad).unwrap();
        let error = validate(&view, &ValidateLimits::default(), &mut scratch).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(
                kind,
                BatchErrorKind::CorruptMessage | BatchErrorKind::InvalidRecord
            ),
            "{codec:?}: {error}"
        );
        let view = BatchView::parse(&good).unwrap();
        assert!(
            validate(&view, &ValidateLimits::default(), &mut scratch).is_ok(),
            "{codec:?}"
        );
    }
}

#[test]
fn compressed_record_may_not_reach_beyond_its_own_length() {
    // The value claims 2 GiB; it must be refused by the record's length, not by decompressing.
    let record = [0x16, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let mut block = Vec::new();
    compression::compress(Codec::Zstd, &record, &mut block).unwrap();
    let bytes = tampered(
        batch_of_raw_records(&block, 1),
        header::ATTRIBUTES_AT,
        &[0, 4],
    );
    let expected = BatchError::Record {
        index: 0,
        fault: RecordFault::FieldTooLong,
    };
    assert_eq!(check(&bytes), Err(expected));
}
