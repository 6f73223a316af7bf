//! The configs of a topic as the data plane uses them: typed, resolved over all sources.
//!
//! Place: made once when a partition is opened or its configs change; read on every append.
//! Invariants: every field is in range whatever the sources say (I2 of `configs`).

use super::definition::find_topic_config;
use super::effective::{BrokerLayers, effective_topic_value};
use super::value::words;
use crate::metadata::Configs;

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Nothing.
    None,
    /// Old segments are removed.
    Delete,
    /// The newest record of every key is kept.
    Compact,
    /// Both.
    CompactDelete,
}

impl CleanupPolicy {
    /// Whether old segments are removed by age and size.
    pub fn has_delete(self) -> bool {
        matches!(self, Self::Delete | Self::CompactDelete)
    }

    /// Whether the newest record of every key is kept, which demands that records have keys.
    pub fn has_compact(self) -> bool {
        matches!(self, Self::Compact | Self::CompactDelete)
    }
}

/// Whose timestamps records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Their producer's.
    CreateTime,
    /// The time of their append.
    LogAppendTime,
}

/// Codec that a topic demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the batch came.
    Producer,
    /// None.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4.
    Lz4,
    /// zstd.
    Zstd,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckDurability {
    /// After it is durable on the leader's disk.
    Disk,
    /// At once.
    Memory,
}

/// The configs in force for one topic. `Option`s are bounds: `None` means no bound.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`
    pub compression_type: CompressionType,
    /// `compression.gzip.level`
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`
    pub compression_zstd_level: i32,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: i64,
    /// `max.compaction.lag.ms`
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`: largest batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.after.max.ms`
    pub message_timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.type`
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`
    pub min_insync_replicas: usize,
    /// `preallocate`
    pub preallocate: bool,
    /// `retention.bytes`
    pub retention_bytes: Option<u64>,
    /// `retention.ms`
    pub retention_ms: Option<u64>,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: u64,
    /// `segment.ms`
    pub segment_ms: u64,
    /// `streambus.ack.durability`
    pub ack_durability: AckDurability,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election_enable: bool,
}

impl TopicConfig {
    /// Resolves a topic's overrides over the broker's configs and the defaults.
    pub fn resolve(topic: &Configs, broker: &BrokerLayers<'_>) -> Self {
        let values = Values { topic, broker };
        Self {
            cleanup_policy: cleanup_policy(&values.text("cleanup.policy")),
            compression_type: compression_type(&values.text("compression.type")),
            compression_gzip_level: values.number("compression.gzip.level") as i32,
            compression_lz4_level: values.number("compression.lz4.level") as i32,
            compression_zstd_level: values.number("compression.zstd.level") as i32,
            delete_retention_ms: values.number("delete.retention.ms"),
            file_delete_delay_ms: values.number("file.delete.delay.ms"),
            max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
            max_message_bytes: values.number("max.message.bytes") as usize,
            message_timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
            message_timestamp_type: match values.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: values
                .text("min.cleanable.dirty.ratio")
                .parse()
                .unwrap_or(0.5),
            min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
            min_insync_replicas: values.number("min.insync.replicas") as usize,
            preallocate: values.is_true("preallocate"),
            retention_bytes: u64::try_from(values.number("retention.bytes")).ok(),
            retention_ms: u64::try_from(values.number("retention.ms")).ok(),
            segment_bytes: values.number("segment.bytes") as u64,
            segment_jitter_ms: values.number("segment.jitter.ms") as u64,
            segment_ms: values.number("segment.ms") as u64,
            ack_durability: match values.text("streambus.ack.durability").as_str() {
                "memory" => AckDurability::Memory,
                _ => AckDurability::Disk,
            },
            unclean_leader_election_enable: values.is_true("unclean.leader.election.enable"),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&Configs::new(), &BrokerLayers::default())
    }
}

/// The sources that values are resolved over.
struct Values<'a> {
    topic: &'a Configs,
    broker: &'a BrokerLayers<'a>,
}

impl Values<'_> {
    fn text(&self, name: &str) -> String {
        let definition = find_topic_config(name);
        let definition =
            definition.expect("every name above is in the registry (test defaults_are_valid)");
        effective_topic_value(definition, self.topic, self.broker).unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        let value = self.text(name).parse();
        value.expect("effective values passed their validator (test defaults_are_valid)")
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name) == "true"
    }
}

fn cleanup_policy(list: &str) -> CleanupPolicy {
    let has = |policy| words(list).any(|word| word == policy);
    match (has("compact"), has("delete")) {
        (false, false) => CleanupPolicy::None,
        (false, true) => CleanupPolicy::Delete,
        (true, false) => CleanupPolicy::Compact,
        (true, true) => CleanupPolicy::CompactDelete,
    }
}

fn compression_type(name: &str) -> CompressionType {
    match name {
        "uncompressed" => CompressionType::Uncompressed,
        "gzip" => CompressionType::Gzip,
        "snappy" => CompressionType::Snappy,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::Producer,
    }
}
