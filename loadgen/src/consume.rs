//! Consuming on one connection: catching up, following the end, or waiting for stamped records.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use client::{Connection, OffsetAt};
use protocol::compression::DecompressContext;
use protocol::record_batch::BatchView;

use crate::args::{FetchArgs, From};
use crate::error::LoadError;
use crate::fetch::{FetchSession, Fetched, list_positions};
use crate::layout::{Lane, connection_options};
use crate::run::Run;
use crate::stamp::Stamp;
use crate::tally::{ErrorCounts, Tally};

/// Most bytes a fetched batch may expand to.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// How long end-to-end consumers wait for the last records after the end.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(5);
/// Pause after a fetch that only brought errors.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What to do with the batches.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// Count them, perhaps check their CRC.
    Count {
        /// Whether to check it.
        check_crc: bool,
        /// Whether to stop at what was the end at the start.
        until_end: bool,
    },
    /// Measure the age of the stamped records; counts them in the shared counter.
    Measure {
        /// The run they belong to.
        stamp: Stamp,
        /// Stamped records received by all consumers.
        received: Arc<AtomicU64>,
        /// Records acknowledged to all producers.
        produced: Arc<AtomicU64>,
    },
}

/// A connection's work, before it is connected.
#[derive(Debug)]
pub(crate) struct ConsumeJob {
    pub(crate) lane: Lane,
    pub(crate) fetch: FetchArgs,
    pub(crate) from: From,
    pub(crate) purpose: Purpose,
}

/// A connected consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    connection: Connection,
    session: FetchSession,
    purpose: Purpose,
    /// Where to stop, in the order of the session's positions.
    ends: Option<Vec<i64>>,
    context: DecompressContext,
    buffer: Vec<u8>,
}

impl ConsumeJob {
    pub(crate) async fn prepare(self) -> Result<Consumer, LoadError> {
        let options = connection_options(1);
        let mut connection = Connection::open_host(&self.lane.address, &options).await?;
        let at = match self.from {
            From::Earliest => OffsetAt::Earliest,
            From::Latest => OffsetAt::Latest,
        };
        let targets = &self.lane.targets;
        let positions = list_positions(&mut connection, targets, at).await?;
        let ends = match self.purpose {
            Purpose::Count {
                until_end: true, ..
            } => {
                let ends = list_positions(&mut connection, targets, OffsetAt::Latest).await?;
                Some(ends.iter().map(|position| position.offset).collect())
            }
            Purpose::Count { .. } | Purpose::Measure { .. } => None,
        };
        Ok(Consumer {
            connection,
            session: FetchSession::new(positions, self.fetch),
            purpose: self.purpose,
            ends,
            context: DecompressContext::default(),
            buffer: Vec::new(),
        })
    }
}

impl Consumer {
    /// Consumes until the end of the run, or of what there is to read.
    pub(crate) async fn run(mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        while !self.is_done(run) {
            let start_ns = run.now_ns();
            let mut errors = ErrorCounts::new();
            let fetched = self.fetch(run, tally, &mut errors).await?;
            let now_ns = run.now_ns();
            run.progress.add(1, fetched.records, fetched.bytes);
            if run.is_measured(now_ns) {
                let flow = &mut tally.borrow_mut().fetch;
                flow.requests += 1;
                flow.records += fetched.records;
                flow.bytes += fetched.bytes;
                flow.latency.record(now_ns - start_ns);
            }
            if !errors.is_empty() {
                for (code, count) in errors {
                    run.progress.add_error();
                    *tally.borrow_mut().fetch.errors.entry(code).or_default() += count;
                }
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
        run.note_done();
        Ok(())
    }

    fn is_done(&self, run: &Run) -> bool {
        if let Some(ends) = &self.ends {
            let mut pairs = self.session.positions.iter().zip(ends);
            return run.is_stopped() || pairs.all(|(position, end)| position.offset >= *end);
        }
        let now_ns = run.now_ns();
        match &self.purpose {
            Purpose::Count { .. } => now_ns >= run.end_ns(),
            Purpose::Measure {
                received, produced, ..
            } => {
                let has_all = received.load(Relaxed) >= produced.load(Relaxed);
                let grace_ns = LAST_RECORDS_WAIT.as_nanos() as u64;
                let is_late = now_ns >= run.end_ns().saturating_add(grace_ns);
                // Producers may still wait for answers just after the end.
                let is_over = now_ns >= run.end_ns().saturating_add(grace_ns / 10);
                is_late || (is_over && has_all)
            }
        }
    }

    async fn fetch(
        &mut self,
        run: &Run,
        tally: &RefCell<Tally>,
        errors: &mut ErrorCounts,
    ) -> Result<Fetched, LoadError> {
        let Consumer {
            connection,
            session,
            purpose,
            context,
            buffer,
            ..
        } = self;
        let mut arrived_ns = None;
        let on_batch = |_: usize, view: &BatchView<'_>| match purpose {
            Purpose::Count {
                check_crc: true, ..
            } => view.check_crc(),
            Purpose::Count {
                check_crc: false, ..
            } => Ok(()),
            Purpose::Measure {
                stamp, received, ..
            } => {
                let now_ns = *arrived_ns.get_or_insert_with(|| run.now_ns());
                let mut tally = tally.borrow_mut();
                for record in view.records(context, buffer, DECOMPRESSED_BYTES_MAX)? {
                    let due_ns = record?.value.and_then(|value| stamp.read(value));
                    if let Some(due_ns) = due_ns {
                        received.fetch_add(1, Relaxed);
                        if run.is_measured(due_ns) {
                            tally.end_to_end.record(now_ns.saturating_sub(due_ns));
                        }
                    }
                }
                Ok(())
            }
        };
        session.fetch(connection, errors, on_batch).await
    }
}
