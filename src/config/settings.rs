//! The registry of this machine's settings: name, type, unit, default, bounds and help of each.
//!
//! Place: read by `config::load` (validation), `--help`, and `streambus config` (documented defaults).
//! Invariants:
//! - I1 every setting has a default that passes its own validation (test `defaults_are_valid`).
//! - I2 a setting that is not listed here does not exist: unknown keys are refused at start.

/// What values a setting takes, and their bounds (inclusive).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number; `unit` is for people.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// What is counted, for people; may be empty.
        unit: &'static str,
    },
    /// A number of bytes; `KiB`, `MiB` and `GiB` suffixes are understood.
    Bytes {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// `true` or `false`.
    Bool,
    /// `HOST:PORT`; port 0 takes a free one.
    Address,
    /// A path of this machine.
    Path,
    /// Free text.
    Text,
    /// One of the listed words.
    Choice(&'static [&'static str]),
}

/// One setting of `streambus.toml`.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.key`, as in the file; the environment has it as `STREAMBUS__SECTION__KEY`.
    pub key: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// Default, as it would stand in the file. Empty text means "chosen at start".
    pub default: &'static str,
    /// One or two sentences for operators.
    pub help: &'static str,
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        default,
        help,
    }
}

const fn integer(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Integer { min, max, unit }
}

