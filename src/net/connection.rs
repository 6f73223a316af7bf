//! One client connection: a task that reads and starts requests, and one that answers in order.
//!
//! Place: made by `server`; hands frames to the [`Dispatcher`].
//! Core: lives on one shard.
//! Ordering: requests are started one after the other, in the order in which they came; a request
//! that is answered [`Dispatched::Later`] lets the next one start before it is answered (produce
//! requests share one group commit so), every other one is finished first, as in Kafka. Responses
//! leave in the order of requests; an empty one (produce with acks=0) is a request's place in that order only.
//! Limits: `net.requests_in_flight_max` unanswered requests; then the socket is not read.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::future::{or, poll_once};
use runtime::buffer::Slice;
use runtime::net::Stream;
use runtime::sync::Notify;
use runtime::task::{self, Class};

use super::frames::Frames;
use super::response::Response;

/// A boxed future of this shard.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// A response, or why the connection is closed instead of sending one.
pub type Answer = Result<Response, String>;

/// What became of a request when it was started.
pub enum Dispatched {
    /// The answer.
    Ready(Response),
    /// The answer comes later; the next request may start now.
    Later(LocalFuture<Answer>),
    /// The peer broke the protocol: the connection is closed, with this reason in the log.
    Close(String),
}

/// Takes request frames.
pub trait Dispatcher {
    /// Starts the request in `frame` (without its length field).
    fn dispatch(&self, peer: &Peer, frame: Slice) -> impl Future<Output = Dispatched>;
}

/// Who is at the other end, and what the connection knows of it.
#[derive(Debug)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// Client software from `ApiVersions`, for the log.
    pub software: RefCell<String>,
}

/// Bytes that one vectored send gathers at most before it goes out.
const SEND_BYTES_MAX: usize = 1 << 20;

/// Responses that are not sent yet, in order, between the two tasks of a connection.
#[derive(Default)]
struct Outbox {
    queue: RefCell<VecDeque<Pending>>,
    arrived: Notify,
    taken: Notify,
    /// No more responses will come.
    finished: Cell<bool>,
    /// The socket is broken: nothing can be answered any more.
    broken: Cell<bool>,
}

enum Pending {
    Ready(Response),
    Later(LocalFuture<Answer>),
}

/// Serves one connection until either side closes it. Returns why it ended, if not by the peer.
pub async fn serve<D: Dispatcher>(
    stream: Stream,
    peer: Peer,
    dispatcher: &D,
    limits: Limits,
    activity: &Cell<runtime::time::Instant>,
) -> Result<(), String> {
    let outbox = Rc::new(Outbox::default());
    let writer = task::spawn(
        Class::Network,
        write_responses(stream.clone(), outbox.clone()),
    );
    let outcome = read_requests(&stream, &peer, dispatcher, limits, activity, &outbox).await;
    outbox.finished.set(true);
    outbox.arrived.notify_one();
    if outcome.is_err() {
        // What was asked in good order before is still answered; see `write_responses`.
        tracing::debug!(peer = %peer.address, "closing after the last answers");
    }
    let written = writer.await.unwrap_or(Ok(()));
    stream.shutdown();
    outcome.and(written)
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `net.request_bytes_max`.
    pub request_bytes_max: usize,
    /// `net.requests_in_flight_max`.
    pub requests_in_flight_max: usize,
}

async fn read_requests<D: Dispatcher>(
    stream: &Stream,
    peer: &Peer,
    dispatcher: &D,
    limits: Limits,
    activity: &Cell<runtime::time::Instant>,
    outbox: &Outbox,
) -> Result<(), String> {
    let mut frames = Frames::new(limits.request_bytes_max);
    loop {
        while let Some(frame) = frames.next().map_err(|error| error.to_string())? {
            activity.set(runtime::time::now());
            let started = dispatcher.dispatch(peer, frame);
            let Some(dispatched) = finish_or_hang_up(started, stream).await else {
                return Ok(()); // The peer went away; what it asked for is dropped with the future.
            };
            match dispatched {
                Dispatched::Ready(response) => outbox.push(Pending::Ready(response)),
                Dispatched::Later(response) => outbox.push(Pending::Later(response)),
                Dispatched::Close(reason) => return Err(reason),
            }
            outbox.wait_for_room(limits.requests_in_flight_max).await;
            if outbox.broken.get() {
                return Ok(());
            }
        }
        let buffer = frames
            .buffer_for_receive()
            .map_err(|error| error.to_string())?;
        let (result, buffer) = stream.recv(buffer).await;
        match result {
            Ok(0) => return Ok(()),
            Ok(count) => frames.received(buffer, count),
            Err(error) if is_ordinary_close(&error) => return Ok(()),
            Err(error) => return Err(format!("receive failed: {error}")),
        }
    }
}

