//! Latency of a commit of the journal on the real disk, beside a durable write of the same size.
//!
//! ```text
//! cargo bench -p streambus-storage --bench journal_commit [-- DIRECTORY]     (default: target/tmp)
//! ```
//! One record at a time: append, wait until it is durable. The write of the same padded bytes goes to a
//! file that was written before, as the journal's are; both take turns, so that they meet the same
//! disk. µs; the difference is what the journal adds. About ten seconds.
#![expect(clippy::print_stdout, reason = "the report")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use runtime::executor::{Pinning, Topology, start_shards};
use runtime::time::{Instant, now, sleep};
use runtime::{AppendBuf, BLOCK_BYTES, Durability, File, OpenMode, Slice};
use storage::Sequence;
use storage::journal::{Journal, JournalConfig, RecordView};

/// Name, and bytes of a group's records: the group is that and its header, in whole blocks.
const GROUPS: [(&str, usize); 3] = [("100 B", 100), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10)];
const TURNS: usize = 10;
const TURN: Duration = Duration::from_millis(140);
const RAW_FILE_BYTES: u64 = 64 << 20;
/// Headers of a group and of an `Append` record.
const HEADER_BYTES: usize = 64 + 32;

fn main() {
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let parent = named.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(parent).expect("a directory to work in");
    let path = dir.path().to_path_buf();
    let threads = start_shards(&Topology::detect(Some(1), Pinning::On), move |_| {
        run(path.clone())
    });
    threads.expect("a shard").join().expect("the benchmark");
}

async fn run(dir: PathBuf) {
    let journal = open(&dir.join("journal")).await;
    let mut raw = Raw::open(&dir.join("raw")).await;
    // The files that are made in the background are not part of this.
    sleep(Duration::from_secs(1)).await;
    println!(
        "{:<8} {:<8} {:>8} {:>8} {:>8} {:>8} {:>8}   µs",
        "group", "", "count", "p50", "p99", "p99.9", "max"
    );
    for (name, len) in GROUPS {
        let mut commits = histogram();
        let mut writes = histogram();
        for _ in 0..TURNS {
            commit(&journal, len, &mut commits).await;
            raw.write(
                (len + HEADER_BYTES).next_multiple_of(BLOCK_BYTES),
                &mut writes,
            )
            .await;
        }
        report(name, "journal", &commits);
        report(name, "write", &writes);
    }
    journal.close().await.expect("close");
}

async fn open(dir: &Path) -> Journal {
    let mut visit = |_, _: RecordView<'_>| Ok(());
    let config = JournalConfig::default();
    let opened = Journal::open(dir, config, Sequence::from(1), &mut visit).await;
    opened.expect("open").0
}

async fn commit(journal: &Journal, len: usize, latencies: &mut Histogram<u64>) {
    let bytes = vec![0x5a; len];
    let end = now() + TURN;
    while now() < end {
        journal.room(len).await.expect("room");
        let begun = now();
        let sequence = journal.append(RecordView::Append {
            incarnation: 1,
            base_offset: 0,
            position: 0,
            bytes: &bytes,
        });
        journal.committed(sequence).await.expect("commit");
        note(latencies, begun);
        journal.release_through(sequence);
    }
}

/// A file that was written before.
struct Raw {
    file: File,
    at: u64,
    data: Slice,
}

impl Raw {
    async fn open(path: &Path) -> Raw {
        let mut data = AppendBuf::with_capacity(1 << 20);
        data.append(&vec![0xa5; 1 << 20]);
        let data = data.freeze();
        let file = File::open(path, OpenMode::CreateNew).await.expect("create");
        for at in (0..RAW_FILE_BYTES).step_by(data.len()) {
            let written = file.write_at(at, data.clone(), Durability::Buffered).await;
            written.expect("write");
        }
        file.sync_data().await.expect("fdatasync");
        Raw { file, at: 0, data }
    }

    async fn write(&mut self, len: usize, latencies: &mut Histogram<u64>) {
        let end = now() + TURN;
        while now() < end {
            if self.at + len as u64 > RAW_FILE_BYTES {
                self.at = 0;
            }
            let begun = now();
            let data = self.data.sub(0..len);
            let written = self
                .file
                .write_at(self.at, data, Durability::DataSync)
                .await;
            written.expect("write");
            note(latencies, begun);
            self.at += len as u64;
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in ns, three digits")
}

fn note(latencies: &mut Histogram<u64>, begun: Instant) {
    let nanos = (now() - begun).as_nanos();
    latencies.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
}

fn report(group: &str, name: &str, latencies: &Histogram<u64>) {
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{group:<8} {name:<8} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() as f64 / 1e3
    );
}
