//! The `streambus` binary: arguments → settings → node.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use streambus::config::arguments::{Arguments, Command};
use streambus::config::{self, Config};
use streambus::node::{self, Bound, NodeError};
use streambus::offline;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Taken if it exists and no --config is given.
const DEFAULT_FILE: &str = "streambus.toml";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Log(command)) = &arguments.command {
        return offline::run(command);
    }
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be installed yet, and a person may be watching: say it plainly.
            let _ = writeln!(std::io::stderr(), "streambus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), NodeError> {
    if let Some(Command::Config) = arguments.command {
        print(&config::documented_file());
        return Ok(());
    }
    let file: Option<PathBuf> = arguments
        .config
        .clone()
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| Path::exists(path)));
    let config = config::load(file.as_deref(), std::env::vars(), &arguments.flags())?;
    if let Some(Command::Check) = arguments.command {
        return check(&config);
    }
    node::logging::install(&config.log_format, &config.log_level)?;
    node::run(config, |Bound { kafka, http }| {
        print(&format!(
            "StreamBus listens on {kafka} (Kafka) and {http} (HTTP)\n"
        ));
    })
}

fn check(config: &Config) -> Result<(), NodeError> {
    let report = node::check(config)?;
    print(&format!("{report:#?}\n"));
    Ok(())
}

/// Writes to standard output; a closed pipe is not this program's failure.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
