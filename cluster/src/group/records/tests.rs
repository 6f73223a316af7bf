//! Golden bytes, made with the classes of Apache Kafka 4.3.1 (`GroupCoordinatorRecordSerde` and
//! `MessageUtil.toVersionPrefixedBytes`); round trips; and bytes of any kind.

use proptest::prelude::*;

use super::*;

const TOPIC_ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const WRITTEN_MS: i64 = 1_700_000_000_123;
const EXPIRES_MS: i64 = 1_700_000_600_123;

const OFFSET_KEY: &str = "000100036772700005746f70696300000003";
const GROUP_KEY: &str = "00020003677270";

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn offset() -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: 42,
        leader_epoch: 7,
        metadata: "meta".into(),
        commit_timestamp_ms: WRITTEN_MS,
        expire_timestamp_ms: None,
        topic_id: TOPIC_ID,
    }
}

fn offset_record(value: Option<OffsetAndMetadata>) -> OffsetsRecord {
    OffsetsRecord::Offset {
        group_id: "grp".into(),
        topic: "topic".into(),
        partition: 3,
        value,
    }
}

fn group() -> GroupMetadata {
    let member = MemberMetadata {
        member_id: "m-1".into(),
        group_instance_id: Some("i-1".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from([1, 2, 3]),
        assignment: Bytes::from([4, 5]),
    };
    let other = MemberMetadata {
        member_id: "m-2".into(),
        group_instance_id: None,
        client_host: "/h".into(),
        subscription: Bytes::from([]),
        assignment: Bytes::from([6]),
        ..member.clone()
    };
    GroupMetadata {
        protocol_type: "consumer".into(),
        generation_id: 5,
        protocol_name: Some("range".into()),
        leader: Some("m-1".into()),
        state_since_ms: WRITTEN_MS,
        members: vec![member, other],
    }
}

fn group_record(value: Option<GroupMetadata>) -> OffsetsRecord {
    OffsetsRecord::Group {
        group_id: "grp".into(),
        value,
    }
}

fn check_written(record: &OffsetsRecord, key: &str, value: Option<&str>) {
    let encoded = record.encode();
    assert_eq!(encoded.key, hex(key));
    assert_eq!(encoded.value, value.map(hex));
    check_read(key, value, record);
}

fn check_read(key: &str, value: Option<&str>, expected: &OffsetsRecord) {
    let decoded = decode(Some(&hex(key)), value.map(hex).as_deref());
    assert_eq!(decoded, Ok(DecodedRecord::Known(expected.clone())));
}

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let with_id = OffsetAndMetadata {
        metadata: "méta".into(),
        ..offset()
    };
    check_written(
        &offset_record(Some(with_id)),
        OFFSET_KEY,
        Some(concat!(
            "0004000000000000002a00000007066dc3a974610000018bcfe5687b0100100102030405060708",
            "090a0b0c0d0e0f10"
        )),
    );
    let plain = OffsetAndMetadata {
        leader_epoch: -1,
        metadata: "".into(),
        topic_id: Uuid::ZERO,
        ..offset()
    };
    let bytes = "0004000000000000002affffffff010000018bcfe5687b00";
    check_written(&offset_record(Some(plain)), OFFSET_KEY, Some(bytes));
    check_written(&offset_record(None), OFFSET_KEY, None);
}

#[test]
fn offsets_with_an_expiry_are_written_in_the_version_that_has_a_place_for_it() {
    let expiring = OffsetAndMetadata {
        leader_epoch: -1,
        expire_timestamp_ms: Some(EXPIRES_MS),
        topic_id: Uuid::ZERO,
        ..offset()
    };
    let bytes = "0001000000000000002a00046d6574610000018bcfe5687b0000018bcfee903b";
    check_written(&offset_record(Some(expiring)), OFFSET_KEY, Some(bytes));
}

