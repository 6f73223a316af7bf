//! Accepts clients and spreads their connections over the shards; closes idle ones.
//!
//! Place: `node` starts one per process on shard 0 ([`accept`]) and one [`Connections`] per shard.
//! Core: accepting lives on shard 0 and hands each socket to the shard with the fewest connections:
//! the kernel's hashing of `SO_REUSEPORT` leaves cores idle when clients are few (see
//! `docs/decisions/0001-accept-on-one-shard.md`).
//! Limits: `net.connections_max`, `net.idle_timeout_ms`; `net.zero_copy` holds at most what [`ZeroCopy`] says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runtime::net::{Listener, Stream, ZeroCopy, ZeroCopyCounts};
use runtime::sync::Notify;
use runtime::task::{self, Class};
use runtime::time::{self, Instant};

use super::connection::{self, Dispatcher, Limits, Peer};

/// How many connections each shard has; read by the acceptor, written by the shards.
#[derive(Clone)]
pub struct Load {
    by_shard: Arc<[AtomicUsize]>,
}

impl Load {
    /// For `shards` shards without connections.
    pub fn new(shards: usize) -> Self {
        Self {
            by_shard: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Connections over all shards.
    pub fn total(&self) -> usize {
        self.by_shard
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// The shard with the fewest connections.
    fn least(&self) -> usize {
        let counts = self
            .by_shard
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts
            .enumerate()
            .min_by_key(|(_, count)| *count)
            .map_or(0, |(shard, _)| shard)
    }

    fn add(&self, shard: usize) {
        if let Some(count) = self.by_shard.get(shard) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, shard: usize) {
        if let Some(count) = self.by_shard.get(shard) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Accepts until `listener` fails for good; gives each socket to `hand_over(shard, stream, peer)`.
pub async fn accept(
    listener: Listener,
    load: Load,
    connections_max: usize,
    hand_over: impl Fn(usize, Stream, SocketAddr),
) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if load.total() >= connections_max {
                    tracing::warn!(peer = %address, limit = connections_max, "connection refused: net.connections_max is reached");
                    stream.shutdown();
                    continue;
                }
                let shard = load.least();
                load.add(shard);
                hand_over(shard, stream, address);
            }
            Err(error) => {
                // Out of descriptors or memory: the listener itself is well, so try again soon.
                tracing::warn!(%error, "accept failed");
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The connections of one shard.
pub struct Connections {
    shard: usize,
    load: Load,
    limits: Limits,
    idle_timeout: Duration,
    zero_copy: Rc<ZeroCopy>,
    open: RefCell<HashMap<u64, Open>>,
    next_id: Cell<u64>,
    changed: Notify,
}

struct Open {
    stream: Stream,
    activity: Rc<Cell<Instant>>,
}

impl Connections {
    /// An empty set for `shard`.
    pub fn new(
        shard: usize,
        load: Load,
        limits: Limits,
        idle_timeout: Duration,
        zero_copy: Rc<ZeroCopy>,
    ) -> Rc<Self> {
        Rc::new(Self {
            shard,
            load,
            limits,
            idle_timeout,
            zero_copy,
            open: RefCell::default(),
            next_id: Cell::new(0),
            changed: Notify::default(),
        })
    }

    /// Open connections of this shard.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// What became of this shard's zero-copy sends.
    pub fn zero_copy_counts(&self) -> ZeroCopyCounts {
        self.zero_copy.counts()
    }

    /// Serves a socket that `accept` assigned to this shard.
    pub fn start<D: Dispatcher + 'static>(
        self: &Rc<Self>,
        stream: Stream,
        address: SocketAddr,
        dispatcher: D,
    ) {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let activity = Rc::new(Cell::new(time::now()));
        stream.use_zero_copy(&self.zero_copy);
        self.open.borrow_mut().insert(
            id,
            Open {
                stream: stream.clone(),
                activity: activity.clone(),
            },
        );
        let connections = self.clone();
        let _detached = task::spawn(Class::Network, async move {
            let _closing = Closing {
                connections: &connections,
                id,
            };
            let peer = Peer {
                address,
                software: RefCell::default(),
            };
            let limits = connections.limits;
            if let Err(reason) =
                connection::serve(stream, peer, &dispatcher, limits, &activity).await
            {
                tracing::warn!(peer = %address, reason, "connection closed");
            }
        });
    }

    /// Closes connections that asked for nothing within the idle timeout. Runs for ever.
    pub async fn close_idle(&self) {
        loop {
            time::sleep(self.idle_timeout / 4).await;
            let now = time::now();
            for open in self.open.borrow().values() {
                if now - open.activity.get() > self.idle_timeout {
                    open.stream.shutdown();
                }
            }
        }
    }

    /// Closes every connection and waits until the last has finished its answers.
    pub async fn close_all(&self) {
        for open in self.open.borrow().values() {
            open.stream.shutdown_read();
        }
        while self.count() > 0 {
            self.changed.notified().await;
        }
    }
}

/// Takes the connection off the books also when its task panics.
struct Closing<'a> {
    connections: &'a Connections,
    id: u64,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.id);
        self.connections.load.remove(self.connections.shard);
        self.connections.changed.notify_waiters();
    }
}
