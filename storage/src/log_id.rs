//! Names of logs: the broker's id for a log and the log's own incarnation.
//!
//! *Place*: everywhere in this crate. *Invariants*: **I1** an incarnation is unique in a data
//! directory and never used twice: a counter per shard (kept in its checkpoint, raised by replay)
//! above 16 bits of shard number.

use std::fmt;
use std::path::{Path, PathBuf};

/// A log as the broker names it. Opaque here: storage has never heard of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The topic's 16-byte id.
    pub topic: [u8; 16],
    /// The partition's index.
    pub partition: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.topic {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}", self.partition)
    }
}

/// Bits of an incarnation that hold the shard which made it.
const SHARD_BITS: u32 = 16;

/// The incarnation that `shard` makes from its `counter`.
pub(crate) fn incarnation(counter: u64, shard: u32) -> u64 {
    assert!(
        shard < 1 << SHARD_BITS,
        "shard {shard} needs more than {SHARD_BITS} bits"
    );
    assert!(
        counter < 1 << (u64::BITS - SHARD_BITS),
        "incarnation counter {counter} is used up"
    );
    counter << SHARD_BITS | u64::from(shard)
}

/// The counter from which `incarnation` was made.
pub(crate) fn incarnation_counter(incarnation: u64) -> u64 {
    incarnation >> SHARD_BITS
}

/// `<data>/logs`, the parent of all log directories.
pub(crate) fn logs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

/// The directory of one incarnation of a log.
pub(crate) fn log_dir(data_dir: &Path, id: LogId, incarnation: u64) -> PathBuf {
    logs_dir(data_dir).join(format!("{id}-{incarnation:016x}"))
}

/// The directory of one shard's journal and checkpoints.
pub(crate) fn shard_dir(data_dir: &Path, shard: u32) -> PathBuf {
    data_dir.join("shards").join(shard.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_of_two_shards_never_meet() {
        assert_ne!(incarnation(7, 0), incarnation(7, 1));
        assert_eq!(incarnation_counter(incarnation(7, 3)), 7);
    }

    #[test]
    fn a_log_directory_names_topic_partition_and_incarnation() {
        let id = LogId {
            topic: [0xab; 16],
            partition: 12,
        };
        let path = log_dir(Path::new("/d"), id, 0x2a);
        let topic = "ab".repeat(16);
        assert_eq!(
            path,
            PathBuf::from(format!("/d/logs/{topic}-12-000000000000002a"))
        );
    }
}
