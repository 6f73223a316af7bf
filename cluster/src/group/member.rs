//! A member of a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ErrorCode;

use super::event::{
    Bytes, Command, JoinReply, JoinRequest, MemberId, MemberProtocol, Reply, SyncReply, Token,
};

/// What a member agrees to when it joins, and may change when it joins again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberTerms {
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In the order of preference, each name once.
    pub(super) protocols: Vec<MemberProtocol>,
}

impl MemberTerms {
    pub(super) fn of(request: &JoinRequest) -> Self {
        // Version 0 of JoinGroup knows one timeout only.
        let rebalance_timeout_ms = if request.rebalance_timeout_ms < 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        };
        Self {
            rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: without_repeats(&request.protocols),
        }
    }

    /// The subscription under one of the supported protocols.
    pub(super) fn metadata(&self, protocol_name: &str) -> Option<&Bytes> {
        self.protocols
            .iter()
            .find(|p| &*p.name == protocol_name)
            .map(|p| &p.metadata)
    }
}

/// The protocols with each name once: votes and support are counted by name.
fn without_repeats(protocols: &[MemberProtocol]) -> Vec<MemberProtocol> {
    let mut seen = BTreeSet::new();
    protocols
        .iter()
        .filter(|protocol| seen.insert(protocol.name.clone()))
        .cloned()
        .collect()
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) group_instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) terms: MemberTerms,
    pub(super) assignment: Bytes,
    /// Whether it has not been answered its first join: it cannot heartbeat, so a parked join does
    /// not keep it alive.
    pub(super) is_new: bool,
    /// A `JoinGroup` that waits for the others.
    pub(super) parked_join: Option<Token>,
    /// A `SyncGroup` that waits for the leader's assignment.
    pub(super) parked_sync: Option<Token>,
}

impl Member {
    pub(super) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    /// Whether it proved that it lives by a request that is parked.
    pub(super) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.parked_join.is_some() || self.parked_sync.is_some())
    }

    /// Its favourite among the candidates.
    pub(super) fn vote(&self, candidates: &BTreeSet<&str>) -> Option<&Arc<str>> {
        self.terms
            .protocols
            .iter()
            .map(|p| &p.name)
            .find(|name| candidates.contains(&***name))
    }

    /// The answers to what it has parked, for it is no longer the member that it was.
    pub(super) fn refuse_parked(&self, told_id: &str, error: ErrorCode) -> Vec<Command> {
        let join = self
            .parked_join
            .map(|token| Command::Reply(token, Reply::Join(JoinReply::error(told_id, error))));
        let sync = self
            .parked_sync
            .map(|token| Command::Reply(token, Reply::Sync(SyncReply::error(error))));
        join.into_iter().chain(sync).collect()
    }
}
