//! The states of a classic consumer group and the transitions between them.
//!
//! ```text
//!            first member joins            all joined, or time is up
//!   Empty ──────────────────▶ PreparingRebalance ──────────────────▶ CompletingRebalance
//!     │ ▲                        │    ▲      ▲                          │         │
//!     │ └────── nobody is left ──┘    │      └── member joins, leaves, ─┘         │
//!     │                               │          or fails                         │
//!     │ deleted                       └──────────────────────────── Stable ◀──────┘
//!     ▼                              member joins, leaves or fails     the leader's assignment
//!   Dead                                                               is durable
//! ```
//!
//! *Source*: Kafka's classic group protocol; the names are those that `DescribeGroups` shows.

/// The state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// No members. The group lives on while it has committed offsets.
    Empty,
    /// Joins are parked until every member has joined or the rebalance timeout is over.
    PreparingRebalance,
    /// Every member knows the new generation; the leader's assignment is awaited.
    CompletingRebalance,
    /// Every member may fetch its assignment.
    Stable,
    /// The tombstone of the group is being written; the group goes when it is durable.
    Dead,
}

impl GroupState {
    /// The name that Kafka's protocol uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// Whether a group may go from this state to `next`.
    ///
    /// A dead group returns to `Empty` when its tombstone could not be written.
    pub fn may_become(self, next: Self) -> bool {
        match next {
            Self::Empty => matches!(self, Self::PreparingRebalance | Self::Dead),
            Self::PreparingRebalance => {
                matches!(self, Self::Stable | Self::CompletingRebalance | Self::Empty)
            }
            Self::CompletingRebalance => self == Self::PreparingRebalance,
            Self::Stable => self == Self::CompletingRebalance,
            Self::Dead => self == Self::Empty,
        }
    }
}
