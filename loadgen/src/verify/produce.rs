//! Produces numbered records on one connection and survives its loss.
//!
//! Ordering: a partition's batches are sent in order and settled in order. After a lost connection,
//! or an answer that asks to try again, everything unacknowledged is sent again in order, with the
//! bytes and sequence numbers of the first time; an idempotent producer's duplicates are the
//! broker's to recognise.
//! Limits: `--in-flight` unacknowledged batches on a connection, also while it is lost.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Connection, ProduceAck, ProducerId, produce_acks, produce_request};
use protocol::messages::Response;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use protocol::{ApiKey, ErrorCode, Records};

use super::notes::{Ack, NotesFile};
use super::numbered::Numbered;
use crate::args::VerifyMode;
use crate::error::LoadError;
use crate::layout::{self, Lane, connection_options};
use crate::pace::Pace;
use crate::payload::Payload;
use crate::produce::wall_clock_ms;
use crate::retry::until_ready;
use crate::run::Run;
use crate::tally::Tally;
use crate::timer::Timer;

/// Pause before connecting again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which a connection counts as lost.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// What the broker is told to give up after.
const REQUEST_TIMEOUT_MS: i32 = 20_000;

/// A connection's work, before it is connected.
#[derive(Debug)]
pub(crate) struct VerifyJob {
    pub(crate) lane: Lane,
    pub(crate) mode: VerifyMode,
    pub(crate) payload: Payload,
    pub(crate) notes: Arc<Mutex<NotesFile>>,
    pub(crate) number: usize,
    pub(crate) lanes: usize,
}

/// A batch that is not acknowledged yet.
#[derive(Debug)]
struct Unsettled {
    /// Index of its partition in the lane.
    target: usize,
    first: u64,
    bytes: Vec<u8>,
    due_ns: u64,
}

/// A connected producer of numbered records.
#[derive(Debug)]
pub(crate) struct VerifyProducer {
    job: VerifyJob,
    run_id: u64,
    connection: Option<Connection>,
    producer: Option<ProducerId>,
    timer: Timer,
    /// Next sequence of each partition.
    sequences: Vec<u64>,
    next_target: usize,
    /// In the order of sending; the first `sent` are in flight.
    unsettled: VecDeque<Unsettled>,
    sent: usize,
    builder: BatchBuilder,
}

/// What to do after an answer or an error.
enum Step {
    Continue,
    Reconnect,
}

impl VerifyJob {
    pub(crate) async fn prepare(self) -> Result<VerifyProducer, LoadError> {
        let options = connection_options(self.mode.in_flight);
        let mut connection = Connection::open_host(&self.lane.address, &options).await?;
        let producer = if self.mode.no_idempotence {
            None
        } else {
            Some(until_ready(async || connection.init_producer_id().await).await?)
        };
        let run_id = self
            .notes
            .lock()
            .map_err(|_| LoadError::ThreadPanicked)?
            .run_id();
        Ok(VerifyProducer {
            run_id,
            connection: Some(connection),
            producer,
            timer: Timer::new()?,
            sequences: vec![0; self.lane.targets.len()],
            next_target: 0,
            unsettled: VecDeque::new(),
            sent: 0,
            builder: BatchBuilder::new(BatchOptions::default()),
            job: self,
        })
    }
}

impl VerifyProducer {
    /// Produces until the end of the run, then waits for what is unacknowledged, for as long as the
    /// broker may stay away.
    pub(crate) async fn run(mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        let VerifyMode { rate, patience, .. } = self.job.mode;
        let batch_records = self.job.mode.record.batch_records;
        let (number, lanes) = (self.job.number, self.job.lanes);
        let mut pace = Pace::for_lane(rate, batch_records, number, lanes, run.start_ns());
        let give_up_ns = |run: &Run| run.end_ns().saturating_add(patience.as_nanos() as u64);
        loop {
            let now_ns = run.now_ns();
            let is_over = now_ns >= run.end_ns();
            if is_over && (self.unsettled.is_empty() || now_ns >= give_up_ns(run)) {
                return Ok(());
            }
            if !is_over {
                self.build_due(&mut pace, now_ns)?;
            }
            let step = match self.connection {
                Some(_) => self.exchange(&pace, run, tally).await?,
                None => Step::Reconnect,
            };
            if let Step::Reconnect = step {
                tally.borrow_mut().reconnects += 1;
                run.progress.add_error();
                self.reconnect(run).await?;
            }
        }
    }

    /// Builds the batches that are due and have room.
    fn build_due(&mut self, pace: &mut Pace, now_ns: u64) -> Result<(), LoadError> {
        while self.unsettled.len() < self.job.mode.in_flight as usize {
            let Some(due_ns) = pace.take(now_ns) else {
                break;
            };
            let target = self.next_target;
            self.next_target = (target + 1) % self.job.lane.targets.len();
            let unsettled = self.build(target, due_ns)?;
            self.unsettled.push_back(unsettled);
        }
        Ok(())
    }

    fn build(&mut self, target: usize, due_ns: u64) -> Result<Unsettled, LoadError> {
        let first = self.sequences[target];
        let count = u64::from(self.job.mode.record.batch_records);
        self.sequences[target] += count;
        let partition = self.job.lane.targets[target].partition.cast_unsigned();
        let mut options = BatchOptions {
            codec: self.job.mode.record.compression,
            ..BatchOptions::default()
        };
        if let Some(ProducerId { id, epoch }) = self.producer {
            options.producer_id = id;
            options.producer_epoch = epoch;
            // Kafka's sequence numbers wrap to 0 after the largest i32.
            options.base_sequence = (first & u64::from(i32::MAX.cast_unsigned())) as i32;
        }
        self.builder.set_options(options);
        let timestamp = wall_clock_ms();
        for sequence in first..first + count {
            let mut value = self.job.payload.take().to_vec();
            Numbered {
                run_id: self.run_id,
                partition,
                sequence,
            }
            .write(&mut value);
            self.builder.push(timestamp, None, Some(&value), &[]);
        }
        let mut bytes = Vec::with_capacity(self.builder.plain_bytes());
        self.builder.finish_into(&mut bytes)?;
        Ok(Unsettled {
            target,
            first,
            bytes,
            due_ns,
        })
    }

