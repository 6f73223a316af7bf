//! What groups are asked, and what they answer: requests, replies and commands.
//!
//! *Place*: the driver builds a [`Request`] from a decoded Kafka request, hands it to
//! [`Groups::handle`](super::Groups::handle) with a [`Token`], and performs the [`Command`]s that come
//! back, now or at a later event. The types follow Kafka's messages but know no versions of the wire:
//! what a version changes in the rules is a field here.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::Uuid;

use super::records::OffsetsRecord;

/// Shared bytes that a group keeps but does not read: subscriptions and assignments.
pub type Bytes = Arc<[u8]>;
/// The name of a group.
pub type GroupId = Arc<str>;
/// The id of a member, unique in its group.
pub type MemberId = Arc<str>;

/// Names a request until its reply; chosen by the driver, never used twice at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names an append until the driver says how it went. Ids grow by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendId(pub u64);

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back; sessions and rebalances are measured with it.
    pub timer_ms: i64,
    /// Milliseconds since 1970; written into records, and what the retention of offsets is measured with.
    pub wall_ms: i64,
}

/// A request to one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `JoinGroup`.
    Join(JoinRequest),
    /// `SyncGroup`.
    Sync(SyncRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// `LeaveGroup`.
    Leave(LeaveRequest),
    /// `OffsetCommit`.
    CommitOffsets(CommitRequest),
    /// One group of `OffsetFetch`.
    FetchOffsets(FetchRequest),
    /// `OffsetDelete`.
    DeleteOffsets(DeleteOffsetsRequest),
    /// One group of `DeleteGroups`.
    DeleteGroup {
        /// The group.
        group_id: String,
    },
}

impl Request {
    /// The group that is asked.
    pub fn group_id(&self) -> &str {
        match self {
            Self::Join(request) => &request.group_id,
            Self::Sync(request) => &request.group_id,
            Self::Heartbeat(request) => &request.group_id,
            Self::Leave(request) => &request.group_id,
            Self::CommitOffsets(request) => &request.group_id,
            Self::FetchOffsets(request) => &request.group_id,
            Self::DeleteOffsets(request) => &request.group_id,
            Self::DeleteGroup { group_id } => group_id,
        }
    }

    /// The reply that carries `error` for the whole request.
    pub fn error_reply(&self, error: ErrorCode) -> Reply {
        match self {
            Self::Join(request) => Reply::Join(JoinReply::error(&request.member_id, error)),
            Self::Sync(_) => Reply::Sync(SyncReply::error(error)),
            Self::Heartbeat(_) => Reply::Heartbeat(error),
            Self::Leave(_) => Reply::Leave(LeaveReply {
                error,
                members: Vec::new(),
            }),
            Self::CommitOffsets(request) => {
                Reply::CommitOffsets(CommitReply::error(&request.topics, error))
            }
            Self::FetchOffsets(_) => Reply::FetchOffsets(FetchReply {
                error,
                topics: Vec::new(),
            }),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(DeleteOffsetsReply {
                error,
                topics: Vec::new(),
            }),
            Self::DeleteGroup { .. } => Reply::DeleteGroup(error),
        }
    }
}

/// The answer to the [`Request`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `JoinGroup`.
    Join(JoinReply),
    /// To `SyncGroup`.
    Sync(SyncReply),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To `LeaveGroup`.
    Leave(LeaveReply),
    /// To `OffsetCommit`.
    CommitOffsets(CommitReply),
    /// To one group of `OffsetFetch`.
    FetchOffsets(FetchReply),
    /// To `OffsetDelete`.
    DeleteOffsets(DeleteOffsetsReply),
    /// To one group of `DeleteGroups`.
    DeleteGroup(ErrorCode),
}

/// What the driver must do, in the order in which the commands stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Complete the request of this token.
    Reply(Token, Reply),
    /// Append the records to the group's partition of `__consumer_offsets`, in the order of the ids, and
    /// tell [`Groups::appended`](super::Groups::appended), in that order too, once they are durable or
    /// have failed. Replies that depend on the records come back from there.
    Append {
        /// Names the append.
        id: AppendId,
        /// At least one record.
        records: Vec<OffsetsRecord>,
    },
}

/// One assignment strategy that a member supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberProtocol {
    /// Its name, such as `range`.
    pub name: Arc<str>,
    /// The member's subscription under this strategy.
    pub metadata: Bytes,
}

/// `JoinGroup`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group_id: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// The name of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// The client's own name, from the request header.
    pub client_id: String,
    /// Where the client is, written as Kafka does: `/127.0.0.1`.
    pub client_host: String,
    /// Random text, from which a member id is made if one is needed.
    pub member_id_suffix: String,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// Rebalance timeout; negative (versions before 1) means the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` or whatever else the members agree on.
    pub protocol_type: String,
    /// In the order of the member's preference.
    pub protocols: Vec<MemberProtocol>,
    /// From version 4 on, a dynamic member must know its id before it joins (KIP-394); from version 9
    /// on, a static leader that returns may be told to keep the assignment (KIP-814).
    pub api_version: i16,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its static name.
    pub group_instance_id: Option<Arc<str>>,
    /// Its subscription under the selected protocol.
    pub metadata: Bytes,
}

