//! One partition on the shard that owns it: its log, leadership, settings and waiting fetches.
//!
//! Place: made by `reconcile`; used by `produce`, `fetch` and the handlers of per-partition APIs.
//! Invariants:
//! - I1 log start ≤ high watermark ≤ log end; the high watermark never decreases but by truncation.
//! - I2 the high watermark of a single replica is its durable end; only a topic that relaxes its
//!   durability (`streambus.ack.durability=memory`) shows records before they are on disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use cluster::configs::{AckDurability, TopicConfig};
use protocol::error_code::ErrorCode;
use runtime::sync::{Notify, Permit, Semaphore};
use storage::PartitionLog;

use super::log_dirs::DirIndex;
use super::table::PartitionKey;

/// The leader replica of one partition.
pub struct Replica {
    /// Which partition.
    pub key: PartitionKey,
    /// The directory that its log is in.
    pub dir: DirIndex,
    /// Its log.
    pub log: PartitionLog,
    leader_epoch: Cell<i32>,
    config: RefCell<Rc<TopicConfig>>,
    waiting: RefCell<Vec<Rc<Notify>>>,
    appending: Semaphore,
}

impl Replica {
    /// A replica that leads in `leader_epoch`.
    pub fn new(
        key: PartitionKey,
        dir: DirIndex,
        log: PartitionLog,
        leader_epoch: i32,
        config: Rc<TopicConfig>,
    ) -> Rc<Self> {
        Rc::new(Self {
            key,
            dir,
            log,
            leader_epoch: Cell::new(leader_epoch),
            config: RefCell::new(config),
            waiting: RefCell::default(),
            appending: Semaphore::new(1),
        })
    }

    /// Current leader epoch.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.get()
    }

    /// Begins a later leader epoch.
    pub fn set_leader_epoch(&self, epoch: i32) {
        assert!(
            epoch >= self.leader_epoch.get(),
            "leader epochs never decrease"
        );
        self.leader_epoch.set(epoch);
    }

    /// The topic's settings as they are now.
    pub fn config(&self) -> Rc<TopicConfig> {
        self.config.borrow().clone()
    }

    /// Takes changed settings.
    pub fn set_config(&self, config: Rc<TopicConfig>) {
        *self.config.borrow_mut() = config;
    }

    /// Whether records count as acknowledged only when they are on disk.
    pub fn is_durable(&self) -> bool {
        self.config.borrow().ack_durability == AckDurability::Disk
    }

    /// First offset that readers may not see yet.
    pub fn high_watermark(&self) -> i64 {
        if self.is_durable() {
            self.log.durable_end_offset()
        } else {
            self.log.log_end_offset()
        }
    }

    /// Checks the leader epoch that a client believes in (KIP-320); −1 means that it has none.
    pub fn check_leader_epoch(&self, client_epoch: i32) -> Result<(), ErrorCode> {
        match client_epoch {
            ..0 => Ok(()),
            epoch if epoch < self.leader_epoch() => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader_epoch() => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// An append's turn, until it is dropped. Who came first is first, also when it has to wait for room: else a
    /// producer's batches change places.
    pub async fn turn(&self) -> Permit {
        self.appending.acquire(1).await
    }

    /// Registers a parked fetch: `fetch` is notified when the high watermark advances.
    pub fn park(&self, fetch: &Rc<Notify>) {
        self.waiting.borrow_mut().push(fetch.clone());
    }

    /// Takes a parked fetch off.
    pub fn unpark(&self, fetch: &Rc<Notify>) {
        self.waiting
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, fetch));
    }

    /// Wakes every parked fetch: there may be something new to read.
    pub fn wake_fetches(&self) {
        for fetch in self.waiting.borrow().iter() {
            fetch.notify_one();
        }
    }
}
