//! Producer ids: a shard takes a block from the metadata and hands out one after the other.

use std::cell::Cell;
use std::rc::Rc;

use cluster::metadata::Command;
use protocol::error_code::ErrorCode;

use super::context::Handlers;

/// Ids in one block (as in Kafka).
const BLOCK: i32 = 1000;

/// The block of one shard.
#[derive(Clone, Default)]
pub(super) struct ProducerIds {
    /// Next id and the end of the block.
    range: Rc<Cell<(i64, i64)>>,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        let (next, end) = self.range.get();
        (next < end).then(|| {
            self.range.set((next + 1, end));
            next
        })
    }
}

impl Handlers {
    /// A producer id that nobody had before.
    pub(super) async fn next_producer_id(&self) -> Result<i64, ErrorCode> {
        if let Some(id) = self.producer_ids.take() {
            return Ok(id);
        }
        let allocate: crate::control::Decision =
            Box::new(|_| Ok(Command::AllocateProducerIds { count: BLOCK }));
        let decided = self.control.decide(vec![allocate], false).await?;
        // Another request of this shard may have fetched a block meanwhile; then this one is kept and
        // the rest of that one is never used.
        let end = decided.image.next_producer_id();
        self.producer_ids.range.set((end - i64::from(BLOCK), end));
        self.producer_ids
            .take()
            .ok_or(ErrorCode::CoordinatorLoadInProgress)
    }
}
