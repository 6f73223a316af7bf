//! From records to the bytes that Kafka 4.3.1 writes.

use protocol::Encoder;

use super::{
    GroupMetadata, KEY_GROUP, KEY_OFFSET, MemberMetadata, OffsetAndMetadata, OffsetsRecord,
};

/// Offsets with an expiry of their own: the only version that has a place for it.
const VALUE_OFFSET_WITH_EXPIRY: i16 = 1;
/// Offsets: the first flexible version, which may carry the topic's id as a tagged field.
const VALUE_OFFSET: i16 = 4;
/// Group metadata: the newest version that is not flexible.
const VALUE_GROUP: i16 = 3;

/// The tag of the topic id in an offset's value.
pub(super) const TAG_TOPIC_ID: u32 = 0;

/// Key and value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRecord {
    /// The key, by which the topic is compacted.
    pub key: Vec<u8>,
    /// The value; nothing for a tombstone.
    pub value: Option<Vec<u8>>,
}

impl OffsetsRecord {
    /// The bytes of the record.
    ///
    /// # Panics
    /// If a name is longer than 32,767 bytes; requests with such names are refused.
    pub fn encode(&self) -> EncodedRecord {
        match self {
            Self::Offset {
                group_id,
                topic,
                partition,
                value,
            } => EncodedRecord {
                key: encode_offset_key(group_id, topic, *partition),
                value: value.as_ref().map(encode_offset),
            },
            Self::Group { group_id, value } => EncodedRecord {
                key: encode_group_key(group_id),
                value: value.as_ref().map(encode_group),
            },
        }
    }
}

fn encode_offset_key(group_id: &str, topic: &str, partition: i32) -> Vec<u8> {
    with_version(KEY_OFFSET, |key| {
        key.put_string(group_id, false);
        key.put_string(topic, false);
        key.put_i32(partition);
    })
}

fn encode_group_key(group_id: &str) -> Vec<u8> {
    with_version(KEY_GROUP, |key| key.put_string(group_id, false))
}

fn encode_offset(offset: &OffsetAndMetadata) -> Vec<u8> {
    match offset.expire_timestamp_ms {
        Some(expire_timestamp_ms) => with_version(VALUE_OFFSET_WITH_EXPIRY, |value| {
            value.put_i64(offset.offset);
            value.put_string(&offset.metadata, false);
            value.put_i64(offset.commit_timestamp_ms);
            value.put_i64(expire_timestamp_ms);
        }),
        None => with_version(VALUE_OFFSET, |value| {
            value.put_i64(offset.offset);
            value.put_i32(offset.leader_epoch);
            value.put_string(&offset.metadata, true);
            value.put_i64(offset.commit_timestamp_ms);
            if offset.topic_id.is_zero() {
                value.put_unsigned_varint(0);
            } else {
                value.put_unsigned_varint(1);
                value.put_tagged_field(TAG_TOPIC_ID, |field| field.put_uuid(offset.topic_id));
            }
        }),
    }
}

fn encode_group(group: &GroupMetadata) -> Vec<u8> {
    with_version(VALUE_GROUP, |value| {
        value.put_string(&group.protocol_type, false);
        value.put_i32(group.generation_id);
        value.put_nullable_string(group.protocol_name.as_deref(), false);
        value.put_nullable_string(group.leader.as_deref(), false);
        value.put_i64(group.state_since_ms);
        value.put_length(Some(group.members.len()), false);
        for member in &group.members {
            encode_member(member, value);
        }
    })
}

fn encode_member(member: &MemberMetadata, value: &mut Encoder) {
    value.put_string(&member.member_id, false);
    value.put_nullable_string(member.group_instance_id.as_deref(), false);
    value.put_string(&member.client_id, false);
    value.put_string(&member.client_host, false);
    value.put_i32(member.rebalance_timeout_ms);
    value.put_i32(member.session_timeout_ms);
    value.put_bytes(&member.subscription, false);
    value.put_bytes(&member.assignment, false);
}

fn with_version(version: i16, fields: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.put_i16(version);
    fields(&mut encoder);
    let (bytes, splices) = encoder.into_parts();
    assert!(
        splices.is_empty(),
        "a record of a group holds its own bytes"
    );
    bytes
}
