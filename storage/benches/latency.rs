//! Latency and cost of the log's main paths on the real disk.
//!
//! ```text
//! cargo bench -p streambus-storage --bench latency [-- DIRECTORY]     (default: target/tmp)
//! ```
//! *append*: CPU time of the synchronous call, ns a batch of 16 × 1 KiB. *commit*: append until it is
//! durable, µs, one 100-byte record at a time. *open loop*: the same at 20,000 records of 1 KiB a second,
//! 20 a batch, over 8 logs, from the time each batch was due. *hot read*: ns a read of about 16 KiB at
//! the tail. *cold read*: µs a read of 1 MiB, in order, of a log that is not in memory, CRC checked; and
//! single batches of it far apart from each other.
#![expect(clippy::print_stdout, reason = "the report")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::MemoryBudget;
use runtime::executor::{Pinning, Topology, start_shards};
use runtime::task::{Class, spawn, yield_now};
use runtime::time::{now, sleep_until, wall_clock_ms};
use storage::{LogConfig, LogId, PartitionLog, Storage, StorageConfig};

const APPENDS: u64 = 20_000;
const DURABLE: u64 = 5_000;
const OPEN_LOOP_SECONDS: u64 = 5;
const OPEN_LOOP_BATCHES_A_SECOND: u64 = 1_000;
const COLD_BYTES: u64 = 512 << 20;

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

async fn open(dir: &Path) -> Storage {
    let opened = Storage::open(
        dir,
        0,
        StorageConfig::default(),
        MemoryBudget::new(512 << 20),
    )
    .await;
    opened.expect("open").0
}

async fn create(storage: &Storage, number: u32) -> PartitionLog {
    let id = LogId {
        topic: [7; 16],
        partition: number,
    };
    storage
        .create_log(id, LogConfig::default())
        .await
        .expect("create")
}

fn batch(records: usize, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value: Vec<u8> = (0..value_bytes).map(|at| (at * 31) as u8).collect();
    for _ in 0..records {
        builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build().expect("a batch")
}

async fn run(dir: PathBuf) {
    let storage = open(&dir).await;
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9}",
        "", "p50", "p99", "p99.9", "max"
    );
    durable(&storage).await;
    open_loop(&storage).await;
    appends(&storage).await;
    hot_reads(&storage).await;
    let log = fill(&storage).await;
    storage.close().await.expect("close");
    let began = now();
    let storage = open(&dir).await;
    println!(
        "open after close: {:.1} ms",
        began.elapsed().as_secs_f64() * 1e3
    );
    let log = storage.log(log).expect("the filled log");
    scattered_reads(&log).await;
    cold_reads(&log).await;
    storage.close().await.expect("close");
}

