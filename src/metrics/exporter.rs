//! Renders the shards' snapshots in Prometheus' text format.
//!
//! Place: `http` calls [`render`] on the control thread.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use protocol::api_key::ApiKey;

use super::{ApiCounts, DirSnapshot, Histogram, Snapshot};

/// The text of `/metrics` for one moment of all shards.
pub fn render(snapshots: Vec<Snapshot>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("streambus");
    registry.register_collector(Box::new(Shards { snapshots }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Shards {
    snapshots: Vec<Snapshot>,
}

/// Name, help, type and value of a per-shard number.
type Series = (&'static str, &'static str, MetricType, fn(&Snapshot) -> u64);

const SERIES: &[Series] = &[
    ("records_in", "Records appended", MetricType::Counter, |s| {
        s.records_in
    }),
    (
        "record_bytes_in",
        "Bytes of appended batches",
        MetricType::Counter,
        |s| s.record_bytes_in,
    ),
    (
        "record_bytes_out",
        "Bytes of batches sent to readers",
        MetricType::Counter,
        |s| s.record_bytes_out,
    ),
    (
        "connections_accepted",
        "Connections accepted",
        MetricType::Counter,
        |s| s.connections_accepted,
    ),
    (
        "connections_broken",
        "Connections closed for breaking the protocol",
        MetricType::Counter,
        |s| s.connections_broken,
    ),
    (
        "connections_open",
        "Open connections",
        MetricType::Gauge,
        |s| s.connections_open,
    ),
    (
        "partitions",
        "Partitions of the shard",
        MetricType::Gauge,
        |s| s.partitions,
    ),
    (
        "memory_used_bytes",
        "Memory budget in use",
        MetricType::Gauge,
        |s| s.memory_used_bytes,
    ),
    (
        "memory_limit_bytes",
        "Memory budget",
        MetricType::Gauge,
        |s| s.memory_limit_bytes,
    ),
    (
        "zero_copy_bytes",
        "Bytes sent without a copy in the kernel",
        MetricType::Counter,
        |s| s.zero_copy.bytes,
    ),
    (
        "zero_copy_sends",
        "Finished sends that were to be without a copy in the kernel",
        MetricType::Counter,
        |s| s.zero_copy.sends,
    ),
    (
        "zero_copy_copied_sends",
        "Of them those that the kernel copied after all",
        MetricType::Counter,
        |s| s.zero_copy.copied_sends,
    ),
    (
        "zero_copy_held_bytes",
        "Memory that the kernel may still read for such sends; part of the memory budget in use",
        MetricType::Gauge,
        |s| s.zero_copy.held_bytes,
    ),
    (
        "journal_commits",
        "Journal groups made durable",
        MetricType::Counter,
        |s| s.journal_commits,
    ),
    (
        "journal_bytes",
        "Bytes written to the journal",
        MetricType::Counter,
        |s| s.journal_bytes,
    ),
    (
        "segment_bytes",
        "Bytes written to segments by appends or behind them; with the bytes of the journal: what storage writes",
        MetricType::Counter,
        |s| s.segment_bytes,
    ),
    (
        "direct_bytes",
        "Bytes of large batches that went to their segment and not through the journal",
        MetricType::Counter,
        |s| s.direct_bytes,
    ),
    (
        "cache_hits",
        "Reads served from memory",
        MetricType::Counter,
        |s| s.cache_hits,
    ),
    (
        "cache_misses",
        "Reads served from disk",
        MetricType::Counter,
        |s| s.cache_misses,
    ),
    (
        "corruptions",
        "Damaged places that reads and the scrubber have met; each is logged with file and position",
        MetricType::Counter,
        |s| s.corruptions,
    ),
    (
        "scrubbed_segments",
        "Sealed segments that the scrubber has read again",
        MetricType::Counter,
        |s| s.scrubbed_segments,
    ),
    (
        "scrubbed_bytes",
        "Bytes of segments that the scrubber has read again",
        MetricType::Counter,
        |s| s.scrubbed_bytes,
    ),
    (
        "dirty_bytes",
        "Durable in the journal, not yet in segments",
        MetricType::Gauge,
        |s| s.dirty_bytes,
    ),
    (
        "cleaner_rounds",
        "Compactions of a log that were finished",
        MetricType::Counter,
        |s| s.cleaner.rounds,
    ),
    (
        "cleaner_failures",
        "Compactions of a log that failed",
        MetricType::Counter,
        |s| s.cleaner.failures,
    ),
    (
        "cleaner_segments",
        "Segments rewritten by compaction",
        MetricType::Counter,
        |s| s.cleaner.segments,
    ),
    (
        "cleaner_read_bytes",
        "Bytes read by compaction",
        MetricType::Counter,
        |s| s.cleaner.bytes_read,
    ),
    (
        "cleaner_written_bytes",
        "Bytes written by compaction",
        MetricType::Counter,
        |s| s.cleaner.bytes_written,
    ),
    (
        "cleaner_dropped_bytes",
        "Bytes of records that compaction removed",
        MetricType::Counter,
        |s| s.cleaner.bytes_dropped,
    ),
    (
        "cleaner_logs_set_aside",
        "Logs that cannot be compacted and are tried again later",
        MetricType::Gauge,
        |s| s.cleaner.logs_set_aside,
    ),
    (
        "cleaner_last_round_time_seconds",
        "When a compaction was finished last, since 1970",
        MetricType::Gauge,
        |s| u64::try_from(s.cleaner.last_round_ms / 1000).unwrap_or(0),
    ),
    (
        "batches_throttled",
        "Batches put off because the disk is nearly full",
        MetricType::Counter,
        |s| s.batches_throttled,
    ),
    (
        "batches_without_space",
        "Batches refused because the disk is full",
        MetricType::Counter,
        |s| s.batches_without_space,
    ),
];

/// Name, help and value of a number that each log directory of a shard has.
type DirSeries = (&'static str, &'static str, fn(&DirSnapshot) -> u64);

const DIR_SERIES: &[DirSeries] = &[
    (
        "log_directory_offline",
        "1 when the directory has failed or could not be opened; its partitions are offline until a start finds it whole",
        |d| d.offline,
    ),
    (
        "stray_logs",
        "Logs that the metadata did not know at the start, and that were kept",
        |d| d.stray_logs,
    ),
    (
        "disk_stage",
        "How full the disk is: 0 enough, 1 warning, 2 producers are slowed down, 3 they are refused",
        |d| d.stage,
    ),
    (
        "disk_free_bytes",
        "Free bytes of the log directory's file system",
        |d| d.free_bytes,
    ),
    (
        "disk_total_bytes",
        "Bytes of the log directory's file system",
        |d| d.total_bytes,
    ),
];

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, kind, value) in SERIES {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            for snapshot in &self.snapshots {
                let labels = [("shard", snapshot.shard.to_string())];
                encode_number(family.encode_family(&labels)?, *kind, value(snapshot))?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "journal_commit_seconds",
            "Durable write of one journal group",
            None,
            MetricType::Histogram,
        )?;
        for snapshot in &self.snapshots {
            let labels = [("shard", snapshot.shard.to_string())];
            let encoder = family.encode_family(&labels)?;
            encode_histogram(encoder, &snapshot.journal_commit_latency)?;
        }
        self.encode_dirs(&mut encoder)?;
        self.encode_apis(&mut encoder)
    }
}

/// Name, help and value of a number that each API has.
type ApiSeries = (&'static str, &'static str, fn(&ApiCounts) -> u64);

const API_SERIES: &[ApiSeries] = &[
    ("requests", "Requests answered", |c| c.requests),
    (
        "request_failures",
        "Requests that could not be served",
        |c| c.failures,
    ),
    ("request_bytes", "Bytes of request frames", |c| c.bytes_in),
    ("response_bytes", "Bytes of response frames", |c| {
        c.bytes_out
    }),
];

impl Shards {
    fn encode_dirs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in DIR_SERIES {
            let kind = MetricType::Gauge;
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for snapshot in &self.snapshots {
                for dir in &snapshot.dirs {
                    let shard = snapshot.shard.to_string();
                    let labels = [("shard", shard), ("directory", dir.path.clone())];
                    encode_number(family.encode_family(&labels)?, kind, value(dir))?;
                }
            }
        }
        Ok(())
    }

    fn encode_apis(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut apis: BTreeMap<i16, ApiCounts> = BTreeMap::new();
        for (key, counts) in self.snapshots.iter().flat_map(|snapshot| &snapshot.apis) {
            let merged = apis.entry(*key).or_default();
            merged.requests += counts.requests;
            merged.failures += counts.failures;
            merged.bytes_in += counts.bytes_in;
            merged.bytes_out += counts.bytes_out;
            merged.latency.merge(&counts.latency);
        }
        for (name, help, value) in API_SERIES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, counts) in &apis {
                let labels = [("api", api_name(*key))];
                encode_number(
                    family.encode_family(&labels)?,
                    MetricType::Counter,
                    value(counts),
                )?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "request_seconds",
            "From the received request to its finished answer",
            None,
            MetricType::Histogram,
        )?;
        for (key, counts) in &apis {
            let labels = [("api", api_name(*key))];
            encode_histogram(family.encode_family(&labels)?, &counts.latency)?;
        }
        Ok(())
    }
}

fn api_name(key: i16) -> &'static str {
    ApiKey::from_i16(key).map_or("unknown", |api| api.name())
}

fn encode_number(mut encoder: MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        _ => encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

fn encode_histogram(mut encoder: MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let buckets = histogram.buckets();
    encoder.encode_histogram::<NoLabelSet>(
        histogram.sum_seconds(),
        histogram.count(),
        &buckets,
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_and_apis_are_shown() {
        let metrics = super::super::ShardMetrics::default();
        metrics.count_request(0, 100, 50, std::time::Duration::from_micros(300));
        let text = render(vec![metrics.snapshot()]).unwrap();
        assert!(
            text.contains("streambus_requests_total{api=\"Produce\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("streambus_request_seconds_count{api=\"Produce\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("streambus_partitions{shard=\"0\"} 0"),
            "{text}"
        );
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            assert!(
                line.split_whitespace().count() > 3,
                "every series has a help: {line}"
            );
        }
    }
}
