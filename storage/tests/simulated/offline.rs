//! Looking into a directory without a broker: everything is found, damage is named, nothing is changed
//! and nothing panics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use protocol::crc32c;
use protocol::record_batch::BatchView;
use runtime::sim::{Disk, Random};
use storage::offline::{Item, inspect, repair_index};
use storage::{LogConfig, StorageConfig, StorageError};

use crate::batches::Spec;
use crate::compacted::{self, is_compacted};
use crate::model::{Exactness, ModelLog, Past};
use crate::recover::recover;
use crate::work::{Scope, SharedPast, Worker};
use crate::world::{
    DATA_DIR, append_many, first_log_segment, log_file, log_id, open, run, small_config, small_log,
    try_open,
};

/// What an inspection says, as far as tests compare it.
#[derive(Debug, Default)]
struct Seen {
    /// File and position.
    damage: Vec<(PathBuf, u64)>,
    /// Log start and end by partition.
    offsets: BTreeMap<u32, (i64, i64)>,
    /// Batches by partition, and whether they are whole.
    batches: BTreeMap<u32, Vec<(i64, Vec<u8>)>>,
    repaired: Vec<PathBuf>,
    ends: usize,
}

impl Seen {
    fn note(&mut self, item: &Item<'_>, partition: &mut u32) {
        match item {
            Item::Log(log) => {
                *partition = log.id.partition;
                let offsets = log.offsets.unwrap_or((-1, -1));
                self.offsets.insert(*partition, offsets);
            }
            Item::Batch(batch) => {
                let bytes = (batch.base_offset, batch.bytes.to_vec());
                self.batches.entry(*partition).or_default().push(bytes);
            }
            Item::Damage { file, position, .. } => {
                self.damage.push((file.to_path_buf(), *position));
            }
            Item::Index {
                path,
                is_repaired: true,
                ..
            } => self.repaired.push(path.to_path_buf()),
            Item::End { .. } => self.ends += 1,
            _ => {}
        }
    }
}

/// Looks at a directory; asserts that it is not changed.
fn look(disk: &Disk, dir: &Path) -> Result<Seen, StorageError> {
    let before = disk.counts().mutations();
    let dir = dir.to_path_buf();
    let seen = run(disk, async move {
        let (mut seen, mut partition) = (Seen::default(), 0);
        let mut sink = |item: Item<'_>| seen.note(&item, &mut partition);
        inspect(&dir, &mut sink).await.map(|()| seen)
    });
    assert_eq!(disk.counts().mutations(), before, "looking changes nothing");
    seen
}

/// A directory after random work and a crash, and what is known of it.
fn worked_on(seed: u64, is_closed: bool) -> (Disk, SharedPast) {
    let past: SharedPast = Rc::new(RefCell::new(Past::new(1 + seed as u32 % 2)));
    let disk = Disk::new();
    let noted = Rc::clone(&past);
    run(&disk, async move {
        let shards = noted.borrow().shards();
        let mut shards = recover(&noted, shards, Exactness::Whole)
            .await
            .expect("open");
        let mut worker = Worker::new(seed, &noted, Scope::Everything);
        worker.work(&mut shards, 60).await.expect("work");
        if is_closed {
            shards.close().await.expect("close");
        }
    });
    (disk.kill(), past)
}

#[test]
fn a_closed_directory_is_shown_as_the_model_has_it() {
    for seed in 0..20 {
        let (disk, past) = worked_on(seed, true);
        let seen = look(&disk, Path::new(DATA_DIR)).expect("a data directory");
        assert!(seen.damage.is_empty(), "seed {seed}: {:?}", seen.damage);
        let model = past.borrow().state();
        assert_eq!(seen.offsets.len(), model.len(), "seed {seed}");
        for (number, log) in model {
            assert_eq!(seen.offsets[&number], (log.log_start, log.log_end));
            let expected = log.batches.iter();
            let expected = expected.map(|batch| (batch.base_offset, batch.bytes.to_vec()));
            let found = seen.batches.get(&number).cloned().unwrap_or_default();
            if is_compacted(number) {
                check_compacted(&log, &found).unwrap_or_else(|wrong| {
                    panic!("seed {seed}, log {number}: {wrong}");
                });
                continue;
            }
            // Segments go as wholes: some batches below the log start are still there.
            let expected: Vec<_> = expected.collect();
            assert!(expected.ends_with(&found), "seed {seed}, log {number}");
            let readable = |(_, batch): &(usize, &crate::model::ModelBatch)| {
                batch.last_offset >= log.log_start
            };
            let readable = log.batches.iter().enumerate().filter(readable).count();
            assert!(found.len() >= readable, "seed {seed}, log {number}");
        }
    }
}

