//! The life of one data shard: recover, listen (shard 0), serve, flush.
//!
//! Core: [`ShardStart::run`] is the main task of a shard's executor.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::or;
use runtime::budget::MemoryBudget;
use runtime::mailbox::{Receiver, Sender};
use runtime::net::{Listener, Stream};
use runtime::task::{self, Class};
use runtime::time;
use storage::{
    LogId, Storage, StorageConfig, StorageError, make_shards, migrate_shards, shard_count_on_disk,
};

use crate::config::Config;
use crate::control::ControlHandle;
use crate::coordinator;
use crate::handlers::Handlers;
use crate::metrics::{self, ShardMetrics};
use crate::net::connection::{Limits, LocalFuture};
use crate::net::server::{self, Connections, Load};
use crate::partition::housekeeping;
use crate::partition::shard::{Parts, Shard, ShardTask};
use crate::partition::table::{PartitionKey, owner};

/// Smallest memory budget of a shard.
const BUDGET_BYTES_MIN: u64 = 64 << 20;

/// A shard has recovered, or could not.
pub(super) struct ShardReady {
    /// Which shard.
    pub shard: usize,
    /// Where it listens, if it does.
    pub outcome: Result<Option<SocketAddr>, String>,
}

/// What every shard's thread is given.
#[derive(Clone)]
pub(super) struct ShardStart {
    config: Arc<Config>,
    mailboxes: Arc<[Sender<ShardTask>]>,
    receivers: Arc<Mutex<Vec<Option<Receiver<ShardTask>>>>>,
    control: ControlHandle,
    address: SocketAddr,
    ready: Sender<ShardReady>,
    load: Load,
    /// Held by shard 0 while it brings the data directory to this shard count.
    layout: Arc<tokio::sync::OnceCell<Result<(), String>>>,
}

impl ShardStart {
    /// One for all shards; each clones it.
    pub(super) fn new(
        config: &Arc<Config>,
        mailboxes: Arc<[Sender<ShardTask>]>,
        receivers: Vec<Receiver<ShardTask>>,
        control: ControlHandle,
        address: SocketAddr,
        ready: Sender<ShardReady>,
    ) -> Self {
        let load = Load::new(mailboxes.len());
        let receivers = Arc::new(Mutex::new(receivers.into_iter().map(Some).collect()));
        let config = config.clone();
        let layout = Arc::default();
        Self {
            config,
            mailboxes,
            receivers,
            control,
            address,
            ready,
            load,
            layout,
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
        let retention = housekeeping::enforce_retention(shard.clone());
        task::spawn(Class::Background, retention).detach();
        let compaction = housekeeping::compact(shard.clone());
        task::spawn(Class::Background, compaction).detach();
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
        self.layout
            .get_or_init(|| bring_to_shard_count(&self.config, self.mailboxes.len()))
            .await
            .clone()?;
        let listener = match id {
            0 => Some(bind(self.address).await?),
            _ => None,
        };
        let budget = MemoryBudget::new(budget_bytes(&self.config, self.mailboxes.len()));
        let storage_config = storage_config(&self.config, budget.limit(), self.mailboxes.len());
        let dir = &self.config.data_dir;
        let opened = Storage::open(dir, id as u32, storage_config, budget.clone()).await;
        let (storage, report) = opened.map_err(|error| error.to_string())?;
        tracing::info!(shard = id, ?report, "storage recovered");
        let net = self.config.net;
        let limits = Limits {
            request_bytes_max: net.request_bytes_max,
            requests_in_flight_max: net.requests_in_flight_max,
        };
        let idle_timeout = Duration::from_millis(net.idle_timeout_ms);
        let connections = Connections::new(id, self.load.clone(), limits, idle_timeout);
        let shard = Shard::new(Parts {
            id,
            config: self.config.clone(),
            storage,
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
    shard.storage.on_durable(move |log| {
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
}

/// Work for a shard that ends it: answers what is in flight, flushes, checkpoints.
pub(super) fn stop(
    timeout: Duration,
) -> impl FnOnce(Rc<Shard>) -> LocalFuture<Result<(), String>> + Send + 'static {
    move |shard| {
        Box::pin(async move {
            shard.begin_stop();
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
                .storage
                .close()
                .await
                .map_err(|error| error.to_string());
            shard.finish();
            closed
        })
    }
}

/// Brings the data directory to this number of shards before any of them opens it.
async fn bring_to_shard_count(config: &Config, shards: usize) -> Result<(), String> {
    let bring = async {
        let dir = &config.data_dir;
        let Some(present) = shard_count_on_disk(dir).await? else {
            return make_shards(dir, shards as u32).await;
        };
        if present as usize == shards {
            return Ok(());
        }
        tracing::info!(from = present, to = shards, "the number of shards changes");
        let assign = |id: LogId| {
            let topic = protocol::primitives::Uuid(id.topic);
            owner(
                PartitionKey {
                    topic,
                    partition: id.partition as i32,
                },
                shards,
            ) as u32
        };
        let storage_config = storage_config(config, budget_bytes(config, 1), 1);
        migrate_shards(dir, present, shards as u32, &storage_config, assign).await
    };
    bring.await.map_err(|error: StorageError| error.to_string())
}

/// This shard's part of the memory budget.
fn budget_bytes(config: &Config, shards: usize) -> usize {
    let total = match config.memory_budget_bytes {
        0 => machine_memory_bytes() / 4,
        bytes => bytes,
    };
    usize::try_from((total / shards as u64).max(BUDGET_BYTES_MIN)).unwrap_or(usize::MAX)
}

/// Files that a shard may keep open at least.
const OPEN_FILES_MIN: usize = 64;

/// Memory of this machine, as the kernel tells it; 4 GiB if it does not.
fn machine_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(4 << 30, |kib| kib * 1024)
}

/// Descriptors that this process may have open, as the kernel tells it; 1,024 if it does not.
fn descriptors_max() -> usize {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(1_024)
}

fn storage_config(config: &Config, budget_bytes: usize, shards: usize) -> StorageConfig {
    let open_files_max = match config.storage.open_files_max {
        0 => descriptors_max() / 2,
        files => files,
    };
    let budget = budget_bytes as u64;
    let mut storage = StorageConfig {
        dirty_bytes_max: config.storage.dirty_bytes_max.min(budget / 4),
        cache_bytes_max: budget / 2,
        read_cache_bytes_max: budget / 8,
        verify_cold_reads: config.storage.verify_cold_reads,
        scrub_period_ms: config.storage.scrub_period_ms,
        scrub_bytes_per_second: config.storage.scrub_bytes_per_second,
        open_files_max: (open_files_max / shards).max(OPEN_FILES_MIN),
        cleaner_map_bytes_max: config.compaction.map_bytes,
        cleaner_io_bytes_per_second: config.compaction.io_bytes_per_second,
        warn_bytes: config.storage.disk_warn_bytes,
        throttle_bytes: config.storage.disk_throttle_bytes,
        reserve_bytes: config.storage.disk_reserve_bytes,
        shards: shards as u32,
        ..StorageConfig::default()
    };
    storage.journal.file_bytes = config.storage.journal_file_bytes;
    storage.journal.files_max = config.storage.journal_files_max;
    storage
}
