//! Loading a partition's groups when this shard begins to lead it.
//!
//! *Durability*: loads to the log end as of the beginning, and reads up to the high watermark only, so
//! that nothing is served which could still be taken back. A log of which anything cannot be read fails
//! the partition: half of its groups, or offsets from before the damage, would be served as the truth.
//!
//! *Limits*: a batch may decompress to [`DECOMPRESSED_BYTES_MAX`]; the broker itself writes plain ones.

use std::rc::Rc;
use std::time::Duration;

use cluster::group::Loader;
use cluster::group::records::RecordError;
use protocol::ErrorCode;
use protocol::compression::DecompressContext;
use protocol::record_batch::{BatchError, BatchView, Batches};
use runtime::{task, time};

use super::led_partition::LedPartition;
use super::{Coordinator, now};

/// The largest batch in memory, after decompression.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// How long to wait when the high watermark has not reached the log end yet.
const HIGH_WATERMARK_POLL: Duration = Duration::from_millis(5);

/// Why a partition cannot be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the log cannot be read: {}", .0.name())]
    Log(ErrorCode),
    #[error("the batch at offset {offset} is damaged: {source}")]
    Batch { offset: i64, source: BatchError },
    #[error("the record at offset {offset} is damaged: {source}")]
    Record { offset: i64, source: RecordError },
}

/// Loads the partition, and lets it serve.
pub(super) async fn load(coordinator: Rc<Coordinator>, led: Rc<LedPartition>) {
    let begun = time::now();
    match read_all(&coordinator, &led).await {
        Ok(loader) => {
            let skipped_records = loader.skipped_record_count();
            let groups = loader.finish(coordinator.options.settings.clone(), now());
            let (partition, groups_loaded) = (led.number, groups.group_count());
            if groups_loaded > 0 || skipped_records > 0 {
                let millis = begun.elapsed().as_millis() as u64;
                tracing::info!(
                    partition,
                    groups_loaded,
                    skipped_records,
                    millis,
                    "groups loaded"
                );
            }
            led.serve(groups);
            // Sessions of the loaded members have begun: the alarm must know.
            coordinator.change(&led, |_, _, _| {});
        }
        Err(error) => {
            tracing::error!(partition = led.number, %error, "groups cannot be loaded");
            led.fail();
        }
    }
}

async fn read_all(coordinator: &Coordinator, led: &LedPartition) -> Result<Loader, LoadError> {
    let bounds = coordinator.log.bounds(led.number).map_err(LoadError::Log)?;
    let mut loader = Loader::new();
    let mut scratch = Scratch::default();
    let mut next_offset = bounds.start;
    while next_offset < bounds.end && !led.is_resigned() {
        let read = coordinator
            .log
            .read(led.number, next_offset)
            .await
            .map_err(LoadError::Log)?;
        if read.is_empty() {
            time::sleep(HIGH_WATERMARK_POLL).await;
            continue;
        }
        for batch in Batches::new(&read) {
            let batch = batch.map_err(|source| LoadError::Batch {
                offset: next_offset,
                source,
            })?;
            // A read may begin with a batch of which the first records are known already.
            if batch.last_offset() >= next_offset {
                let offset = batch.base_offset();
                let intact = batch.check_crc();
                intact.map_err(|source| LoadError::Batch { offset, source })?;
                replay(&batch, next_offset, &mut loader, &mut scratch)?;
                next_offset = batch.next_offset();
            }
            task::yield_if_needed().await;
        }
    }
    Ok(loader)
}

/// Memory that is used again from batch to batch.
#[derive(Default)]
struct Scratch {
    context: DecompressContext,
    plain: Vec<u8>,
}

fn replay(
    batch: &BatchView<'_>,
    from_offset: i64,
    loader: &mut Loader,
    scratch: &mut Scratch,
) -> Result<(), LoadError> {
    if batch.is_control() || batch.is_transactional() {
        // Commits inside of transactions are not served, so that none of ours is among them.
        return Ok(());
    }
    let damaged = |source| LoadError::Batch {
        offset: batch.base_offset(),
        source,
    };
    let records = batch
        .records(
            &mut scratch.context,
            &mut scratch.plain,
            DECOMPRESSED_BYTES_MAX,
        )
        .map_err(damaged)?;
    for record in records {
        let record = record.map_err(damaged)?;
        if record.offset >= from_offset {
            let loaded = loader.record(record.key, record.value);
            loaded.map_err(|source| LoadError::Record {
                offset: record.offset,
                source,
            })?;
        }
    }
    Ok(())
}
