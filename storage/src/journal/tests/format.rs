//! The bytes of headers and records.

use proptest::prelude::*;
use runtime::buffer::AppendBuf;

use super::super::format::{
    FileHeader, GROUP_HEADER_BYTES, GroupHeader, JournalId, decode_file_header, encode_file_header,
};
use crate::codec::FieldReader;
use crate::journal::RecordView;
use crate::segment::batch_header::HEADER_BYTES;

#[test]
fn a_file_header_says_what_was_written_and_nothing_else() {
    let journal = JournalId::draw();
    let header = encode_file_header(64 << 20, journal);
    assert_eq!(
        decode_file_header(&header),
        FileHeader::Valid {
            bytes: 64 << 20,
            journal
        }
    );
    for at in 0..28 {
        let mut damaged = header;
        damaged[at] ^= 0x10;
        let decoded = decode_file_header(&damaged);
        assert!(
            !matches!(decoded, FileHeader::Valid { .. }),
            "byte {at}: {decoded:?}"
        );
    }
    assert_eq!(decode_file_header(&[]), FileHeader::Invalid);
}

#[test]
fn a_group_with_any_bit_changed_is_not_whole() {
    let header = GroupHeader {
        journal: JournalId::draw(),
        lap: 3,
        generation: 2,
        first: 7,
        records: 1,
        payload_bytes: 100,
        durable: 6,
        previous_crc: 99,
        ..GroupHeader::default()
    };
    let mut group = vec![0x5a; GROUP_HEADER_BYTES + 100];
    let crc = header.seal(&mut group);
    assert_eq!(
        GroupHeader::decode(&group),
        Some(GroupHeader { crc, ..header })
    );
    for at in 0..group.len() * 8 {
        let mut damaged = group.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        let whole = GroupHeader::decode(&damaged).is_some_and(|header| header.is_whole(&damaged));
        assert!(!whole, "bit {at}");
    }
}

fn any_record() -> impl Strategy<Value = (u8, u64, i64, u64, Vec<u8>)> {
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    (0u8..11, any::<u64>(), any::<i64>(), any::<u64>(), bytes)
}

fn view(
    (kind, incarnation, number, position, bytes): &(u8, u64, i64, u64, Vec<u8>),
) -> RecordView<'_> {
    let (incarnation, offset, position) = (*incarnation, *number, *position);
    match kind {
        0 => RecordView::Append {
            incarnation,
            base_offset: offset,
            position,
            bytes,
        },
        1 => RecordView::TailBlock {
            incarnation,
            segment_base: offset,
            position,
            bytes,
        },
        2 => RecordView::Truncate {
            incarnation,
            offset,
        },
        3 => RecordView::LogStart {
            incarnation,
            offset,
        },
        4 => RecordView::EpochStart {
            incarnation,
            epoch: position as i32,
            start_offset: offset,
        },
        5 => RecordView::Create {
            incarnation,
            topic: [*kind; 16],
            partition: position as u32,
        },
        6 => RecordView::Delete { incarnation },
        7 => RecordView::Release { incarnation },
        8 => RecordView::Roll {
            incarnation,
            base_offset: offset,
        },
        9 => RecordView::Extent {
            incarnation,
            base_offset: offset,
            position,
            header: &[7; HEADER_BYTES],
            tail: bytes,
        },
        _ => RecordView::Compact {
            incarnation,
            swap: bytes,
        },
    }
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(records in prop::collection::vec(any_record(), 1..8)) {
        let mut buffer = AppendBuf::with_capacity(8 << 10);
        for record in &records {
            let before = buffer.len();
            view(record).encode(&mut buffer);
            prop_assert_eq!(buffer.len() - before, view(record).encoded_bytes());
        }
        let mut reader = FieldReader::new(buffer.as_slice());
        for record in &records {
            prop_assert_eq!(RecordView::decode(&mut reader), Ok(view(record)));
        }
        prop_assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_file_header(&bytes);
        let mut reader = FieldReader::new(&bytes);
        while RecordView::decode(&mut reader).is_ok() {}
        let mut group = b"GSBJ\x01\0\0\0".to_vec();
        group.extend_from_slice(&bytes);
        if let Some(header) = GroupHeader::decode(&group) {
            let _ = header.is_whole(&group);
        }
    }
}
