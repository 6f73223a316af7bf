//! Properties: what is built is read back; no bytes make anything panic.

use proptest::prelude::*;

use super::*;

type Owned = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(Vec<u8>, Option<Vec<u8>>)>,
);

fn small_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..90)
}

fn record() -> impl Strategy<Value = Owned> {
    let optional = || proptest::option::of(small_bytes());
    let headers = proptest::collection::vec((small_bytes(), optional()), 0..3);
    (0..i64::MAX / 2, optional(), optional(), headers)
}

fn options() -> impl Strategy<Value = BatchOptions> {
    (
        0..5_usize,
        0..i64::MAX / 2,
        -1..i32::MAX,
        proptest::option::of((0..i64::MAX, 0..i16::MAX)),
    )
        .prop_map(|(codec, base_offset, partition_leader_epoch, producer)| {
            let (producer_id, producer_epoch) = producer.unwrap_or((-1, -1));
            BatchOptions {
                codec: Codec::ALL[codec],
                base_offset,
                partition_leader_epoch,
                producer_id,
                producer_epoch,
                base_sequence: if producer_id < 0 { -1 } else { 3 },
                ..BatchOptions::default()
            }
        })
}

/// Reads everything that can be read of a batch, whatever it is.
fn exercise(bytes: &[u8]) {
    let mut scratch = ValidateScratch::default();
    let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
    for view in Batches::new(bytes).flatten() {
        let _ = validate(&view, &ValidateLimits::default(), &mut scratch);
        let _ = (view.last_offset(), view.next_offset(), view.last_sequence());
        if let Ok(records) = view.records(&mut context, &mut buffer, 1 << 16) {
            for record in records.flatten() {
                assert!(record.headers.clone().count() == record.headers.count());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn records_round_trip(
        options in options(),
        records in proptest::collection::vec(record(), 1..20),
    ) {
        let mut builder = BatchBuilder::new(options);
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<HeaderRef<'_>> =
                headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
            builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let bytes = builder.build().unwrap();
        let summary = check(&bytes).unwrap();
        let view = BatchView::parse(&bytes).unwrap();
        prop_assert_eq!(summary.max_timestamp, view.max_timestamp());
        let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
        let read: Vec<_> = view.records(&mut context, &mut buffer, 1 << 20).unwrap().collect();
        prop_assert_eq!(read.len(), records.len());
        for (index, (read, (timestamp, key, value, headers))) in
            read.into_iter().zip(&records).enumerate()
        {
            let read = read.unwrap();
            prop_assert_eq!(read.offset, options.base_offset + index as i64);
            prop_assert_eq!(read.timestamp, *timestamp);
            prop_assert_eq!(read.key, key.as_deref());
            prop_assert_eq!(read.value, value.as_deref());
            let read: Vec<_> =
                read.headers.map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&read, headers);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn any_damage_never_panics(
        codec in 0..5_usize,
        damage in proptest::collection::vec((0..400_usize, any::<u8>()), 1..6),
        is_crc_repaired in any::<bool>(),
    ) {
        let codec = Codec::ALL[codec];
        let mut bytes = batch(BatchOptions { codec, ..BatchOptions::default() }, 6);
        for (at, with) in damage {
            let at = at % bytes.len();
            bytes[at] = with;
        }
        if is_crc_repaired {
            patch::write_crc(&mut bytes);
        }
        exercise(&bytes);
    }

    #[test]
    fn any_records_behind_a_good_header_never_panic(
        records in proptest::collection::vec(prop_oneof![Just(0_u8), 0..16_u8, any::<u8>()], 0..80),
        record_count in 1..5,
    ) {
        let bytes = batch_of_raw_records(&records, record_count);
        exercise(&bytes);
        // The two parsers agree: what validates is read to the end.
        let view = BatchView::parse(&bytes).unwrap();
        let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
        let all_read =
            view.records(&mut context, &mut buffer, 1 << 16).unwrap().all(|record| record.is_ok());
        if check(&bytes).is_ok() {
            prop_assert!(all_read);
        }
    }
}
