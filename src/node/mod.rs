//! The node: starts everything in order, runs until it is told to stop, and stops in order.
//!
//! Core: [`run`] is the control thread (tokio, one thread); the shards have threads of their own.
//!
//! Start: check the machine → lock the data directories → listen for HTTP (alive, not ready) → open the
//! metadata log → start the shards (each replays its journal) → check that the metadata is that of the
//! logs → register this broker (a new leader epoch) → reconcile → accept (ready, once the groups are loaded).
//! Stop: stop accepting → finish what is in flight → flush and checkpoint every shard → end.

mod cluster_check;
pub(crate) mod data_dir;
mod data_dirs;
mod log_dirs;
pub mod logging;
mod shard_main;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use runtime::executor::{ShardThreads, Topology, start_shards};
use runtime::mailbox::{self, Receiver, Sender};
use runtime::probe;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::control::controller::{Controller, Registration};
use crate::control::metadata_log::MetadataLog;
use crate::control::{ControlHandle, REQUESTS_MAX};
use crate::http::{self, HttpState};
use crate::partition::log_dir_failure;
use crate::partition::reconcile::{delete_orphans, reconcile};
use crate::partition::shard::{MAILBOX_CAPACITY, Shard, ShardTask, call_from};
use data_dirs::DataDirs;
use shard_main::{ShardReady, ShardStart, StartParts};

/// Why the node did not start or had to stop. Each message says what to do.
pub type NodeError = Box<dyn std::error::Error + Send + Sync>;

/// How long requests in flight may take when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a started node listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Kafka clients.
    pub kafka: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
}

/// Runs a node until SIGTERM or SIGINT; `on_ready` is told where it listens.
///
/// # Errors
/// Anything that keeps the node from starting or from going on.
pub fn run(config: Config, on_ready: impl FnOnce(Bound)) -> Result<(), NodeError> {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(run_node(Arc::new(config), on_ready))
}

/// Checks the machine as a start would.
pub fn check(config: &Config) -> Result<probe::HostReport, NodeError> {
    let topology = Topology::detect(config.shards, config.pinning);
    let mut report = probe::check_host(&config.data_dirs[0], topology.shard_count())?;
    // One that is not there is left alone: its disk may not be mounted.
    let further = config.data_dirs[1..].iter().filter(|path| path.exists());
    let failed = further.filter_map(|path| probe::check_data_dir(path).err());
    report
        .warnings
        .extend(failed.map(|error| error.to_string()));
    Ok(report)
}

async fn run_node(config: Arc<Config>, on_ready: impl FnOnce(Bound)) -> Result<(), NodeError> {
    let begun = Instant::now();
    let topology = Topology::detect(config.shards, config.pinning);
    for warning in probe::check_host(&config.data_dirs[0], topology.shard_count())?.warnings {
        tracing::warn!(warning, "host");
    }
    let data_dirs = data_dirs::open(&config.data_dirs)?;
    let http_listener = bind_http(&config.http_address).await?;
    let http_address = http_listener.local_addr()?;
    let state = HttpState {
        shards: Arc::default(),
        is_ready: Arc::default(),
    };
    let http = http::serve(http_listener, state.clone(), std::future::pending());
    let http = tokio::spawn(http);
    let metadata_dir = config.data_dirs[0].join("metadata");
    std::fs::create_dir_all(&metadata_dir)?;
    let metadata = metadata_dir.join("metadata.redb");
    let (log, image) = MetadataLog::open(&metadata)?;
    cluster_check::check_same_cluster(&metadata, &image, &data_dirs.identity)?;
    let (requests, request_queue) = mailbox::channel(REQUESTS_MAX);
    let control = ControlHandle::new(requests);
    let mut shards = Shards::start(&config, &data_dirs, &topology, control).await?;
    let kafka = shards.listening;
    let is_first = state.shards.set(shards.mailboxes.clone()).is_ok();
    assert!(is_first, "shards start once");
    let identity = &data_dirs.identity;
    cluster_check::check_not_lost(&metadata, &image, identity, &shards.mailboxes).await?;
    let (host, port) = advertised(&config, kafka)?;
    let registration = Registration {
        id: config.node_id,
        host,
        port,
        rack: config.rack.clone(),
        new_cluster_id: identity.cluster_id.clone(),
    };
    let mut controller = Controller::start(log, image, shards.mailboxes.clone(), registration)?;
    shards.follow(&controller).await?;
    let bound = Bound {
        kafka,
        http: http_address,
    };
    shards.accept().await?;
    state.is_ready.store(true, Ordering::Release);
    let startup_ms = begun.elapsed().as_millis() as u64;
    tracing::info!(kafka = %bound.kafka, http = %bound.http, shards = topology.shard_count(), startup_ms, "ready");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    on_ready(bound);
    let outcome = tokio::select! {
        ended = controller.run(request_queue) => ended.map_err(NodeError::from),
        reason = stop_signal() => { tracing::info!(reason, "stopping"); Ok(()) }
        Some(reason) = shards.failures.recv() => {
            Err(format!("the data directory with the metadata has failed: {reason}").into())
        }
        reason = broken(&shards.threads) => Err(reason),
    };
    state.is_ready.store(false, Ordering::Release);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let stopped = shards.stop().await;
    http.abort();
    outcome.and(stopped)
}

