//! The records of `__consumer_offsets`: committed offsets and the metadata of groups.
//!
//! *Place*: rules make [`OffsetsRecord`]s, the driver encodes them into batches; at a load the driver
//! decodes every record of the partition and hands it to the [`Loader`](super::Loader).
//!
//! *Durability*: the layout is Kafka's, byte for byte, because other tools read the topic. Written are
//! the versions that Kafka 4.3.1 writes: keys 1 and 2; offsets in version 4 (1, when they carry an expiry),
//! groups in version 3. Read are all versions that exist.
//!
//! *Source*: `OffsetCommitKey/Value` and `GroupMetadataKey/Value` of Apache Kafka's group coordinator.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use protocol::Uuid;

use super::event::{Bytes, GroupId, MemberId};

pub use decode::{DecodedRecord, RecordError, decode};
pub use encode::EncodedRecord;

/// Key version of offsets written by brokers before 0.9; the value is known by its own version.
const KEY_OFFSET_LEGACY: i16 = 0;
/// Key version of committed offsets.
const KEY_OFFSET: i16 = 1;
/// Key version of group metadata.
const KEY_GROUP: i16 = 2;

/// A record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OffsetsRecord {
    /// The offset that a group committed for a partition.
    Offset {
        /// The group.
        group_id: GroupId,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset, or nothing when it is deleted.
        value: Option<OffsetAndMetadata>,
    },
    /// The metadata of a group.
    Group {
        /// The group.
        group_id: GroupId,
        /// The metadata, or nothing when the group is deleted.
        value: Option<GroupMetadata>,
    },
}

impl OffsetsRecord {
    pub(super) fn group_metadata(metadata: GroupMetadata, group_id: &GroupId) -> Self {
        Self::Group {
            group_id: group_id.clone(),
            value: Some(metadata),
        }
    }

    pub(super) fn group_tombstone(group_id: &GroupId) -> Self {
        Self::Group {
            group_id: group_id.clone(),
            value: None,
        }
    }

    /// The group that the record belongs to.
    pub fn group_id(&self) -> &GroupId {
        match self {
            Self::Offset { group_id, .. } | Self::Group { group_id, .. } => group_id,
        }
    }
}

/// A committed offset with what is kept beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to consume.
    pub offset: i64,
    /// The leader epoch of the last consumed record, or −1.
    pub leader_epoch: i32,
    /// Whatever the consumer wanted to keep.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it expires, if the consumer said so (`OffsetCommit` before version 5).
    pub expire_timestamp_ms: Option<i64>,
    /// The topic that was meant; zero when it is not known.
    pub topic_id: Uuid,
}

/// The metadata of a group, as it is written when a generation has its assignment or the group is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Empty for a group that nobody has joined.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation_id: i32,
    /// The selected strategy.
    pub protocol_name: Option<Arc<str>>,
    /// The leader.
    pub leader: Option<MemberId>,
    /// When the group came into its state, or −1.
    pub state_since_ms: i64,
    /// The members; none when the group is empty.
    pub members: Vec<MemberMetadata>,
}

/// A member in [`GroupMetadata`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Its id.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where the client was.
    pub client_host: Arc<str>,
    /// Rebalance timeout; −1 in records of version 0.
    pub rebalance_timeout_ms: i32,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// Its subscription under the selected strategy.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}
