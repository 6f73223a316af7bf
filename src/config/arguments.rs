//! The command line of `streambus`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A durable, thread-per-core broker that speaks the Kafka protocol.
///
/// Without a subcommand the broker starts. Every setting can be given in the file (--config), in the
/// environment as `STREAMBUS__SECTION__KEY`, or with --set SECTION.KEY=VALUE; flags win over the
/// environment, which wins over the file.
#[derive(Debug, Parser)]
#[command(name = "streambus", version)]
pub struct Arguments {
    /// What to do instead of starting the broker.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings file (TOML). Default: ./streambus.toml if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the data [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Address for Kafka clients; port 0 takes a free one, which is printed [default: 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address told to clients [default: the bound address].
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Address of /livez, /readyz and /metrics; port 0 takes a free one [default: 127.0.0.1:9600].
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// Data shards, a thread each [default: from the cores that the process may use].
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// Any setting, for example --set topics.partitions=4; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = parse_pair)]
    pub settings: Vec<(String, String)>,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print streambus.toml with every setting, its meaning, bounds and default.
    Config,
    /// Check this machine and the settings as a start would, and stop.
    Check,
    /// Look into a data directory, or one log's directory, without a broker (docs/offline-tools.md).
    #[command(subcommand)]
    Log(LogCommand),
}

/// What `streambus log` does. Exit status: 0 nothing is damaged, 1 something is, 2 it could not look.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print everything: checkpoints, journals, logs, segments, batches.
    Dump {
        /// A data directory, or the directory of one log.
        dir: PathBuf,
        /// Print the records of each batch too.
        #[arg(long)]
        records: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Check everything and print what is damaged, with file and position.
    Verify {
        /// A data directory, or the directory of one log.
        dir: PathBuf,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Compare index files with their segments.
    RepairIndex {
        /// A data directory, or the directory of one log.
        dir: PathBuf,
        /// Write those anew that are wrong; refused while a broker uses the directory.
        #[arg(long)]
        write: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected SECTION.KEY=VALUE")?;
    if super::settings::find(key).is_none() {
        return Err(format!(
            "unknown setting `{key}`; `streambus config` lists all"
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

impl Arguments {
    /// The flags as `(key, value)` pairs for [`super::load`].
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let direct = [
            ("node.data_dir", &self.data_dir),
            ("listen.kafka", &self.listen),
            ("listen.advertise", &self.advertise),
            ("listen.http", &self.http),
            ("runtime.shards", &self.shards),
        ];
        let direct = direct
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)));
        let named = self
            .settings
            .iter()
            .filter_map(|(key, value)| Some((super::settings::find(key)?.key, value.clone())));
        direct.chain(named).collect()
    }
}
