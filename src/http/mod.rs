//! HTTP of the control thread: `/livez`, `/readyz`, `/metrics`, and answers for operators under `/v1`.
//!
//! Core: the control thread; it asks the shards by message and never holds them up. It listens from before
//! recovery on, so that a long start can be told from a dead process.

mod retention;

use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use runtime::mailbox::Sender;
use tokio::net::TcpListener;

use crate::coordinator::{self, NotServed};
use crate::metrics::exporter;
use crate::partition::shard::{Shard, ShardTask, call_from};

/// A shard that does not answer within this time is not alive.
const SHARD_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers need.
#[derive(Clone)]
pub struct HttpState {
    /// The shards, once each has replayed its journal.
    pub shards: Arc<OnceLock<Arc<[Sender<ShardTask>]>>>,
    /// Set once metadata is applied, logs are open and clients are served; cleared when the node stops.
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
        .route(
            "/v1/topics/{topic}/partitions/{partition}/retention",
            get(retention::explain),
        )
        .with_state(state);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

/// Alive: recovering, or every shard's executor answers.
async fn livez(State(state): State<HttpState>) -> Response {
    let Some(shards) = state.shards.get() else {
        return (StatusCode::OK, "alive, recovering\n").into_response();
    };
    match ask_all(shards, |_| ()).await {
        Some(_) => (StatusCode::OK, "alive\n").into_response(),
        None => unavailable("a shard does not answer"),
    }
}

/// Ready: metadata applied, journals replayed, logs open, clients served, and every group coordinator that is
/// led here loaded. A log directory that is offline is told, and does not make the node unready.
async fn readyz(State(state): State<HttpState>) -> Response {
    let shards = state.shards.get();
    let Some(shards) = shards.filter(|_| state.is_ready.load(Ordering::Acquire)) else {
        return unavailable("starting or stopping");
    };
    let ask = |shard: &Shard| (what_is_missing(shard), offline_log_dirs(shard));
    let Some(answers) = ask_all(shards, ask).await else {
        return unavailable("a shard does not answer");
    };
    let (missing, offline): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    if let Some(missing) = missing.into_iter().flatten().next() {
        return unavailable(&missing);
    }
    // The partitions in the other directories are served, and taking them away would help nobody.
    let offline: BTreeSet<String> = offline.into_iter().flatten().collect();
    let mut text = "ready\n".to_owned();
    for path in offline {
        text.extend(["log directory offline: ", &path, "\n"]);
    }
    (StatusCode::OK, text).into_response()
}

fn offline_log_dirs(shard: &Shard) -> Vec<String> {
    let offline = shard.log_dirs.offline();
    offline.map(|path| path.display().to_string()).collect()
}

/// What keeps a shard from serving all that it should.
fn what_is_missing(shard: &Shard) -> Option<String> {
    if !shard.log_dirs.online().any(|(dir, _)| dir == 0) {
        return Some("the log directory with the metadata is offline".to_owned());
    }
    let NotServed { loading, failed } = coordinator::current().not_served();
    if !failed.is_empty() {
        return Some(format!(
            "groups cannot be served: __consumer_offsets partitions {failed:?} failed"
        ));
    }
    (!loading.is_empty()).then(|| format!("{} group coordinators are loading", loading.len()))
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let Some(shards) = state.shards.get() else {
        return unavailable("recovering");
    };
    let Some(shards) = ask_all(shards, Shard::snapshot).await else {
        return unavailable("a shard does not answer");
    };
    match exporter::render(shards) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Asks every shard, in their order; `None` if one does not answer in time.
async fn ask_all<R: Send + 'static>(
    shards: &[Sender<ShardTask>],
    ask: fn(&Shard) -> R,
) -> Option<Vec<R>> {
    let mut answers = Vec::with_capacity(shards.len());
    for shard in 0..shards.len() {
        let answer = call_from(
            shards,
            shard,
            move |shard: Rc<Shard>| async move { ask(&shard) },
        );
        let answer = tokio::time::timeout(SHARD_ANSWER_TIMEOUT, answer).await;
        answers.push(answer.ok()?.ok()?);
    }
    Some(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_recovers_is_alive_and_not_ready() {
        let state = HttpState {
            shards: Arc::default(),
            is_ready: Arc::default(),
        };
        let status = |response: Response| response.status().as_u16();
        assert_eq!(status(livez(State(state.clone())).await), 200);
        assert_eq!(status(readyz(State(state.clone())).await), 503);
        assert_eq!(status(metrics(State(state.clone())).await), 503);
        // Its shards have recovered (here: there are none); its logs are still being opened.
        assert!(state.shards.set(Arc::new([])).is_ok());
        assert_eq!(status(livez(State(state.clone())).await), 200);
        assert_eq!(status(readyz(State(state.clone())).await), 503);
        state.is_ready.store(true, Ordering::Release);
        assert_eq!(status(readyz(State(state)).await), 200);
    }
}
