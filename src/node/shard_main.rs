//! The life of one data shard: recover, listen (shard 0), serve, flush.
//!
//! Core: [`ShardStart::run`] is the main task of a shard's executor.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::or;
use runtime::budget::MemoryBudget;
use runtime::executor;
use runtime::mailbox::{Receiver, Sender};
use runtime::net::{Listener, Stream, ZeroCopy};
use runtime::task::{self, Class};
use runtime::time;
use storage::PartitionLog;

use crate::config::Config;
use crate::control::ControlHandle;
use crate::coordinator;
use crate::handlers::Handlers;
use crate::metrics::{self, ShardMetrics};
use crate::net::connection::{Limits, LocalFuture};
use crate::net::server::{self, Connections, Load};
use crate::partition::log_dirs::DirIndex;
use crate::partition::shard::{Parts, Shard, ShardTask};
use crate::partition::table::PartitionKey;
use crate::partition::{housekeeping, log_dir_failure};

use super::data_dirs::DataDir;
use super::log_dirs;

/// A shard has recovered, or could not.
pub(super) struct ShardReady {
    /// Which shard.
    pub shard: usize,
    /// Where it listens, if it does.
    pub outcome: Result<Option<SocketAddr>, String>,
}

/// What the shards' threads are made from.
pub(super) struct StartParts {
    pub config: Arc<Config>,
    pub data_dirs: Arc<[DataDir]>,
    /// The locks of the data directories.
    pub locks: Arc<[File]>,
    pub mailboxes: Arc<[Sender<ShardTask>]>,
    pub receivers: Vec<Receiver<ShardTask>>,
    pub control: ControlHandle,
    /// Where shard 0 listens.
    pub address: SocketAddr,
    pub ready: Sender<ShardReady>,
    /// Is told why the directory with the metadata has failed.
    pub failed: Sender<String>,
}

/// What every shard's thread is given.
#[derive(Clone)]
pub(super) struct ShardStart {
    config: Arc<Config>,
    data_dirs: Arc<[DataDir]>,
    locks: Arc<[File]>,
    mailboxes: Arc<[Sender<ShardTask>]>,
    receivers: Arc<Mutex<Vec<Option<Receiver<ShardTask>>>>>,
    control: ControlHandle,
    address: SocketAddr,
    ready: Sender<ShardReady>,
    failed: Sender<String>,
    load: Load,
    /// Held by shard 0 while it brings the data directories to this shard count.
    layout: Arc<tokio::sync::OnceCell<Result<Arc<[DataDir]>, String>>>,
}

impl ShardStart {
    /// One for all shards; each clones it.
    pub(super) fn new(parts: StartParts) -> Self {
        let load = Load::new(parts.mailboxes.len());
        let receivers = parts.receivers.into_iter().map(Some).collect();
        Self {
            config: parts.config,
            data_dirs: parts.data_dirs,
            locks: parts.locks,
            mailboxes: parts.mailboxes,
            receivers: Arc::new(Mutex::new(receivers)),
            control: parts.control,
            address: parts.address,
            ready: parts.ready,
            failed: parts.failed,
            load,
            layout: Arc::default(),
        }
    }

    /// Recovers, says so, and serves until the node stops.
    pub(super) async fn run(self, id: usize) {
        let recovered = self.recover(id).await;
        let (shard, listener) = match recovered {
            Ok(recovered) => recovered,
            Err(error) => {
                let ready = ShardReady {
                    shard: id,
                    outcome: Err(error),
                };
                let _ = self.ready.send(ready).await;
                return;
            }
        };
        let address = listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        let coordinator = coordinator::start(&shard);
        let handlers = Handlers::new(shard.clone(), self.control.clone(), coordinator);
        serve_connections(&shard, handlers);
        if let Some(listener) = listener {
            let accepting = accept(shard.clone(), listener, self.load.clone());
            task::spawn(Class::Network, accepting).detach();
        }
        for dir in 0..shard.log_dirs.all().len() {
            let watch = watch_log_dir(shard.clone(), dir, self.failed.clone());
            task::spawn(Class::Storage, watch).detach();
            let compaction = housekeeping::compact(shard.clone(), dir);
            task::spawn(Class::Background, compaction).detach();
        }
        drop(self.failed);
        let retention = housekeeping::enforce_retention(shard.clone());
        task::spawn(Class::Background, retention).detach();
        let idle = shard.connections.clone();
        task::spawn(Class::Background, async move { idle.close_idle().await }).detach();
        let mailbox = self
            .receivers
            .lock()
            .ok()
            .and_then(|mut all| all.get_mut(id)?.take());
        let ready = ShardReady {
            shard: id,
            outcome: Ok(address),
        };
        let _ = self.ready.send(ready).await;
        drop(self.ready);
        if let Some(mailbox) = mailbox {
            or(shard.clone().serve_mailbox(mailbox), shard.stopped()).await;
        }
    }

