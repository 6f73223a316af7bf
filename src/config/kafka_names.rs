//! The settings under the names that Kafka gives them, for config requests.

use std::collections::BTreeMap;

use cluster::configs::find_broker_config;

use super::Config;

impl Config {
    /// Kafka's broker config names with the values of this process, where these are not Kafka's defaults.
    pub fn kafka_names(&self) -> BTreeMap<String, String> {
        let groups = &self.groups;
        let pairs: [(&str, String); 20] = [
            (
                "advertised.listeners",
                self.advertise.clone().unwrap_or_default(),
            ),
            (
                "auto.create.topics.enable",
                self.topics.auto_create.to_string(),
            ),
            ("broker.id", self.node_id.to_string()),
            ("broker.rack", self.rack.clone().unwrap_or_default()),
            (
                "connections.max.idle.ms",
                self.net.idle_timeout_ms.to_string(),
            ),
            ("default.replication.factor", "1".to_owned()),
            ("fetch.max.bytes", self.fetch.bytes_max.to_string()),
            (
                "group.initial.rebalance.delay.ms",
                groups.initial_rebalance_delay_ms.to_string(),
            ),
            (
                "group.max.session.timeout.ms",
                groups.session_timeout_max_ms.to_string(),
            ),
            ("group.max.size", groups.members_max.to_string()),
            (
                "group.min.session.timeout.ms",
                groups.session_timeout_min_ms.to_string(),
            ),
            ("listeners", format!("PLAINTEXT://{}", self.kafka_address)),
            ("log.dirs", self.log_dirs()),
            (
                "log.retention.check.interval.ms",
                self.topics.retention_check_ms.to_string(),
            ),
            ("node.id", self.node_id.to_string()),
            ("num.partitions", self.topics.partitions.to_string()),
            (
                "offset.metadata.max.bytes",
                groups.offset_metadata_bytes_max.to_string(),
            ),
            (
                "offsets.retention.minutes",
                (groups.offsets_retention_ms / 60_000).to_string(),
            ),
            (
                "offsets.topic.num.partitions",
                groups.offsets_partitions.to_string(),
            ),
            (
                "socket.request.max.bytes",
                self.net.request_bytes_max.to_string(),
            ),
        ];
        // What is as in Kafka anyway is described as a default, not as something that was set.
        let is_set = |(name, value): &(&str, String)| {
            let default = find_broker_config(name).and_then(|definition| definition.default);
            !value.is_empty() && default != Some(value.as_str())
        };
        let pairs = pairs.into_iter().chain(self.cleaner_names());
        pairs
            .filter(is_set)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn log_dirs(&self) -> String {
        let dirs = self.data_dirs.iter().map(|dir| dir.display().to_string());
        dirs.collect::<Vec<_>>().join(",")
    }

    fn cleaner_names(&self) -> [(&'static str, String); 3] {
        let compaction = &self.compaction;
        [
            ("log.cleaner.backoff.ms", compaction.interval_ms.to_string()),
            (
                "log.cleaner.dedupe.buffer.size",
                compaction.map_bytes.to_string(),
            ),
            (
                "log.cleaner.io.max.bytes.per.second",
                format!("{}.0", compaction.io_bytes_per_second),
            ),
        ]
    }
}
