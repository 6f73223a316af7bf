//! Drivers of the pure group machines, for the partitions of `__consumer_offsets` that this shard leads.
//!
//! *Place*: handlers ask the [`Coordinator`] of the shard that owns a group's partition; it owns one
//! `cluster::group::Groups` a partition, writes what that commands through an [`OffsetsLog`] and completes
//! the requests. *Core*: the owner of the partition; shard-local.
//!
//! *Durability*: replies that depend on records are sent when the append resolved; the machine sees to it.
//!
//! *Invariants*
//! - I1. Between two awaits a partition's machine goes from one consistent state to the next; nothing is
//!   borrowed across an await.
//! - I2. One writer a partition, at most, and only while something is to be written: appends end in the
//!   order in which they were commanded.
//! - I3. Every request of a partition that is resigned, or fails to load, is answered.
//!
//! *Limits*: one batch of up to `batch_bytes_max` bytes is on its way per partition; what comes meanwhile
//! gathers for the next. Waiting requests are bounded by the connections.

mod led_partition;
mod loading;
mod member_ids;
mod offsets_log;
mod on_shard;
#[cfg(test)]
mod tests;
mod writing;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cluster::group::{
    DeletedTopic, GroupDescription, GroupListing, GroupSettings, Groups, ListFilter, Now, Reply,
    Request, Token,
};
use futures_lite::future::or;
use protocol::ErrorCode;
use runtime::sync::{Notify, oneshot};
use runtime::task::{self, Class};
use runtime::time::{self, Instant};

use led_partition::LedPartition;
use member_ids::MemberIds;
pub use offsets_log::OffsetsLog;
pub use on_shard::{current, start};

/// How a [`Coordinator`] works.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// The rules of groups.
    pub settings: GroupSettings,
    /// The largest batch that the offsets topic takes (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// What member ids are drawn from; to be different at each start and on each shard.
    pub seed: u64,
}

/// Partitions of `__consumer_offsets` whose groups cannot be served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotServed {
    /// Being loaded.
    pub loading: Vec<i32>,
    /// Their log cannot be read, or not written.
    pub failed: Vec<i32>,
}

/// The group coordinators of one shard.
pub struct Coordinator {
    log: Rc<dyn OffsetsLog>,
    options: CoordinatorOptions,
    partitions: RefCell<BTreeMap<i32, Rc<LedPartition>>>,
    member_ids: MemberIds,
    next_token: Cell<u64>,
    /// The deadline that [`Self::keep_time`] sleeps until.
    armed_ms: Cell<i64>,
    alarm: Notify,
    is_stopped: Cell<bool>,
}

impl Coordinator {
    /// Coordinates nothing yet. The caller spawns [`Self::keep_time`].
    pub fn new(log: Rc<dyn OffsetsLog>, options: CoordinatorOptions) -> Rc<Self> {
        Rc::new(Self {
            member_ids: MemberIds::new(options.seed),
            log,
            options,
            partitions: RefCell::default(),
            next_token: Cell::new(0),
            armed_ms: Cell::new(i64::MAX),
            alarm: Notify::new(),
            is_stopped: Cell::new(false),
        })
    }

    /// This shard leads a partition of `__consumer_offsets` from now on: loads it, in a task, and then
    /// serves its groups. Does nothing if it leads already.
    pub fn lead(self: &Rc<Self>, partition: i32) {
        if self.is_stopped.get() || self.partitions.borrow().contains_key(&partition) {
            return;
        }
        let led = Rc::new(LedPartition::new(partition));
        self.partitions.borrow_mut().insert(partition, led.clone());
        task::spawn(Class::Storage, loading::load(self.clone(), led)).detach();
    }

    /// This shard no longer leads the partition: everything that waits is told to look elsewhere.
    pub fn resign(&self, partition: i32) {
        let led = self.partitions.borrow_mut().remove(&partition);
        if let Some(led) = led {
            led.resign();
        }
    }

    /// This shard leads no partition any more, because their topic is gone.
    pub fn resign_all(&self) {
        for partition in self.partitions() {
            self.resign(partition);
        }
    }

    /// Ends all coordination, and [`Self::keep_time`].
    pub fn stop(&self) {
        self.is_stopped.set(true);
        let partitions = std::mem::take(&mut *self.partitions.borrow_mut());
        for led in partitions.values() {
            led.resign();
        }
        self.alarm.notify_one();
    }

