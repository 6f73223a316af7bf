//! HTTP of the control thread: `/livez`, `/readyz`, `/metrics`.
//!
//! Core: the control thread; it asks the shards by message and never holds them up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use runtime::mailbox::Sender;
use tokio::net::TcpListener;

use crate::metrics::{Snapshot, exporter};
use crate::partition::shard::{ShardTask, call_from};

/// A shard that does not answer within this time is not alive.
const SHARD_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers need.
#[derive(Clone)]
pub struct HttpState {
    /// The shards.
    pub mailboxes: Arc<[Sender<ShardTask>]>,
    /// Set once recovery is over and clients are served; cleared when the node stops.
    pub is_ready: Arc<AtomicBool>,
}

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

/// Alive: every shard's executor answers.
async fn livez(State(state): State<HttpState>) -> Response {
    match snapshots(&state).await {
        Some(_) => (StatusCode::OK, "alive\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer\n").into_response(),
    }
}

/// Ready: recovered, serving clients, and no log directory offline.
async fn readyz(State(state): State<HttpState>) -> Response {
    if !state.is_ready.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response();
    }
    match snapshots(&state).await {
        Some(shards) if shards.iter().all(|shard| shard.offline == 0) => {
            (StatusCode::OK, "ready\n").into_response()
        }
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "log directory offline\n").into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer\n").into_response(),
    }
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let Some(shards) = snapshots(&state).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "a shard does not answer\n").into_response();
    };
    match exporter::render(shards) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn snapshots(state: &HttpState) -> Option<Vec<Snapshot>> {
    let mut snapshots = Vec::with_capacity(state.mailboxes.len());
    for shard in 0..state.mailboxes.len() {
        let answer = call_from(
            &state.mailboxes,
            shard,
            |shard| async move { shard.snapshot() },
        );
        snapshots.push(
            tokio::time::timeout(SHARD_ANSWER_TIMEOUT, answer)
                .await
                .ok()?
                .ok()?,
        );
    }
    Some(snapshots)
}