/// Batches from the one on that holds the log start.
fn check_compacted(log: &ModelLog, found: &[(i64, Vec<u8>)]) -> Result<(), String> {
    let readable = found.iter().filter(|(_, bytes)| {
        let batch = BatchView::parse(bytes);
        batch.is_ok_and(|batch| batch.last_offset() >= log.log_start)
    });
    let bytes: Vec<u8> = readable.flat_map(|(_, bytes)| bytes.clone()).collect();
    compacted::check(log, &bytes).map(drop)
}

/// What a crash leaves is what a start can use: no damage.
#[test]
fn a_directory_after_a_crash_has_no_damage() {
    for seed in 100..130 {
        let (disk, _) = worked_on(seed, false);
        for disk in [disk.fork(), disk.crash(seed)] {
            let seen = look(&disk, Path::new(DATA_DIR)).expect("a data directory");
            let damage: Vec<_> = seen
                .damage
                .iter()
                .filter(|(file, _)| {
                    // Index blocks are not fsynced.
                    file.extension()
                        .is_none_or(|extension| extension != "index")
                })
                .collect();
            assert!(damage.is_empty(), "seed {seed}: {damage:?}");
        }
    }
}

fn one_log(batches: u64) -> Disk {
    let disk = Disk::new();
    run(&disk, async move {
        let storage = open().await;
        let log = storage
            .create_log(log_id(1), small_log())
            .await
            .expect("create");
        append_many(&storage, &log, 0..batches, 3000).await;
        storage.close().await.expect("close");
    });
    disk
}

#[test]
fn a_flipped_byte_is_named_and_the_rest_is_shown() {
    let disk = one_log(10);
    let whole = look(&disk, Path::new(DATA_DIR)).expect("a data directory");
    let before: usize = whole.batches[&1][..3]
        .iter()
        .map(|(_, bytes)| bytes.len())
        .sum();
    disk.corrupt(
        &first_log_segment(0),
        before as u64 + 700..before as u64 + 701,
    );
    for dir in [
        Path::new(DATA_DIR),
        first_log_segment(0).parent().expect("a log's directory"),
    ] {
        let seen = look(&disk, dir).expect("a directory that is known");
        assert_eq!(seen.damage, [(first_log_segment(0), before as u64)]);
        assert_eq!(seen.batches[&1].len(), 10);
    }
}

/// A copy of a log's directory, elsewhere: all that is known are its files.
#[test]
fn a_log_is_looked_at_alone() {
    let disk = one_log(20);
    let dir = first_log_segment(0)
        .parent()
        .expect("a log's directory")
        .to_path_buf();
    let copy = Path::new("/elsewhere").join(dir.file_name().expect("a name"));
    for path in disk.files().iter().filter(|path| path.starts_with(&dir)) {
        let file = disk.read(path).expect("a file");
        disk.write(&copy.join(path.file_name().expect("a name")), &file);
    }
    let seen = look(&disk, &copy).expect("a log's directory");
    assert!(seen.damage.is_empty(), "{:?}", seen.damage);
    // The incomplete last block is in the table.
    assert!((15..20).contains(&seen.batches[&1].len()) && seen.ends == 1);
}

/// The newest file of a copy ends in a batch that was not all written, before space allocated ahead.
#[test]
fn a_torn_batch_before_zeros_is_the_end_of_a_log_looked_at_alone() {
    let disk = one_log(20);
    let dir = first_log_segment(0)
        .parent()
        .expect("a log's directory")
        .to_path_buf();
    let batches = look(&disk, &dir).expect("a log").batches[&1].clone();
    let copy = Path::new("/elsewhere").join(dir.file_name().expect("a name"));
    let file = copy.join("00000000000000000000.log");
    let mut bytes: Vec<u8> = batches[..3].iter().flat_map(|(_, b)| b.clone()).collect();
    let torn_at = bytes.len();
    let torn = &batches[3].1;
    bytes.extend_from_slice(&torn[..torn.len() / 2]);
    bytes.resize(torn_at + torn.len() + (2 << 20), 0);
    disk.write(&file, &bytes);
    let seen = look(&disk, &copy).expect("a log's directory");
    assert!(seen.damage.is_empty(), "{:?}", seen.damage);
    assert_eq!((seen.batches[&1].len(), seen.ends), (3, 1));
    // Something behind it: that was no tail.
    *bytes.last_mut().expect("zeros") = 1;
    disk.write(&file, &bytes);
    let seen = look(&disk, &copy).expect("a log's directory");
    assert_eq!(seen.damage, [(file, torn_at as u64)]);
}

