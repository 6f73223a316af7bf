//! Reads partitions from their start and compares them with the notes.
//!
//! Invariants: each record of a run and partition is looked at once, in the order of the log; a
//! sequence is duplicated if it was seen before, reordered if a higher one was seen before it.
//! Limits: one bit for each record of the runs noted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Connection, OffsetAt};
use protocol::compression::DecompressContext;
use protocol::record_batch::{BatchError, BatchView};

use super::notes::{Acked, Notes};
use super::numbered::{Numbered, Value};
use super::verdict::Verdict;
use crate::args::FetchArgs;
use crate::error::LoadError;
use crate::fetch::{FetchSession, list_positions};
use crate::layout::{Lane, Target, connection_options};
use crate::run::Run;
use crate::tally::{ErrorCounts, Tally};

/// Most bytes a fetched batch may expand to.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// Pause after a fetch that only brought errors.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A connection's partitions to check.
#[derive(Debug)]
pub(crate) struct CheckJob {
    pub(crate) lane: Lane,
    pub(crate) fetch: FetchArgs,
    pub(super) notes: Arc<Notes>,
    pub(super) verdict: Arc<Mutex<Verdict>>,
}

/// A connected checker.
#[derive(Debug)]
pub(crate) struct Checker {
    connection: Connection,
    session: FetchSession,
    /// Where each partition ended at the start, in the order of the session's positions.
    ends: Vec<i64>,
    parts: Vec<PartitionCheck>,
    verdict: Arc<Mutex<Verdict>>,
    context: DecompressContext,
    buffer: Vec<u8>,
}

/// What was seen of one run in one partition.
#[derive(Debug, Default)]
struct Seen {
    acked: Acked,
    /// One bit for each sequence.
    bits: Vec<u64>,
    /// The highest sequence seen, plus one.
    end: u64,
}

impl Seen {
    fn has(&self, sequence: u64) -> bool {
        let word = self
            .bits
            .get((sequence / 64) as usize)
            .copied()
            .unwrap_or_default();
        word >> (sequence % 64) & 1 == 1
    }

    fn mark(&mut self, sequence: u64) {
        let word = (sequence / 64) as usize;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (sequence % 64);
    }
}

/// One partition being checked.
#[derive(Debug)]
struct PartitionCheck {
    target: Target,
    runs: HashMap<u64, Seen>,
    found: Verdict,
}

impl PartitionCheck {
    fn new(target: &Target, notes: &Notes) -> PartitionCheck {
        let key = (target.topic.to_string(), target.partition);
        let seen = |run: &super::notes::RunNotes| {
            let acked = run.acked.get(&key).cloned().unwrap_or_default();
            (
                run.run_id,
                Seen {
                    acked,
                    ..Seen::default()
                },
            )
        };
        let runs = notes.runs.iter().map(seen).collect();
        PartitionCheck {
            target: target.clone(),
            runs,
            found: Verdict::default(),
        }
    }

    fn take(&mut self, offset: i64, value: Option<&[u8]>) {
        let place = |target: &Target| format!("{}-{}@{offset}", target.topic, target.partition);
        let numbered = match Numbered::read(value.unwrap_or_default()) {
            Value::Whole(numbered) => numbered,
            Value::Corrupt => {
                self.found.corrupt += 1;
                self.found
                    .example(|| format!("{}: wrong bytes", place(&self.target)));
                return;
            }
            Value::Foreign => {
                self.found.foreign += 1;
                return;
            }
        };
        let Some(seen) = self.runs.get_mut(&numbered.run_id) else {
            self.found.foreign += 1;
            return;
        };
        let Numbered {
            partition,
            sequence,
            ..
        } = numbered;
        if i64::from(partition) != i64::from(self.target.partition) {
            self.found.corrupt += 1;
            self.found
                .example(|| format!("{}: of partition {partition}", place(&self.target)));
            return;
        }
        if seen.has(sequence) {
            self.found.duplicated += 1;
            self.found
                .example(|| format!("{}: {sequence} again", place(&self.target)));
            return;
        }
        seen.mark(sequence);
        self.found.found += 1;
        if sequence < seen.end {
            self.found.reordered += 1;
            let end = seen.end;
            let text = || format!("{}: {sequence} after {}", place(&self.target), end - 1);
            self.found.example(text);
        }
        seen.end = seen.end.max(sequence + 1);
        let noted = seen.acked.offset_of(sequence);
        if let Some(noted) = noted.filter(|noted| *noted != offset) {
            self.found.misplaced += 1;
            let text = || format!("{}: {sequence} belongs at {noted}", place(&self.target));
            self.found.example(text);
        }
    }

    /// Counts what was not found.
    fn finish(mut self) -> Verdict {
        let Target {
            topic, partition, ..
        } = &self.target;
        for seen in self.runs.values() {
            let acked_end = seen.acked.end();
            self.found.in_doubt += (acked_end..seen.end)
                .filter(|sequence| seen.has(*sequence))
                .count() as u64;
            for sequence in 0..acked_end.max(seen.end) {
                if seen.has(sequence) {
                    continue;
                }
                if sequence < acked_end {
                    self.found.lost += 1;
                    self.found
                        .example(|| format!("{topic}-{partition}: {sequence} is lost"));
                } else {
                    self.found.skipped += 1;
                    self.found
                        .example(|| format!("{topic}-{partition}: {sequence} was skipped"));
                }
            }
        }
        self.found
    }
}

