//! `streambus log` on a directory on the real disk: what it prints, its exit status, and when it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::MemoryBudget;
use runtime::executor::{Topology, start_shards};
use storage::{LogConfig, LogId, Storage, StorageConfig};

const BATCHES: usize = 40;

/// A closed data directory with one log.
fn make_data(dir: PathBuf) {
    let threads = start_shards(&Topology::unpinned(1), move |_| fill(dir.clone()));
    threads.expect("a shard").join().expect("no panic");
}

async fn fill(dir: PathBuf) {
    let config = StorageConfig {
        reserve_bytes: 0,
        ..StorageConfig::default()
    };
    let opened = Storage::open(&dir, 0, config, MemoryBudget::new(64 << 20)).await;
    let (storage, _) = opened.expect("open");
    let id = LogId {
        topic: [9; 16],
        partition: 4,
    };
    let log = storage.create_log(id, LogConfig::default()).await;
    let log = log.expect("create");
    for number in 0..BATCHES {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let value = format!("value {number} {}", "x".repeat(1000));
        builder.push(1_700_000_000_000, Some(b"key"), Some(value.as_bytes()), &[]);
        let batch = builder.build().expect("a batch");
        log.reserve(batch.len()).await.expect("room");
        log.append(&batch, 3, 0).expect("append");
    }
    storage.close().await.expect("close");
}

fn log(arguments: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streambus"));
    command.arg("log").args(arguments).arg(dir);
    command.output().expect("the binary runs")
}

/// Asserts the exit status and answers what was printed.
#[track_caller]
fn expect(output: &Output, status: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{output:?} {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn segment(dir: &Path) -> PathBuf {
    let log = fs::read_dir(dir.join("logs")).expect("logs").next();
    let log = log.expect("one log").expect("an entry").path();
    log.join("00000000000000000000.log")
}

#[test]
fn a_directory_is_dumped_and_verified() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = data.path();
    make_data(dir.to_owned());
    let text = expect(&log(&["dump", "--records"], dir), 0);
    assert!(text.contains("offsets 0 to 40 (exclusive)"), "{text}");
    assert!(text.contains("leader epoch 3 from offset 0"), "{text}");
    assert!(text.contains("key key, value value 7 xxx"), "{text}");
    let lines = expect(&log(&["dump", "--json"], dir), 0);
    let lines = lines.lines().map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        value
    });
    let lines: Vec<_> = lines.collect();
    let batches = lines.iter().filter(|line| line["type"] == "batch");
    assert_eq!(batches.clone().count(), BATCHES);
    assert!(batches.clone().all(|batch| batch["crc_ok"] == true));
    assert_eq!(lines.last().expect("totals")["damage"], 0);
    expect(&log(&["verify"], dir), 0);
    expect(
        &log(&["verify"], segment(dir).parent().expect("its directory")),
        0,
    );

    let file = segment(dir);
    let mut bytes = fs::read(&file).expect("a segment");
    bytes[5000] ^= 1;
    fs::write(&file, bytes).expect("damage");
    let text = expect(&log(&["verify"], dir), 1);
    assert!(
        text.contains(&format!("DAMAGE in {} at ", file.display())),
        "{text}"
    );
    assert!(text.contains("expected batch CRC"), "{text}");
}

#[test]
fn wrong_use_is_told_apart_from_damage() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    expect(&log(&["verify"], data.path()), 2);
    expect(&log(&["verify", "--nonsense"], data.path()), 2);
    expect(&log(&["mend"], data.path()), 2);
}

#[test]
fn a_directory_in_use_is_read_with_a_warning_and_not_written() {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = data.path();
    make_data(dir.to_owned());
    expect(&log(&["repair-index", "--write"], dir), 0);
    let lock = fs::File::create(dir.join("LOCK")).expect("a lock file");
    lock.try_lock().expect("the lock");
    let verified = log(&["verify"], dir);
    expect(&verified, 0);
    assert!(String::from_utf8_lossy(&verified.stderr).contains("a broker uses"));
    expect(&log(&["repair-index"], dir), 0);
    let refused = log(&["repair-index", "--write"], dir);
    expect(&refused, 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use by another process"));
}