/// The answer to `JoinGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// `None` when the member is in the group.
    pub error: ErrorCode,
    /// The generation joined, or −1.
    pub generation_id: i32,
    /// The group's protocol type. Versions before 7 have no place for it.
    pub protocol_type: Option<Arc<str>>,
    /// The selected strategy. Versions before 7 want an empty text instead of nothing.
    pub protocol_name: Option<Arc<str>>,
    /// The leader's id, or empty.
    pub leader: MemberId,
    /// Whether the leader must keep the assignment as it is.
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: MemberId,
    /// All members, for the leader; nobody, for the others.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    /// The refusal of a join.
    pub fn error(member_id: &str, error: ErrorCode) -> Self {
        Self {
            error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: MemberId::from(""),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// `SyncGroup`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Its static name.
    pub group_instance_id: Option<String>,
    /// The generation it was told.
    pub generation_id: i32,
    /// The protocol type it was told, from version 5 on.
    pub protocol_type: Option<String>,
    /// The strategy it was told, from version 5 on.
    pub protocol_name: Option<String>,
    /// The assignment of every member by its id, from the leader; empty from the others.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to `SyncGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// `None` when the assignment is valid.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The group's strategy.
    pub protocol_name: Option<Arc<str>>,
    /// What this member shall do.
    pub assignment: Bytes,
}

impl SyncReply {
    /// The refusal of a sync.
    pub fn error(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::from([]),
        }
    }
}

/// Heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The member.
    pub member_id: String,
    /// Its static name.
    pub group_instance_id: Option<String>,
    /// The generation it works in.
    pub generation_id: i32,
}

/// One member in `LeaveGroup`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty when an administrator removes a static member by its name.
    pub member_id: String,
    /// Its static name.
    pub group_instance_id: Option<String>,
}

/// `LeaveGroup`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveRequest {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// How one member's leaving went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member: LeavingMember,
    /// `None` when it left.
    pub error: ErrorCode,
}

/// The answer to `LeaveGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveReply {
    /// An error of the whole request. Versions before 3 show the only member's error here.
    pub error: ErrorCode,
    /// In the order of the request.
    pub members: Vec<LeftMember>,
}

/// `OffsetCommit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The group; may be empty here, and only here and in `FetchOffsets`.
    pub group_id: String,
    /// The member; empty for a consumer that does not use the group's membership.
    pub member_id: String,
    /// Its static name.
    pub group_instance_id: Option<String>,
    /// The generation it works in; negative without membership.
    pub generation_id: i32,
    /// How long to keep the offsets, versions 2 to 4; −1 leaves it to the broker.
    pub retention_time_ms: i64,
    /// What is committed.
    pub topics: Vec<CommitTopic>,
    /// From version 9 on an unknown group has an error of its own.
    pub api_version: i16,
}

/// The offsets of one topic in `OffsetCommit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name, also when the request named it by id.
    pub name: Arc<str>,
    /// The topic's id; zero when the request does not carry it.
    pub topic_id: Uuid,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// The offset of one partition in `OffsetCommit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to consume.
    pub offset: i64,
    /// The leader epoch of the last consumed record, or −1.
    pub leader_epoch: i32,
    /// Whatever the consumer wants to keep with it.
    pub metadata: Option<String>,
}

/// The results of one topic, partition by partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id, as in the request.
    pub topic_id: Uuid,
    /// Partition and error, in the order of the request.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// The answer to `OffsetCommit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReply {
    /// In the order of the request.
    pub topics: Vec<TopicResult>,
}

impl CommitReply {
    /// `error` for every partition: `OffsetCommit` has no place for an error of the whole.
    pub fn error(topics: &[CommitTopic], error: ErrorCode) -> Self {
        let topics = topics
            .iter()
            .map(|topic| TopicResult {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| (p.partition, error))
                    .collect(),
            })
            .collect();
        Self { topics }
    }
}

/// One group of `OffsetFetch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchRequest {
    /// The group; may be empty.
    pub group_id: String,
    /// What is asked; nothing means every partition that has an offset.
    pub topics: Option<Vec<FetchTopic>>,
    /// Whether to wait for commits that are not durable yet (KIP-447).
    pub require_stable: bool,
}

/// The partitions of one topic in `OffsetFetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id, or zero. An offset that was committed for another id is not shown.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// A committed offset as `OffsetFetch` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// The committed offset, or −1.
    pub offset: i64,
    /// Its leader epoch, or −1.
    pub leader_epoch: i32,
    /// What the consumer kept with it.
    pub metadata: Arc<str>,
}

/// The offsets of one topic in the answer to `OffsetFetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The id of the request, or zero.
    pub topic_id: Uuid,
    /// In the order of the request, or by number.
    pub partitions: Vec<FetchedOffset>,
}

/// The answer to one group of `OffsetFetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchReply {
    /// An error of the whole group.
    pub error: ErrorCode,
    /// In the order of the request, or by name.
    pub topics: Vec<FetchedTopic>,
}

/// `OffsetDelete`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOffsetsRequest {
    /// The group.
    pub group_id: String,
    /// Topics with their partitions.
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// The answer to `OffsetDelete`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsetsReply {
    /// An error of the whole request.
    pub error: ErrorCode,
    /// In the order of the request.
    pub topics: Vec<TopicResult>,
}
