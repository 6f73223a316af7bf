//! `Fetch`: reads record batches from partitions.
//!
//! Source: Kafka protocol guide, `Fetch`; KIP-227 (sessions), KIP-392 (nearest replica), KIP-516
//! (topic ids, version 13), KIP-951 (new leaders).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::{Records, Uuid};

message! {
    FetchRequest<'a>, versions 4..=18, flexible 12;

    /// Request of the API that reads record batches from partitions.
    pub struct FetchRequest<'a> {
        /// Id of the cluster, to refuse followers from another.
        pub cluster_id: Option<Cow<'a, str>> => (12.., nullable 12.., tag 0; ignorable),
        /// Id of the follower; −1 for a consumer.
        pub replica_id: i32 => (0..=14, default -1),
        /// Id and epoch of the follower.
        pub replica_state: ReplicaState => (15.., tag 1),
        /// Longest wait for `min_bytes`, in milliseconds.
        pub max_wait_ms: i32 => (0..),
        /// Bytes for which to wait.
        pub min_bytes: i32 => (0..),
        /// Most bytes of records in the response; the first batch may be larger (KIP-74).
        pub max_bytes: i32 => (3.., default i32::MAX; ignorable),
        /// 0: all records; 1: only those of committed transactions.
        pub isolation_level: i8 => (4..; ignorable),
        /// Id of the fetch session; 0 for none.
        pub session_id: i32 => (7..; ignorable),
        /// Position in the session; 0 opens one, −1 ends it.
        pub session_epoch: i32 => (7.., default -1; ignorable),
        /// Partitions to read; in a session, those that are new or changed.
        pub topics: Vec<FetchTopic<'a>> => (0..),
        /// Partitions that leave the session.
        pub forgotten_topics_data: Vec<ForgottenTopic<'a>> => (7..),
        /// Rack of the consumer.
        pub rack_id: Cow<'a, str> => (11..; ignorable),
    }

    /// Which follower is fetching.
    pub struct ReplicaState {
        /// Id of the follower; −1 for a consumer.
        pub replica_id: i32 => (15.., default -1),
        /// Epoch of the follower, or −1.
        pub replica_epoch: i64 => (15.., default -1),
    }

    /// Partitions of one topic to read.
    pub struct FetchTopic<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..=12; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (13..; ignorable),
        /// The partitions.
        pub partitions: Vec<FetchPartition> => (0..),
    }

    /// Where and how much to read in one partition.
    pub struct FetchPartition {
        /// Index of the partition.
        pub partition: i32 => (0..),
        /// Leader epoch that the client knows, to be fenced if it is old; −1 for no check.
        pub current_leader_epoch: i32 => (9.., default -1; ignorable),
        /// Offset of the first record.
        pub fetch_offset: i64 => (0..),
        /// Epoch of the last record that was read, or −1.
        pub last_fetched_epoch: i32 => (12.., default -1),
        /// First offset of the follower's log; −1 for a consumer.
        pub log_start_offset: i64 => (5.., default -1; ignorable),
        /// Most bytes from this partition; the first batch may be larger (KIP-74).
        pub partition_max_bytes: i32 => (0..),
        /// Directory of the follower's replica.
        pub replica_directory_id: Uuid => (17.., tag 0; ignorable),
        /// High watermark that the follower knows; −1 if unknown, `i64::MAX` if it does not tell.
        pub high_watermark: i64 => (18.., tag 1, default i64::MAX; ignorable),
    }

    /// Partitions to take out of the fetch session.
    pub struct ForgottenTopic<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (7..=12; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (13..; ignorable),
        /// The partitions.
        pub partitions: Vec<i32> => (7..),
    }
}

message! {
    FetchResponse<'a>, versions 4..=18, flexible 12;

    /// Answer to [`FetchRequest`].
    pub struct FetchResponse<'a> {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (7..; ignorable),
        /// Id of the fetch session; 0 for none.
        pub session_id: i32 => (7..),
        /// What was read, by topic.
        pub responses: Vec<FetchableTopicResponse<'a>> => (0..),
        /// Where the leaders listen that are told here.
        pub node_endpoints: Vec<NodeEndpoint<'a>> => (16.., tag 0),
    }

    /// What was read from one topic.
    pub struct FetchableTopicResponse<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..=12; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (13..; ignorable),
        /// The partitions.
        pub partitions: Vec<PartitionData<'a>> => (0..),
    }

    /// What was read from one partition.
    pub struct PartitionData<'a> {
        /// Index of the partition.
        pub partition_index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Offset below which records are replicated, exclusive.
        pub high_watermark: i64 => (0..),
        /// Offset below which every transaction is decided, exclusive.
        pub last_stable_offset: i64 => (4.., default -1; ignorable),
        /// First offset of the log.
        pub log_start_offset: i64 => (5.., default -1; ignorable),
        /// Where the logs of leader and follower part.
        pub diverging_epoch: EpochEndOffset => (12.., tag 0),
        /// The leader, when the request should have gone there.
        pub current_leader: LeaderIdAndEpoch => (12.., tag 1),
        /// Snapshot to read first, when the offset is gone.
        pub snapshot_id: SnapshotId => (12.., tag 2),
        /// Aborted transactions in the range that was read.
        pub aborted_transactions: Option<Vec<AbortedTransaction>> => (4.., nullable 4.., default Some(Vec::new()); ignorable),
        /// Broker to read from next time, or −1.
        pub preferred_read_replica: i32 => (11.., default -1),
        /// The batches.
        pub records: Records<'a> => (0..),
    }

    /// Where the leader's log leaves that of whoever asks.
    pub struct EpochEndOffset {
        /// Leader epoch.
        pub epoch: i32 => (12.., default -1),
        /// End offset of the epoch, exclusive.
        pub end_offset: i64 => (12.., default -1),
    }

    /// The leader of a partition, as far as this broker knows.
    pub struct LeaderIdAndEpoch {
        /// Broker that leads it, or −1.
        pub leader_id: i32 => (12.., default -1),
        /// Epoch of the leader, or −1.
        pub leader_epoch: i32 => (12.., default -1),
    }

    /// A snapshot of the metadata log.
    pub struct SnapshotId {
        /// End offset of the epoch, exclusive.
        pub end_offset: i64 => (0.., default -1),
        /// Leader epoch.
        pub epoch: i32 => (0.., default -1),
    }

    /// A transaction whose records consumers must skip.
    pub struct AbortedTransaction {
        /// Id of the producer.
        pub producer_id: i64 => (4..),
        /// First offset of the transaction.
        pub first_offset: i64 => (4..),
    }

    /// Where a leader listens that `current_leader` names.
    pub struct NodeEndpoint<'a> {
        /// Id of the broker.
        pub node_id: i32 => (16..),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (16..),
        /// Port at which it listens.
        pub port: i32 => (16..),
        /// Rack of the broker.
        pub rack: Option<Cow<'a, str>> => (16.., nullable 16..),
    }
}
