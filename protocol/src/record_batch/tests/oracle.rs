//! The crate `kafka-protocol` (another implementation, over the C codecs) reads what we write and
//! writes what we read.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as theirs;

use super::*;

fn their_codec(codec: Codec) -> theirs::Compression {
    match codec {
        Codec::None => theirs::Compression::None,
        Codec::Gzip => theirs::Compression::Gzip,
        Codec::Snappy => theirs::Compression::Snappy,
        Codec::Lz4 => theirs::Compression::Lz4,
        Codec::Zstd => theirs::Compression::Zstd,
    }
}

#[expect(clippy::default_trait_access, reason = "the map type is not exported")]
fn their_record(index: i64) -> theirs::Record {
    let mut record = theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 4000,
        producer_epoch: 2,
        timestamp_type: theirs::TimestampType::Creation,
        offset: index,
        sequence: 10 + index as i32,
        timestamp: 1_700_000_000_000 + index,
        key: (index % 2 == 0).then(|| Bytes::from(format!("key {index}"))),
        value: (index % 3 != 0).then(|| Bytes::from(vec![index as u8; 300])),
        headers: Default::default(),
    };
    record
        .headers
        .insert("h".to_owned().into(), Some(Bytes::from_static(b"1")));
    record.headers.insert("nothing".to_owned().into(), None);
    record
}

#[test]
fn their_batches_validate_and_read_as_written() {
    for codec in Codec::ALL {
        let records: Vec<_> = (0..40).map(their_record).collect();
        let options = theirs::RecordEncodeOptions {
            version: 2,
            compression: their_codec(codec),
        };
        let mut bytes = BytesMut::new();
        theirs::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        let summary = check(&bytes).unwrap();
        assert_eq!(
            (summary.record_count, summary.max_timestamp_delta),
            (40, 39),
            "{codec:?}"
        );
        let view = BatchView::parse(&bytes).unwrap();
        assert_eq!((view.producer_id(), view.producer_epoch()), (4000, 2));
        assert_eq!((view.base_sequence(), view.last_sequence()), (10, 49));
        let (mut context, mut buffer) = (DecompressContext::default(), Vec::new());
        let ours = view.records(&mut context, &mut buffer, 1 << 20).unwrap();
        for (ours, theirs) in ours.map(Result::unwrap).zip(&records) {
            assert_eq!(
                (ours.offset, ours.timestamp),
                (theirs.offset, theirs.timestamp)
            );
            assert_eq!(ours.key, theirs.key.as_deref());
            assert_eq!(ours.value, theirs.value.as_deref());
            let headers: Vec<_> = ours.headers.collect();
            assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (b"nothing", None)]);
        }
    }
}

#[test]
fn our_batches_decode_there() {
    for codec in Codec::ALL {
        let options = BatchOptions {
            codec,
            base_offset: 70,
            producer_id: 8,
            producer_epoch: 1,
            base_sequence: 5,
            ..BatchOptions::default()
        };
        let mut bytes = Bytes::from(batch(options, 500));
        let set = theirs::RecordBatchDecoder::decode(&mut bytes).unwrap();
        assert_eq!(set.records.len(), 500, "{codec:?}");
        for (index, record) in set.records.iter().enumerate() {
            assert_eq!(record.offset, 70 + index as i64);
            assert_eq!(record.sequence, 5 + index as i32);
            assert_eq!(
                record.key.as_deref(),
                Some(format!("key-{index}").as_bytes())
            );
            assert_eq!(record.headers.len(), 2);
        }
    }
}
