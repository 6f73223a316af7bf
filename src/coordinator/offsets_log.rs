//! What a coordinator needs of the partition that keeps its groups.

use std::ops::Range;

use futures_lite::future::BoxedLocal;
use protocol::ErrorCode;
use runtime::Slice;

/// The partitions of `__consumer_offsets` on this shard.
///
/// Implemented over the shard's partition logs, and over memory in tests.
pub trait OffsetsLog {
    /// Appends one batch. Resolves when it is durable and readable, or never will be.
    fn append(&self, partition: i32, batch: Vec<u8>) -> BoxedLocal<Result<(), ErrorCode>>;

    /// The log start offset, and the log end offset, of the partition as of now.
    fn bounds(&self, partition: i32) -> Result<Range<i64>, ErrorCode>;

    /// Whole batches from the one that holds `offset` on, as many as are convenient, none of them
    /// beyond the high watermark, one behind the other. Empty if there is nothing to read yet.
    fn read(&self, partition: i32, offset: i64) -> BoxedLocal<Result<Slice, ErrorCode>>;
}
