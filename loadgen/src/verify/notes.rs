//! Notes of what was acknowledged, in memory and in a state file.
//!
//! The file is text, appended to and never rewritten, so that it survives the load generator's own
//! death but for the last tenth of a second:
//!
//! ```text
//! run RUN_ID idempotent|plain          one for each produce phase, which numbers from 0
//! ack TOPIC PARTITION FIRST COUNT OFFSET
//! ```
//! Invariants: within a run and partition, acknowledgements are noted in order of their sequences,
//! without gaps, because a producer settles its oldest batch first.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::error::LoadError;

/// Longest time a note stays in memory only.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// A range of acknowledged records, and the offset of the first (-1 if the broker did not say).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) offset: i64,
}

impl Ack {
    fn end(self) -> u64 {
        self.first + self.count
    }

    /// The offset at which `sequence` must lie, if it is in this range and known.
    fn offset_of(self, sequence: u64) -> Option<i64> {
        let index = sequence
            .checked_sub(self.first)
            .filter(|index| *index < self.count)?;
        (self.offset >= 0).then(|| self.offset + index as i64)
    }
}

/// What one run had acknowledged in one partition: ranges in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Acked(Vec<Ack>);

impl Acked {
    /// Sequences below this were acknowledged.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |ack| ack.end())
    }

    /// Adds the next range; false if it does not follow the last one.
    fn push(&mut self, ack: Ack) -> bool {
        if ack.first != self.end() {
            return false;
        }
        match self.0.last_mut() {
            // Neighbours in the log are kept as one range.
            Some(last) if last.offset >= 0 && last.offset + last.count as i64 == ack.offset => {
                last.count += ack.count;
            }
            Some(_) | None => self.0.push(ack),
        }
        true
    }

    /// The offset at which the broker said it put `sequence`.
    pub(super) fn offset_of(&self, sequence: u64) -> Option<i64> {
        let after = self.0.partition_point(|ack| ack.first <= sequence);
        self.0[..after].last()?.offset_of(sequence)
    }
}

/// One produce phase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunNotes {
    pub(super) run_id: u64,
    pub(super) is_idempotent: bool,
    /// By topic and partition.
    pub(super) acked: BTreeMap<(String, i32), Acked>,
}

/// All produce phases of a state file, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) runs: Vec<RunNotes>,
}

impl Notes {
    /// Reads a state file. A last line that was cut is passed over.
    pub(super) fn load(path: &Path) -> Result<Notes, LoadError> {
        let text =
            std::fs::read_to_string(path).map_err(LoadError::io("cannot read the state file"))?;
        let mut notes = Notes::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (number, line) in whole.lines().enumerate() {
            notes.take_line(line).ok_or_else(|| LoadError::State {
                path: path.to_owned(),
                what: format!("line {} cannot be understood: {line}", number + 1),
            })?;
        }
        Ok(notes)
    }

    fn take_line(&mut self, line: &str) -> Option<()> {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            ["run", run_id, kind] => {
                let is_idempotent = match *kind {
                    "idempotent" => true,
                    "plain" => false,
                    _ => return None,
                };
                let run_id = run_id.parse().ok()?;
                self.runs.push(RunNotes {
                    run_id,
                    is_idempotent,
                    acked: BTreeMap::new(),
                });
                Some(())
            }
            ["ack", topic, partition, first, count, offset] => {
                let ack = Ack {
                    first: first.parse().ok()?,
                    count: count.parse().ok()?,
                    offset: offset.parse().ok()?,
                };
                let partition = partition.parse().ok()?;
                let run = self.runs.last_mut()?;
                let acked = run
                    .acked
                    .entry(((*topic).to_owned(), partition))
                    .or_default();
                acked.push(ack).then_some(())
            }
            _ => None,
        }
    }
}

/// Notes that are written down as they are made.
#[derive(Debug)]
pub(crate) struct NotesFile {
    notes: Notes,
    file: Option<(PathBuf, BufWriter<File>)>,
    flushed: Instant,
}

