//! The data plane of one shard: its partitions, produce, fetch, reconciliation with the metadata image.
//!
//! Place: `handlers` call it; it calls `storage`. Everything here lives on the shard that owns the
//! partition and is reached from another shard only through [`shard::Shard::call`].

pub mod fetch;
pub mod housekeeping;
pub mod log_dir_failure;
pub mod log_dirs;
pub mod produce;
pub mod reconcile;
pub mod replica;
pub mod shard;
mod snapshot;
pub mod table;
