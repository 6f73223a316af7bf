//! The settings of consumer groups, with Kafka's defaults.
//!
//! *Place*: made by the driver from the broker's configuration, read by every rule of this module.

/// Settings shared by all groups of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`, inclusive.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`, inclusive.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first members of an empty group wait for others.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members that a group may have.
    pub members_max: usize,
    /// Members that were given an id (KIP-394) and have not joined with it yet, per group.
    ///
    /// Kafka bounds them by their session timeout alone; a client that asks for ids in a loop would
    /// fill the memory long before that.
    pub pending_members_max: usize,
    /// How long the join of a new member may stay parked. It cannot heartbeat yet, and its socket is
    /// not read while its join is parked, so this is what finds out that it has gone.
    pub new_member_join_timeout_ms: i32,
    /// `offset.metadata.max.bytes`, in UTF-16 units, as Kafka counts.
    pub offset_metadata_chars_max: usize,
    /// `offsets.retention.minutes`, in milliseconds (KIP-211).
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 30 * 60 * 1_000,
            initial_rebalance_delay_ms: 3_000,
            members_max: i32::MAX as usize,
            pending_members_max: 10_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            offset_metadata_chars_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 10 * 60 * 1_000,
        }
    }
}
