//! Logs: human-readable on a terminal, JSON lines otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Installs the logger. `format` is `auto`, `human` or `json`; `level` a filter.
///
/// # Errors
/// `level` is not a filter.
pub fn install(format: &str, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| format!("log.level = {level} is not a log filter: {error}"))?;
    let is_human = match format {
        "human" => true,
        "json" => false,
        _ => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = if is_human {
        builder.with_target(false).try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    installed.map_err(|error| error.to_string())
}