#[test]
fn groups_are_written_as_kafka_writes_them() {
    check_written(
        &group_record(Some(group())),
        GROUP_KEY,
        Some(concat!(
            "00030008636f6e73756d657200000005000572616e676500036d2d310000018bcfe5687b00000002",
            "00036d2d310003692d31000163000a2f3132372e302e302e310000ea600000271000000003010203",
            "00000002040500036d2d32ffff00016300022f680000ea6000002710000000000000000106"
        )),
    );
    let empty = GroupMetadata {
        protocol_type: "".into(),
        generation_id: 0,
        protocol_name: None,
        leader: None,
        state_since_ms: WRITTEN_MS,
        members: vec![],
    };
    let bytes = "0003000000000000ffffffff0000018bcfe5687b00000000";
    check_written(&group_record(Some(empty)), GROUP_KEY, Some(bytes));
    check_written(&group_record(None), GROUP_KEY, None);
}

#[test]
fn offsets_of_all_versions_are_read() {
    let oldest = OffsetAndMetadata {
        leader_epoch: -1,
        topic_id: Uuid::ZERO,
        ..offset()
    };
    let check = |bytes: &str, expected: &OffsetAndMetadata| {
        let expected = offset_record(Some(expected.clone()));
        check_read(OFFSET_KEY, Some(bytes), &expected);
        let legacy_key = OFFSET_KEY.replacen("0001", "0000", 1);
        check_read(&legacy_key, Some(bytes), &expected);
    };
    check("0000000000000000002a00046d6574610000018bcfe5687b", &oldest);
    check("0002000000000000002a00046d6574610000018bcfe5687b", &oldest);
    let with_epoch = OffsetAndMetadata {
        topic_id: Uuid::ZERO,
        ..offset()
    };
    check(
        "0003000000000000002a0000000700046d6574610000018bcfe5687b",
        &with_epoch,
    );
    // An unknown tagged field is skipped.
    check(
        "0004000000000000002a00000007056d6574610000018bcfe5687b010902abcd",
        &with_epoch,
    );
}

#[test]
fn groups_of_all_versions_are_read() {
    let check = |bytes: &str, expected: GroupMetadata| {
        check_read(GROUP_KEY, Some(bytes), &group_record(Some(expected)));
    };
    let old = |has_rebalance_timeout: bool, has_timestamp: bool| {
        let mut group = group();
        for member in &mut group.members {
            member.group_instance_id = None;
            if !has_rebalance_timeout {
                member.rebalance_timeout_ms = -1;
            }
        }
        if !has_timestamp {
            group.state_since_ms = -1;
        }
        group
    };
    check(
        concat!(
            "00000008636f6e73756d657200000005000572616e676500036d2d310000000200036d2d31000163",
            "000a2f3132372e302e302e31000027100000000301020300000002040500036d2d3200016300022f",
            "6800002710000000000000000106"
        ),
        old(false, false),
    );
    check(
        concat!(
            "00010008636f6e73756d657200000005000572616e676500036d2d310000000200036d2d31000163",
            "000a2f3132372e302e302e310000ea60000027100000000301020300000002040500036d2d320001",
            "6300022f680000ea6000002710000000000000000106"
        ),
        old(true, false),
    );
    check(
        concat!(
            "00020008636f6e73756d657200000005000572616e676500036d2d310000018bcfe5687b00000002",
            "00036d2d31000163000a2f3132372e302e302e310000ea6000002710000000030102030000000204",
            "0500036d2d3200016300022f680000ea6000002710000000000000000106"
        ),
        old(true, true),
    );
    check(
        concat!(
            "000409636f6e73756d6572000000050672616e6765046d2d310000018bcfe5687b03046d2d310469",
            "2d3102630b2f3132372e302e302e310000ea60000027100401020303040500046d2d32000263032f",
            "680000ea60000027100102060000"
        ),
        group(),
    );
}