async fn bind_http(address: &str) -> Result<tokio::net::TcpListener, NodeError> {
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.map_err(|error| {
        format!("cannot listen for HTTP on {address} (listen.http): {error}").into()
    })
}

/// `HOST:PORT` for clients: as configured, or the bound address.
fn advertised(config: &Config, bound: SocketAddr) -> Result<(String, u16), NodeError> {
    let Some(text) = &config.advertise else {
        if bound.ip().is_unspecified() {
            tracing::warn!(
                "clients are told {bound}, which they cannot connect to from elsewhere; \
                 set listen.advertise to this machine's name"
            );
        }
        return Ok((bound.ip().to_string(), bound.port()));
    };
    let parsed = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port): (&str, u16) =
        parsed.ok_or_else(|| format!("listen.advertise = {text} is not HOST:PORT"))?;
    Ok((
        host.trim_matches(['[', ']']).to_owned(),
        if port == 0 { bound.port() } else { port },
    ))
}

async fn stop_signal() -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be received; the node can only be killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// The running shards, from the control thread's side.
struct Shards {
    mailboxes: Arc<[Sender<ShardTask>]>,
    threads: ShardThreads<()>,
    listening: SocketAddr,
    /// Why the directory with the metadata has failed, from the shards that met it.
    failures: Receiver<String>,
}

impl Shards {
    /// Starts the shard threads and waits until each has recovered.
    async fn start(
        config: &Arc<Config>,
        data_dirs: &DataDirs,
        topology: &Topology,
        control: ControlHandle,
    ) -> Result<Self, NodeError> {
        let count = topology.shard_count();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| mailbox::channel(MAILBOX_CAPACITY))
            .unzip();
        let mailboxes: Arc<[Sender<ShardTask>]> = senders.into();
        let (ready, mut became_ready) = mailbox::channel::<ShardReady>(count);
        let (failed, failures) = mailbox::channel(count);
        let start = ShardStart::new(StartParts {
            config: config.clone(),
            data_dirs: data_dirs.dirs.as_slice().into(),
            locks: data_dirs.locks.clone(),
            mailboxes: mailboxes.clone(),
            receivers,
            control,
            address: resolve(&config.kafka_address)?,
            ready,
            failed,
        });
        let threads = start_shards(topology, move |id| start.clone().run(id.index()))?;
        let mut listening = None;
        for _ in 0..count {
            let ready = became_ready
                .recv()
                .await
                .ok_or("a shard ended before it was ready")?;
            let address = ready
                .outcome
                .map_err(|error| format!("shard {}: {error}", ready.shard))?;
            listening = listening.or(address);
        }
        let listening = listening.ok_or("no shard listens")?;
        Ok(Self {
            mailboxes,
            threads,
            listening,
            failures,
        })
    }

    /// Opens what the image names and deletes what no topic has any more.
    async fn follow(&self, controller: &Controller) -> Result<(), NodeError> {
        for shard in 0..self.mailboxes.len() {
            let image = controller.image();
            let work = move |shard: Rc<Shard>| async move {
                reconcile(shard.clone(), image.clone()).await?;
                let offline = shard.table.offline();
                log_dir_failure::announce(&shard, offline).await;
                delete_orphans(&shard, &image).await
            };
            let orphans = call_from(&self.mailboxes, shard, work).await;
            orphans.map_err(|_| "a shard ended while it opened its partitions")??;
        }
        Ok(())
    }

    /// Lets shard 0 accept clients.
    async fn accept(&self) -> Result<(), NodeError> {
        let work = |shard: std::rc::Rc<crate::partition::shard::Shard>| async move {
            shard.begin_accepting();
        };
        call_from(&self.mailboxes, 0, work)
            .await
            .map_err(|_| "shard 0 ended".into())
    }

    /// Finishes what is in flight, flushes, and joins the threads.
    async fn stop(&mut self) -> Result<(), NodeError> {
        let mut outcome = Ok(());
        let mut stopping = Vec::new();
        for shard in 0..self.mailboxes.len() {
            let mailboxes = self.mailboxes.clone();
            let stop = shard_main::stop(STOP_TIMEOUT);
            stopping.push(async move { call_from(&mailboxes, shard, stop).await });
        }
        for stop in stopping {
            let stopped = stop.await;
            let flushed = match stopped {
                Ok(flushed) => flushed.map_err(NodeError::from),
                Err(_) => Err("a shard ended before it was flushed".into()),
            };
            outcome = outcome.and(flushed);
        }
        outcome
    }
}

/// Resolves when a shard has ended by itself: its memory is gone, so the node must stop.
async fn broken(threads: &ShardThreads<()>) -> NodeError {
    while !threads.any_finished() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    "a shard ended unexpectedly".into()
}

fn resolve(address: &str) -> Result<SocketAddr, NodeError> {
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| format!("listen.kafka = {address} cannot be resolved: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("listen.kafka = {address} has no address").into())
}

/// Whether a data directory at `path` was made by a broker.
pub fn is_data_dir(path: &Path) -> bool {
    data_dir::is_initialized(path)
}
