//! What the broker allocates for a request in steady state: calls and bytes, by kind of load.
//!
//! ```text
//! cargo bench -p streambus --bench allocations [-- --sites]
//! ```
//! The broker runs in this process on an allocator that counts all threads but the client's. `--sites`
//! prints where each row's calls come from. The bounds are held by `tests/allocations.rs`.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a report"
)]

#[path = "../tests/support/counting.rs"]
mod counting;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/support/workload.rs"]
mod workload;

use counting::Counting;
use workload::{Load, Node, Row};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: u64 = 1_000;
/// A long poll lasts until its wait is over.
const LONG_POLLS: u64 = 200;

fn main() {
    counting::do_not_count();
    let notes_sites = std::env::args().any(|word| word == "--sites");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!(
        "{:<52} {:>8} {:>8} {:>11} {:>11} {:>11}",
        "", "requests", "records", "calls/req", "calls/rec", "bytes/req"
    );
    for shards in [1, 2] {
        println!("{shards} shard(s)");
        let node = Node::start(&directory.path().join(shards.to_string()), shards);
        for row in rows(shards) {
            report(&node, row, notes_sites);
        }
    }
    // The nodes would run on.
    drop(directory);
    std::process::exit(0);
}

/// With several shards only what is spread over them: one connection and one partition may meet on a
/// shard or not, by chance.
fn rows(shards: usize) -> Vec<Row> {
    let produce = |records, value_bytes, partitions| Load::Produce {
        records,
        value_bytes,
        partitions,
    };
    let loads = [
        produce(1, 100, 1),
        produce(16, 1024, 1),
        produce(1_000, 100, 1),
        produce(16, 1024, 10),
        Load::Fetch { batches: 1 },
        Load::Fetch { batches: 62 },
        Load::LongPoll,
    ];
    let row = |load| [1, 8].map(|connections| Row { load, connections });
    let is_spread = |row: &Row| shards == 1 || row.connections > 1 || row.partitions() > 1;
    loads.into_iter().flat_map(row).filter(is_spread).collect()
}

fn report(node: &Node, row: Row, notes_sites: bool) {
    let requests = match row.load {
        Load::LongPoll => LONG_POLLS,
        _ => REQUESTS,
    };
    let found = node.measure(row, requests);
    let records = row.records() as u64 * requests;
    let a_request = |count: u64| count as f64 / requests as f64;
    let a_record = match records {
        0 => "-".to_owned(),
        _ => format!("{:.4}", found.allocations as f64 / records as f64),
    };
    println!(
        "{:<52} {:>8} {:>8} {:>11.2} {:>11} {:>11.0}",
        row.name(),
        requests,
        records,
        a_request(found.allocations),
        a_record,
        a_request(found.bytes)
    );
    if notes_sites {
        print_sites(node, row);
    }
}

fn print_sites(node: &Node, row: Row) {
    const REQUESTS: u64 = 64;
    counting::note_sites(true);
    node.measure(row, REQUESTS);
    for (site, count) in counting::note_sites(false).iter().take(40) {
        println!("    {:>8.2}  {site}", *count as f64 / (2 * REQUESTS) as f64);
    }
}
