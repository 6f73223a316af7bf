//! What crossing threads costs: a question and its answer between two shards, one at a time (both
//! sleep in between) and many in flight; and a stream of messages.
//!
//! `cargo bench -p streambus-runtime --bench mailbox`
#![expect(clippy::print_stdout, reason = "the report")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no report")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use runtime::executor::{Pinning, Topology, start_shards};
use runtime::task::{self, Class};
use runtime::{mailbox, oneshot_remote};

const CAPACITY: usize = 4096;
const QUESTIONS: usize = 20_000;
const MESSAGES: u64 = 2_000_000;

type Question = oneshot_remote::Sender<Instant>;

fn main() {
    println!("questions in flight:   p50        p99    rate");
    for in_flight in [1, 16, 256] {
        let (mut latencies, elapsed) = ask(in_flight);
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        println!(
            "{in_flight:>19} {:>9.1?} {:>9.1?} {rate:>9.0}/s",
            at(0.5),
            at(0.99)
        );
    }
    println!("one way: {:.0} messages/s", stream());
}

/// Asks over a mailbox, is answered over a oneshot; latencies of all, and the time they took.
fn ask(in_flight: usize) -> (Vec<Duration>, Duration) {
    let (sender, receiver) = mailbox::channel::<Question>(CAPACITY);
    let ends = Mutex::new((Some(sender), Some(receiver)));
    let threads = start_shards(&Topology::detect(Some(2), Pinning::On), move |shard| {
        let mut ends = ends.lock().unwrap();
        let sender = (shard.index() == 0).then(|| ends.0.take().unwrap());
        let receiver = (shard.index() == 1).then(|| ends.1.take().unwrap());
        async move {
            if let Some(mut receiver) = receiver {
                let mut batch = Vec::new();
                while receiver.recv_batch(&mut batch).await {
                    for question in batch.drain(..) {
                        question.send(Instant::now()).unwrap();
                    }
                }
            }
            let start = Instant::now();
            let mut latencies = Vec::new();
            if let Some(sender) = sender {
                let each = QUESTIONS / in_flight;
                let tasks: Vec<_> = (0..in_flight)
                    .map(|_| task::spawn(Class::Network, ask_times(sender.clone(), each)))
                    .collect();
                for task in tasks {
                    latencies.extend(task.await.unwrap());
                }
            }
            (latencies, start.elapsed())
        }
    });
    threads.unwrap().join().unwrap().swap_remove(0)
}

async fn ask_times(sender: mailbox::Sender<Question>, times: usize) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        let (answer, receiver) = oneshot_remote::channel();
        sender.send(answer).await.unwrap();
        receiver.await.unwrap();
        latencies.push(start.elapsed());
    }
    latencies
}

/// Messages per second from one shard to another.
fn stream() -> f64 {
    let (sender, receiver) = mailbox::channel::<u64>(CAPACITY);
    let ends = Mutex::new((Some(sender), Some(receiver)));
    let start = Instant::now();
    let threads = start_shards(&Topology::detect(Some(2), Pinning::On), move |shard| {
        let mut ends = ends.lock().unwrap();
        let sender = (shard.index() == 0).then(|| ends.0.take().unwrap());
        let receiver = (shard.index() == 1).then(|| ends.1.take().unwrap());
        async move {
            if let Some(sender) = sender {
                for number in 0..MESSAGES {
                    sender.send(number).await.unwrap();
                }
            }
            if let Some(mut receiver) = receiver {
                let mut batch = Vec::new();
                while receiver.recv_batch(&mut batch).await {
                    batch.clear();
                }
            }
        }
    });
    threads.unwrap().join().unwrap();
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}
