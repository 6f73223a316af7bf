//! Random work on a journal, what it must leave, and the test that stops it again and again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::disk::{Fault, OpKind};
use runtime::sim::{Disk, End, Random, Simulation};
use runtime::time::{sleep, timeout};

use super::world::{Records, append, image, seeds, small, try_open};
use crate::journal::{Journal, JournalConfig, JournalFailed, Sequence};

/// What a journal was given and what it said.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Number and length of the record with each sequence, from 1.
    pub(super) records: Vec<(u64, usize)>,
    /// Everything through this sequence was said to be durable.
    pub(super) acknowledged: u64,
    /// Everything through this sequence is durable elsewhere.
    pub(super) released: u64,
    next_number: u64,
}

impl Model {
    /// Takes over what a start replayed, after comparing: everything acknowledged is there, in order, and
    /// nothing that was never appended.
    pub(super) fn recovered(&mut self, replayed: &Records) {
        let last = self.released + replayed.len() as u64;
        assert!(
            last >= self.acknowledged,
            "replayed through {last}, acknowledged: {self:?}"
        );
        assert!(
            last <= self.records.len() as u64,
            "replayed through {last}, appended: {self:?}"
        );
        for (index, replayed) in replayed.iter().enumerate() {
            let sequence = self.released + 1 + index as u64;
            let (number, len) = self.records[sequence as usize - 1];
            assert_eq!(*replayed, (sequence, number, len));
        }
        self.records.truncate(last as usize);
        // A start answers from what it replayed: it may not be lost any more.
        self.acknowledged = last;
    }
}

pub(super) type SharedModel = Rc<RefCell<Model>>;

/// Opens the journal and checks what it replays.
pub(super) async fn recover(config: JournalConfig, model: &SharedModel) -> Journal {
    let from = model.borrow().released + 1;
    let (journal, _, records) = try_open(config, from).await.expect("open");
    model.borrow_mut().recovered(&records);
    let last = Sequence::from(model.borrow().acknowledged);
    assert_eq!(
        (journal.last_sequence(), journal.durable_sequence()),
        (last, last)
    );
    journal
}

fn note_durable(journal: &Journal, model: &SharedModel) {
    let mut model = model.borrow_mut();
    model.acknowledged = model
        .acknowledged
        .max(u64::from(journal.durable_sequence()));
}

/// Works on a journal that is open: appends of all sizes, waits, releases, orderly restarts.
pub(super) async fn work(
    config: JournalConfig,
    mut journal: Journal,
    model: SharedModel,
    random: &mut Random,
    steps: usize,
) -> Result<Journal, JournalFailed> {
    for _ in 0..steps {
        match random.below(100) {
            0..60 => append_some(&journal, &model, random).await?,
            60..75 => {
                let upto = model.borrow().records.len() as u64;
                journal.committed(Sequence::from(upto)).await?;
            }
            75..88 => release(&journal, &model, random),
            88..91 => {
                journal.close().await?;
                note_durable(&journal, &model);
                journal = recover(config.clone(), &model).await;
            }
            _ => sleep(Duration::from_micros(random.below(1500))).await,
        }
        note_durable(&journal, &model);
        // Nothing but a release makes room then, as a checkpoint would.
        if journal.used_percent() >= 75 {
            journal.committed(journal.last_sequence()).await?;
            note_durable(&journal, &model);
            let durable = u64::from(journal.durable_sequence());
            model.borrow_mut().released = durable;
            journal.release_through(Sequence::from(durable));
        }
    }
    let last = journal.last_sequence();
    journal.committed(last).await?;
    note_durable(&journal, &model);
    Ok(journal)
}

async fn append_some(
    journal: &Journal,
    model: &SharedModel,
    random: &mut Random,
) -> Result<(), JournalFailed> {
    for _ in 0..=random.below(4) {
        let len = match random.below(20) {
            0..12 => random.below(300),
            12..17 => random.below(5000),
            17..19 => random.below(20_000),
            _ => random.below(journal.record_bytes_max() as u64 - 32),
        } as usize;
        // The few others are like the records that free space.
        let asks = len > 100;
        if asks && !journal.has_room(len) {
            match timeout(Duration::from_millis(20), journal.room(len)).await {
                Ok(room) => room?,
                // Only a release can help.
                Err(_) => return Ok(()),
            }
        }
        let mut model = model.borrow_mut();
        model.next_number += 1;
        append(journal, model.next_number, len);
        let number = model.next_number;
        model.records.push((number, len));
    }
    Ok(())
}

