//! `streambus log`: looks into a data directory without a broker and prints what it finds.
//!
//! Reading takes no lock and changes nothing; a directory that a broker uses is read with a warning,
//! since the broker goes on writing meanwhile. Writing takes the directory's lock.

mod json;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use runtime::executor::{Topology, start_shards};
use storage::StorageError;
use storage::offline::{Item, inspect, repair_index};

use crate::config::arguments::LogCommand;
use crate::node::data_dir;

/// Something is damaged.
const EXIT_DAMAGED: u8 = 1;
/// It could not be looked at; also clap's status for wrong arguments.
const EXIT_FAILED: u8 = 2;

/// What is to be done, from the command line.
#[derive(Clone, Debug)]
struct Task {
    dir: PathBuf,
    work: Work,
    is_json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Dump { records: bool },
    Verify,
    RepairIndex { is_writing: bool },
}

impl From<&LogCommand> for Task {
    fn from(command: &LogCommand) -> Self {
        let (dir, work, is_json) = match command {
            LogCommand::Dump { dir, records, json } => {
                (dir, Work::Dump { records: *records }, *json)
            }
            LogCommand::Verify { dir, json } => (dir, Work::Verify, *json),
            LogCommand::RepairIndex { dir, write, json } => {
                (dir, Work::RepairIndex { is_writing: *write }, *json)
            }
        };
        // A name that ends in "/." is that of its directory.
        let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
        Task { dir, work, is_json }
    }
}

