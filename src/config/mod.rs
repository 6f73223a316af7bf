//! This machine's settings: defaults, `streambus.toml`, environment and flags, validated as one.
//!
//! Place: `main` loads it once; every other module is given the parts it needs.
//! Invariants:
//! - I1 precedence is flag > environment > file > default.
//! - I2 a [`Config`] exists only if every value was within its bounds; nothing is checked again later.

pub mod arguments;
mod kafka_names;
pub mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime::executor::Pinning;
use runtime::net::ZeroCopyMode;
use settings::{Kind, SETTINGS, Setting};

/// Why the settings were refused; each text says where the value came from and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: not valid TOML: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Parser's message with line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown setting `{key}`{hint}; `streambus config` lists all")]
    UnknownKey {
        /// File or environment variable.
        origin: String,
        /// The unknown key.
        key: String,
        /// The nearest known key, if one is near.
        hint: String,
    },
    /// A value outside its bounds.
    #[error("{origin}: `{key} = {value}` is not allowed; it takes {allowed}")]
    BadValue {
        /// File, environment variable or flag.
        origin: String,
        /// The setting.
        key: String,
        /// The value as given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Values with their origins, before they become a [`Config`].
#[derive(Debug, Default)]
struct Values {
    by_key: BTreeMap<&'static str, String>,
}

/// Settings of this process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Broker id.
    pub node_id: i32,
    /// Data directories; the first one has the metadata, too.
    pub data_dirs: Vec<PathBuf>,
    /// Rack, if any.
    pub rack: Option<String>,
    /// `HOST:PORT` of the Kafka listener.
    pub kafka_address: String,
    /// `HOST:PORT` told to clients; `None`: the bound address.
    pub advertise: Option<String>,
    /// `HOST:PORT` of the HTTP listener.
    pub http_address: String,
    /// Data shards; `None`: chosen from the affinity mask.
    pub shards: Option<usize>,
    /// Whether shards stay on one core each.
    pub pinning: Pinning,
    /// Memory over all shards in bytes; 0: a quarter of the machine's.
    pub memory_budget_bytes: u64,
    /// Listener and connection limits.
    pub net: NetConfig,
    /// Journal and write-behind.
    pub storage: StorageSettings,
    /// Compaction of logs.
    pub compaction: CompactionSettings,
    /// Defaults of topics.
    pub topics: TopicSettings,
    /// Fetch limits.
    pub fetch: FetchSettings,
    /// Idempotent producers remembered by a shard.
    pub producer_ids_max: usize,
    /// Consumer groups.
    pub groups: GroupSettings,
    /// `auto`, `human` or `json`.
    pub log_format: String,
    /// Log filter.
    pub log_level: String,
}

/// Limits of the Kafka listener.
#[derive(Debug, Clone, Copy)]
pub struct NetConfig {
    /// Open connections over all shards.
    pub connections_max: usize,
    /// Largest request frame in bytes.
    pub request_bytes_max: usize,
    /// Unanswered requests of a connection.
    pub requests_in_flight_max: usize,
    /// Idle time after which a connection is closed.
    pub idle_timeout_ms: u64,
    /// Which answers the kernel sends without a copy.
    pub zero_copy: ZeroCopyMode,
}

/// Journal and write-behind of one shard.
#[derive(Debug, Clone, Copy)]
pub struct StorageSettings {
    /// Size of one journal file in bytes.
    pub journal_file_bytes: u64,
    /// Journal files of a shard.
    pub journal_files_max: usize,
    /// Bytes not yet in segments, per shard.
    pub dirty_bytes_max: u64,
    /// Batches from this size on do not go through the journal.
    pub direct_bytes_min: u64,
    /// Segment and index files kept open over all shards; 0: half of the process's limit.
    pub open_files_max: usize,
    /// Whether cold reads are checked.
    pub verify_cold_reads: bool,
    /// Whether a start deletes logs that the metadata does not know.
    pub delete_stray_logs: bool,
    /// Sealed segments are checked once in so long; 0: never.
    pub scrub_period_ms: u64,
    /// How fast a shard reads for that.
    pub scrub_bytes_per_second: u64,
    /// Free bytes below which a warning is given.
    pub disk_warn_bytes: u64,
    /// Free bytes below which producers are slowed down.
    pub disk_throttle_bytes: u64,
    /// Free bytes below which producers are refused.
    pub disk_reserve_bytes: u64,
}

/// Compaction of one shard's logs.
#[derive(Debug, Clone, Copy)]
pub struct CompactionSettings {
    /// Interval of looking for dirty logs in milliseconds.
    pub interval_ms: u64,
    /// Memory for keys in bytes.
    pub map_bytes: usize,
    /// Bytes read and written in a second.
    pub io_bytes_per_second: u64,
}

/// Defaults of topics.
#[derive(Debug, Clone, Copy)]
pub struct TopicSettings {
    /// Create topics on first use.
    pub auto_create: bool,
    /// Partitions where none are named.
    pub partitions: i32,
    /// Interval of retention in milliseconds.
    pub retention_check_ms: u64,
}

