//! Consumer groups of the classic protocol, and the offsets that groups commit, as a pure state machine.
//!
//! *Place*: the coordinator's driver, on the shard that leads a partition of `__consumer_offsets`, owns one
//! [`Groups`] for it. Requests, ends of appends and the time go in; [`Command`]s come out. [`Loader`]
//! rebuilds the groups from the partition.
//!
//! *Core*: the owner of the partition, one machine per partition.
//!
//! *Durability*: a commit, an assignment, a returned static member, a deletion is answered when its
//! record is durable, and committed offsets are shown from then on; see [`Command::Append`].
//!
//! *Limits*: members of a group by `members_max`, members that have not joined yet by
//! `pending_members_max` of [`GroupSettings`].
//!
//! *Source*: `JoinGroup`, `SyncGroup`, Heartbeat, `LeaveGroup`, `OffsetCommit`, `OffsetFetch`, `OffsetDelete`,
//! `DescribeGroups`, `ListGroups` and `DeleteGroups` of Apache Kafka 4.3; KIP-62, KIP-211, KIP-345, KIP-394, KIP-447,
//! KIP-814.

mod commit;
mod delete;
mod describe;
mod effects;
mod event;
mod fetch;
#[expect(
    clippy::module_inception,
    reason = "the group is the main type of the module"
)]
mod group;
mod groups;
mod heartbeat;
mod join;
mod leave;
mod load;
mod member;
mod offsets;
mod partition;
mod rebalance;
pub mod records;
mod session;
mod settings;
mod state;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod timers;
mod validate;

pub use delete::DeletedTopic;
pub use describe::{GROUP_TYPE, GroupDescription, GroupListing, ListFilter, MemberDescription};
pub use event::{
    AppendId, Bytes, Command, CommitPartition, CommitReply, CommitRequest, CommitTopic,
    DeleteOffsetsReply, DeleteOffsetsRequest, FetchReply, FetchRequest, FetchTopic, FetchedOffset,
    FetchedTopic, GroupId, HeartbeatRequest, JoinReply, JoinRequest, JoinedMember, LeaveReply,
    LeaveRequest, LeavingMember, LeftMember, MemberId, MemberProtocol, Now, Reply, Request,
    SyncReply, SyncRequest, Token, TopicResult,
};
pub use groups::Groups;
pub use load::Loader;
pub use partition::partition_for;
pub use settings::GroupSettings;
pub use state::GroupState;
