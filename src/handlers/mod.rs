//! One file per Kafka API; this one is the dispatch table.
//!
//! Place: `net` hands frames to [`Handlers`]; a handler decodes, asks the shards or the control thread,
//! and encodes. Only the handlers and `protocol` know what the wire looks like.
//! Ordering: see `net::connection`; only Produce is answered later than it is started.

mod api_versions;
mod authorized_operations;
mod configs;
mod context;
mod coordination;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod dispatch;
mod fetch;
mod fetch_session;
mod find_coordinator;
mod group_membership;
mod group_offsets;
mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod producer_ids;

pub use context::Handlers;