impl CheckJob {
    pub(crate) async fn prepare(self) -> Result<Checker, LoadError> {
        let options = connection_options(1);
        let mut connection = Connection::open_host(&self.lane.address, &options).await?;
        let targets = &self.lane.targets;
        let starts = list_positions(&mut connection, targets, OffsetAt::Earliest).await?;
        let ends = list_positions(&mut connection, targets, OffsetAt::Latest).await?;
        Ok(Checker {
            connection,
            session: FetchSession::new(starts, self.fetch),
            ends: ends.iter().map(|position| position.offset).collect(),
            parts: targets
                .iter()
                .map(|target| PartitionCheck::new(target, &self.notes))
                .collect(),
            verdict: self.verdict,
            context: DecompressContext::default(),
            buffer: Vec::new(),
        })
    }
}

impl Checker {
    /// Reads to the ends and adds what was found to the verdict.
    pub(crate) async fn run(mut self, run: &Run, tally: &RefCell<Tally>) -> Result<(), LoadError> {
        while !run.is_stopped() && !self.is_at_end() {
            let start_ns = run.now_ns();
            let mut errors = ErrorCounts::new();
            let Checker {
                connection,
                session,
                parts,
                context,
                buffer,
                ..
            } = &mut self;
            let on_batch = |index: usize, view: &BatchView<'_>| {
                take_batch(&mut parts[index], view, context, buffer)
            };
            let fetched = session.fetch(connection, &mut errors, on_batch).await?;
            run.progress.add(1, fetched.records, fetched.bytes);
            if !errors.is_empty() {
                run.progress.add_error();
                tokio::time::sleep(ERROR_PAUSE).await;
            }
            let flow = &mut tally.borrow_mut().fetch;
            flow.requests += 1;
            flow.records += fetched.records;
            flow.bytes += fetched.bytes;
            flow.latency.record(run.now_ns() - start_ns);
            for (code, count) in errors {
                *flow.errors.entry(code).or_default() += count;
            }
        }
        let mut verdict = self.verdict.lock().map_err(|_| LoadError::ThreadPanicked)?;
        for part in self.parts {
            verdict.add(part.finish());
        }
        run.note_done();
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        let mut pairs = self.session.positions.iter().zip(&self.ends);
        pairs.all(|(position, end)| position.offset >= *end)
    }
}

fn take_batch(
    part: &mut PartitionCheck,
    view: &BatchView<'_>,
    context: &mut DecompressContext,
    buffer: &mut Vec<u8>,
) -> Result<(), BatchError> {
    view.check_crc()?;
    for record in view.records(context, buffer, DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        part.take(record.offset, record.value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::NotesFile;
    use super::*;

    /// Ten acknowledged records at offsets 100 to 109; what `log` holds instead is judged.
    fn check(log: &[(i64, u64)]) -> Verdict {
        let file = Mutex::new(NotesFile::open(None, Notes::default(), true).unwrap());
        let ack = super::super::notes::Ack {
            first: 0,
            count: 10,
            offset: 100,
        };
        file.lock().unwrap().note("t", 2, ack).unwrap();
        let notes = NotesFile::finish(&file).unwrap();
        let run_id = notes.runs[0].run_id;
        let target = Target {
            topic: "t".into(),
            partition: 2,
            leader: 0,
        };
        let mut part = PartitionCheck::new(&target, &notes);
        for (offset, sequence) in log {
            let mut value = [0; 40];
            Numbered {
                run_id,
                partition: 2,
                sequence: *sequence,
            }
            .write(&mut value);
            part.take(*offset, Some(&value));
        }
        let mut verdict = Verdict::new(&notes);
        verdict.add(part.finish());
        verdict
    }

    fn log(sequences: impl IntoIterator<Item = u64>) -> Vec<(i64, u64)> {
        (100..).zip(sequences).collect()
    }

    #[test]
    fn a_whole_log_is_good_with_and_without_doubtful_records() {
        assert!(check(&log(0..10)).is_good());
        let more = check(&log(0..14));
        assert!(more.is_good());
        assert_eq!((more.acknowledged, more.found, more.in_doubt), (10, 14, 4));
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let lost = check(&log(0..8));
        assert_eq!((lost.lost, lost.is_good()), (2, false));
        let duplicated = check(&log((0..10).chain(8..10)));
        assert_eq!((duplicated.duplicated, duplicated.reordered), (2, 0));
        assert!(!duplicated.is_good());
        let reordered = check(&[log(0..8), vec![(109, 9), (108, 8)]].concat());
        assert_eq!(
            (reordered.reordered, reordered.lost, reordered.misplaced),
            (1, 0, 0)
        );
        assert!(!reordered.is_good());
        let misplaced = check(&log([0, 1, 2, 3, 4, 5, 6, 7, 9, 8]));
        assert_eq!(misplaced.misplaced, 2);
        let skipped = check(&log((0..10).chain([12])));
        assert_eq!((skipped.skipped, skipped.in_doubt), (2, 1));
        assert!(!skipped.is_good());
    }

    #[test]
    fn strangers_are_told_apart_from_damage() {
        let notes = Notes::default();
        let target = Target {
            topic: "t".into(),
            partition: 0,
            leader: 0,
        };
        let mut part = PartitionCheck::new(&target, &notes);
        part.take(0, None);
        part.take(1, Some(b"hello"));
        let mut value = [0; 40];
        Numbered {
            run_id: 1,
            partition: 0,
            sequence: 0,
        }
        .write(&mut value);
        part.take(2, Some(&value));
        value[39] = 1;
        part.take(3, Some(&value));
        let found = part.finish();
        assert_eq!((found.foreign, found.corrupt), (3, 1));
    }
}