/// Limits of fetches.
#[derive(Debug, Clone, Copy)]
pub struct FetchSettings {
    /// Largest response in bytes.
    pub bytes_max: usize,
    /// Incremental sessions of a shard.
    pub sessions_max: usize,
}

/// Consumer groups.
#[derive(Debug, Clone, Copy)]
pub struct GroupSettings {
    /// First rebalance waits so long.
    pub initial_rebalance_delay_ms: i64,
    /// Smallest session timeout.
    pub session_timeout_min_ms: i64,
    /// Largest session timeout.
    pub session_timeout_max_ms: i64,
    /// Members of one group.
    pub members_max: usize,
    /// Partitions of `__consumer_offsets`.
    pub offsets_partitions: i32,
    /// Retention of offsets of empty groups.
    pub offsets_retention_ms: i64,
    /// Largest metadata text of an offset.
    pub offset_metadata_bytes_max: usize,
}

/// Loads and validates all settings.
///
/// `flags` are `(key, value)` pairs in the file's own key names; `environment` is the process's.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(&'static str, String)],
) -> Result<Config, ConfigError> {
    let mut values = Values::default();
    for setting in SETTINGS {
        values
            .by_key
            .insert(setting.key, setting.default.to_owned());
    }
    if let Some(path) = file {
        values.read_file(path)?;
    }
    for (name, value) in environment {
        if let Some(rest) = name.strip_prefix("STREAMBUS__") {
            let key = rest.to_lowercase().replace("__", ".");
            values.set(&format!("environment variable {name}"), &key, value)?;
        }
    }
    for (key, value) in flags {
        values.set("command line", key, value.clone())?;
    }
    values.check_order("disk.throttle_bytes", "disk.reserve_bytes")?;
    values.check_order("disk.warn_bytes", "disk.throttle_bytes")?;
    Ok(values.into_config())
}

