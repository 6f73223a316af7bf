//! Memory that the kernel makes ready before it is touched.
//!
//! *Place*: below [`crate::buffer`]. *Core*: asked for by a shard, done by a worker thread of its ring.
#![allow(unsafe_code, reason = "advice about memory")]

use io_uring::opcode;

use super::shard;
use crate::buffer::Unwritten;
use crate::ring::slots::Memory;

/// Starts to make the pages of `memory` present and writable (`MADV_POPULATE_WRITE`, Linux 5.14). Nobody waits for it, and an
/// error says only that the pages come when they are touched, as they would have anyway.
pub(crate) fn make_ready(memory: Unwritten) {
    let Some(shard) = shard::try_current() else {
        return;
    };
    let (start, bytes) = memory.span();
    let operation = shard.start_without_file(Memory::Unwritten(memory), || {
        opcode::Madvise::new(
            start.as_ptr().cast(),
            bytes as libc::off_t,
            libc::MADV_POPULATE_WRITE,
        )
        .build()
    });
    drop(operation);
}
