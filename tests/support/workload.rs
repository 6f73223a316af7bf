//! Steady loads on a broker that runs in this process, and what it allocates to serve them.
//!
//! Each load is sent as a client in steady state sends it: requests one after the other, on one connection
//! or on several at once, warmed up before anything is counted.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "test support: the test and the bench use their own parts"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;

use protocol::primitives::Uuid;
use streambus::config;
use streambus::node;

use crate::counting::{self, Counts};
use crate::support::Raw;
use crate::support::requests::{Fetch, batch, create_topic, fetched, produce_frame, produced};

/// Partitions of the topic that is written to.
const PARTITIONS: [i32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// What the clients of one row do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// Batches of `records` of `value_bytes` to `partitions` partitions.
    Produce {
        records: usize,
        value_bytes: usize,
        partitions: usize,
    },
    /// `batches` batches of 16 × 100 B, in an incremental session.
    Fetch { batches: usize },
    /// Nothing to read: answered when the wait is over.
    LongPoll,
}

/// One row: a load, its connections, each with one request in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub load: Load,
    pub connections: usize,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        let load = match self.load {
            Load::Produce {
                records,
                value_bytes,
                partitions,
            } => {
                format!("produce {records} × {value_bytes} B, {partitions} partitions")
            }
            Load::Fetch { batches } => format!("fetch {batches} batches of 16 × 100 B"),
            Load::LongPoll => "fetch, nothing to read".to_owned(),
        };
        format!("{load}, {} connections", self.connections)
    }

    /// Partitions that one request names.
    pub(crate) fn partitions(&self) -> usize {
        match self.load {
            Load::Produce { partitions, .. } => partitions,
            Load::Fetch { .. } | Load::LongPoll => 1,
        }
    }

    /// Records of one request.
    pub(crate) fn records(&self) -> usize {
        match self.load {
            Load::Produce {
                records,
                partitions,
                ..
            } => records * partitions,
            Load::Fetch { batches } => 16 * batches,
            Load::LongPoll => 0,
        }
    }
}

/// A broker on threads of this process, until the process ends.
pub(crate) struct Node {
    kafka: SocketAddr,
    topic: Uuid,
    /// A topic with enough batches to read.
    filled: Uuid,
}

/// Batches of the topic that is read.
const FILLED_BATCHES: usize = 64;

impl Node {
    /// Starts it on `shards` shards, with its topics.
    pub(crate) fn start(directory: &Path, shards: usize) -> Node {
        let flags = [
            ("node.data_dir", directory.display().to_string()),
            ("listen.kafka", "127.0.0.1:0".to_owned()),
            ("listen.http", "127.0.0.1:0".to_owned()),
            ("runtime.shards", shards.to_string()),
        ];
        let config = config::load(None, std::iter::empty(), &flags).unwrap();
        let (ready, became_ready) = mpsc::channel();
        std::thread::spawn(move || {
            node::run(config, |bound| ready.send(bound.kafka).unwrap()).unwrap();
        });
        let kafka = became_ready.recv().expect("the node starts");
        let mut raw = Raw::connect(kafka);
        let topic = create_topic(&mut raw, "written", PARTITIONS.len() as i32);
        let filled = create_topic(&mut raw, "filled", 1);
        let frame = produce_frame(filled, &[0], &batch(16, 100));
        for _ in 0..FILLED_BATCHES {
            raw.send(&frame);
            produced(&raw.receive().expect("an answer"));
        }
        Node {
            kafka,
            topic,
            filled,
        }
    }

    /// Sends `requests` requests after a warm-up, and returns what the broker allocated for them.
    pub(crate) fn measure(&self, row: Row, requests: u64) -> Counts {
        let mut clients: Vec<Client> = (0..row.connections)
            .map(|_| Client::new(self, row.load))
            .collect();
        // The broker's reusable memory reaches its size: queues, scratch, write-behind chunks.
        rounds(&mut clients, requests.min(250));
        let before = counting::counts();
        rounds(&mut clients, requests);
        let after = counting::counts();
        Counts {
            allocations: after.allocations - before.allocations,
            bytes: after.bytes - before.bytes,
        }
    }
}

/// Has every client send one request, then takes all answers; until `requests` are answered.
fn rounds(clients: &mut [Client], requests: u64) {
    for _ in 0..requests.div_ceil(clients.len() as u64) {
        clients.iter_mut().for_each(Client::send);
        clients.iter_mut().for_each(Client::receive);
    }
}

/// One connection and the request that it sends.
struct Client {
    raw: Raw,
    request: Request,
}

enum Request {
    Produce {
        frame: Vec<u8>,
    },
    Fetch {
        first: Fetch<'static>,
        session: (i32, i32),
        has_records: bool,
    },
}

impl Client {
    fn new(node: &Node, load: Load) -> Client {
        let fetch = |offset: usize, batches: usize, wait_ms| Request::Fetch {
            first: Fetch {
                topic: node.filled,
                partitions: &[0],
                offset: (offset * 16) as i64,
                bytes_max: (batches * batch(16, 100).len()) as i32,
                wait_ms,
                session: (0, 0),
            },
            session: (0, 0),
            has_records: batches > 0,
        };
        let request = match load {
            Load::Produce {
                records,
                value_bytes,
                partitions,
            } => {
                let batch = batch(records, value_bytes);
                let frame = produce_frame(node.topic, &PARTITIONS[..partitions], &batch);
                Request::Produce { frame }
            }
            Load::Fetch { batches } => fetch(FILLED_BATCHES - batches, batches, 0),
            Load::LongPoll => fetch(FILLED_BATCHES, 0, 5),
        };
        let raw = Raw::connect(node.kafka);
        Client { raw, request }
    }

    fn send(&mut self) {
        match &mut self.request {
            Request::Produce { frame } => self.raw.send(frame),
            // A consumer names the partition that gave records again, with its new offset.
            Request::Fetch {
                first,
                session,
                has_records,
            } => {
                let is_named = *has_records || session.1 == 0;
                let partitions = if is_named { first.partitions } else { &[] };
                let fetch = Fetch {
                    session: *session,
                    partitions,
                    ..*first
                };
                self.raw.send(&fetch.frame());
            }
        }
    }

    fn receive(&mut self) {
        let answer = self.raw.receive().expect("an answer");
        match &mut self.request {
            Request::Produce { .. } => {
                produced(&answer);
            }
            Request::Fetch {
                first,
                session,
                has_records,
            } => {
                let found = fetched(&answer);
                let expected = if *has_records {
                    first.bytes_max as usize
                } else {
                    0
                };
                assert_eq!(found.record_bytes, expected);
                *session = (found.session_id, session.1 + 1);
            }
        }
    }
}
