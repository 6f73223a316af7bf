//! From the bytes of `__consumer_offsets`, in any version, to records.
//!
//! *Limits*: those of [`Decoder`]: nothing is allocated by a length that the record does not hold.

use std::sync::Arc;

use protocol::{DecodeError, Decoder, Uuid};

use super::encode::TAG_TOPIC_ID;
use super::{
    GroupMetadata, KEY_GROUP, KEY_OFFSET, KEY_OFFSET_LEGACY, MemberMetadata, OffsetAndMetadata,
    OffsetsRecord,
};
use crate::group::event::Bytes;

/// The newest versions of the values, which are also the first flexible ones.
const VALUE_OFFSET_NEWEST: i16 = 4;
const VALUE_GROUP_NEWEST: i16 = 4;

/// Why the bytes of a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A record without a key cannot be compacted, so that nobody writes one.
    #[error("the record has no key")]
    NoKey,
    /// The key is not what its version says.
    #[error("the key of the record: {0}")]
    Key(#[source] DecodeError),
    /// The value is not what its version says.
    #[error("the value of the record: {0}")]
    Value(#[source] DecodeError),
    /// A version of the value that is newer than what is known here.
    #[error("the record's value has version {version}, and {newest} is the newest known")]
    UnknownValueVersion {
        /// The version.
        version: i16,
        /// What is known.
        newest: i16,
    },
    /// A group with members that selected no protocol.
    #[error("the group has members and no protocol")]
    NoProtocol,
}

/// What the bytes of a record are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedRecord {
    /// A record of the classic protocol.
    Known(OffsetsRecord),
    /// A record of another protocol (KIP-848, share and streams groups).
    Other {
        /// The version of the key, which tells the kind.
        key_version: i16,
    },
}

/// Reads a record.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<DecodedRecord, RecordError> {
    let key = decode_key(key.ok_or(RecordError::NoKey)?).map_err(RecordError::Key)?;
    let record = match key {
        Key::Offset {
            group_id,
            topic,
            partition,
        } => {
            let value = value.map(decode_offset).transpose()?;
            OffsetsRecord::Offset {
                group_id,
                topic,
                partition,
                value,
            }
        }
        Key::Group { group_id } => {
            let value = value.map(decode_group).transpose()?;
            OffsetsRecord::Group { group_id, value }
        }
        Key::Other { key_version } => return Ok(DecodedRecord::Other { key_version }),
    };
    Ok(DecodedRecord::Known(record))
}

enum Key {
    Offset {
        group_id: Arc<str>,
        topic: Arc<str>,
        partition: i32,
    },
    Group {
        group_id: Arc<str>,
    },
    Other {
        key_version: i16,
    },
}

fn decode_key(bytes: &[u8]) -> Result<Key, DecodeError> {
    let mut key = Decoder::new(bytes);
    match key.get_i16()? {
        KEY_OFFSET_LEGACY | KEY_OFFSET => Ok(Key::Offset {
            group_id: key.get_string(false)?.into(),
            topic: key.get_string(false)?.into(),
            partition: key.get_i32()?,
        }),
        KEY_GROUP => Ok(Key::Group {
            group_id: key.get_string(false)?.into(),
        }),
        key_version => Ok(Key::Other { key_version }),
    }
}

/// Reads the version in front of a value, and whether that version is flexible.
fn get_version(value: &mut Decoder<'_>, newest: i16) -> Result<(i16, bool), RecordError> {
    let version = value.get_i16().map_err(RecordError::Value)?;
    if (0..=newest).contains(&version) {
        Ok((version, version >= newest))
    } else {
        Err(RecordError::UnknownValueVersion { version, newest })
    }
}

fn decode_offset(bytes: &[u8]) -> Result<OffsetAndMetadata, RecordError> {
    let mut value = Decoder::new(bytes);
    let (version, is_flexible) = get_version(&mut value, VALUE_OFFSET_NEWEST)?;
    get_offset(&mut value, version, is_flexible).map_err(RecordError::Value)
}

fn get_offset(
    value: &mut Decoder<'_>,
    version: i16,
    is_flexible: bool,
) -> Result<OffsetAndMetadata, DecodeError> {
    let offset = value.get_i64()?;
    let leader_epoch = if version >= 3 { value.get_i32()? } else { -1 };
    let metadata = value.get_string(is_flexible)?.into();
    let commit_timestamp_ms = value.get_i64()?;
    let expire_timestamp_ms = if version == 1 { value.get_i64()? } else { -1 };
    let mut topic_id = Uuid::ZERO;
    if is_flexible {
        value.get_tagged_fields(|tag, field| {
            let is_known = tag == TAG_TOPIC_ID;
            if is_known {
                topic_id = field.get_uuid()?;
            }
            Ok(is_known)
        })?;
    }
    Ok(OffsetAndMetadata {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp_ms,
        // Kafka writes −1 for "none".
        expire_timestamp_ms: (expire_timestamp_ms >= 0).then_some(expire_timestamp_ms),
        topic_id,
    })
}

fn decode_group(bytes: &[u8]) -> Result<GroupMetadata, RecordError> {
    let mut value = Decoder::new(bytes);
    let (version, is_flexible) = get_version(&mut value, VALUE_GROUP_NEWEST)?;
    let group = get_group(&mut value, version, is_flexible).map_err(RecordError::Value)?;
    if !group.members.is_empty() && group.protocol_name.is_none() {
        return Err(RecordError::NoProtocol);
    }
    Ok(group)
}

fn get_group(
    value: &mut Decoder<'_>,
    version: i16,
    is_flexible: bool,
) -> Result<GroupMetadata, DecodeError> {
    let protocol_type = value.get_string(is_flexible)?.into();
    let generation_id = value.get_i32()?;
    let protocol_name = value.get_nullable_string(is_flexible)?.map(Into::into);
    let leader = value.get_nullable_string(is_flexible)?.map(Into::into);
    let state_since_ms = if version >= 2 { value.get_i64()? } else { -1 };
    let count = value.get_array_count(is_flexible, size_of::<MemberMetadata>())?;
    let mut members = Vec::new();
    for _ in 0..count.unwrap_or(0) {
        members.push(get_member(value, version, is_flexible)?);
    }
    if is_flexible {
        value.skip_tagged_fields()?;
    }
    Ok(GroupMetadata {
        protocol_type,
        generation_id,
        protocol_name,
        leader,
        state_since_ms,
        members,
    })
}

fn get_member(
    value: &mut Decoder<'_>,
    version: i16,
    is_flexible: bool,
) -> Result<MemberMetadata, DecodeError> {
    let member_id = value.get_string(is_flexible)?.into();
    let group_instance_id = if version >= 3 {
        value.get_nullable_string(is_flexible)?.map(Into::into)
    } else {
        None
    };
    let member = MemberMetadata {
        member_id,
        group_instance_id,
        client_id: value.get_string(is_flexible)?.into(),
        client_host: value.get_string(is_flexible)?.into(),
        rebalance_timeout_ms: if version >= 1 { value.get_i32()? } else { -1 },
        session_timeout_ms: value.get_i32()?,
        subscription: Bytes::from(value.get_bytes(is_flexible)?),
        assignment: Bytes::from(value.get_bytes(is_flexible)?),
    };
    if is_flexible {
        value.skip_tagged_fields()?;
    }
    Ok(member)
}