impl NotesFile {
    /// Begins a new run behind `notes`.
    pub(super) fn open(
        path: Option<&Path>,
        mut notes: Notes,
        is_idempotent: bool,
    ) -> Result<NotesFile, LoadError> {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let run_id = since.as_nanos() as u64;
        notes.runs.push(RunNotes {
            run_id,
            is_idempotent,
            acked: BTreeMap::new(),
        });
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(LoadError::io("cannot open the state file"))?;
            Ok::<_, LoadError>((path.to_owned(), BufWriter::new(file)))
        };
        let file = path.map(open).transpose()?;
        let mut notes_file = NotesFile {
            notes,
            file,
            flushed: Instant::now(),
        };
        let kind = if is_idempotent { "idempotent" } else { "plain" };
        notes_file.write_line(format_args!("run {run_id} {kind}"))?;
        Ok(notes_file)
    }

    /// Identity of the run that was begun.
    pub(super) fn run_id(&self) -> u64 {
        self.notes.runs.last().map_or(0, |run| run.run_id)
    }

    /// Notes an acknowledgement of the run that was begun.
    pub(super) fn note(&mut self, topic: &str, partition: i32, ack: Ack) -> Result<(), LoadError> {
        let Ack {
            first,
            count,
            offset,
        } = ack;
        if let Some(run) = self.notes.runs.last_mut() {
            let acked = run.acked.entry((topic.to_owned(), partition)).or_default();
            let follows = acked.push(ack);
            assert!(
                follows,
                "{topic}-{partition}: ack of {first} after {}",
                acked.end()
            );
        }
        self.write_line(format_args!(
            "ack {topic} {partition} {first} {count} {offset}"
        ))
    }

    fn write_line(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), LoadError> {
        let Some((_, file)) = &mut self.file else {
            return Ok(());
        };
        let mut outcome = writeln!(file, "{line}");
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.flushed = Instant::now();
            outcome = outcome.and_then(|()| file.flush());
        }
        outcome.map_err(LoadError::io("cannot write the state file"))
    }

    /// Writes everything down and returns the notes.
    pub(super) fn finish(file: &Mutex<NotesFile>) -> Result<Notes, LoadError> {
        let mut file = file.lock().map_err(|_| LoadError::ThreadPanicked)?;
        if let Some((_, writer)) = &mut file.file {
            writer
                .flush()
                .map_err(LoadError::io("cannot write the state file"))?;
        }
        Ok(file.notes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(first: u64, count: u64, offset: i64) -> Ack {
        Ack {
            first,
            count,
            offset,
        }
    }

    #[test]
    fn what_was_written_is_loaded_without_a_cut_line() {
        let path = std::env::temp_dir().join(format!("loadgen-notes-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut notes = Notes::default();
        for is_idempotent in [true, false] {
            let file = NotesFile::open(Some(&path), notes, is_idempotent).unwrap();
            let file = Mutex::new(file);
            {
                let mut file = file.lock().unwrap();
                file.note("t", 3, ack(0, 10, 100)).unwrap();
                file.note("t", 3, ack(10, 10, 110)).unwrap();
                file.note("t", 3, ack(20, 5, 200)).unwrap();
                file.note("u", 0, ack(0, 1, -1)).unwrap();
            }
            notes = NotesFile::finish(&file).unwrap();
        }
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ack t 3 25 9").unwrap();
        let loaded = Notes::load(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(loaded, notes);
        assert_eq!(loaded.runs.len(), 2);
        let acked = &loaded.runs[0].acked[&("t".to_owned(), 3)];
        assert_eq!((acked.end(), acked.0.len()), (25, 2));
        assert_eq!(acked.offset_of(0), Some(100));
        assert_eq!(acked.offset_of(19), Some(119));
        assert_eq!(acked.offset_of(24), Some(204));
        assert_eq!(acked.offset_of(25), None);
        assert_eq!(
            loaded.runs[0].acked[&("u".to_owned(), 0)].offset_of(0),
            None
        );
    }

    #[test]
    fn gaps_and_nonsense_are_refused() {
        let check = |lines: &[&str]| {
            let mut notes = Notes::default();
            lines
                .iter()
                .try_for_each(|line| notes.take_line(line))
                .is_some()
        };
        assert!(check(&["run 5 plain", "ack t 0 0 2 0", "ack t 0 2 1 7"]));
        assert!(!check(&["ack t 0 0 2 0"]));
        assert!(!check(&["run 5 plain", "ack t 0 1 2 0"]));
        assert!(!check(&["run 5 perhaps"]));
        assert!(!check(&["hello"]));
    }
}