impl Values {
    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let table: toml::Table =
            text.parse()
                .map_err(|error: toml::de::Error| ConfigError::Syntax {
                    path: path.to_owned(),
                    message: error.to_string(),
                })?;
        let origin = path.display().to_string();
        for (section, content) in &table {
            let toml::Value::Table(entries) = content else {
                return Err(unknown_key(&origin, section));
            };
            for (name, value) in entries {
                self.set(&origin, &format!("{section}.{name}"), plain_text(value))?;
            }
        }
        Ok(())
    }

    fn set(&mut self, origin: &str, key: &str, value: String) -> Result<(), ConfigError> {
        let setting = settings::find(key).ok_or_else(|| unknown_key(origin, key))?;
        if !setting.is_valid(&value) {
            return Err(ConfigError::BadValue {
                origin: origin.to_owned(),
                key: key.to_owned(),
                value,
                allowed: setting.allowed(),
            });
        }
        self.by_key.insert(setting.key, value);
        Ok(())
    }

    /// Refuses a value of `key` below that of `least`, wherever the two come from.
    fn check_order(&self, key: &'static str, least: &'static str) -> Result<(), ConfigError> {
        if self.number(key) >= self.number(least) {
            return Ok(());
        }
        Err(ConfigError::BadValue {
            origin: "the settings together".to_owned(),
            key: key.to_owned(),
            value: self.text(key),
            allowed: format!("at least {least}, which is {}", self.text(least)),
        })
    }

    fn text(&self, key: &'static str) -> String {
        self.by_key.get(key).cloned().unwrap_or_default()
    }

    fn optional(&self, key: &'static str) -> Option<String> {
        Some(self.text(key)).filter(|value| !value.is_empty())
    }

    /// The value of an `Integer` or `Bytes` setting; `set` has checked it against its bounds.
    fn number(&self, key: &'static str) -> i64 {
        settings::parse_bytes(&self.text(key)).unwrap_or_default()
    }

    fn into_config(self) -> Config {
        Config {
            node_id: self.number("node.id") as i32,
            data_dirs: self.data_dirs(),
            rack: self.optional("node.rack"),
            kafka_address: self.text("listen.kafka"),
            advertise: self.optional("listen.advertise"),
            http_address: self.text("listen.http"),
            shards: Some(self.number("runtime.shards") as usize).filter(|shards| *shards > 0),
            pinning: auto_on_off(
                &self.text("runtime.pinning"),
                Pinning::Auto,
                Pinning::On,
                Pinning::Off,
            ),
            memory_budget_bytes: self.number("memory.budget") as u64,
            net: NetConfig {
                connections_max: self.number("net.connections_max") as usize,
                request_bytes_max: self.number("net.request_bytes_max") as usize,
                requests_in_flight_max: self.number("net.requests_in_flight_max") as usize,
                idle_timeout_ms: self.number("net.idle_timeout_ms") as u64,
                zero_copy: auto_on_off(
                    &self.text("net.zero_copy"),
                    ZeroCopyMode::Auto,
                    ZeroCopyMode::On,
                    ZeroCopyMode::Off,
                ),
            },
            storage: StorageSettings {
                journal_file_bytes: self.number("journal.file_bytes") as u64,
                journal_files_max: self.number("journal.files_max") as usize,
                dirty_bytes_max: self.number("storage.dirty_bytes_max") as u64,
                direct_bytes_min: self.number("storage.direct_bytes") as u64,
                open_files_max: self.number("storage.open_files_max") as usize,
                verify_cold_reads: self.text("storage.verify_cold_reads") == "true",
                delete_stray_logs: self.text("storage.delete_stray_logs") == "true",
                scrub_period_ms: self.number("storage.scrub_period_hours") as u64 * 3_600_000,
                scrub_bytes_per_second: self.number("storage.scrub_bytes_per_second") as u64,
                disk_warn_bytes: self.number("disk.warn_bytes") as u64,
                disk_throttle_bytes: self.number("disk.throttle_bytes") as u64,
                disk_reserve_bytes: self.number("disk.reserve_bytes") as u64,
            },
            compaction: CompactionSettings {
                interval_ms: self.number("compaction.interval_ms") as u64,
                map_bytes: self.number("compaction.map_bytes") as usize,
                io_bytes_per_second: self.number("compaction.io_bytes_per_second") as u64,
            },
            topics: TopicSettings {
                auto_create: self.text("topics.auto_create") == "true",
                partitions: self.number("topics.partitions") as i32,
                retention_check_ms: self.number("topics.retention_check_ms") as u64,
            },
            fetch: FetchSettings {
                bytes_max: self.number("fetch.bytes_max") as usize,
                sessions_max: self.number("fetch.sessions_max") as usize,
            },
            producer_ids_max: self.number("producers.ids_max") as usize,
            groups: self.group_settings(),
            log_format: self.text("log.format"),
            log_level: self.text("log.level"),
        }
    }

    fn data_dirs(&self) -> Vec<PathBuf> {
        let (first, further) = (
            self.text("node.data_dir"),
            self.text("node.further_data_dirs"),
        );
        let further = further.split(',').map(str::trim);
        let further = further.filter(|path| !path.is_empty());
        std::iter::once(&*first)
            .chain(further)
            .map(absolute)
            .collect()
    }

    fn group_settings(&self) -> GroupSettings {
        GroupSettings {
            initial_rebalance_delay_ms: self.number("groups.initial_rebalance_delay_ms"),
            session_timeout_min_ms: self.number("groups.session_timeout_min_ms"),
            session_timeout_max_ms: self.number("groups.session_timeout_max_ms"),
            members_max: self.number("groups.members_max") as usize,
            offsets_partitions: self.number("groups.offsets_partitions") as i32,
            offsets_retention_ms: self.number("groups.offsets_retention_minutes") * 60_000,
            offset_metadata_bytes_max: self.number("groups.offset_metadata_bytes_max") as usize,
        }
    }
}

/// What a choice of "auto", "on" and "off" stands for.
fn auto_on_off<T>(text: &str, auto: T, on: T, off: T) -> T {
    match text {
        "on" => on,
        "off" => off,
        _ => auto,
    }
}

/// The path from the root on: the working directory may change, and a directory needs a parent to be
/// synced in.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn plain_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => {
            let values: Vec<_> = values.iter().map(plain_text).collect();
            values.join(",")
        }
        other => other.to_string(),
    }
}

fn unknown_key(origin: &str, key: &str) -> ConfigError {
    let last = key.rsplit('.').next().unwrap_or(key);
    let near = SETTINGS
        .iter()
        .find(|setting| setting.key.rsplit('.').next() == Some(last))
        .map_or_else(String::new, |setting| {
            format!(" (did you mean `{}`?)", setting.key)
        });
    ConfigError::UnknownKey {
        origin: origin.to_owned(),
        key: key.to_owned(),
        hint: near,
    }
}

/// The documented file with every setting at its default, as `streambus config` prints it.
pub fn documented_file() -> String {
    let mut text = String::from(
        "# streambus.toml: settings of this machine, shown with their defaults.\n\
         # A flag wins over STREAMBUS__SECTION__KEY in the environment, which wins over this file.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (in_section, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if in_section != section {
            section = in_section;
            text.push_str("\n[");
            text.push_str(section);
            text.push_str("]\n");
        }
        text.push_str(&document(setting, name));
    }
    text
}

fn document(setting: &Setting, name: &str) -> String {
    let value = match setting.kind {
        Kind::Integer { .. } | Kind::Bool => setting.default.to_owned(),
        _ => format!("\"{}\"", setting.default),
    };
    format!(
        "# {}\n# Takes {}.\n{name} = {value}\n",
        setting.help,
        setting.allowed()
    )
}

#[cfg(test)]
mod tests;
