//! What the tests of the journal share: a small journal, its records, and a look at its bytes.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::buffer::BLOCK_BYTES;
use runtime::sim::{Disk, Simulation};

use super::super::format::{FileHeader, GroupHeader, decode_file_header};
use crate::error::StorageError;
use crate::journal::{Journal, JournalConfig, RecordView, ReplayReport, Sequence};

pub(super) const DIR: &str = "/journal";
pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

/// Files of sixteen blocks, so that short tests go through many.
pub(super) fn small() -> JournalConfig {
    JournalConfig {
        file_bytes: 64 << 10,
        files_max: 4,
        group_bytes_max: 16 << 10,
    }
}

/// The bytes of a record: they follow from its number and length.
pub(super) fn content(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (number.wrapping_mul(31) ^ (at / 8).wrapping_mul(7) ^ at) as u8)
        .collect()
}

/// Appends a record with that content.
pub(super) fn append(journal: &Journal, number: u64, len: usize) -> Sequence {
    let bytes = content(number, len);
    let (base_offset, position) = (-(number as i64), number << 12);
    journal.append(RecordView::Append {
        incarnation: number,
        base_offset,
        position,
        bytes: &bytes,
    })
}

/// Appends a record and waits until it is durable.
pub(super) async fn commit(journal: &Journal, number: u64, len: usize) -> u64 {
    let sequence = append(journal, number, len);
    journal.committed(sequence).await.expect("commit");
    u64::from(sequence)
}

/// Commits ordinary records until there is no room for another. How many.
pub(super) async fn fill(journal: &Journal, len: usize) -> u64 {
    let mut count = 0;
    while runtime::time::timeout(Duration::from_secs(3), journal.room(len))
        .await
        .is_ok()
    {
        count += 1;
        commit(journal, count, len).await;
    }
    count
}

/// Lets the writer run; time stands still, so nothing ends that is in flight.
pub(super) async fn let_writer_begin() {
    for _ in 0..10 {
        runtime::task::yield_now().await;
    }
}

/// Commits one record for each number, each in a group of its own.
pub(super) async fn commit_all(journal: &Journal, numbers: std::ops::Range<u64>, len: usize) {
    for number in numbers {
        commit(journal, number, len).await;
    }
}

/// What a start replays: sequence, number and length of each record, whose content was compared.
pub(super) type Records = Vec<(u64, u64, usize)>;

pub(super) async fn try_open(
    config: JournalConfig,
    replay_from: u64,
) -> Result<(Journal, ReplayReport, Records), StorageError> {
    let mut records = Records::new();
    let mut visit = |sequence: Sequence, record: RecordView<'_>| {
        let RecordView::Append {
            incarnation: number,
            base_offset,
            position,
            bytes,
        } = record
        else {
            panic!("only appends were made: {record:?}");
        };
        assert_eq!((base_offset, position), (-(number as i64), number << 12));
        assert!(
            bytes == content(number, bytes.len()),
            "record {number} has other bytes"
        );
        records.push((u64::from(sequence), number, bytes.len()));
        Ok(())
    };
    let opened = Journal::open(
        Path::new(DIR),
        config,
        Sequence::from(replay_from),
        &mut visit,
    )
    .await;
    let (journal, report) = opened?;
    assert_eq!(report.records, records.len() as u64);
    Ok((journal, report, records))
}

pub(super) async fn open(replay_from: u64) -> (Journal, ReplayReport, Records) {
    try_open(small(), replay_from).await.expect("open")
}

/// Opens and answers the numbers of the replayed records.
pub(super) async fn numbers(replay_from: u64) -> Vec<u64> {
    open(replay_from)
        .await
        .2
        .iter()
        .map(|(_, number, _)| *number)
        .collect()
}

/// Runs a program on a disk to its end.
#[track_caller]
pub(super) fn run<T: 'static>(disk: &Disk, program: impl Future<Output = T> + 'static) -> T {
    Simulation::new(1).disk(disk).run(program).value()
}

/// The disk after a run and the end of its process.
pub(super) fn killed_after<T: 'static>(
    disk: &Disk,
    program: impl Future<Output = T> + 'static,
) -> Disk {
    run(disk, program);
    disk.kill()
}

/// A start that must fail; asserts that it changed nothing on the disk.
#[track_caller]
pub(super) fn refused(disk: &Disk, replay_from: u64) -> StorageError {
    let before = image(disk);
    let error = run(
        disk,
        async move { try_open(small(), replay_from).await.err() },
    );
    let error = error.expect("the start is refused");
    assert!(
        image(disk) == before,
        "a refused start changed the disk: {error}"
    );
    error
}

pub(super) fn image(disk: &Disk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    disk.files()
        .into_iter()
        .map(|path| (path.clone(), disk.read(&path)))
        .collect()
}

/// Asserts that an error is corruption, and answers its file and position.
#[track_caller]
pub(super) fn corruption(error: StorageError) -> (PathBuf, u64) {
    match error {
        StorageError::Corruption { file, position, .. } => (file, position),
        other => panic!("corruption was expected, not {other}"),
    }
}

/// A whole group on a disk.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) header: GroupHeader,
}

/// The chains in all files, by lap: of each file only what belongs to its newest use.
pub(super) fn groups(disk: &Disk) -> Vec<Place> {
    let mut groups = Vec::new();
    for path in disk.files() {
        let bytes = disk.read(&path).expect("a file");
        if !matches!(decode_file_header(&bytes), FileHeader::Valid { .. }) {
            continue;
        }
        let mut position = BLOCK;
        let mut lap = None;
        while let Some(group) = bytes.get(position as usize..) {
            let whole = GroupHeader::decode(group).filter(|header| header.is_whole(group));
            let Some(header) = whole.filter(|header| *lap.get_or_insert(header.lap) == header.lap)
            else {
                break;
            };
            groups.push(Place {
                path: path.clone(),
                position,
                header,
            });
            position += header.padded_bytes();
        }
    }
    groups.sort_by_key(|group| (group.header.lap, group.position));
    groups
}

/// Damages the header of a group.
pub(super) fn damage(disk: &Disk, place: &Place) {
    let byte = disk.read(&place.path).expect("a file")[place.position as usize + 30];
    patch(disk, &place.path, place.position + 30, &[byte ^ 0x40]);
}

/// Replaces the bytes of a file at a position.
pub(super) fn patch(disk: &Disk, path: &Path, position: u64, patch: &[u8]) {
    let mut bytes = disk.read(path).expect("a file to patch");
    bytes[position as usize..][..patch.len()].copy_from_slice(patch);
    disk.write(path, &bytes);
}

/// Removes a file for good.
pub(super) fn remove(disk: &Disk, path: &Path) {
    let path = path.to_owned();
    run(disk, async move {
        runtime::dir::remove_file(&path).await.unwrap();
        runtime::dir::sync_dir(path.parent().unwrap())
            .await
            .unwrap();
    });
}

/// How many times more the random tests are to run.
pub(super) fn seeds() -> u64 {
    std::env::var("STREAMBUS_SEEDS").map_or(1, |seeds| seeds.parse().expect("a number of seeds"))
}