const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Bytes { min, max }
}

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// Every setting, in the order in which the documented file shows them.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node.id",
        integer(0, 1 << 30, ""),
        "1",
        "This broker's id in the cluster.",
    ),
    setting(
        "node.data_dir",
        Kind::Path,
        "data",
        "Directory of the journal, the partition logs and the metadata. One broker at a time may use it.",
    ),
    setting(
        "node.further_data_dirs",
        Kind::Text,
        "",
        "Further directories of journals and partition logs, comma-separated, each on a disk of its own: one that fails takes only its partitions offline (Kafka: log.dirs is node.data_dir and these).",
    ),
    setting(
        "node.rack",
        Kind::Text,
        "",
        "Rack or zone of this machine, told to clients.",
    ),
    setting(
        "listen.kafka",
        Kind::Address,
        "127.0.0.1:9092",
        "Address that Kafka clients connect to.",
    ),
    setting(
        "listen.advertise",
        Kind::Text,
        "",
        "HOST:PORT told to clients in metadata. Empty: the bound address of listen.kafka.",
    ),
    setting(
        "listen.http",
        Kind::Address,
        "127.0.0.1:9600",
        "Address of /livez, /readyz and /metrics.",
    ),
    setting(
        "runtime.shards",
        integer(0, 1024, "threads"),
        "0",
        "Data shards, a thread each. 0: one per core that the process may use but one, which is left to control and the kernel; one at least.",
    ),
    setting(
        "runtime.pinning",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Keep each shard on a core of its own. auto: where the process may use four cores or more; on: wherever there is a core for each; off: the kernel's scheduler places them.",
    ),
    setting(
        "memory.budget",
        bytes(0, 16_384 * GIB),
        "0",
        "Memory for requests, batches not yet in segments and the batch cache, over all shards. 0: a quarter of the machine's memory.",
    ),
    setting(
        "net.connections_max",
        integer(1, 1_000_000, "connections"),
        "20000",
        "Open client connections; further ones are closed at once.",
    ),
    setting(
        "net.request_bytes_max",
        bytes(KIB, GIB),
        "100MiB",
        "Largest request frame (Kafka: socket.request.max.bytes).",
    ),
    setting(
        "net.requests_in_flight_max",
        integer(1, 10_000, "requests"),
        "128",
        "Requests of one connection that wait for their answer; then the socket is not read.",
    ),
    setting(
        "net.idle_timeout_ms",
        integer(1_000, 86_400_000, "ms"),
        "600000",
        "A connection without a request for so long is closed (Kafka: connections.max.idle.ms).",
    ),
    setting(
        "net.zero_copy",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Send without a copy in the kernel. auto: 64 KiB and more at once, to other machines, until the kernel reports for a connection that it copies; on: also to this machine and in spite of reports, to test; off: never.",
    ),
    setting(
        "journal.file_bytes",
        bytes(MIB, 4 * GIB),
        "64MiB",
        "Size of one journal file. Files are pre-written and recycled.",
    ),
    setting(
        "journal.files_max",
        integer(2, 1_024, "files"),
        "16",
        "Journal files of a shard in each data directory, made when they are needed. Their sum bounds the time of recovery. With many busy partitions more let each be written in larger pieces.",
    ),
    setting(
        "storage.dirty_bytes_max",
        bytes(MIB, 1_024 * GIB),
        "512MiB",
        "Bytes of a shard that are durable in the journal and not yet in a segment.",
    ),
    setting(
        "storage.direct_bytes",
        bytes(0, 1_024 * GIB),
        "128KiB",
        "Batches from this size on are written straight to their segment, once, and not through the journal. 0: none are.",
    ),
    setting(
        "storage.open_files_max",
        integer(0, 10_000_000, "files"),
        "0",
        "Segment and index files kept open over all shards. 0: half of the process's limit of open files.",
    ),
    setting(
        "storage.verify_cold_reads",
        Kind::Bool,
        "true",
        "Check the CRC of batches that are read back from disk before they are served.",
    ),
    setting(
        "storage.delete_stray_logs",
        Kind::Bool,
        "false",
        "Delete at start the logs of topics that the metadata neither has nor remembers to have deleted. They are newer than the metadata if that was restored from a copy.",
    ),
    setting(
        "storage.scrub_period_hours",
        integer(0, 87_600, "hours"),
        "168",
        "Sealed segments are read again and checked once in so long; damage is logged and counted, never deleted. 0: never.",
    ),
    setting(
        "storage.scrub_bytes_per_second",
        bytes(4 * KIB, 16 * GIB),
        "1MiB",
        "How fast each shard reads for that in each data directory.",
    ),
    setting(
        "compaction.interval_ms",
        integer(10, 86_400_000, "ms"),
        "15000",
        "How often a shard looks for compacted topics that need cleaning (Kafka: log.cleaner.backoff.ms).",
    ),
    setting(
        "compaction.map_bytes",
        bytes(64 * KIB, 64 * GIB),
        "16MiB",
        "Memory of a shard for the keys of one cleaning at most, 24 bytes each; with more keys it takes several (Kafka: log.cleaner.dedupe.buffer.size). Taken from memory.budget while a log is cleaned.",
    ),
    setting(
        "compaction.io_bytes_per_second",
        bytes(64 * KIB, 1_024 * GIB),
        "64MiB",
        "Bytes that the compaction of a shard reads and writes in a second (Kafka: log.cleaner.io.max.bytes.per.second).",
    ),
    setting(
        "disk.warn_bytes",
        bytes(0, 1_024 * 1_024 * GIB),
        "10GiB",
        "With less free space than this a warning is logged, and streambus_disk_stage is 1. At most a fifth of the file system counts.",
    ),
    setting(
        "disk.throttle_bytes",
        bytes(0, 1_024 * 1_024 * GIB),
        "2GiB",
        "With less free space than this producers are slowed down, the more the less is left. At most a tenth of the file system counts, and not less than disk.reserve_bytes.",
    ),
    setting(
        "disk.reserve_bytes",
        bytes(0, 1_024 * 1_024 * GIB),
        "256MiB",
        "With less free space than this producers are refused (KAFKA_STORAGE_ERROR); reads, deletions and offset commits go on. At most a twentieth of the file system counts.",
    ),
    setting(
        "topics.auto_create",
        Kind::Bool,
        "true",
        "Create a topic when a client asks for one that does not exist (Kafka: auto.create.topics.enable).",
    ),
    setting(
        "topics.partitions",
        integer(1, 100_000, "partitions"),
        "1",
        "Partitions of a topic whose creator names no number (Kafka: num.partitions).",
    ),
    setting(
        "topics.retention_check_ms",
        integer(100, 86_400_000, "ms"),
        "60000",
        "How often retention is enforced (Kafka: log.retention.check.interval.ms is 5 minutes).",
    ),
    setting(
        "fetch.bytes_max",
        bytes(KIB, GIB),
        "55MiB",
        "Largest fetch response (Kafka: fetch.max.bytes).",
    ),
    setting(
        "fetch.sessions_max",
        integer(0, 1_000_000, "sessions"),
        "1000",
        "Incremental fetch sessions of a shard (Kafka: max.incremental.fetch.session.cache.slots).",
    ),
    setting(
        "producers.ids_max",
        integer(1, 10_000_000, "producers"),
        "100000",
        "Idempotent producers remembered by a shard; beyond it the least recent are forgotten.",
    ),
    setting(
        "groups.initial_rebalance_delay_ms",
        integer(0, 300_000, "ms"),
        "3000",
        "A new group waits so long for further members (Kafka: group.initial.rebalance.delay.ms).",
    ),
    setting(
        "groups.session_timeout_min_ms",
        integer(1, 86_400_000, "ms"),
        "6000",
        "Smallest session timeout a member may ask for (Kafka: group.min.session.timeout.ms).",
    ),
    setting(
        "groups.session_timeout_max_ms",
        integer(1, 86_400_000, "ms"),
        "1800000",
        "Largest session timeout a member may ask for (Kafka: group.max.session.timeout.ms).",
    ),
    setting(
        "groups.members_max",
        integer(1, 1_000_000, "members"),
        "10000",
        "Members of one group (Kafka: group.max.size).",
    ),
    setting(
        "groups.offsets_partitions",
        integer(1, 10_000, "partitions"),
        "50",
        "Partitions of __consumer_offsets (Kafka: offsets.topic.num.partitions). Fixed once the topic exists.",
    ),
    setting(
        "groups.offsets_retention_minutes",
        integer(1, 52_560_000, "minutes"),
        "10080",
        "Offsets of an empty group are kept so long (Kafka: offsets.retention.minutes).",
    ),
    setting(
        "groups.offset_metadata_bytes_max",
        bytes(0, MIB),
        "4096",
        "Largest metadata text of a committed offset (Kafka: offset.metadata.max.bytes).",
    ),
    setting(
        "log.format",
        Kind::Choice(&["auto", "human", "json"]),
        "auto",
        "auto: human-readable on a terminal, JSON lines otherwise.",
    ),
    setting(
        "log.level",
        Kind::Text,
        "info",
        "Log level, or a filter such as `info,streambus::net=debug`.",
    ),
];