/// Waits for a started request, and watches meanwhile whether the peer hangs up (`None`).
///
/// A parked fetch or join of a client that has gone must not stay for the wait it asked for.
async fn finish_or_hang_up(
    started: impl Future<Output = Dispatched>,
    stream: &Stream,
) -> Option<Dispatched> {
    let mut started = std::pin::pin!(started);
    if let Some(dispatched) = poll_once(&mut started).await {
        return Some(dispatched);
    }
    let hung_up = async {
        stream.hung_up().await;
        None
    };
    or(async { Some(started.await) }, hung_up).await
}

fn is_ordinary_close(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(
        error.kind(),
        ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected
    )
}

impl Outbox {
    fn push(&self, pending: Pending) {
        self.queue.borrow_mut().push_back(pending);
        self.arrived.notify_one();
    }

    async fn wait_for_room(&self, limit: usize) {
        while self.queue.borrow().len() >= limit && !self.broken.get() {
            self.taken.notified().await;
        }
    }

    /// The next response to send; `None` when there will be none.
    async fn next(&self) -> Option<Answer> {
        loop {
            let front = self.queue.borrow_mut().pop_front();
            match front {
                Some(Pending::Ready(response)) => return Some(Ok(response)),
                Some(Pending::Later(response)) => return Some(response.await),
                None if self.finished.get() => return None,
                None => self.arrived.notified().await,
            }
        }
    }

    /// The bytes of `first`, and of what is ready behind it as long as it makes one send; or why the connection is
    /// closed after them.
    async fn gather(&self, first: Response) -> (Vec<Slice>, Result<(), String>) {
        let mut bytes = first.bytes();
        let mut parts = first.into_parts();
        while bytes < SEND_BYTES_MAX
            && let Some(more) = self.next_if_ready().await
        {
            match more {
                Ok(more) => {
                    bytes += more.bytes();
                    parts.extend(more.into_parts());
                }
                Err(reason) => return (parts, Err(reason)),
            }
        }
        (parts, Ok(()))
    }

    /// The next response if it can be had without waiting.
    async fn next_if_ready(&self) -> Option<Answer> {
        let front = self.queue.borrow_mut().pop_front()?;
        match front {
            Pending::Ready(response) => Some(Ok(response)),
            Pending::Later(mut response) => {
                let polled = std::future::poll_fn(|context| {
                    Poll::Ready(match response.as_mut().poll(context) {
                        Poll::Ready(response) => Some(response),
                        Poll::Pending => None,
                    })
                })
                .await;
                if polled.is_none() {
                    self.queue.borrow_mut().push_front(Pending::Later(response));
                }
                polled
            }
        }
    }
}

/// Sends responses in order, as many at once as are ready. Returns why the connection is closed, if not by the peer.
async fn write_responses(stream: Stream, outbox: Rc<Outbox>) -> Result<(), String> {
    let mut outcome = Ok(());
    while outcome.is_ok()
        && let Some(first) = outbox.next().await
    {
        let parts;
        (parts, outcome) = match first {
            Ok(first) => outbox.gather(first).await,
            Err(reason) => (Vec::new(), Err(reason)),
        };
        outbox.taken.notify_one();
        if !parts.is_empty() && stream.send(parts).await.is_err() {
            break;
        }
    }
    // The reader may be waiting for room, or for the socket.
    outbox.broken.set(true);
    outbox.queue.borrow_mut().clear();
    outbox.taken.notify_one();
    stream.shutdown();
    outcome
}
