//! `loadgen`: open-loop load generator and verifier for Kafka-speaking brokers.
//!
//! Place: measures any broker over the `client` crate; the comparison with Apache Kafka, the crash
//! tests and the latency figures of this project come from it.
//! Core: `args` → `layout` (topics, connections) → `crew` (threads, phases) → `produce`, `consume`,
//! `verify` (the work of a connection) → `tally` → `report`.
//! Exit code: 0 done, 1 could not be done, 2 verification failed.

#![forbid(unsafe_code)]

mod args;
mod consume;
mod cpu;
mod crew;
mod error;
mod fetch;
mod layout;
mod pace;
mod payload;
mod produce;
mod progress;
mod report;
mod retry;
mod run;
mod stamp;
mod tally;
mod timer;
mod verify;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::Parser;
use serde::Serialize;

use self::args::{Acks, CommandLine, ConsumeMode, EndToEndMode, From, Mode, ProduceMode};
use self::consume::{ConsumeJob, Purpose};
use self::crew::{Ending, Job, Measured, conduct};
use self::error::LoadError;
use self::payload::Payload;
use self::produce::{Content, ProduceJob};
use self::report::{Parts, Report};
use self::stamp::{STAMP_BYTES, Stamp};

fn main() -> ExitCode {
    let command = CommandLine::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(LoadError::io("cannot start a runtime"))
        .and_then(|runtime| runtime.block_on(drive(&command.mode)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn drive(mode: &Mode) -> Result<ExitCode, LoadError> {
    let (code, target) = match mode {
        Mode::Produce(mode) => {
            let parts = Parts {
                produce: true,
                ..Parts::default()
            };
            let measured = produce(mode).await?;
            (
                finish("produce", measured, parts, mode.run.json)?,
                Some(&mode.target),
            )
        }
        Mode::Consume(mode) => {
            let parts = Parts {
                fetch: true,
                ..Parts::default()
            };
            let measured = consume(mode).await?;
            (
                finish("consume", measured, parts, mode.run.json)?,
                Some(&mode.target),
            )
        }
        Mode::EndToEnd(mode) => {
            let parts = Parts {
                produce: true,
                fetch: false,
                end_to_end: true,
            };
            let measured = end_to_end(mode).await?;
            (
                finish("end-to-end", measured, parts, mode.run.json)?,
                Some(&mode.target),
            )
        }
        Mode::Verify(mode) => {
            let report = verify::verify(mode).await?;
            print(&report, mode.run.json)?;
            let code = if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            };
            // What is still to be checked, or to be looked into, stays.
            let is_finished = report.verdict.is_some() && report.is_good();
            (code, is_finished.then_some(&mode.target))
        }
    };
    if let Some(target) = target {
        layout::clean_up(target).await?;
    }
    Ok(code)
}

/// Prints the report; an error that ended the run early is told after it.
fn finish(
    name: &'static str,
    measured: Measured,
    parts: Parts,
    is_json: bool,
) -> Result<ExitCode, LoadError> {
    print(&Report::new(name, &measured, parts), is_json)?;
    measured.error.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn print<T: Serialize + std::fmt::Display>(report: &T, is_json: bool) -> Result<(), LoadError> {
    let mut output = std::io::stdout().lock();
    let outcome = if is_json {
        serde_json::to_writer_pretty(&mut output, report)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(output))
    } else {
        write!(output, "{report}")
    };
    outcome.map_err(LoadError::io("cannot print the report"))
}

async fn produce(mode: &ProduceMode) -> Result<Measured, LoadError> {
    let layout = layout::prepare(&mode.target).await?;
    let payload = Payload::new(mode.record.record_size as usize);
    let content = if mode.fixed {
        Content::Fixed
    } else {
        Content::Noise
    };
    let lanes = layout.share(mode.connections)?;
    let count = lanes.len();
    let for_lane = u64::from(mode.record.batch_records) * count as u64;
    let requests = mode.records.map(|records| records.div_ceil(for_lane));
    let job = |(number, lane)| {
        Job::Produce(Box::new(ProduceJob {
            lane,
            record: mode.record.clone(),
            content,
            payload: payload.clone(),
            keys: mode.keys,
            rate: mode.rate,
            in_flight: mode.in_flight,
            requests,
            produced: None,
            number,
            lanes: count,
        }))
    };
    let jobs = lanes.into_iter().enumerate().map(job).collect();
    let ending = if requests.is_some() {
        Ending::WhenDone
    } else {
        Ending::Timed
    };
    conduct(jobs, &mode.run, ending).await
}

async fn consume(mode: &ConsumeMode) -> Result<Measured, LoadError> {
    let layout = layout::prepare(&mode.target).await?;
    let job = |lane| {
        Job::Consume(Box::new(ConsumeJob {
            lane,
            fetch: mode.fetch.clone(),
            from: mode.from,
            purpose: Purpose::Count {
                check_crc: mode.check_crc,
                until_end: mode.until_end,
            },
        }))
    };
    let jobs = layout
        .divide(mode.connections)?
        .into_iter()
        .map(job)
        .collect();
    let ending = if mode.until_end {
        Ending::WhenDone
    } else {
        Ending::Timed
    };
    conduct(jobs, &mode.run, ending).await
}

async fn end_to_end(mode: &EndToEndMode) -> Result<Measured, LoadError> {
    if (mode.record.record_size as usize) < STAMP_BYTES {
        let what = format!("end-to-end needs --record-size of at least {STAMP_BYTES}");
        return Err(LoadError::Setup(what));
    }
    if mode.record.acks == Acks::None {
        return Err(LoadError::Setup(
            "end-to-end needs acknowledgements".to_owned(),
        ));
    }
    let layout = layout::prepare(&mode.target).await?;
    let payload = Payload::new(mode.record.record_size as usize);
    let stamp = Stamp::new();
    let (produced, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let consume = |lane| {
        let purpose = Purpose::Measure {
            stamp,
            received: Arc::clone(&received),
            produced: Arc::clone(&produced),
        };
        Job::Consume(Box::new(ConsumeJob {
            lane,
            fetch: mode.fetch.clone(),
            from: From::Latest,
            purpose,
        }))
    };
    let mut jobs: Vec<Job> = layout
        .divide(mode.consumers)?
        .into_iter()
        .map(consume)
        .collect();
    let lanes = layout.share(mode.connections)?;
    let count = lanes.len();
    let produce = |(number, lane)| {
        Job::Produce(Box::new(ProduceJob {
            lane,
            record: mode.record.clone(),
            content: Content::Stamped(stamp),
            payload: payload.clone(),
            keys: None,
            rate: Some(mode.rate),
            in_flight: mode.in_flight,
            requests: None,
            produced: Some(Arc::clone(&produced)),
            number,
            lanes: count,
        }))
    };
    jobs.extend(lanes.into_iter().enumerate().map(produce));
    conduct(jobs, &mode.run, Ending::Timed).await
}