fn release(journal: &Journal, model: &SharedModel, random: &mut Random) {
    let durable = u64::from(journal.durable_sequence());
    let back = random.below(6);
    let mut model = model.borrow_mut();
    // The checkpoint counts before the journal is told.
    model.released = model.released.max(durable.saturating_sub(back));
    journal.release_through(Sequence::from(model.released));
}

/// Recovers and works on; `None` if the disk stopped it or failed.
pub(super) fn round(disk: &Disk, seed: u64, steps: usize, model: &SharedModel) -> Option<()> {
    let model = model.clone();
    let program = async move {
        let mut random = Random::new(seed);
        let journal = recover(small(), &model).await;
        work(small(), journal, model, &mut random, steps)
            .await
            .ok()
            .map(drop)
    };
    match Simulation::new(seed).disk(disk).run(program).end {
        End::Done(done) => done,
        End::Crashed => None,
        End::Deadlock { tasks } => panic!("{tasks} tasks wait for nothing (seed {seed})"),
        End::TooManySteps => panic!("runs in circles (seed {seed})"),
    }
}

#[test]
fn random_work_with_crashes_agrees_with_the_model() {
    for seed in 0..120 * seeds() {
        let mut random = Random::new(seed);
        let model = SharedModel::default();
        let mut disk = Disk::new();
        for part in 0..5 {
            if random.chance(1, 2) {
                disk.crash_after(random.below(150));
            }
            if part > 0 && random.chance(1, 3) {
                // Not in the first operations: a start that meets the fault may fail.
                let fault = if random.chance(1, 2) {
                    Fault::Eio
                } else {
                    Fault::Enospc
                };
                disk.fail_nth(OpKind::Write, 12 + random.below(40), fault);
            }
            round_or_failed_open(&disk, seed * 10 + part, &model);
            disk = if random.chance(1, 2) {
                disk.crash(seed)
            } else {
                disk.kill()
            };
        }
        round(&disk, seed, 10, &model).unwrap_or_else(|| panic!("no fault is left (seed {seed})"));
        assert!(
            image(&disk).len() <= small().files_max + 2,
            "seed {seed}: {:?}",
            disk.files()
        );
    }
}

/// As [`round`]; an orderly restart within it may meet the planned fault.
fn round_or_failed_open(disk: &Disk, seed: u64, model: &SharedModel) {
    let model = model.clone();
    let program = async move {
        let mut random = Random::new(seed);
        let from = model.borrow().released + 1;
        let Ok((journal, _, records)) = try_open(small(), from).await else {
            return;
        };
        model.borrow_mut().recovered(&records);
        // The work does no restart that could fail: it ends at the first failure.
        let mut steps = 40;
        let mut journal = Some(journal);
        while let Some(open) = journal.take().filter(|_| steps > 0) {
            steps -= 1;
            journal = work_without_restart(open, &model, &mut random).await;
        }
    };
    let outcome = Simulation::new(seed).disk(disk).run(program);
    assert!(
        matches!(outcome.end, End::Done(()) | End::Crashed),
        "seed {seed}: {:?}",
        outcome.end
    );
}

async fn work_without_restart(
    journal: Journal,
    model: &SharedModel,
    random: &mut Random,
) -> Option<Journal> {
    let outcome = async {
        match random.below(10) {
            0..7 => append_some(&journal, model, random).await?,
            7 => journal.committed(journal.last_sequence()).await?,
            8 => release(&journal, model, random),
            _ => sleep(Duration::from_micros(random.below(1500))).await,
        }
        if journal.used_percent() >= 75 {
            journal.committed(journal.last_sequence()).await?;
            release(&journal, model, random);
        }
        Ok::<(), JournalFailed>(())
    };
    let result = outcome.await;
    note_durable(&journal, model);
    result.ok().map(|()| journal)
}
