//! One shard's journal and its partition logs on one disk.