fn report(name: &str, unit: f64, histogram: &Histogram<u64>) {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / unit;
    let max = histogram.max() as f64 / unit;
    println!(
        "{name:<12} {:>9.1} {:>9.1} {:>9.1} {max:>9.1}",
        at(0.5),
        at(0.99),
        at(0.999)
    );
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in nanoseconds")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

async fn durable(storage: &Storage) {
    let log = create(storage, 0).await;
    let record = batch(1, 100);
    let mut latencies = histogram();
    for _ in 0..DURABLE {
        let began = now();
        let appended = log.append(&record, 0, wall_clock_ms()).expect("append");
        storage.committed(appended.sequence).await.expect("commit");
        latencies.saturating_record(nanos(began.elapsed()));
    }
    report("commit µs", 1e3, &latencies);
}

async fn open_loop(storage: &Storage) {
    let mut logs = Vec::new();
    for number in 100..108 {
        logs.push(create(storage, number).await);
    }
    let records = batch(20, 1024);
    let latencies = std::rc::Rc::new(std::cell::RefCell::new(histogram()));
    let begin = now();
    let interval = Duration::from_secs(1) / OPEN_LOOP_BATCHES_A_SECOND as u32;
    let mut running = Vec::new();
    for number in 0..OPEN_LOOP_SECONDS * OPEN_LOOP_BATCHES_A_SECOND {
        let due = begin + interval * number as u32;
        sleep_until(due).await;
        let log = &logs[number as usize % logs.len()];
        log.reserve(records.len()).await.expect("room");
        let appended = log.append(&records, 0, wall_clock_ms()).expect("append");
        let (storage, latencies) = (storage.clone(), std::rc::Rc::clone(&latencies));
        running.push(spawn(Class::Network, async move {
            storage.committed(appended.sequence).await.expect("commit");
            latencies
                .borrow_mut()
                .saturating_record(nanos(due.elapsed()));
        }));
    }
    for task in running {
        task.await.expect("a batch");
    }
    report("open loop µs", 1e3, &latencies.borrow());
}

async fn appends(storage: &Storage) {
    let log = create(storage, 1).await;
    let records = batch(16, 1024);
    let mut costs = histogram();
    for _ in 0..APPENDS {
        log.reserve(records.len()).await.expect("room");
        let now_ms = wall_clock_ms();
        let began = now();
        log.append(&records, 0, now_ms).expect("append");
        costs.saturating_record(nanos(began.elapsed()));
        yield_now().await;
    }
    report("append ns", 1.0, &costs);
}

async fn hot_reads(storage: &Storage) {
    let log = create(storage, 2).await;
    let records = batch(1, 1000);
    let mut costs = histogram();
    let mut offset = 0;
    for _ in 0..APPENDS / 4 {
        for _ in 0..16 {
            log.reserve(records.len()).await.expect("room");
            log.append(&records, 0, 0).expect("append");
        }
        let began = now();
        let result = log
            .try_read(offset, 17 << 10, i64::MAX)
            .expect("in memory")
            .expect("read");
        costs.saturating_record(nanos(began.elapsed()));
        offset = result.next_offset;
        yield_now().await;
    }
    report("hot read ns", 1.0, &costs);
}

async fn fill(storage: &Storage) -> LogId {
    let log = create(storage, 3).await;
    let records = batch(16, 1024);
    let began = now();
    let mut bytes = 0;
    while bytes < COLD_BYTES {
        log.reserve(records.len()).await.expect("room");
        log.append(&records, 0, wall_clock_ms()).expect("append");
        bytes += records.len() as u64;
        yield_now().await;
    }
    let rate = bytes as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("sequential append through the journal: {rate:.0} MB/s");
    log.id()
}

async fn cold_reads(log: &PartitionLog) {
    for name in ["cold µs", "again µs"] {
        let mut latencies = histogram();
        let mut offset = 0;
        let mut bytes = 0;
        let (began, cpu) = (now(), process_cpu());
        while offset < log.log_end_offset() {
            let began = now();
            let result = log.read(offset, 1 << 20, i64::MAX).await.expect("read");
            latencies.saturating_record(nanos(began.elapsed()));
            bytes += result.bytes;
            offset = result.next_offset;
        }
        let (took, cpu) = (began.elapsed(), process_cpu().saturating_sub(cpu));
        report(name, 1e3, &latencies);
        let megabytes = bytes as f64 / 1e6;
        let rate = megabytes / took.as_secs_f64();
        println!(
            "  {rate:.0} MB/s, {:.0} µs of CPU a MB",
            cpu.as_secs_f64() * 1e6 / megabytes
        );
    }
}

/// Each further from the others than one read of the disk brings.
async fn scattered_reads(log: &PartitionLog) {
    const REGION: i64 = 32 * 16;
    /// Regions between one read and the next: a prime, so that each is met once.
    const STRIDE: i64 = 389;
    let regions = log.log_end_offset() / REGION;
    let mut latencies = histogram();
    for index in 0..regions {
        let offset = index * STRIDE % regions * REGION;
        let began = now();
        let result = log.read(offset, 16 << 10, i64::MAX).await.expect("read");
        latencies.saturating_record(nanos(began.elapsed()));
        assert!(result.bytes > 0, "a batch at offset {offset}");
    }
    report("scattered µs", 1e3, &latencies);
}

/// User and system time of this process so far.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
