//! `GET /v1/topics/{topic}/partitions/{partition}/retention`: why each segment of a partition is still here,
//! and when it will go.
//!
//! Place: the judgement is `storage`'s own, the one by which it deletes; this puts it into words and JSON.

use std::rc::Rc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cluster::configs::CleanupPolicy;
use protocol::error_code::ErrorCode;
use serde::Serialize;
use storage::{Fate, SegmentRetention};

use super::{HttpState, SHARD_ANSWER_TIMEOUT, unavailable};
use crate::partition::shard::{Shard, Stopping, call_from};
use crate::partition::table::PartitionKey;

/// What is told of a partition.
#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    partition: i32,
    /// The broker's clock when it judged.
    now_ms: i64,
    cleanup_policy: &'static str,
    /// The limits in force; null: none.
    retention_ms: Option<i64>,
    retention_bytes: Option<u64>,
    log_start_offset: i64,
    log_end_offset: i64,
    size_bytes: u64,
    /// Oldest first; the last one is active.
    segments: Vec<Segment>,
}

/// What is told of a segment; times in ms, null where its records have none.
#[derive(Debug, Serialize)]
struct Segment {
    base_offset: i64,
    bytes: u64,
    first_timestamp_ms: Option<i64>,
    max_timestamp_ms: Option<i64>,
    last_append_ms: i64,
    /// Its age is counted from here: the smaller of the two above.
    age_from_ms: i64,
    /// Whether the next sweep takes it.
    goes: bool,
    why: &'static str,
    /// When it goes by age, if nothing is appended to it.
    goes_by_age_at_ms: Option<i64>,
    /// After how many more bytes it goes by size.
    goes_by_size_after_bytes: Option<u64>,
}

/// Serves the explanation.
pub(super) async fn explain(
    State(state): State<HttpState>,
    Path((topic, partition)): Path<(String, i32)>,
) -> Response {
    let Some(shards) = state.shards.get() else {
        return unavailable("recovering");
    };
    // Any shard knows where a partition is.
    let work = move |shard: Rc<Shard>| ask_owner(shard, topic, partition);
    match tokio::time::timeout(SHARD_ANSWER_TIMEOUT, call_from(shards, 0, work)).await {
        Ok(Ok(Ok(Ok(report)))) => json(StatusCode::OK, &report),
        Ok(Ok(Ok(Err(ErrorCode::KafkaStorageError)))) => {
            let error = serde_json::json!({ "error": "its log directory is offline" });
            json(StatusCode::SERVICE_UNAVAILABLE, &error)
        }
        Ok(Ok(Ok(Err(_)))) => {
            let error = serde_json::json!({ "error": "there is no such partition here" });
            json(StatusCode::NOT_FOUND, &error)
        }
        Ok(Ok(Err(Stopping)) | Err(Stopping)) => unavailable("stopping"),
        Err(_) => unavailable("a shard does not answer"),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ask_owner(
    shard: Rc<Shard>,
    name: String,
    partition: i32,
) -> Result<Result<Report, ErrorCode>, Stopping> {
    let topic = shard.image().topic(&name).map(|topic| topic.id);
    let Some(topic) = topic else {
        return Ok(Err(ErrorCode::UnknownTopicOrPartition));
    };
    let key = PartitionKey { topic, partition };
    let work = move |owner: Rc<Shard>| async move { report(&owner, key, name) };
    shard.call(shard.owner(key), work).await
}

fn report(owner: &Shard, key: PartitionKey, topic: String) -> Result<Report, ErrorCode> {
    let replica = owner.table.find(key)?;
    let now_ms = runtime::time::wall_clock_ms();
    let policy = replica.config().cleanup_policy;
    let (log, config) = (&replica.log, replica.log.config());
    let segments = log.explain_retention(now_ms);
    Ok(Report {
        topic,
        partition: key.partition,
        now_ms,
        cleanup_policy: policy_name(policy),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        log_start_offset: log.log_start_offset(),
        log_end_offset: log.log_end_offset(),
        size_bytes: log.size_bytes(),
        segments: segments.iter().map(|one| segment(one, policy)).collect(),
    })
}

fn segment(one: &SegmentRetention, policy: CleanupPolicy) -> Segment {
    let known = |timestamp: i64| (timestamp >= 0).then_some(timestamp);
    Segment {
        base_offset: one.base_offset,
        bytes: one.bytes,
        first_timestamp_ms: known(one.first_timestamp),
        max_timestamp_ms: known(one.max_timestamp),
        last_append_ms: one.last_append_ms,
        age_from_ms: one.age_from_ms,
        goes: one.judgement.fate.goes(),
        why: why(one.judgement.fate, policy),
        goes_by_age_at_ms: one.judgement.goes_by_age_at_ms,
        goes_by_size_after_bytes: one.judgement.goes_by_size_after_bytes,
    }
}

fn why(fate: Fate, policy: CleanupPolicy) -> &'static str {
    match fate {
        Fate::GoesBelowLogStart => "its records were deleted by DeleteRecords",
        Fate::GoesByAge => "older than retention.ms",
        Fate::GoesBySize => "the log is larger than retention.bytes without it",
        Fate::StaysNotDurable => "some of its records are not durable yet",
        Fate::StaysBehindOlder => "an older segment stays, and a log has no holes",
        Fate::StaysActive => "it takes the appends",
        Fate::StaysWithinLimits => "retention.ms is not reached and size is within retention.bytes",
        Fate::StaysWithoutLimits if policy.has_delete() => {
            "neither retention.ms nor retention.bytes is set"
        }
        Fate::StaysWithoutLimits => "cleanup.policy does not delete",
    }
}

fn policy_name(policy: CleanupPolicy) -> &'static str {
    match policy {
        CleanupPolicy::None => "",
        CleanupPolicy::Delete => "delete",
        CleanupPolicy::Compact => "compact",
        CleanupPolicy::CompactDelete => "compact,delete",
    }
}
