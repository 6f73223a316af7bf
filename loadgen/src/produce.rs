//! Producing on one connection: requests sent when they are due, answers counted as they come.
//!
//! Core: one task for each connection; it owns the socket, so that a request costs no hop.
//! Limits: `--in-flight` unanswered requests; what is due beyond that waits, and its wait counts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{Connection, EncodedRequest, Reply, produce_acks, produce_request};
use protocol::compression::Codec;
use protocol::messages::Response;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use protocol::{ErrorCode, Records};

use crate::args::{Acks, RecordArgs};
use crate::error::LoadError;
use crate::layout::{Lane, connection_options};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::run::Run;
use crate::stamp::Stamp;
use crate::tally::{Flow, Tally};
use crate::timer::Timer;

/// Longest wait for the last answers after the end.
const DRAIN_WAIT: Duration = Duration::from_secs(30);
/// What the broker is told to give up after.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// What the records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Fresh noise in each request.
    Noise,
    /// One batch, encoded once.
    Fixed,
    /// The time at which the record was due.
    Stamped(Stamp),
}

/// A connection's work, before it is connected.
#[derive(Debug)]
pub(crate) struct ProduceJob {
    pub(crate) lane: Lane,
    pub(crate) record: RecordArgs,
    pub(crate) content: Content,
    pub(crate) payload: Payload,
    /// How many keys the records have; `None`: they have no key.
    pub(crate) keys: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) in_flight: u32,
    /// Requests to send; `None`: until the end of the run.
    pub(crate) requests: Option<u64>,
    /// Counts acknowledged records for the consumers of an end-to-end run.
    pub(crate) produced: Option<Arc<AtomicU64>>,
    /// This connection's number, and how many there are.
    pub(crate) number: usize,
    pub(crate) lanes: usize,
}

/// A request without its answer.
#[derive(Debug, Clone, Copy)]
struct Sent {
    due_ns: u64,
}

/// A connected producer.
#[derive(Debug)]
pub(crate) struct Producer {
    job: ProduceJob,
    connection: Connection,
    timer: Timer,
    builder: BatchBuilder,
    batch: Vec<u8>,
    /// With fixed content: the request of each target without its records.
    encoded: Vec<EncodedRequest>,
    next_target: usize,
    next_key: u64,
    /// Requests still to be sent.
    left: u64,
    sent: VecDeque<Sent>,
}

/// Milliseconds since 1970, as records carry them.
pub(crate) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as i64
}

/// An empty batch of a codec.
pub(crate) fn batch_builder(codec: Codec) -> BatchBuilder {
    BatchBuilder::new(BatchOptions {
        codec,
        ..BatchOptions::default()
    })
}

impl ProduceJob {
    pub(crate) async fn prepare(self) -> Result<Producer, LoadError> {
        let options = connection_options(self.in_flight);
        let connection = Connection::open_host(&self.lane.address, &options).await?;
        let mut producer = Producer {
            builder: batch_builder(self.record.compression),
            timer: Timer::new()?,
            left: self.requests.unwrap_or(u64::MAX),
            job: self,
            connection,
            batch: Vec::new(),
            encoded: Vec::new(),
            next_target: 0,
            next_key: 0,
            sent: VecDeque::new(),
        };
        if producer.job.content == Content::Fixed {
            producer.encode_all()?;
        }
        Ok(producer)
    }
}

impl Producer {
    fn encode_all(&mut self) -> Result<(), LoadError> {
        self.build_batch(0)?;
        let bytes = self.batch.len();
        let acks = self.job.record.acks.code();
        for target in &self.job.lane.targets {
            let records = Records::External { bytes };
            let (topic, partition) = (&target.topic, target.partition);
            let request = produce_request(topic, partition, acks, REQUEST_TIMEOUT_MS, records);
            self.encoded.push(self.connection.encode(&request)?);
        }
        Ok(())
    }

    /// Fills `batch` with the records of a request that was due at `due_ns`.
    fn build_batch(&mut self, due_ns: u64) -> Result<(), LoadError> {
        let timestamp = wall_clock_ms();
        let mut stamped;
        for _ in 0..self.job.record.batch_records {
            let mut value = self.job.payload.take();
            if let Content::Stamped(stamp) = self.job.content {
                stamped = value.to_vec();
                stamp.write(due_ns, &mut stamped);
                value = &stamped;
            }
            let key = self.job.keys.map(|keys| {
                let key = self.next_key.to_be_bytes();
                self.next_key = (self.next_key + 1) % keys;
                key
            });
            let key = key.as_ref().map(<[u8; 8]>::as_slice);
            self.builder.push(timestamp, key, Some(value), &[]);
        }
        self.batch.clear();
        self.builder.finish_into(&mut self.batch)?;
        Ok(())
    }

    /// Produces until the end of the run, then waits for the last answers.
    pub(crate) async fn run(mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        let ProduceJob {
            rate,
            number,
            lanes,
            ..
        } = self.job;
        let batch_records = self.job.record.batch_records;
        let mut pace = Pace::for_lane(rate, batch_records, number, lanes, run.start_ns());
        loop {
            let now_ns = run.now_ns();
            if now_ns >= run.end_ns() || self.left == 0 {
                break;
            }
            self.send_due(&mut pace, now_ns, run, tally)?;
            if self.job.record.acks == Acks::None {
                self.connection.flush().await?;
                self.settle_unanswered(run, tally);
            }
            self.wait(&pace, run, tally).await?;
        }
        let drained = tokio::time::timeout(DRAIN_WAIT, async {
            while self.connection.in_flight() > 0 {
                self.receive(run, tally).await?;
            }
            Ok::<(), LoadError>(())
        });
        let late = LoadError::Setup("the last answers did not come".to_owned());
        drained.await.map_err(|_| late)??;
        run.note_done();
        Ok(())
    }

