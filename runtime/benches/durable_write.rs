//! Latency of one durable 4 KiB write: through the face and on a raw ring.
//!
//! Writes go one after the other to a file that was written before, as the journal's are.
//! `cargo bench -p streambus-runtime --bench durable_write [-- directory]` (default: `target/`).
#![allow(unsafe_code, reason = "the raw ring that the runtime is compared with")]
#![expect(clippy::print_stdout, reason = "the report")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no report")]

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use runtime::executor::{Topology, start_shards};
use runtime::{AppendBuf, BLOCK_BYTES, Durability, File, OpenMode, Slice};

const FILE_BLOCKS: u64 = 4096;
const WRITES: u64 = 1000;
const ROUNDS: usize = 3;

fn main() {
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let directory = named.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let path = directory.join("durable-write.bench");
    fs::write(&path, vec![0x5a; FILE_BLOCKS as usize * BLOCK_BYTES]).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8}   µs a write",
        "", "p50", "p99", "max", "CPU"
    );
    for _ in 0..ROUNDS {
        report("raw ring", write_raw(&path));
        report("runtime", write_face(&path));
    }
    fs::remove_file(&path).unwrap();
}

struct Outcome {
    latencies: Vec<Duration>,
    cpu: Duration,
}

fn report(name: &str, mut outcome: Outcome) {
    outcome.latencies.sort_unstable();
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let at = |share: f64| micros(outcome.latencies[((WRITES - 1) as f64 * share) as usize]);
    let cpu = micros(outcome.cpu) / WRITES as f64;
    println!(
        "{name:<10} {:>8.1} {:>8.1} {:>8.1} {cpu:>8.1}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn block() -> Slice {
    let mut buffer = AppendBuf::with_capacity(BLOCK_BYTES);
    buffer.append(&[0xa5; BLOCK_BYTES]);
    buffer.freeze()
}

/// CPU time of the process: a write may be worked on by the kernel's helper threads.
fn cpu() -> Duration {
    // SAFETY: `rusage` is plain numbers and lives through the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let micros = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec) as u64;
    Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime))
}

fn write_raw(path: &Path) -> Outcome {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let mut ring: IoUring = builder.build(8).unwrap();
    let data = block();
    let before = cpu();
    let latencies = (0..WRITES).map(|number| {
        let start = Instant::now();
        let offset = number % FILE_BLOCKS * BLOCK_BYTES as u64;
        let descriptor = types::Fd(file.as_raw_fd());
        let entry = opcode::Write::new(descriptor, data.as_ptr(), data.len() as u32)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        // SAFETY: `data` lives until the completion is there.
        unsafe { ring.submission().push(&entry) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        let written = ring.completion().next().unwrap().result();
        assert_eq!(written, BLOCK_BYTES as i32);
        start.elapsed()
    });
    let latencies = latencies.collect();
    Outcome {
        latencies,
        cpu: cpu().saturating_sub(before),
    }
}

fn write_face(path: &Path) -> Outcome {
    let path = path.to_owned();
    let threads = start_shards(&Topology::unpinned(1), move |_| {
        let path = path.clone();
        async move {
            let file = File::open(&path, OpenMode::ReadWrite).await.unwrap();
            let data = block();
            let before = cpu();
            let mut latencies = Vec::new();
            for number in 0..WRITES {
                let start = Instant::now();
                let offset = number % FILE_BLOCKS * BLOCK_BYTES as u64;
                file.write_at(offset, data.clone(), Durability::DataSync)
                    .await
                    .unwrap();
                latencies.push(start.elapsed());
            }
            Outcome {
                latencies,
                cpu: cpu().saturating_sub(before),
            }
        }
    });
    threads.unwrap().join().unwrap().remove(0)
}