    /// Sends what is not sent, then waits for one answer or the next batch's time.
    async fn exchange(
        &mut self,
        pace: &Pace,
        run: &Run,
        tally: &RefCell<Tally>,
    ) -> Result<Step, LoadError> {
        self.send_unsent()?;
        let Some(connection) = &mut self.connection else {
            return Ok(Step::Reconnect);
        };
        let now_ns = run.now_ns();
        let next_ns = pace.next_ns(now_ns).min(run.end_ns());
        let wait_ns = next_ns.saturating_sub(now_ns);
        let has_room = self.unsettled.len() < self.job.mode.in_flight as usize;
        if connection.in_flight() == 0 {
            if wait_ns > 0 {
                self.timer.wait_ns(wait_ns).await?;
            }
            return Ok(Step::Continue);
        }
        let wait_ns = if has_room && now_ns < run.end_ns() && wait_ns > 0 {
            wait_ns
        } else {
            ANSWER_WAIT.as_nanos() as u64
        };
        let acks = tokio::select! {
            reply = connection.receive() => {
                match reply.and_then(|reply| reply.decode().map(read_acks)) {
                    Ok(acks) => acks,
                    Err(error) if error.is_retriable() => return Ok(Step::Reconnect),
                    Err(error) => return Err(error.into()),
                }
            }
            waited = self.timer.wait_ns(wait_ns) => {
                waited?;
                let is_silent = wait_ns == ANSWER_WAIT.as_nanos() as u64;
                return Ok(if is_silent { Step::Reconnect } else { Step::Continue });
            }
        };
        self.settle(acks, run, tally)
    }

    fn send_unsent(&mut self) -> Result<(), LoadError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        for batch in self.unsettled.range(self.sent..) {
            let target = &self.job.lane.targets[batch.target];
            let records = Records::External {
                bytes: batch.bytes.len(),
            };
            let acks = self.job.mode.record.acks.code();
            let (topic, partition) = (&target.topic, target.partition);
            let request = produce_request(topic, partition, acks, REQUEST_TIMEOUT_MS, records);
            connection.queue(&request, &[&batch.bytes])?;
        }
        self.sent = self.unsettled.len();
        Ok(())
    }

    /// Settles the oldest batch with its answer.
    fn settle(
        &mut self,
        ack: Option<ProduceAck>,
        run: &Run,
        tally: &RefCell<Tally>,
    ) -> Result<Step, LoadError> {
        let ack = ack.ok_or_else(|| LoadError::Setup("an empty produce answer".to_owned()))?;
        let code = ErrorCode::from_i16(ack.error_code);
        if code.is_some_and(ErrorCode::is_retriable) {
            *tally
                .borrow_mut()
                .produce
                .errors
                .entry(ack.error_code)
                .or_default() += 1;
            return Ok(Step::Reconnect);
        }
        // A duplicate of what is in the log already: written, and so acknowledged.
        let is_written = matches!(
            code,
            Some(ErrorCode::None | ErrorCode::DuplicateSequenceNumber)
        );
        if !is_written {
            let key = ApiKey::Produce;
            let code = ack.error_code;
            return Err(client::ClientError::Refused {
                key,
                code,
                message: None,
            }
            .into());
        }
        let Some(batch) = self.unsettled.pop_front() else {
            return Err(LoadError::Setup("an answer to no request".to_owned()));
        };
        self.sent -= 1;
        let count = u64::from(self.job.mode.record.batch_records);
        let target = &self.job.lane.targets[batch.target];
        let note = Ack {
            first: batch.first,
            count,
            offset: ack.base_offset,
        };
        let mut notes = self
            .job
            .notes
            .lock()
            .map_err(|_| LoadError::ThreadPanicked)?;
        notes.note(&target.topic, target.partition, note)?;
        drop(notes);
        let now_ns = run.now_ns();
        let bytes = count * u64::from(self.job.mode.record.record_size);
        run.progress.add(1, count, bytes);
        if run.is_measured(now_ns) {
            let flow = &mut tally.borrow_mut().produce;
            flow.requests += 1;
            flow.records += count;
            flow.bytes += bytes;
            flow.latency.record(now_ns.saturating_sub(batch.due_ns));
        }
        Ok(Step::Continue)
    }

    /// Connects again, to wherever the partitions are led now; everything unsettled is unsent.
    async fn reconnect(&mut self, run: &Run) -> Result<(), LoadError> {
        self.connection = None;
        self.sent = 0;
        let patience_ns = self.job.mode.patience.as_nanos() as u64;
        let deadline_ns = run.now_ns().saturating_add(patience_ns);
        loop {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            match self.connect().await {
                Ok(connection) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(LoadError::Client(error))
                    if error.is_retriable() && run.now_ns() < deadline_ns => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, LoadError> {
        let targets = &mut self.job.lane.targets;
        self.job.lane.address = layout::locate(&self.job.mode.target, targets).await?;
        let options = connection_options(self.job.mode.in_flight);
        Ok(Connection::open_host(&self.job.lane.address, &options).await?)
    }
}

/// The one outcome of a request for one partition.
fn read_acks(response: Response<'_>) -> Option<ProduceAck> {
    match response {
        Response::Produce(response) => produce_acks(&response).next(),
        _ => None,
    }
}
