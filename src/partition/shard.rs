//! One data shard: what its thread owns, and how other shards reach it.
//!
//! Core: one per data core; `Rc`, never shared. Another shard's partition is reached by sending a
//! closure to its owner: one message per (request, shard), FIFO per sender, bounded.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use cluster::metadata::{Configs, Image};
use futures_lite::future::poll_once;
use protocol::record_batch::ValidateScratch;
use runtime::budget::MemoryBudget;
use runtime::mailbox::{Receiver, Sender};
use runtime::oneshot_remote;
use runtime::sync::Notify;
use runtime::task::{self, Class};

use super::fetch::Watches;
use super::log_dirs::LogDirs;
use super::table::{PartitionKey, Table, owner};
use crate::config::Config;
use crate::metrics::ShardMetrics;
use crate::net::connection::LocalFuture;
use crate::net::server::Connections;

/// Work that one shard does for another.
pub type ShardTask = Box<dyn FnOnce(Rc<Shard>) -> LocalFuture<()> + Send>;

/// Messages that may wait for a shard; senders wait beyond it.
pub const MAILBOX_CAPACITY: usize = 4096;

/// What one data core owns.
pub struct Shard {
    /// Index of this shard.
    pub id: usize,
    /// Settings of the process.
    pub config: Arc<Config>,
    /// The same settings under Kafka's names, for config requests and defaults of topics.
    pub broker_configs: Arc<Configs>,
    /// This shard's journals and logs.
    pub log_dirs: LogDirs,
    /// This shard's part of the memory budget.
    pub budget: MemoryBudget,
    /// This shard's connections.
    pub connections: Rc<Connections>,
    /// This shard's partitions.
    pub table: Table,
    /// Parked fetches of other shards on partitions of this one.
    pub watches: Watches,
    /// Counters and histograms.
    pub metrics: Rc<ShardMetrics>,
    /// Memory that batch validation keeps between batches.
    pub validate_scratch: RefCell<ValidateScratch>,
    image: RefCell<Arc<Image>>,
    mailboxes: Arc<[Sender<ShardTask>]>,
    is_stopping: Cell<bool>,
    connection_starter: OnceCell<ConnectionStarter>,
    image_observer: OnceCell<ImageObserver>,
    lifecycle: Lifecycle,
}

/// Is told of every image that the shard has reconciled with: before, after.
type ImageObserver = Box<dyn Fn(&Image, &Image)>;

#[derive(Default)]
struct Lifecycle {
    accepting: Notify,
    stopping: Notify,
    finished: Notify,
}

/// Serves a socket that another shard accepted.
type ConnectionStarter = Box<dyn Fn(OwnedFd, SocketAddr)>;

/// What a shard is made of.
pub struct Parts {
    /// Index of the shard.
    pub id: usize,
    /// Settings of the process.
    pub config: Arc<Config>,
    /// The log directories, opened.
    pub log_dirs: LogDirs,
    /// Its part of the memory budget.
    pub budget: MemoryBudget,
    /// Its connections.
    pub connections: Rc<Connections>,
    /// Its counters.
    pub metrics: Rc<ShardMetrics>,
    /// Ways to all shards, this one included.
    pub mailboxes: Arc<[Sender<ShardTask>]>,
}

/// The owner is stopping and did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping;

impl Shard {
    /// A shard with its storage opened and no partition reconciled yet.
    pub fn new(parts: Parts) -> Rc<Self> {
        let broker_configs = Arc::new(parts.config.kafka_names());
        Rc::new(Self {
            id: parts.id,
            config: parts.config,
            broker_configs,
            log_dirs: parts.log_dirs,
            budget: parts.budget,
            connections: parts.connections,
            table: Table::default(),
            watches: Watches::default(),
            metrics: parts.metrics,
            validate_scratch: RefCell::default(),
            image: RefCell::default(),
            mailboxes: parts.mailboxes,
            is_stopping: Cell::new(false),
            connection_starter: OnceCell::new(),
            image_observer: OnceCell::new(),
            lifecycle: Lifecycle::default(),
        })
    }

    /// Says how sockets that other shards accepted are served here.
    pub fn set_connection_starter(&self, starter: impl Fn(OwnedFd, SocketAddr) + 'static) {
        let is_first = self.connection_starter.set(Box::new(starter)).is_ok();
        assert!(is_first, "connections are started in one way");
    }

    /// Serves a socket that another shard accepted.
    pub fn start_connection(&self, socket: OwnedFd, peer: SocketAddr) {
        if let Some(start) = self.connection_starter.get() {
            start(socket, peer);
        }
    }

