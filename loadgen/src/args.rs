//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::compression::Codec;

/// Open-loop load generator and verifier for Kafka-speaking brokers.
///
/// Latency is counted from the moment a request was due, not from when it could be sent, so that a
/// stalled broker shows as latency and not as less load.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Append records, at a rate or as fast as the broker answers.
    Produce(ProduceMode),
    /// Read records, from the start of the logs (catch-up) or as they come.
    Consume(ConsumeMode),
    /// Append at a rate and measure until a consumer has each record.
    EndToEnd(EndToEndMode),
    /// Append numbered records, read them back, and report lost, duplicated and reordered ones.
    Verify(VerifyMode),
}

/// Which broker and topics.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Brokers to start from, host:port, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:9092")]
    pub(crate) brokers: Vec<String>,
    /// Number of topics; missing ones are created.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) topics: u32,
    /// Topics are named PREFIX-0, PREFIX-1, …
    #[arg(long, default_value = "loadgen")]
    pub(crate) topic_prefix: String,
    /// Partitions of each created topic; an existing topic is used as it is.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub(crate) partitions: i32,
    /// Replicas of each created partition; -1 for the broker's default.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) replication_factor: i16,
    /// Config of created topics, NAME=VALUE; may be given several times.
    #[arg(long, value_parser = parse_config)]
    pub(crate) topic_config: Vec<(String, String)>,
    /// Delete the topics at the end. Nothing is ever deleted without this.
    #[arg(long)]
    pub(crate) delete_topics: bool,
}

/// How long, and how to report.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Length of the measurement (20s, 500ms, 2m).
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Load before the measurement that is not counted.
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// Threads, each with its share of the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Process id of the broker, if it runs on this machine: reports its CPU per record.
    #[arg(long)]
    pub(crate) broker_pid: Option<u32>,
}

/// The shape of produced records and requests.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecordArgs {
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) record_size: u32,
    /// Records in each request, all in one batch for one partition.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) batch_records: u32,
    /// Acknowledgement to ask for.
    #[arg(long, default_value = "all")]
    pub(crate) acks: Acks,
    /// Codec of the batches.
    #[arg(long, default_value = "none", value_parser = parse_codec)]
    pub(crate) compression: Codec,
}

/// Who must have the records before the broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    /// Nobody; the broker does not answer.
    #[value(name = "0")]
    None,
    /// The leader.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The value in a Produce request.
    pub(crate) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// `loadgen produce`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProduceMode {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    /// Records a second over all connections, on a fixed schedule; without it, as fast as the
    /// broker answers.
    #[arg(long, value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// Most unanswered requests on each connection.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: u32,
    /// Stop after this many records (rounded up to whole requests on every connection), without
    /// warm-up; `--duration` then does not count.
    #[arg(long)]
    pub(crate) records: Option<u64>,
    /// Encode one batch at the start and send it again and again: the client then costs almost no
    /// CPU, and the broker's shows.
    #[arg(long)]
    pub(crate) fixed: bool,
    /// Keys that each connection gives to its records in turn, for compacted topics; without it
    /// records have none.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: Option<u64>,
}

/// How to fetch.
#[derive(Debug, Clone, Args)]
pub(crate) struct FetchArgs {
    /// Most bytes of a fetch response.
    #[arg(long, default_value_t = 52_428_800)]
    pub(crate) fetch_bytes_max: i32,
    /// Most bytes of one partition in a fetch response.
    #[arg(long, default_value_t = 1_048_576)]
    pub(crate) partition_bytes_max: i32,
    /// Bytes the broker should wait for.
    #[arg(long, default_value_t = 1)]
    pub(crate) fetch_bytes_min: i32,
    /// Longest time the broker should wait for them.
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) fetch_wait: Duration,
}

/// `loadgen consume`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConsumeMode {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    /// Connections; the partitions are divided among them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections: u32,
    /// Where to begin.
    #[arg(long, default_value = "earliest")]
    pub(crate) from: From,
    /// Stop when everything is read that was there at the start; no warm-up then.
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Check the CRC of every batch.
    #[arg(long)]
    pub(crate) check_crc: bool,
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// The log start offsets.
    Earliest,
    /// The ends of the logs.
    Latest,
}

/// `loadgen end-to-end`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndToEndMode {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    /// Records a second over all connections.
    #[arg(long, default_value = "1000", value_parser = parse_rate)]
    pub(crate) rate: f64,
    /// Producing connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Most unanswered requests on each producing connection.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) in_flight: u32,
    /// Consuming connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) consumers: u32,
}

/// `loadgen verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyMode {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
    /// Records a second over all connections; without it, as fast as the broker answers.
    #[arg(long, value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Connections; the partitions are divided among them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Most unanswered requests on each connection; idempotent producers may have 5 a partition.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub(crate) in_flight: u32,
    /// Produce without a producer id: retries may then duplicate records, which is reported but no
    /// failure.
    #[arg(long)]
    pub(crate) no_idempotence: bool,
    /// Which half to do.
    #[arg(long, default_value = "both")]
    pub(crate) phase: Phase,
    /// File that notes what was acknowledged; needed when the phases are run apart. The produce
    /// phase goes on where an existing file ends.
    #[arg(long, required_if_eq_any([("phase", "produce"), ("phase", "check")]))]
    pub(crate) state: Option<PathBuf>,
    /// How long a broker may stay away before the produce phase gives up.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) patience: Duration,
}

/// Which half of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Produce, then check.
    Both,
    /// Produce and note acknowledgements; survives a broker that dies and comes back.
    Produce,
    /// Read everything and compare with the notes.
    Check,
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    let names = Codec::ALL.map(Codec::name).join(", ");
    Codec::from_name(text).ok_or_else(|| format!("expected one of {names}"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err("expected more than 0".to_owned())
    }
}

/// Parses `20s`, `500ms`, `2m`, `1h`, or a plain number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number and ms, s, m or h")?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("the unit must be ms, s, m or h".to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_units() {
        let check = |text, millis| {
            let expected = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        };
        check("20s", 20_000);
        check("500ms", 500);
        check("1.5m", 90_000);
        check("3", 3_000);
        assert!(parse_duration("fast").is_err());
        assert!(parse_duration("3d").is_err());
    }
}