#[test]
fn records_of_other_kinds_are_told_apart() {
    let other = decode(Some(&[0, 3, 1, 2, 3]), Some(b"anything"));
    assert_eq!(other, Ok(DecodedRecord::Other { key_version: 3 }));
    assert_eq!(decode(None, None), Err(RecordError::NoKey));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let read = |key: &str, value: &str| decode(Some(&hex(key)), Some(&hex(value)));
    assert_eq!(
        read(OFFSET_KEY, "0005"),
        Err(RecordError::UnknownValueVersion {
            version: 5,
            newest: 4
        })
    );
    assert!(matches!(
        read(OFFSET_KEY, "000400"),
        Err(RecordError::Value(_))
    ));
    assert!(matches!(read("0001", "0004"), Err(RecordError::Key(_))));
    // One member, and no protocol.
    let mut headless = group();
    headless.protocol_name = None;
    let encoded = group_record(Some(headless)).encode();
    let decoded = decode(Some(&encoded.key), encoded.value.as_deref());
    assert_eq!(decoded, Err(RecordError::NoProtocol));
    // Two thousand million members in no bytes.
    let lie = "0003000000000000ffffffff0000018bcfe5687b7fffffff";
    assert!(matches!(read(GROUP_KEY, lie), Err(RecordError::Value(_))));
}

fn any_name() -> impl Strategy<Value = Arc<str>> {
    ".{0,20}".prop_map(Arc::from)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

prop_compose! {
    fn any_offset()(
        offset in any::<i64>(),
        leader_epoch in -1..i32::MAX,
        metadata in any_name(),
        commit_timestamp_ms in any::<i64>(),
        topic_id in any::<[u8; 16]>(),
        expire_timestamp_ms in proptest::option::of(0..i64::MAX),
    ) -> OffsetAndMetadata {
        // The version with an expiry has no place for the rest.
        let (leader_epoch, topic_id) = match expire_timestamp_ms {
            Some(_) => (-1, Uuid::ZERO),
            None => (leader_epoch, Uuid(topic_id)),
        };
        OffsetAndMetadata {
            offset, leader_epoch, metadata, commit_timestamp_ms, expire_timestamp_ms, topic_id,
        }
    }
}

prop_compose! {
    fn any_member()(
        member_id in any_name(),
        group_instance_id in proptest::option::of(any_name()),
        client_id in any_name(),
        client_host in any_name(),
        rebalance_timeout_ms in any::<i32>(),
        session_timeout_ms in any::<i32>(),
        subscription in any_bytes(),
        assignment in any_bytes(),
    ) -> MemberMetadata {
        MemberMetadata {
            member_id, group_instance_id, client_id, client_host, rebalance_timeout_ms,
            session_timeout_ms, subscription, assignment,
        }
    }
}

prop_compose! {
    fn any_group()(
        protocol_type in any_name(),
        generation_id in any::<i32>(),
        protocol_name in any_name(),
        leader in proptest::option::of(any_name()),
        state_since_ms in any::<i64>(),
        members in proptest::collection::vec(any_member(), 0..4),
    ) -> GroupMetadata {
        GroupMetadata {
            protocol_type, generation_id, protocol_name: Some(protocol_name), leader,
            state_since_ms, members,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        group_id in any_name(),
        topic in any_name(),
        partition in any::<i32>(),
        offset in proptest::option::of(any_offset()),
        group in proptest::option::of(any_group()),
    ) {
        let offset =
            OffsetsRecord::Offset { group_id: group_id.clone(), topic, partition, value: offset };
        for record in [offset, OffsetsRecord::Group { group_id, value: group }] {
            let encoded = record.encode();
            let decoded = decode(Some(&encoded.key), encoded.value.as_deref());
            prop_assert_eq!(decoded, Ok(DecodedRecord::Known(record)));
        }
    }

    #[test]
    fn any_bytes_never_panic(
        key_version in 0_u8..4,
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value_version in 0_u8..6,
        value in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode(Some(&key), Some(&value));
        let key = [&[0, key_version], &key[..]].concat();
        let value = [&[0, value_version], &value[..]].concat();
        let _ = decode(Some(&key), Some(&value));
        for key in [hex(OFFSET_KEY), hex(GROUP_KEY)] {
            let _ = decode(Some(&key), Some(&value));
        }
    }

    #[test]
    fn cut_or_changed_records_never_panic(
        group in any_group(), at in any::<usize>(), byte in any::<u8>(),
    ) {
        let encoded = group_record(Some(group)).encode();
        let mut value = encoded.value.unwrap();
        let at = at % value.len();
        prop_assert!(decode(Some(&encoded.key), Some(&value[..at])).is_err());
        value[at] = byte;
        let _ = decode(Some(&encoded.key), Some(&value));
    }
}
