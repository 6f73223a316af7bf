//! What a start finds after a crash, held against the model.
//!
//! What must hold: the journal of a shard orders all its changes, so what is recovered is the state after
//! the first k of them for one k, and k is not below what had been answered as durable. What a compacted log
//! lacks then it lacks for good.

use std::path::Path;

use runtime::sim::Random;
use storage::{PartitionLog, StorageError, make_shards, shard_count_on_disk};

use crate::compacted::{self, is_compacted};
use crate::model::{Exactness, History, Past, difference};
use crate::work::{Scope, Shards, SharedPast, Worker, change_shard_count};
use crate::world::DATA_DIR;

/// Starts on what is there, or anew, with `shards` shards from now on, and checks it. The past begins anew from what
/// was found.
///
/// # Errors
/// Those of the start.
pub(crate) async fn recover(
    past: &SharedPast,
    shards: u32,
    exactness: Exactness,
) -> Result<Shards, StorageError> {
    let found = shard_count_on_disk(Path::new(DATA_DIR)).await?;
    match found {
        None => make_shards(Path::new(DATA_DIR), shards).await?,
        Some(found) if found != shards => change_shard_count(found, shards).await?,
        Some(_) => {}
    }
    let opened = Shards::open(shards).await?;
    let before = past.borrow().clone();
    let counts = recovered_counts(&opened.logs(), &before, exactness).await?;
    past.borrow_mut().settle(&counts, shards);
    if exactness == Exactness::Whole {
        settle_compacted(&opened.logs(), past).await?;
    }
    Ok(opened)
}

async fn settle_compacted(logs: &[PartitionLog], past: &SharedPast) -> Result<(), StorageError> {
    for log in logs {
        let number = log.id().partition;
        if is_compacted(number) {
            let bytes = compacted::read_to_end(log, 9000).await?;
            past.borrow_mut()
                .change_certain(number, |log| compacted::settle(log, &bytes));
        }
    }
    Ok(())
}

/// As [`recover`], then works on.
///
/// # Errors
/// Those of the start and of the work.
pub(crate) async fn recover_and_work(
    past: SharedPast,
    seed: u64,
    steps: usize,
) -> Result<(), StorageError> {
    let mut random = Random::new(seed);
    let before = past.borrow().shards();
    let shards = if random.chance(1, 8) {
        1 + random.below(3) as u32
    } else {
        before
    };
    let mut opened = recover(&past, shards, Exactness::Whole).await?;
    let mut worker = Worker::new(seed, &past, Scope::Everything);
    worker.work(&mut opened, steps).await?;
    worker.compare(&opened).await?;
    if random.chance(1, 2) {
        opened.close().await?;
        past.borrow_mut().acknowledge_all();
    }
    Ok(())
}

/// How many changes of each history the logs hold.
async fn recovered_counts(
    logs: &[PartitionLog],
    past: &Past,
    exactness: Exactness,
) -> Result<Vec<usize>, StorageError> {
    let mut counts = Vec::new();
    for (shard, history) in past.histories.iter().enumerate() {
        let of_shard = |log: &&PartitionLog| past.shard_of(log.id().partition) == shard;
        let logs: Vec<_> = logs.iter().filter(of_shard).cloned().collect();
        counts.push(recovered_count(&logs, history, exactness).await?);
    }
    Ok(counts)
}

async fn recovered_count(
    logs: &[PartitionLog],
    history: &History,
    exactness: Exactness,
) -> Result<usize, StorageError> {
    let least = match exactness {
        Exactness::Whole => history.acknowledged(),
        // What the disk lied about last looks as if it had never been written.
        Exactness::OrReportedDamage => 0,
    };
    let mut differences = vec![format!("{} acknowledged", history.acknowledged())];
    for count in (least..=history.len()).rev() {
        match difference(logs, &history.state_after(count), 9000, exactness).await? {
            None => return Ok(count),
            Some(difference) => differences.push(format!("{count}: {difference}")),
        }
    }
    panic!(
        "no state of the history was recovered: {}",
        differences.join("\n")
    );
}