/// Looks a setting up by its key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// Says in words what values are allowed.
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Integer { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Kind::Integer { min, max, unit } => {
                format!("a whole number of {unit} from {min} to {max}")
            }
            Kind::Bytes { min, max } => {
                format!("bytes from {min} to {max}, such as 65536, 64KiB, 16MiB or 1GiB")
            }
            Kind::Bool => "true or false".to_owned(),
            Kind::Address => {
                "HOST:PORT, such as 127.0.0.1:9092 (port 0 takes a free one)".to_owned()
            }
            Kind::Path => "a path".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// Name of the environment variable that sets it.
    pub fn environment_name(&self) -> String {
        format!("STREAMBUS__{}", self.key.replace('.', "__").to_uppercase())
    }

    /// Whether `value` is within the setting's type and bounds.
    pub fn is_valid(&self, value: &str) -> bool {
        match self.kind {
            Kind::Integer { min, max, .. } => value
                .parse::<i64>()
                .is_ok_and(|number| (min..=max).contains(&number)),
            Kind::Bytes { min, max } => {
                parse_bytes(value).is_some_and(|number| (min..=max).contains(&number))
            }
            Kind::Bool => matches!(value, "true" | "false"),
            Kind::Address => is_address(value),
            Kind::Path => !value.is_empty(),
            Kind::Text => true,
            Kind::Choice(words) => words.contains(&value),
        }
    }
}

/// Reads `65536`, `64KiB`, `16MiB`, `1GiB`.
pub fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix.trim() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

fn is_address(value: &str) -> bool {
    value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        for setting in SETTINGS {
            assert!(setting.is_valid(setting.default), "{}", setting.key);
            assert!(setting.key.split('.').count() == 2, "{}", setting.key);
        }
    }

    #[test]
    fn byte_sizes_have_suffixes() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("1GiB"), Some(1 << 30));
        assert_eq!(parse_bytes("1GB"), None);
        assert_eq!(parse_bytes("-1"), None);
        assert_eq!(parse_bytes("9999999999GiB"), None);
    }
}