    /// The partitions that are led, loaded or not.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.borrow().keys().copied().collect()
    }

    /// The partitions that are led and not served, in their order: those that are being loaded, and those
    /// that failed.
    pub fn not_served(&self) -> NotServed {
        let partitions = self.partitions.borrow();
        let those = |is: fn(&LedPartition) -> bool| {
            let chosen = partitions.values().filter(|led| is(led));
            chosen.map(|led| led.number).collect()
        };
        NotServed {
            loading: those(LedPartition::is_loading),
            failed: those(LedPartition::has_failed),
        }
    }

    /// Whether nothing is being loaded.
    pub fn is_loaded(&self) -> bool {
        self.partitions
            .borrow()
            .values()
            .all(|led| !led.is_loading())
    }

    /// The number of groups in the partitions that are loaded.
    pub fn group_count(&self) -> usize {
        let partitions = self.partitions.borrow();
        partitions
            .values()
            .map(|led| led.look(Groups::group_count).unwrap_or(0))
            .sum()
    }

    /// Asks a group of `partition`, and waits for the reply: for a join or a sync that may take as long
    /// as a rebalance.
    ///
    /// # Cancel safety
    /// If dropped, the request is carried out all the same and its reply is lost.
    pub async fn ask(self: &Rc<Self>, partition: i32, mut request: Request) -> Reply {
        let led = match self.led(partition) {
            Ok(led) => led,
            Err(error) => return request.error_reply(error),
        };
        if let Err(error) = led.look(|_| ()) {
            return request.error_reply(error);
        }
        if let Request::Join(join) = &mut request {
            join.member_id_suffix = self.member_ids.next();
        }
        let token = Token(self.next_token.get());
        self.next_token.set(token.0 + 1);
        let (sender, receiver) = oneshot();
        led.wait_for(token, sender);
        self.change(&led, |groups, now, commands| {
            groups.handle(token, request, now, commands);
        });
        receiver
            .await
            .expect("the partition answers every request, also when it is resigned")
    }

    /// What `DescribeGroups` shows of a group of `partition`; nothing if there is no such group.
    pub fn describe(
        &self,
        partition: i32,
        group_id: &str,
    ) -> Result<Option<GroupDescription>, ErrorCode> {
        self.led(partition)?
            .look(|groups| groups.describe(group_id))
    }

    /// What `ListGroups` shows of the partitions that are led here.
    ///
    /// # Errors
    /// While a partition is loading: a list without its groups would seem to say that there are none.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<GroupListing>, ErrorCode> {
        let mut listings = Vec::new();
        for led in self.partitions.borrow().values() {
            listings.extend(led.look(|groups| groups.list(filter))?);
        }
        Ok(listings)
    }

    /// Deletes the offsets that groups have committed for topics which are gone.
    pub fn forget_topics(self: &Rc<Self>, deleted: &[DeletedTopic]) {
        for led in self.all_led() {
            self.change(&led, |groups, now, commands| {
                groups.forget_topics(deleted, now, commands);
            });
        }
    }

    /// Does what is due, for all groups of this shard, until [`Self::stop`].
    pub async fn keep_time(self: Rc<Self>) {
        while !self.is_stopped.get() {
            let deadline_ms = self.next_deadline_ms();
            self.armed_ms.set(deadline_ms.unwrap_or(i64::MAX));
            match deadline_ms {
                Some(at_ms) => {
                    or(time::sleep_until(instant(at_ms)), self.alarm.notified()).await;
                }
                None => self.alarm.notified().await,
            }
            for led in self.all_led() {
                let is_due = led.look(|groups| groups.next_deadline_ms() <= now().timer_ms);
                if is_due == Ok(true) {
                    self.change(&led, Groups::on_time);
                    task::yield_if_needed().await;
                }
            }
        }
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        let partitions = self.partitions.borrow();
        let deadlines = partitions.values().filter_map(|led| {
            let deadline_ms = led.look(Groups::next_deadline_ms);
            deadline_ms.ok()
        });
        deadlines.min()
    }

    fn led(&self, partition: i32) -> Result<Rc<LedPartition>, ErrorCode> {
        self.partitions
            .borrow()
            .get(&partition)
            .cloned()
            .ok_or(ErrorCode::NotCoordinator)
    }

    fn all_led(&self) -> Vec<Rc<LedPartition>> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// Lets the machine of a partition do something, and sees to what it commands. Does nothing if the
    /// partition is not loaded.
    fn change(self: &Rc<Self>, led: &Rc<LedPartition>, event: impl led_partition::Event) {
        let Some(next_deadline_ms) = led.change(event) else {
            return;
        };
        if led.begin_writing() {
            writing::spawn(self.clone(), led.clone());
        }
        if next_deadline_ms < self.armed_ms.get() {
            self.armed_ms.set(next_deadline_ms);
            self.alarm.notify_one();
        }
    }
}

/// Both clocks at this moment.
fn now() -> Now {
    let timer_ms = (time::now().as_nanos() / NANOS_PER_MILLI) as i64;
    Now {
        timer_ms,
        wall_ms: time::wall_clock_ms(),
    }
}

/// When the timer clock of [`now`] shows `timer_ms`.
fn instant(timer_ms: i64) -> Instant {
    let nanos = u64::try_from(timer_ms)
        .unwrap_or(0)
        .saturating_mul(NANOS_PER_MILLI);
    Instant::from_nanos(nanos)
}

const NANOS_PER_MILLI: u64 = Duration::from_millis(1).as_nanos() as u64;
