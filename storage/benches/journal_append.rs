//! Cost of taking a record into the journal: ns and bytes a second of `has_room` and `append`.
//!
//! ```text
//! cargo bench -p streambus-storage --bench journal_append
//! ```
//! The disk is simulated and its work is not timed: what is left is what a shard pays for a record
//! beside the durable write that it shares. Expected: one copy of its bytes, and some ten nanoseconds.
//!
//! *Measured* (2 virtual Xeon cores, shared): see `docs/storage-format.md`, "Journal".

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use runtime::sim::Simulation;
use storage::Sequence;
use storage::journal::{Journal, JournalConfig, RecordView};

const RECORD_BYTES: [usize; 4] = [100, 1 << 10, 16 << 10, 64 << 10];

/// Appends `count` records of `len` bytes; the time of the appends alone.
async fn append(count: u64, len: usize) -> Duration {
    let config = JournalConfig {
        file_bytes: 16 << 20,
        ..JournalConfig::default()
    };
    let from = Sequence::from(1);
    let mut visit = |_, _: RecordView<'_>| Ok(());
    let opened = Journal::open(Path::new("/journal"), config, from, &mut visit).await;
    let (journal, _) = opened.expect("open");
    let bytes = vec![0x5a; len];
    let mut left = count;
    let mut took = Duration::ZERO;
    while left > 0 {
        journal.room(len).await.expect("room");
        let begun = Instant::now();
        while left > 0 && journal.has_room(len) {
            let position = left;
            journal.append(RecordView::Append {
                incarnation: 1,
                base_offset: 0,
                position,
                bytes: &bytes,
            });
            left -= 1;
        }
        took += begun.elapsed();
        journal
            .committed(journal.last_sequence())
            .await
            .expect("commit");
        journal.release_through(journal.durable_sequence());
    }
    took
}

fn journal_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal append");
    for len in RECORD_BYTES {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter_custom(|count| {
                let run = Simulation::new(1).steps_max(u64::MAX);
                run.run(async move { append(count, len).await }).value()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    targets = journal_append
}
criterion_main!(benches);
