//! Writing what the machines command.
//!
//! *Ordering*: one batch a partition is on its way; what is commanded meanwhile goes into the next, as in
//! a group commit. So appends end in the order in which they were commanded.

use std::rc::Rc;

use cluster::group::records::EncodedRecord;
use protocol::ErrorCode;
use protocol::record_batch::{BatchBuilder, BatchOptions};
use runtime::task::{self, Class};
use runtime::time;

use super::Coordinator;
use super::led_partition::{LedPartition, QueuedAppend, batch_bytes};

/// What a batch takes besides its records.
const BATCH_HEADER_BYTES: usize = 61;

/// Writes until nothing is left to write.
pub(super) fn spawn(coordinator: Rc<Coordinator>, led: Rc<LedPartition>) {
    let supervised = async move {
        let writer = task::spawn(Class::Storage, write(coordinator, led.clone()));
        if let Err(error) = writer.await {
            // Without its writer the partition would leave its requests waiting for ever.
            tracing::error!(partition = led.number, %error, "the writer of group records failed");
            led.fail();
        }
    };
    task::spawn(Class::Storage, supervised).detach();
}

async fn write(coordinator: Rc<Coordinator>, led: Rc<LedPartition>) {
    let records_bytes_max = coordinator
        .options
        .batch_bytes_max
        .saturating_sub(BATCH_HEADER_BYTES);
    loop {
        let appends = led.next_appends(records_bytes_max);
        if appends.is_empty() {
            return;
        }
        let result = write_appends(&coordinator, &led, &appends, records_bytes_max).await;
        if let Err(error) = result {
            let (partition, error) = (led.number, error.name());
            tracing::warn!(partition, error, "records of groups could not be written");
        }
        for append in appends {
            coordinator.change(&led, |groups, now, commands| {
                groups.appended(append.id, result, now, commands);
            });
        }
    }
}

/// Writes the appends in one batch; in several, if it is one append that is larger than a batch. Then
/// a crash may leave the first part of it, which has not been acknowledged.
async fn write_appends(
    coordinator: &Coordinator,
    led: &LedPartition,
    appends: &[QueuedAppend],
    records_bytes_max: usize,
) -> Result<(), ErrorCode> {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    let timestamp_ms = time::wall_clock_ms();
    let mut records_bytes = 0;
    for record in appends.iter().flat_map(|append| &append.records) {
        if batch.record_count() > 0 && records_bytes + batch_bytes(record) > records_bytes_max {
            let full = std::mem::replace(&mut batch, BatchBuilder::new(BatchOptions::default()));
            append_batch(coordinator, led, full).await?;
            records_bytes = 0;
        }
        records_bytes += batch_bytes(record);
        push(&mut batch, timestamp_ms, record);
    }
    append_batch(coordinator, led, batch).await
}

fn push(batch: &mut BatchBuilder, timestamp_ms: i64, record: &EncodedRecord) {
    batch.push(
        timestamp_ms,
        Some(&record.key),
        record.value.as_deref(),
        &[],
    );
}

async fn append_batch(
    coordinator: &Coordinator,
    led: &LedPartition,
    batch: BatchBuilder,
) -> Result<(), ErrorCode> {
    if led.has_ended() {
        // Between two batches of a large append: the log may be another's by now.
        return Err(ErrorCode::NotCoordinator);
    }
    let bytes = batch
        .build()
        .expect("records that are not compressed always make a batch");
    coordinator.log.append(led.number, bytes).await
}