#[test]
fn what_is_no_directory_of_ours_is_refused() {
    let disk = Disk::new();
    disk.write(Path::new("/letters/first"), b"dear");
    for dir in ["/letters", "/nowhere", "/letters/first"] {
        assert!(
            matches!(look(&disk, Path::new(dir)), Err(StorageError::Io { .. })),
            "{dir}"
        );
    }
}

/// Any bytes anywhere: an answer, and no panic. CRCs of tables are made right again, so that what is in
/// them is believed.
#[test]
fn any_bytes_are_looked_at_without_a_panic() {
    let mut damaged = 0;
    for seed in 0..400 {
        let (disk, _) = worked_on(seed % 10, seed % 3 == 0);
        let mut random = Random::new(seed);
        let files = disk.files();
        for _ in 0..=random.below(4) {
            let path = &files[random.index(files.len())];
            let mut bytes = disk.read(path).unwrap_or_default();
            mutate(&mut bytes, &mut random);
            if path.to_string_lossy().contains("checkpoint") {
                make_table_valid(&mut bytes);
            }
            disk.write(path, &bytes);
        }
        let look = AssertUnwindSafe(|| look(&disk, Path::new(DATA_DIR)));
        let looked = std::panic::catch_unwind(look);
        let seen = looked.unwrap_or_else(|_| panic!("seed {seed}"));
        damaged += usize::from(seen.is_ok_and(|seen| !seen.damage.is_empty()));
    }
    assert!(damaged > 150, "{damaged} of 400 were seen to be damaged");
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(5) {
        0 => bytes.truncate(random.index(bytes.len() + 1)),
        1 => bytes.extend((0..random.below(5000)).map(|_| 0x5a)),
        _ if bytes.is_empty() => bytes.push(1),
        2 => {
            let at = random.index(bytes.len());
            let end = (at + 8).min(bytes.len());
            bytes[at..end].fill(0xff);
        }
        _ => {
            // Mostly near the beginning, where headers are.
            let near = 1 + random.index(bytes.len());
            let at = random.index(near);
            bytes[at] ^= 1 << random.below(8);
        }
    }
}

/// Puts right CRCs into a table's header and body, so far as there are such.
fn make_table_valid(bytes: &mut [u8]) {
    if bytes.len() < 4096 {
        return;
    }
    let body = u64::from_le_bytes(bytes[32..40].try_into().expect("8 bytes")) as usize;
    if let Some(body) = 4096usize
        .checked_add(body)
        .and_then(|end| bytes.get(4096..end))
    {
        let crc = crc32c::crc32c(body);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    }
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes[..4096]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_damaged_index_is_made_anew_when_told_so() {
    let disk = Disk::new();
    run(&disk, async {
        let config = StorageConfig {
            cache_bytes_max: 32 << 20,
            dirty_bytes_max: 16 << 20,
            ..small_config()
        };
        let (storage, _) = try_open(config).await.expect("open");
        let big = LogConfig {
            segment_bytes: 1 << 30,
            retention_bytes: None,
            ..small_log()
        };
        let log = storage.create_log(log_id(1), big).await.expect("create");
        for number in 0..600 {
            let batch = Spec::new(number, 1, 60_000).build();
            log.reserve(batch.len()).await.expect("room");
            log.append(&batch, 0, 0).expect("append");
        }
        storage.close().await.expect("close");
    });
    let index = log_file(1, 1 << 16, "00000000000000000000.index");
    let before = disk.read(&index).expect("an index");
    assert!(!before.is_empty());
    let repair = |is_writing| {
        run(&disk, async move {
            let (mut seen, mut partition) = (Seen::default(), 0);
            let mut sink = |item: Item<'_>| seen.note(&item, &mut partition);
            let dir = Path::new(DATA_DIR);
            repair_index(dir, is_writing, &mut sink)
                .await
                .expect("repair");
            seen
        })
    };
    assert!(repair(true).repaired.is_empty(), "nothing to repair");
    disk.corrupt(&index, 100..101);
    let seen = repair(false);
    assert_eq!(seen.damage, [(index.clone(), 0)]);
    assert!(seen.repaired.is_empty() && disk.read(&index) != Some(before.clone()));
    assert_eq!(repair(true).repaired, std::slice::from_ref(&index));
    assert!(
        disk.read(&index) == Some(before),
        "the blocks are as they were"
    );
    assert!(repair(false).damage.is_empty());
}
