//! The registry of topic configs.
//!
//! Invariants: names are unique and in the order of the alphabet within their group (test: unique).
//! Source: names, types, defaults, bounds and synonyms of Apache Kafka 4.3.1, compared by program.
//! Meant to differ: `retention.bytes` takes no number below -1, `remote.storage.enable` only false;
//! `streambus.*` is our own.

use super::definition::{Definition, Synonym};
use super::value::{ConfigType as T, Validator as V};

/// One unit of the broker config is one unit of the topic config.
const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym {
        name,
        factor: 3_600_000,
    }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym {
        name,
        factor: 60_000,
    }
}

/// Codecs that a topic may demand; `producer` keeps what came.
const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Every topic config.
pub const TOPIC_CONFIGS: &[Definition] = &[
    Definition::topic(
        "cleanup.policy",
        T::List,
        "delete",
        V::ListOf(&["compact", "delete"]),
        &[same("log.cleanup.policy")],
        "What happens to old records: delete removes old segments by age and size, compact keeps the newest record of every key. Both may be named; none means that nothing is removed.",
    ),
    Definition::topic(
        "compression.gzip.level",
        T::Int,
        "-1",
        V::MinusOneOr(1, 9),
        &[same("compression.gzip.level")],
        "Level of gzip when the broker itself compresses; -1 is the codec's own default.",
    ),
    Definition::topic(
        "compression.lz4.level",
        T::Int,
        "9",
        V::Between(1, 17),
        &[same("compression.lz4.level")],
        "Level of lz4 when the broker itself compresses.",
    ),
    Definition::topic(
        "compression.type",
        T::String,
        "producer",
        V::OneOf(COMPRESSION_TYPES),
        &[same("compression.type")],
        "Codec of stored batches. producer keeps each batch as its producer made it.",
    ),
    Definition::topic(
        "compression.zstd.level",
        T::Int,
        "3",
        V::Between(-131_072, 22),
        &[same("compression.zstd.level")],
        "Level of zstd when the broker itself compresses.",
    ),
    Definition::topic(
        "delete.retention.ms",
        T::Long,
        "86400000",
        V::AtLeast(0),
        &[same("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps delete markers, so that a reader from the start sees every deletion.",
    ),
    Definition::topic(
        "file.delete.delay.ms",
        T::Long,
        "60000",
        V::AtLeast(0),
        &[same("log.segment.delete.delay.ms")],
        "How long a removed segment's file stays on disk.",
    ),
    Definition::topic(
        "flush.messages",
        T::Long,
        "9223372036854775807",
        V::AtLeast(1),
        &[same("log.flush.interval.messages")],
        "Accepted for compatibility. StreamBus writes every acknowledged batch through to disk; see streambus.ack.durability.",
    ),
    Definition::topic(
        "flush.ms",
        T::Long,
        "9223372036854775807",
        V::AtLeast(0),
        &[
            same("log.flush.interval.ms"),
            same("log.flush.scheduler.interval.ms"),
        ],
        "Accepted for compatibility. StreamBus writes every acknowledged batch through to disk; see streambus.ack.durability.",
    ),
    Definition::topic(
        "follower.replication.throttled.replicas",
        T::List,
        "",
        V::ThrottledReplicas,
        &[],
        "Followers whose replication is limited in rate: partition:broker pairs, or * for all.",
    ),
    Definition::topic(
        "index.interval.bytes",
        T::Int,
        "4096",
        V::AtLeast(0),
        &[same("log.index.interval.bytes")],
        "Accepted for compatibility: bytes between two entries of the offset index. StreamBus spaces its index itself.",
    ),
    Definition::topic(
        "leader.replication.throttled.replicas",
        T::List,
        "",
        V::ThrottledReplicas,
        &[],
        "Leaders whose replication is limited in rate: partition:broker pairs, or * for all.",
    ),
    Definition::topic(
        "local.retention.bytes",
        T::Long,
        "-2",
        V::AtLeast(-2),
        &[same("log.local.retention.bytes")],
        "With tiered storage: bytes of a partition that stay on local disks; -2 takes retention.bytes.",
    ),
    Definition::topic(
        "local.retention.ms",
        T::Long,
        "-2",
        V::AtLeast(-2),
        &[same("log.local.retention.ms")],
        "With tiered storage: how long records stay on local disks; -2 takes retention.ms.",
    ),
    Definition::topic(
        "max.compaction.lag.ms",
        T::Long,
        "9223372036854775807",
        V::AtLeast(1),
        &[same("log.cleaner.max.compaction.lag.ms")],
        "A record of a compacted topic is considered for compaction after so long at the latest.",
    ),
    Definition::topic(
        "max.message.bytes",
        T::Int,
        "1048588",
        V::AtLeast(0),
        &[same("message.max.bytes")],
        "Largest record batch, as compressed by its producer, that the topic takes.",
    ),
    Definition::topic(
        "message.timestamp.after.max.ms",
        T::Long,
        "3600000",
        V::AtLeast(0),
        &[same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie after the broker's clock; a batch beyond that is refused. Not used with LogAppendTime.",
    ),
    Definition::topic(
        "message.timestamp.before.max.ms",
        T::Long,
        "9223372036854775807",
        V::AtLeast(0),
        &[same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie before the broker's clock; a batch beyond that is refused. Not used with LogAppendTime.",
    ),
    Definition::topic(
        "message.timestamp.type",
        T::String,
        "CreateTime",
        V::OneOf(&["CreateTime", "LogAppendTime"]),
        &[same("log.message.timestamp.type")],
        "Whether records keep their producer's timestamp or get the time of their append.",
    ),
    Definition::topic(
        "min.cleanable.dirty.ratio",
        T::Double,
        "0.5",
        V::Fraction(0.0, 1.0),
        &[same("log.cleaner.min.cleanable.ratio")],
        "A compacted partition is compacted once this share of it was written since the last time.",
    ),
    Definition::topic(
        "min.compaction.lag.ms",
        T::Long,
        "0",
        V::AtLeast(0),
        &[same("log.cleaner.min.compaction.lag.ms")],
        "A record of a compacted topic stays uncompacted at least so long.",
    ),
    Definition::topic(
        "min.insync.replicas",
        T::Int,
        "1",
        V::AtLeast(1),
        &[same("min.insync.replicas")],
        "With acks=all a write is refused while fewer replicas than this are in sync.",
    ),
    Definition::topic(
        "preallocate",
        T::Boolean,
        "false",
        V::Any,
        &[same("log.preallocate")],
        "Whether a new segment's whole size is reserved on disk at once.",
    ),
    Definition::topic(
        "remote.log.copy.disable",
        T::Boolean,
        "false",
        V::Any,
        &[],
        "With tiered storage: stop copying segments to remote storage.",
    ),
    Definition::topic(
        "remote.log.delete.on.disable",
        T::Boolean,
        "false",
        V::Any,
        &[],
        "With tiered storage: remove remote data when tiering is turned off.",
    ),
    Definition::topic(
        "remote.storage.enable",
        T::Boolean,
        "false",
        V::OneOf(&["false"]),
        &[],
        "Tiered storage of this topic. Not supported yet: only false is taken.",
    ),
    Definition::topic(
        "retention.bytes",
        T::Long,
        "-1",
        V::AtLeast(-1),
        &[same("log.retention.bytes")],
        "Bytes that a partition keeps before its oldest segments are removed; -1 sets no bound. For cleanup.policy delete.",
    ),
    Definition::topic(
        "retention.ms",
        T::Long,
        "604800000",
        V::AtLeast(-1),
        &[
            same("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ],
        "How long a record is kept before its segment is removed; -1 sets no bound. For cleanup.policy delete.",
    ),
    Definition::topic(
        "segment.bytes",
        T::Int,
        "1073741824",
        V::AtLeast(1 << 20),
        &[same("log.segment.bytes")],
        "Size at which a segment is closed and a new one begun. Retention removes whole segments.",
    ),
    Definition::topic(
        "segment.index.bytes",
        T::Int,
        "10485760",
        V::AtLeast(4),
        &[same("log.index.size.max.bytes")],
        "Accepted for compatibility: largest index of a segment. StreamBus sizes its index itself.",
    ),
    Definition::topic(
        "segment.jitter.ms",
        T::Long,
        "0",
        V::AtLeast(0),
        &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "Random time taken off segment.ms, so that not all segments roll at once.",
    ),
    Definition::topic(
        "segment.ms",
        T::Long,
        "604800000",
        V::AtLeast(1),
        &[same("log.roll.ms"), hours("log.roll.hours")],
        "Age at which a segment is closed even if it is not full, so that retention can remove it.",
    ),
    Definition::topic(
        "streambus.ack.durability",
        T::String,
        "disk",
        V::OneOf(&["disk", "memory"]),
        &[same("streambus.ack.durability")],
        "When a write is acknowledged: disk (after it is durable on the leader's disk) or memory (at once; a crash or power loss may lose acknowledged records).",
    ),
    Definition::topic(
        "unclean.leader.election.enable",
        T::Boolean,
        "false",
        V::Any,
        &[same("unclean.leader.election.enable")],
        "Whether a replica that is not in sync may become leader when no other is left, at the price of lost records.",
    ),
];