    async fn recover(&self, id: usize) -> Result<(Rc<Shard>, Option<Listener>), String> {
        let shards = self.mailboxes.len();
        // Before anything is written: the next process begins when all that has ended.
        executor::hold_open_for_operations(&self.locks).map_err(|error| error.to_string())?;
        let bring = || log_dirs::bring_to_shard_count(&self.config, &self.data_dirs, shards);
        let data_dirs = self.layout.get_or_init(bring).await.clone()?;
        let listener = match id {
            0 => Some(bind(self.address).await?),
            _ => None,
        };
        let budget = MemoryBudget::new(log_dirs::budget_bytes(&self.config, shards));
        let log_dirs = log_dirs::open(&self.config, &data_dirs, id, shards, &budget).await?;
        let net = self.config.net;
        let limits = Limits {
            request_bytes_max: net.request_bytes_max,
            requests_in_flight_max: net.requests_in_flight_max,
        };
        let idle_timeout = Duration::from_millis(net.idle_timeout_ms);
        let zero_copy = ZeroCopy::new(net.zero_copy, budget.clone());
        let load = self.load.clone();
        let connections = Connections::new(id, load, limits, idle_timeout, zero_copy);
        let shard = Shard::new(Parts {
            id,
            config: self.config.clone(),
            log_dirs,
            budget,
            connections,
            metrics: Rc::new(ShardMetrics::default()),
            mailboxes: self.mailboxes.clone(),
        });
        wake_on_durable(&shard);
        Ok((shard, listener))
    }
}

/// How long an address may stay in use at start.
const BIND_PATIENCE: Duration = Duration::from_secs(3);

/// Listens; waits a little for an address that is in use: the kernel lets go of a killed process's
/// sockets only after its rings have been torn down, a moment after the process is gone.
async fn bind(address: SocketAddr) -> Result<Listener, String> {
    let begun = time::now();
    loop {
        match Listener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && time::now() - begun < BIND_PATIENCE =>
            {
                time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => {
                return Err(format!(
                    "cannot listen on {address} (listen.kafka): {error}"
                ));
            }
        }
    }
}

/// Serves the sockets that shard 0 hands to this shard.
fn serve_connections(shard: &Rc<Shard>, handlers: Handlers) {
    let owner = Rc::downgrade(shard);
    shard.set_connection_starter(move |socket: OwnedFd, peer| {
        let Some(shard) = owner.upgrade() else { return };
        metrics::add(&shard.metrics.connections_accepted, 1);
        shard
            .connections
            .start(Stream::from_fd(socket), peer, handlers.clone());
    });
}

/// Accepts once the node is ready, until it stops.
async fn accept(shard: Rc<Shard>, listener: Listener, load: Load) {
    shard.may_accept().await;
    let limit = shard.config.net.connections_max;
    let acceptor = shard.clone();
    let hand_over = move |to: usize, stream: Stream, peer: SocketAddr| {
        let Some(socket) = stream.into_fd() else {
            return;
        };
        let shard = acceptor.clone();
        let work = async move {
            shard
                .post(to, move |shard| async move {
                    shard.start_connection(socket, peer);
                })
                .await;
        };
        task::spawn(Class::Network, work).detach();
    };
    or(
        server::accept(listener, load, limit, hand_over),
        shard.stopping(),
    )
    .await;
}

/// Wakes parked fetches of a partition when its durable end advances.
fn wake_on_durable(shard: &Rc<Shard>) {
    let owner = Rc::downgrade(shard);
    let wake = Rc::new(move |log: &PartitionLog| {
        let Some(shard) = owner.upgrade() else { return };
        let id = log.id();
        let key = PartitionKey {
            topic: protocol::primitives::Uuid(id.topic),
            partition: id.partition as i32,
        };
        if let Some(replica) = shard.table.get(key) {
            replica.wake_fetches();
        }
    });
    for (_, storage) in shard.log_dirs.online() {
        let wake = wake.clone();
        storage.on_durable(move |log| wake(log));
    }
}

/// Takes a log directory's partitions offline when it fails; the node ends with the first one, which has the
/// metadata.
async fn watch_log_dir(shard: Rc<Shard>, dir: DirIndex, failed: Sender<String>) {
    let reason = log_dir_failure::watch(shard, dir).await;
    if dir == 0 {
        // The node may be ending already.
        let _ = failed.send(reason).await;
    }
}

/// Work for a shard that ends it: answers what is in flight, flushes, checkpoints.
pub(super) fn stop(
    timeout: Duration,
) -> impl FnOnce(Rc<Shard>) -> LocalFuture<Result<(), String>> + Send + 'static {
    move |shard| {
        Box::pin(async move {
            shard.begin_stop();
            // Requests that wait for space on the disk are answered now, not cut.
            shard.log_dirs.begin_close();
            if time::timeout(timeout, shard.connections.close_all())
                .await
                .is_err()
            {
                tracing::warn!(
                    shard = shard.id,
                    "connections did not finish in time and are cut"
                );
            }
            coordinator::current().stop();
            let closed = shard
                .log_dirs
                .close()
                .await
                .map_err(|error| error.to_string());
            shard.finish();
            closed
        })
    }
}
