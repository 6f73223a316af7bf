//! A small journal on a simulated disk, and records that tell who they are.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::sim::{Disk, End, Simulation};
use runtime::time;
use storage::StorageError;
use storage::journal::{Journal, JournalConfig, RecordView, Sequence};

const DIR: &str = "/shards/0/journal";
/// More than a record has beside its data.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 64;

/// Files of 16 blocks: short tests fill and recycle them.
pub(crate) fn small_config() -> JournalConfig {
    JournalConfig {
        file_bytes: 64 << 10,
        files_max: 3,
        group_bytes_max: 16 << 10,
    }
}

/// What a test appends, and what it expects of replay.
pub(crate) type Records = Vec<(u64, Vec<u8>)>;

/// The data of a record: nobody else's.
pub(crate) fn data(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (number.wrapping_mul(131) ^ at.wrapping_mul(7) ^ (at >> 8)) as u8)
        .collect()
}

/// A disk on which the directory of the shard is durable: that is for whoever opens the journal.
pub(crate) fn new_disk() -> Disk {
    let disk = Disk::new();
    disk.write(Path::new("/shards/0/table"), b"");
    disk
}

pub(crate) fn journal_files(disk: &Disk) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "journal")
    });
    files
}

pub(crate) fn append(journal: &Journal, number: u64, bytes: usize) -> Sequence {
    let bytes = &data(number, bytes)[..];
    journal.append(RecordView::Append {
        incarnation: number,
        base_offset: 1,
        position: 2,
        bytes,
    })
}

/// Appends a record alone in its group and waits until it is durable.
pub(crate) async fn commit(journal: &Journal, number: u64, bytes: usize) -> Sequence {
    journal.room(bytes).await.expect("room");
    let sequence = append(journal, number, bytes);
    journal.committed(sequence).await.expect("commit");
    sequence
}

pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) records: Records,
}

impl Opened {
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.records.iter().map(|(number, _)| *number).collect()
    }
}

pub(crate) async fn try_open(
    config: JournalConfig,
    replay_from: u64,
) -> Result<Opened, StorageError> {
    let mut records = Records::new();
    let mut next = replay_from.max(1);
    let mut visitor = |sequence: Sequence, record: RecordView<'_>| {
        assert_eq!(u64::from(sequence), next, "replay in order, without a gap");
        next += 1;
        if let RecordView::Append {
            incarnation, bytes, ..
        } = record
        {
            assert_eq!(data(incarnation, bytes.len()), bytes, "record {sequence:?}");
            records.push((incarnation, bytes.to_vec()));
        } else {
            records.push((record.incarnation(), Vec::new()));
        }
        Ok(())
    };
    let opened = Journal::open(Path::new(DIR), config, replay_from.into(), &mut visitor).await;
    opened.map(|(journal, _)| Opened { journal, records })
}

pub(crate) async fn open() -> Opened {
    open_from(1).await
}

pub(crate) async fn open_from(replay_from: u64) -> Opened {
    try_open(small_config(), replay_from).await.expect("open")
}

/// Waits until the maker has made what it wants to make.
pub(crate) async fn let_files_be_made() {
    time::sleep(Duration::from_secs(1)).await;
}

/// Runs a program on a disk to its end.
pub(crate) fn run<T: 'static>(disk: &Disk, program: impl Future<Output = T> + 'static) -> T {
    Simulation::new(1).disk(disk).run(program).value()
}

/// Runs a program until it ends (`Some`) or the disk's crash point comes.
pub(crate) fn run_until_crash<T: 'static>(
    disk: &Disk,
    seed: u64,
    program: impl Future<Output = T> + 'static,
) -> Option<T> {
    match Simulation::new(seed).disk(disk).run(program).end {
        End::Done(value) => Some(value),
        End::Crashed => None,
        End::Deadlock { tasks } => panic!("deadlock: {tasks} tasks wait for nothing (seed {seed})"),
        End::TooManySteps => panic!("a journal that runs in circles (seed {seed})"),
    }
}

/// How many times more the random tests are to run.
pub(crate) fn seeds() -> u64 {
    std::env::var("STREAMBUS_SEEDS").map_or(1, |seeds| seeds.parse().expect("a number of seeds"))
}
