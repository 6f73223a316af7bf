//! Latency of the produce and the fetch path of a running broker, µs: p50, p99, p99.9, max.
//!
//! ```text
//! cargo bench -p streambus --bench request_latency [-- DIRECTORY]     (default: target/tmp)
//! ```
//! One connection over loopback, requests encoded before they are timed; produce is acks=all, so that an
//! answer means a durable write. *Closed loop*: the next request follows the answer. *Open loop*: requests
//! are due on a schedule and timed from when they were due. *Hot* fetches read what is in the broker's
//! memory. *Cold* ones follow a restart, so that the broker has nothing in memory and reads past the page
//! cache: single batches far apart from each other, or the log from its begin, 1 MiB a request. About half
//! a minute.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a report"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use protocol::primitives::Uuid;
use support::requests::{Fetch, batch, create_topic, fetched, produce_frame, produced};
use support::{Broker, Raw};

/// Time of one row.
const ROW: Duration = Duration::from_millis(2_500);
/// Requests before a row is timed.
const WARM_UP: u64 = 200;
const OPEN_LOOP_A_SECOND: u32 = 1_000;
/// Batches of 16 × 1 KiB of the log that is read.
const LOG_BATCHES: i64 = 32_768;
const BATCH_RECORDS: i64 = 16;
/// Cold fetches anywhere are this far apart: further than what one read of the disk brings.
const COLD_REGION_BATCHES: i64 = 32;
/// Regions between one such fetch and the next; has no common factor with their number.
const COLD_STRIDE: i64 = 389;

fn main() {
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let parent = named.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let directory = tempfile::tempdir_in(parent).unwrap();
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>8} {:>8}   µs",
        "", "count", "p50", "p99", "p99.9", "max"
    );
    let topic = produce_and_read_hot(directory.path());
    read_cold(directory.path(), topic);
}

fn produce_and_read_hot(directory: &Path) -> Uuid {
    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    let topic = create_topic(&mut raw, "latency", 1);
    let one = produce_frame(topic, &[0], &batch(1, 100));
    report(
        "produce 1 × 100 B",
        &closed_loop(|_| {
            produce(&mut raw, &one);
        }),
    );
    let sixteen = produce_frame(topic, &[0], &batch(BATCH_RECORDS as usize, 1024));
    report(
        "produce 16 × 1 KiB",
        &closed_loop(|_| {
            produce(&mut raw, &sixteen);
        }),
    );
    let name = format!("produce 16 × 1 KiB, {OPEN_LOOP_A_SECOND}/s");
    report(
        &name,
        &open_loop(|_| {
            produce(&mut raw, &sixteen);
        }),
    );

    let log = create_topic(&mut raw, "log", 1);
    let sixteen = produce_frame(log, &[0], &batch(BATCH_RECORDS as usize, 1024));
    let mut last = 0;
    for _ in 0..LOG_BATCHES {
        last = produce(&mut raw, &sixteen);
    }
    assert_eq!(last, (LOG_BATCHES - 1) * BATCH_RECORDS);
    let tail =
        |batches: i64, bytes_max| fetch_frame(log, last - (batches - 1) * BATCH_RECORDS, bytes_max);
    let frame = tail(1, 16 << 10);
    report(
        "fetch 16 KiB hot",
        &closed_loop(|_| {
            fetch(&mut raw, &frame);
        }),
    );
    let frame = tail(62, 1 << 20);
    report(
        "fetch 1 MiB hot",
        &closed_loop(|_| {
            fetch(&mut raw, &frame);
        }),
    );
    assert!(broker.stop().success());
    log
}

fn read_cold(directory: &Path, log: Uuid) {
    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    let mut latencies = histogram();
    let regions = LOG_BATCHES / COLD_REGION_BATCHES;
    for index in 0..regions {
        let region = index * COLD_STRIDE % regions;
        let offset = region * COLD_REGION_BATCHES * BATCH_RECORDS;
        let frame = fetch_frame(log, offset, 16 << 10);
        timed(&mut latencies, || fetch(&mut raw, &frame));
    }
    report("fetch 16 KiB cold, anywhere", &latencies);
    drop(raw);
    assert!(broker.stop().success());

    let broker = Broker::start(directory);
    let mut raw = broker.connect();
    let batch_bytes = batch(BATCH_RECORDS as usize, 1024).len();
    let mut latencies = histogram();
    let mut offset = 0;
    while offset < LOG_BATCHES * BATCH_RECORDS {
        let frame = fetch_frame(log, offset, 1 << 20);
        let bytes = timed(&mut latencies, || fetch(&mut raw, &frame));
        offset += (bytes / batch_bytes) as i64 * BATCH_RECORDS;
    }
    report("fetch 1 MiB cold, in order", &latencies);
}

fn produce(raw: &mut Raw, frame: &[u8]) -> i64 {
    raw.send(frame);
    produced(&raw.receive().expect("an answer"))
}

fn fetch_frame(topic: Uuid, offset: i64, bytes_max: i32) -> Vec<u8> {
    let fetch = Fetch {
        topic,
        partitions: &[0],
        offset,
        bytes_max,
        wait_ms: 0,
        session: (0, -1),
    };
    fetch.frame()
}

/// Bytes of the records that came, which must be some.
fn fetch(raw: &mut Raw, frame: &[u8]) -> usize {
    raw.send(frame);
    let found = fetched(&raw.receive().expect("an answer"));
    assert!(found.record_bytes > 0, "there is something to read");
    found.record_bytes
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a minute in nanoseconds")
}

fn timed<T>(latencies: &mut Histogram<u64>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    record(latencies, begun);
    result
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    latencies.saturating_record(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
}

fn closed_loop(mut request: impl FnMut(u64)) -> Histogram<u64> {
    (0..WARM_UP).for_each(&mut request);
    let mut latencies = histogram();
    let end = Instant::now() + ROW;
    for number in (0..).take_while(|_| Instant::now() < end) {
        timed(&mut latencies, || request(number));
    }
    latencies
}

fn open_loop(mut request: impl FnMut(u64)) -> Histogram<u64> {
    let mut latencies = histogram();
    let begun = Instant::now();
    let mut due = begun;
    for number in (0..).take_while(|_| begun.elapsed() < ROW) {
        wait_until(due);
        request(number);
        record(&mut latencies, due);
        due += Duration::from_secs(1) / OPEN_LOOP_A_SECOND;
    }
    latencies
}

/// Sleeps, and spins at the end: a timer that is late must not be taken for the broker's lateness.
fn wait_until(due: Instant) {
    let until = |margin| {
        due.saturating_duration_since(Instant::now())
            .saturating_sub(margin)
    };
    std::thread::sleep(until(Duration::from_micros(150)));
    while !until(Duration::ZERO).is_zero() {
        std::hint::spin_loop();
    }
}

fn report(name: &str, latencies: &Histogram<u64>) {
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{name:<34} {:>8} {:>8.1} {:>8.1} {:>8.1} {:>8.1}",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() as f64 / 1e3
    );
}