/// Runs a command; output goes to standard output, what went wrong with the command itself to standard error.
pub fn run(command: &LogCommand) -> ExitCode {
    match perform(&Task::from(command)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_DAMAGED),
        Err(message) => {
            let _ = writeln!(io::stderr(), "streambus log: {message}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Answers how much damage was found.
fn perform(task: &Task) -> Result<u64, String> {
    let data_dir = data_dir_of(&task.dir);
    let is_writing = task.work == Work::RepairIndex { is_writing: true };
    let _lock = match &data_dir {
        Some(data_dir) if is_writing => {
            Some(data_dir::lock(data_dir).map_err(|error| error.to_string())?)
        }
        Some(data_dir) if data_dir::is_in_use(data_dir) => {
            let _ = writeln!(
                io::stderr(),
                "streambus log: warning: a broker uses {}; what it writes meanwhile may look like damage",
                data_dir.display()
            );
            None
        }
        Some(_) | None => None,
    };
    let outcome = Arc::new(Mutex::new(Vec::new()));
    let (task, outcomes) = (task.clone(), outcome.clone());
    let threads = start_shards(&Topology::unpinned(1), move |_| {
        let (task, outcomes) = (task.clone(), outcomes.clone());
        async move {
            let result = look(&task).await.map_err(|error| error.to_string());
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push(result);
            }
        }
    });
    let joined = threads.and_then(runtime::executor::ShardThreads::join);
    joined.map_err(|error| error.to_string())?;
    let outcome = outcome.lock().ok().and_then(|mut outcomes| outcomes.pop());
    outcome.unwrap_or_else(|| Err("the work ended without a result".to_owned()))
}

/// The data directory that `dir` is, or that a log's directory lies in.
fn data_dir_of(dir: &Path) -> Option<PathBuf> {
    let above = dir.parent().and_then(Path::parent);
    let mut candidates = [Some(dir), above].into_iter().flatten();
    let found = candidates.find(|candidate| candidate.join("shards").is_dir());
    found.map(Path::to_path_buf)
}

async fn look(task: &Task) -> Result<u64, StorageError> {
    let mut printer = Printer::new(task);
    let mut sink = |item: Item<'_>| printer.take(&item);
    match task.work {
        Work::Dump { .. } | Work::Verify => inspect(&task.dir, &mut sink).await?,
        Work::RepairIndex { is_writing } => {
            repair_index(&task.dir, is_writing, &mut sink).await?;
        }
    }
    printer.end();
    Ok(printer.totals.damage)
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    logs: u64,
    segments: u64,
    batches: u64,
    bytes: u64,
    damage: u64,
}

/// Prints items as they come.
struct Printer {
    task: Task,
    totals: Totals,
    out: BufWriter<io::Stdout>,
}

impl Printer {
    fn new(task: &Task) -> Self {
        Printer {
            task: task.clone(),
            totals: Totals::default(),
            out: BufWriter::new(io::stdout()),
        }
    }

    fn take(&mut self, item: &Item<'_>) {
        self.count(item);
        if !self.is_wanted(item) {
            return;
        }
        let with_records = self.task.work == Work::Dump { records: true };
        let text = if self.task.is_json {
            json::render(item, with_records)
        } else {
            text::render(item, with_records)
        };
        self.print(&text);
    }

    fn is_wanted(&self, item: &Item<'_>) -> bool {
        match self.task.work {
            Work::Dump { .. } => true,
            Work::Verify => matches!(item, Item::Damage { .. }),
            Work::RepairIndex { .. } => matches!(item, Item::Damage { .. } | Item::Index { .. }),
        }
    }

    fn count(&mut self, item: &Item<'_>) {
        let totals = &mut self.totals;
        match item {
            Item::Log(_) => totals.logs += 1,
            Item::Segment { bytes, .. } => {
                totals.segments += 1;
                totals.bytes += bytes;
            }
            Item::Batch(_) => totals.batches += 1,
            Item::Damage { .. } => totals.damage += 1,
            _ => {}
        }
    }

    fn end(&mut self) {
        let text = if self.task.is_json {
            json::totals(&self.totals)
        } else {
            text::totals(&self.totals)
        };
        self.print(&text);
        let _ = self.out.flush();
    }

    /// A closed pipe is not this program's failure.
    fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
    }
}

/// Bytes of a record that are shown, in each of key and value.
const SHOWN_BYTES_MAX: usize = 200;

/// Bytes as text if they are text, else in hexadecimal; long ones are cut.
fn shown(bytes: Option<&[u8]>) -> Option<String> {
    use std::fmt::Write as _;
    let bytes = bytes?;
    let mut shown = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => {
            text.chars().take(SHOWN_BYTES_MAX).collect()
        }
        _ => {
            let mut hex = "0x".to_owned();
            for byte in bytes.iter().take(SHOWN_BYTES_MAX / 2) {
                let _ = write!(hex, "{byte:02x}");
            }
            hex
        }
    };
    if shown.len() < bytes.len()
        && bytes.len() > SHOWN_BYTES_MAX / 2
        && shown.chars().count() >= SHOWN_BYTES_MAX
    {
        let _ = write!(shown, "… ({} bytes)", bytes.len());
    }
    Some(shown)
}

/// A record as it is shown.
struct ShownRecord {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: usize,
}

/// The most that one batch's records may take when they are decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// The records of a batch; `Err` says why they cannot be read.
fn records(batch: &[u8]) -> Result<Vec<ShownRecord>, String> {
    let view =
        protocol::record_batch::BatchView::parse(batch).map_err(|error| error.to_string())?;
    let (mut context, mut plain) = (
        protocol::compression::DecompressContext::default(),
        Vec::new(),
    );
    let records = view.records(&mut context, &mut plain, DECOMPRESSED_BYTES_MAX);
    let records = records.map_err(|error| error.to_string())?.map(|record| {
        let record = record.map_err(|error| error.to_string())?;
        Ok(ShownRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: shown(record.key),
            value: shown(record.value),
            headers: record.headers.count(),
        })
    });
    records.collect()
}

/// The name of a batch's codec, from its attributes.
fn codec(attributes: i16) -> &'static str {
    match attributes & 7 {
        0 => "none",
        1 => "gzip",
        2 => "snappy",
        3 => "lz4",
        4 => "zstd",
        _ => "unknown",
    }
}

fn is_transactional(attributes: i16) -> bool {
    attributes & 1 << 4 != 0
}

fn is_control(attributes: i16) -> bool {
    attributes & 1 << 5 != 0
}
