//! Tests of the storage crate on the simulated disk: a model, crashes at every operation, and a named
//! test for each rule that recovery stands on (`docs/storage-format.md`, "Rules and their tests").

mod batches;
mod compacted;
mod compaction;
mod crash;
mod direct;
mod faults;
mod logs;
mod many_logs;
mod model;
mod offline;
mod reads;
mod recover;
mod rules;
mod scrub;
mod shards;
mod work;
mod world;
