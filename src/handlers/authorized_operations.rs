//! The operations that a client may do, as bit sets (KIP-430). Without ACLs every one is allowed.

/// Bit positions are the codes of Kafka's ACL operations.
const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// What the client did not ask for.
const NOT_ASKED: i32 = i32::MIN;

/// Operations on a topic.
pub(super) fn topic(is_asked: bool) -> i32 {
    let all = READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    if is_asked { all } else { NOT_ASKED }
}

/// Operations on the cluster.
pub(super) fn cluster(is_asked: bool) -> i32 {
    let all = CREATE
        | ALTER
        | DESCRIBE
        | CLUSTER_ACTION
        | DESCRIBE_CONFIGS
        | ALTER_CONFIGS
        | IDEMPOTENT_WRITE;
    if is_asked { all } else { NOT_ASKED }
}

/// Operations on a group.
pub(super) fn group(is_asked: bool) -> i32 {
    if is_asked {
        READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS
    } else {
        NOT_ASKED
    }
}