    /// Queues every request that is due and has room.
    fn send_due(
        &mut self,
        pace: &mut Pace,
        now_ns: u64,
        run: &Run,
        tally: &RefCell<Tally>,
    ) -> Result<(), LoadError> {
        while self.left > 0 && self.sent.len() < self.job.in_flight as usize {
            let Some(due_ns) = pace.take(now_ns) else {
                break;
            };
            self.queue(due_ns)?;
            self.left -= 1;
            self.sent.push_back(Sent { due_ns });
            if run.is_measured(now_ns) {
                let lateness_max_ns = &mut tally.borrow_mut().lateness_max_ns;
                *lateness_max_ns = (now_ns - due_ns).max(*lateness_max_ns);
            }
        }
        Ok(())
    }

    fn queue(&mut self, due_ns: u64) -> Result<(), LoadError> {
        let number = self.next_target;
        self.next_target = (self.next_target + 1) % self.job.lane.targets.len();
        if let Some(encoded) = self.encoded.get(number) {
            self.connection.queue_encoded(encoded, &[&self.batch]);
            return Ok(());
        }
        self.build_batch(due_ns)?;
        let records = Records::External {
            bytes: self.batch.len(),
        };
        let acks = self.job.record.acks.code();
        let target = &self.job.lane.targets[number];
        let (topic, partition) = (&target.topic, target.partition);
        let request = produce_request(topic, partition, acks, REQUEST_TIMEOUT_MS, records);
        self.connection.queue(&request, &[&self.batch])?;
        Ok(())
    }

    /// Waits for an answer, or until the next request is due if there is room for it.
    async fn wait(
        &mut self,
        pace: &Pace,
        run: &Run,
        tally: &RefCell<Tally>,
    ) -> Result<(), LoadError> {
        let now_ns = run.now_ns();
        let next_ns = pace.next_ns(now_ns).min(run.end_ns());
        let has_room = self.sent.len() < self.job.in_flight as usize;
        if self.connection.in_flight() == 0 {
            if next_ns > now_ns {
                self.timer.wait_ns(next_ns - now_ns).await?;
            } else {
                tokio::task::yield_now().await;
            }
        } else if !has_room || matches!(pace, Pace::Unlimited) {
            self.receive(run, tally).await?;
        } else if next_ns > now_ns {
            let reply = tokio::select! {
                reply = self.connection.receive() => reply?,
                waited = self.timer.wait_ns(next_ns - now_ns) => return waited,
            };
            settle(&reply, self.sent.pop_front(), &self.job, run, tally)?;
            self.settle_received(run, tally)?;
        }
        Ok(())
    }

    /// Waits for an answer and counts it, with those that came along with it.
    async fn receive(&mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        let reply = self.connection.receive().await?;
        settle(&reply, self.sent.pop_front(), &self.job, run, tally)?;
        self.settle_received(run, tally)
    }

    fn settle_received(&mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        while let Some(reply) = self.connection.take_received()? {
            settle(&reply, self.sent.pop_front(), &self.job, run, tally)?;
        }
        Ok(())
    }

    /// Without acknowledgements, what is in the socket is all there is to know.
    fn settle_unanswered(&mut self, run: &Run, tally: &RefCell<Tally>) {
        let now_ns = run.now_ns();
        let mut tally = tally.borrow_mut();
        for sent in self.sent.drain(..) {
            count_success(&mut tally.produce, &self.job, sent, now_ns, run);
        }
    }
}

fn count_success(flow: &mut Flow, job: &ProduceJob, sent: Sent, now_ns: u64, run: &Run) {
    let records = u64::from(job.record.batch_records);
    let bytes = records * u64::from(job.record.record_size);
    run.progress.add(1, records, bytes);
    if let Some(produced) = &job.produced {
        produced.fetch_add(records, Relaxed);
    }
    if run.is_measured(now_ns) {
        flow.requests += 1;
        flow.records += records;
        flow.bytes += bytes;
        let since_ns = now_ns - run.measure_ns();
        flow.record(since_ns, now_ns.saturating_sub(sent.due_ns));
    }
}

/// Counts one answer.
fn settle(
    reply: &Reply<'_>,
    sent: Option<Sent>,
    job: &ProduceJob,
    run: &Run,
    tally: &RefCell<Tally>,
) -> Result<(), LoadError> {
    let now_ns = run.now_ns();
    let (Response::Produce(response), Some(sent)) = (reply.decode()?, sent) else {
        return Err(LoadError::Setup(
            "an answer to no produce request".to_owned(),
        ));
    };
    let mut tally = tally.borrow_mut();
    let mut is_refused = false;
    for ack in produce_acks(&response) {
        if ack.error_code != ErrorCode::None as i16 {
            is_refused = true;
            run.progress.add_error();
            *tally.produce.errors.entry(ack.error_code).or_default() += 1;
        }
    }
    if !is_refused {
        count_success(&mut tally.produce, job, sent, now_ns, run);
    }
    Ok(())
}
