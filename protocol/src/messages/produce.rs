//! `Produce`: appends record batches to partitions.
//!
//! Source: Kafka protocol guide, `Produce`; KIP-98, KIP-467 (record errors), KIP-951 (new leaders),
//! KIP-516 (topic ids, version 13).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::{Records, Uuid};

message! {
    ProduceRequest<'a>, versions 3..=13, flexible 9;

    /// Request of the API that appends record batches to partitions.
    pub struct ProduceRequest<'a> {
        /// Transactional id of the producer, if it has one.
        pub transactional_id: Option<Cow<'a, str>> => (3.., nullable 3..),
        /// Who must have the records before the answer: 0 nobody, 1 the leader, −1 all in-sync
        /// replicas.
        pub acks: i16 => (0..),
        /// Time after which the broker gives up, in milliseconds.
        pub timeout_ms: i32 => (0..),
        /// Batches by topic.
        pub topic_data: Vec<TopicProduceData<'a>> => (0..),
    }

    /// The batches for one topic.
    pub struct TopicProduceData<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=12; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (13..; ignorable),
        /// Batches by partition.
        pub partition_data: Vec<PartitionProduceData<'a>> => (0..),
    }

    /// The batches for one partition.
    pub struct PartitionProduceData<'a> {
        /// Index of the partition.
        pub index: i32 => (0..),
        /// The batches.
        pub records: Records<'a> => (0..),
    }
}

message! {
    ProduceResponse<'a>, versions 3..=13, flexible 9;

    /// Answer to [`ProduceRequest`].
    pub struct ProduceResponse<'a> {
        /// Outcomes by topic.
        pub responses: Vec<TopicProduceResponse<'a>> => (0..),
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (1..; ignorable),
        /// Where the leaders listen that are told here.
        pub node_endpoints: Vec<NodeEndpoint<'a>> => (10.., tag 0),
    }

    /// The outcome for one topic.
    pub struct TopicProduceResponse<'a> {
        /// Name of the topic.
        pub name: Cow<'a, str> => (0..=12; ignorable),
        /// Id of the topic.
        pub topic_id: Uuid => (13..; ignorable),
        /// Outcomes by partition.
        pub partition_responses: Vec<PartitionProduceResponse<'a>> => (0..),
    }

    /// The outcome for one partition.
    pub struct PartitionProduceResponse<'a> {
        /// Index of the partition.
        pub index: i32 => (0..),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Offset of the first record.
        pub base_offset: i64 => (0..),
        /// When the broker appended it, if the topic uses log append time; otherwise −1.
        pub log_append_time_ms: i64 => (2.., default -1; ignorable),
        /// First offset of the log.
        pub log_start_offset: i64 => (5.., default -1; ignorable),
        /// Records that made the broker refuse the batch.
        pub record_errors: Vec<BatchIndexAndErrorMessage<'a>> => (8..; ignorable),
        /// What went wrong, for people.
        pub error_message: Option<Cow<'a, str>> => (8.., nullable 8..; ignorable),
        /// The leader, when the request should have gone there.
        pub current_leader: LeaderIdAndEpoch => (10.., tag 0),
    }

    /// A record that made the broker refuse its batch.
    pub struct BatchIndexAndErrorMessage<'a> {
        /// Position of the record in the batch.
        pub batch_index: i32 => (8..),
        /// What is wrong with the record, for people.
        pub batch_index_error_message: Option<Cow<'a, str>> => (8.., nullable 8..),
    }

    /// The leader of a partition, as far as this broker knows.
    pub struct LeaderIdAndEpoch {
        /// Broker that leads it, or −1.
        pub leader_id: i32 => (10.., default -1),
        /// Epoch of the leader, or −1.
        pub leader_epoch: i32 => (10.., default -1),
    }

    /// Where a leader listens that `current_leader` names.
    pub struct NodeEndpoint<'a> {
        /// Id of the broker.
        pub node_id: i32 => (10..),
        /// Host at which it listens.
        pub host: Cow<'a, str> => (10..),
        /// Port at which it listens.
        pub port: i32 => (10..),
        /// Rack of the broker.
        pub rack: Option<Cow<'a, str>> => (10.., nullable 10..),
    }
}
