//! Batch validation: nanoseconds per batch and bytes per second, per record size and codec.
//!
//! The CRC alone is measured beside it, so that the cost of walking the records shows.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use protocol::compression::Codec;
use protocol::record_batch::{
    BatchBuilder, BatchOptions, BatchView, ValidateLimits, ValidateScratch, validate,
};

/// Records whose values compress about two to one; the seed is fixed.
fn batch(codec: Codec, record_count: usize, record_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut builder = BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    });
    for index in 0..record_count {
        let value: Vec<u8> = (0..record_bytes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state as u8) & 0x0f
            })
            .collect();
        builder.push(1_700_000_000_000 + index as i64, None, Some(&value), &[]);
    }
    builder.build().expect("codecs compress any bytes")
}

fn validate_batches(criterion: &mut Criterion) {
    let limits = ValidateLimits {
        batch_bytes_max: usize::MAX,
        ..ValidateLimits::default()
    };
    let mut group = criterion.benchmark_group("validate");
    group.sample_size(20);
    for (record_count, record_bytes) in [(1, 100), (16, 1024), (1000, 10), (1000, 1024)] {
        for codec in Codec::ALL {
            let bytes = batch(codec, record_count, record_bytes);
            let name = format!("{record_count}x{record_bytes}B");
            group.throughput(Throughput::Bytes((record_count * record_bytes) as u64));
            let mut scratch = ValidateScratch::default();
            group.bench_function(BenchmarkId::new(codec.name(), &name), |bencher| {
                bencher.iter(|| {
                    let view = BatchView::parse(black_box(&bytes)).expect("built here");
                    validate(&view, &limits, &mut scratch).expect("built here")
                });
            });
            if codec == Codec::None {
                group.bench_function(BenchmarkId::new("crc-only", &name), |bencher| {
                    let view = BatchView::parse(&bytes).expect("built here");
                    bencher.iter(|| black_box(&view).compute_crc());
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(500));
    targets = validate_batches
}
criterion_main!(benches);