    /// Number of data shards of this node.
    pub fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// The committed metadata as this shard knows it.
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Replaces the image; its partitions have been reconciled.
    pub fn set_image(&self, image: Arc<Image>) {
        let before = self.image.replace(image);
        if let Some(observe) = self.image_observer.get() {
            observe(&before, &self.image());
        }
    }

    /// Tells the observer of images that partitions have gone offline: it looks at the table again.
    pub fn notice_offline(&self) {
        if let Some(observe) = self.image_observer.get() {
            observe(&self.image(), &self.image());
        }
    }

    /// Has `observer` told of every image from now on.
    pub fn set_image_observer(&self, observer: impl Fn(&Image, &Image) + 'static) {
        let is_first = self.image_observer.set(Box::new(observer)).is_ok();
        assert!(is_first, "images have one observer");
    }

    /// The shard that owns a partition.
    pub fn owner(&self, key: PartitionKey) -> usize {
        owner(key, self.count())
    }

    /// Whether the node is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Marks the shard as stopping: nothing new is accepted, parked requests are answered at once.
    pub fn begin_stop(&self) {
        self.is_stopping.set(true);
        self.lifecycle.stopping.notify_waiters();
        for replica in self.table.replicas() {
            replica.wake_fetches();
        }
    }

    /// Lets [`Shard::may_accept`] return.
    pub fn begin_accepting(&self) {
        self.lifecycle.accepting.notify_one();
    }

    /// Waits until clients may be accepted.
    pub async fn may_accept(&self) {
        self.lifecycle.accepting.notified().await;
    }

    /// Waits until the shard is told to stop.
    pub async fn stopping(&self) {
        while !self.is_stopping.get() {
            self.lifecycle.stopping.notified().await;
        }
    }

    /// Lets [`Shard::stopped`] return: everything is flushed.
    pub fn finish(&self) {
        self.lifecycle.finished.notify_one();
    }

    /// Waits until everything is flushed and the shard's thread may end.
    pub async fn stopped(&self) {
        self.lifecycle.finished.notified().await;
    }

    /// Runs `work` on the shard `to` and returns its result.
    ///
    /// Works of one sender begin in the order of their calls, up to their first wait.
    pub async fn call<R, W, F>(self: &Rc<Self>, to: usize, work: W) -> Result<R, Stopping>
    where
        R: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = R> + 'static,
    {
        if to == self.id {
            return Ok(work(self.clone()).await);
        }
        call_from(&self.mailboxes, to, work).await
    }

    /// Runs `work` on every shard, one after the other, and collects the results by shard.
    pub async fn call_all<R, W, F>(self: &Rc<Self>, work: W) -> Result<Vec<R>, Stopping>
    where
        R: Send + 'static,
        W: FnOnce(Rc<Shard>) -> F + Clone + Send + 'static,
        F: Future<Output = R> + 'static,
    {
        let mut results = Vec::with_capacity(self.count());
        for to in 0..self.count() {
            results.push(self.call(to, work.clone()).await?);
        }
        Ok(results)
    }

    /// Sends `work` to another shard and does not wait for its result.
    pub async fn post<W, F>(self: &Rc<Self>, to: usize, work: W)
    where
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let work: ShardTask = Box::new(move |shard| Box::pin(work(shard)));
        if let Some(mailbox) = self.mailboxes.get(to) {
            let _ = mailbox.send(work).await;
        }
    }

    /// Does the work that other shards and the control thread send. Runs until all senders are gone.
    pub async fn serve_mailbox(self: Rc<Self>, mut mailbox: Receiver<ShardTask>) {
        while let Some(work) = mailbox.recv().await {
            let mut work = work(self.clone());
            // Begun here, so that works begin in the order of their messages.
            if poll_once(&mut work).await.is_none() {
                let _detached = task::spawn(Class::Network, work);
            }
        }
    }
}

/// Runs `work` on the shard `to`, from any thread.
pub async fn call_from<R, W, F>(
    mailboxes: &[Sender<ShardTask>],
    to: usize,
    work: W,
) -> Result<R, Stopping>
where
    R: Send + 'static,
    W: FnOnce(Rc<Shard>) -> F + Send + 'static,
    F: Future<Output = R> + 'static,
{
    let (reply, answer) = oneshot_remote::channel();
    let work: ShardTask = Box::new(move |shard| {
        Box::pin(async move {
            // The caller may have gone; then nobody wants the result.
            let _ = reply.send(work(shard).await);
        })
    });
    let mailbox = mailboxes.get(to).ok_or(Stopping)?;
    mailbox.send(work).await.map_err(|_| Stopping)?;
    answer.await.map_err(|_| Stopping)
}
