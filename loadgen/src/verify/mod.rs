//! Verification: numbered records are produced, what was acknowledged is noted, and everything is
//! read back and compared.
//!
//! ```text
//! produce: numbered batches ── acks ──▶ notes (memory, and a file with --state)
//! check:   notes + every partition from its start ──▶ lost / duplicated / reordered / corrupt
//! ```
//! The broker may die and come back during the produce phase: the producer connects again and sends
//! everything unacknowledged again, with the same sequence numbers.

mod check;
mod notes;
mod numbered;
mod produce;
mod verdict;

use std::sync::{Arc, Mutex};

use serde::Serialize;

pub(crate) use self::check::{CheckJob, Checker};
pub(crate) use self::produce::{VerifyJob, VerifyProducer};

use self::notes::{Notes, NotesFile};
use self::verdict::Verdict;
use crate::args::{Phase, VerifyMode};
use crate::crew::{Ending, Job, Measured, conduct};
use crate::error::LoadError;
use crate::layout;
use crate::payload::Payload;
use crate::report::{Parts, Report};

/// What a verification found.
#[derive(Debug, Serialize)]
pub(crate) struct VerifyReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) produce: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Verdict>,
}

impl VerifyReport {
    /// Whether nothing was found wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_good)
    }
}

impl std::fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for report in [&self.produce, &self.check].into_iter().flatten() {
            write!(formatter, "{report}")?;
        }
        match &self.verdict {
            Some(verdict) => write!(formatter, "{verdict}"),
            None => Ok(()),
        }
    }
}

/// Runs the phases that were asked for. An error of the produce phase ends it; what was
/// acknowledged until then stays in the state file.
pub(crate) async fn verify(mode: &VerifyMode) -> Result<VerifyReport, LoadError> {
    let mut notes = match &mode.state {
        Some(path) if path.exists() => Notes::load(path)?,
        Some(path) if mode.phase == Phase::Check => {
            let what = "does not exist; the produce phase writes it".to_owned();
            return Err(LoadError::State {
                path: path.clone(),
                what,
            });
        }
        Some(_) | None => Notes::default(),
    };
    let mut report = VerifyReport {
        produce: None,
        check: None,
        verdict: None,
    };
    if mode.phase != Phase::Check {
        let (measured, after) = produce_phase(mode, notes).await?;
        notes = after;
        report.produce = Some(finish("verify-produce", measured, true)?);
    }
    if mode.phase != Phase::Produce {
        let (measured, verdict) = check_phase(mode, notes).await?;
        report.check = Some(finish("verify-check", measured, false)?);
        report.verdict = Some(verdict);
    }
    Ok(report)
}

fn finish(name: &'static str, measured: Measured, produce: bool) -> Result<Report, LoadError> {
    let parts = Parts {
        produce,
        fetch: !produce,
        end_to_end: false,
    };
    let report = Report::new(name, &measured, parts);
    match measured.error {
        None => Ok(report),
        Some(error) => Err(error),
    }
}

async fn produce_phase(mode: &VerifyMode, notes: Notes) -> Result<(Measured, Notes), LoadError> {
    let least = numbered::HEADER_BYTES as u32;
    if mode.record.record_size < least {
        return Err(LoadError::Setup(format!(
            "verify needs --record-size of at least {least}"
        )));
    }
    let layout = layout::prepare(&mode.target).await?;
    let payload = Payload::new(mode.record.record_size as usize);
    let lanes = layout.divide(mode.connections)?;
    let file = NotesFile::open(mode.state.as_deref(), notes, !mode.no_idempotence)?;
    let file = Arc::new(Mutex::new(file));
    let count = lanes.len();
    let job = |(number, lane)| {
        Job::VerifyProduce(Box::new(VerifyJob {
            lane,
            mode: mode.clone(),
            payload: payload.clone(),
            notes: Arc::clone(&file),
            number,
            lanes: count,
        }))
    };
    let jobs = lanes.into_iter().enumerate().map(job).collect();
    let measured = conduct(jobs, &mode.run, Ending::Timed).await?;
    let notes = NotesFile::finish(&file)?;
    Ok((measured, notes))
}

async fn check_phase(mode: &VerifyMode, notes: Notes) -> Result<(Measured, Verdict), LoadError> {
    let layout = layout::find(&mode.target, mode.patience).await?;
    let verdict = Arc::new(Mutex::new(Verdict::new(&notes)));
    let notes = Arc::new(notes);
    let job = |lane| {
        Job::Check(Box::new(CheckJob {
            lane,
            fetch: mode.fetch.clone(),
            notes: Arc::clone(&notes),
            verdict: Arc::clone(&verdict),
        }))
    };
    let jobs = layout
        .divide(mode.connections)?
        .into_iter()
        .map(job)
        .collect();
    let measured = conduct(jobs, &mode.run, Ending::WhenDone).await?;
    let verdict = verdict
        .lock()
        .map_err(|_| LoadError::ThreadPanicked)?
        .clone();
    Ok((measured, verdict))
}
