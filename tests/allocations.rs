//! A request in steady state allocates a small constant, whatever the number of its records.
//!
//! `cargo bench --bench allocations` prints the same counts for more loads, and with `-- --sites` where
//! they come from.
#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test may fail at any step"
)]

#[path = "support/counting.rs"]
mod counting;
mod support;
#[path = "support/workload.rs"]
mod workload;

use counting::Counting;
use workload::{Load, Node, Row};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: u64 = 400;

/// Allocations of a request, on average: journal and write-behind come once for many requests.
fn check(node: &Node, load: Load, allocations_max: f64) -> f64 {
    let row = Row {
        load,
        connections: 1,
    };
    let allocations = node.measure(row, REQUESTS).allocations as f64 / REQUESTS as f64;
    let name = row.name();
    assert!(
        allocations <= allocations_max,
        "{name}: {allocations} allocations a request, more than {allocations_max}"
    );
    allocations
}

/// One test, because the counts are of the whole process.
#[test]
fn a_request_allocates_a_small_constant_and_nothing_per_record() {
    counting::do_not_count();
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), 1);
    let produce = |records, value_bytes, partitions| Load::Produce {
        records,
        value_bytes,
        partitions,
    };
    let few = check(&node, produce(16, 1024, 1), 10.0);
    let many = check(&node, produce(1024, 8, 1), 10.0);
    assert!(many <= few + 1.0, "{few} for 16 records, {many} for 1024");
    check(&node, produce(16, 1024, 10), 28.0);
    let few = check(&node, Load::Fetch { batches: 1 }, 18.0);
    let many = check(&node, Load::Fetch { batches: 62 }, 18.0);
    assert!(many <= few + 1.0, "{few} for one batch, {many} for 62");
}
