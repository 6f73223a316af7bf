//! The messages: one file for each API, with its request, its response and what is inside them.
//!
//! Place: handlers decode requests and build responses; clients and tests do the reverse.
//! Invariants: I1 decoding borrows from the frame and allocates only the vectors of arrays. I2 no
//! input makes decoding panic or allocate beyond the frame's bound
//! ([`MEMORY_FACTOR`](crate::primitives::decoder::MEMORY_FACTOR)). I3 what a version does not have
//! is the default after decoding, and left out when encoding.
//!
//! Codes of errors, resources and configs are plain integers here, as they are on the wire: a peer
//! may know values that we do not.

pub mod alter_configs;
pub mod api_versions;
pub mod consumer_protocol;
pub mod create_partitions;
pub mod create_topics;
mod declare;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
mod every_api;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
#[cfg(test)]
mod tests;

pub use every_api::{Request, Response};
