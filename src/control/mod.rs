//! The control thread's part of metadata: decisions, their durable log, and the image that shards see.
//!
//! Place: handlers send decisions through a [`ControlHandle`]; `node` runs the [`controller`].
//! Core: the control thread; shards wait for its answer and are never waited for by a lock.

pub mod controller;
pub mod metadata_log;

use std::sync::Arc;

use cluster::controller::Refusal;
use cluster::metadata::{Command, Image};
use protocol::error_code::ErrorCode;
use runtime::mailbox::Sender;
use runtime::oneshot_remote;

/// Decides on a command by the image as it is when its turn comes.
pub type Decision = Box<dyn FnOnce(&Image) -> Result<Command, Refusal> + Send>;

/// Decisions that are taken one after the other and made durable together.
pub struct Request {
    decisions: Vec<Decision>,
    validate_only: bool,
    reply: oneshot_remote::Sender<Decided>,
}

/// What became of a request.
pub struct Decided {
    /// In the order of the decisions: the command that is in force now, or why there is none.
    pub results: Vec<Result<Command, Refusal>>,
    /// The image after them, as every shard sees it.
    pub image: Arc<Image>,
}

/// Requests that may wait for the control thread.
pub const REQUESTS_MAX: usize = 1024;

/// The way from a shard to the control thread.
#[derive(Clone)]
pub struct ControlHandle {
    requests: Sender<Request>,
}

impl ControlHandle {
    /// A handle whose requests go to the other end of `requests`.
    pub fn new(requests: Sender<Request>) -> Self {
        Self { requests }
    }

    /// Has decisions taken and made durable, or only tried, and returns when every shard knows.
    ///
    /// # Errors
    /// The node is stopping, or its metadata log is broken.
    pub async fn decide(
        &self,
        decisions: Vec<Decision>,
        validate_only: bool,
    ) -> Result<Decided, ErrorCode> {
        let (reply, answer) = oneshot_remote::channel();
        let request = Request {
            decisions,
            validate_only,
            reply,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| ErrorCode::NotController)?;
        answer.await.map_err(|_| ErrorCode::NotController)
    }
}
