//! The metadata at one point of the log: brokers, topics, configs. Cheap to clone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use protocol::primitives::Uuid;

use super::{CONSUMER_OFFSETS, TRANSACTION_STATE};

/// Number of a broker.
pub type BrokerId = i32;

/// Config values that differ from the defaults, by name.
pub type Configs = BTreeMap<String, String>;

/// Deleted topics that are remembered, the latest ones.
const DELETED_MAX: usize = 16_384;

/// Stands for all brokers where configs of one broker are set.
pub const BROKER_DEFAULTS: BrokerId = -1;

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Grows with every registration; an older process of the same id is fenced by it.
    pub epoch: i64,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Rack, if it has one.
    pub rack: Option<String>,
}

/// One replica of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// The broker that keeps it.
    pub broker: i32,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<Replica>,
    /// Brokers whose replicas are in sync.
    pub isr: Vec<i32>,
    /// The broker that leads, or −1.
    pub leader: i32,
    /// Begins at 0 and grows with every change of the leader or of its process.
    pub leader_epoch: i32,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Unique over all time.
    pub id: Uuid,
    /// Unique now.
    pub name: Arc<str>,
    /// By partition number.
    pub partitions: Vec<Partition>,
    /// Configs that differ from the defaults.
    pub configs: Configs,
}

impl Topic {
    /// Whether coordinators keep their state in it.
    pub fn is_internal(&self) -> bool {
        matches!(&*self.name, CONSUMER_OFFSETS | TRANSACTION_STATE)
    }
}

/// All metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) cluster_id: String,
    pub(super) brokers: BTreeMap<i32, Broker>,
    pub(super) by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(super) by_id: BTreeMap<Uuid, Arc<Topic>>,
    pub(super) broker_configs: BTreeMap<i32, Configs>,
    pub(super) next_producer_id: i64,
    /// Ids of the topics that were deleted last, at most [`DELETED_MAX`].
    pub(super) deleted: VecDeque<Uuid>,
}

/// What became of a topic between two images.
#[derive(Debug, Clone)]
pub enum TopicChange {
    /// It is new.
    Created(Arc<Topic>),
    /// Its partitions, epochs or configs changed.
    Changed(Arc<Topic>),
    /// It is gone.
    Deleted(Arc<Topic>),
}

impl Image {
    /// Id of the cluster; empty before the first start.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Brokers by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The broker of this id.
    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// The topic of this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// Whether this topic was deleted. Of those that were deleted long ago it is not known any more.
    pub fn was_deleted(&self, id: Uuid) -> bool {
        self.deleted.contains(&id)
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.by_name
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// Configs of a broker that were altered while it ran.
    pub fn broker_configs(&self, broker: BrokerId) -> Option<&Configs> {
        self.broker_configs.get(&broker)
    }

    /// Configs that were altered for all brokers.
    pub fn broker_defaults(&self) -> &Configs {
        static NONE: Configs = Configs::new();
        self.broker_configs.get(&BROKER_DEFAULTS).unwrap_or(&NONE)
    }

    /// First producer id that nobody has.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// What changed since `before`; topics that are the same in memory are passed over.
    pub fn changes_since(&self, before: &Self) -> Vec<TopicChange> {
        let mut changes = Vec::new();
        for (id, topic) in &before.by_id {
            if !self.by_id.contains_key(id) {
                changes.push(TopicChange::Deleted(topic.clone()));
            }
        }
        for (id, topic) in &self.by_id {
            match before.by_id.get(id) {
                None => changes.push(TopicChange::Created(topic.clone())),
                Some(old) if !Arc::ptr_eq(old, topic) => {
                    changes.push(TopicChange::Changed(topic.clone()));
                }
                Some(_) => {}
            }
        }
        changes
    }

    pub(super) fn put_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    pub(super) fn remember_deleted(&mut self, id: Uuid) {
        if self.deleted.len() == DELETED_MAX {
            self.deleted.pop_front();
        }
        self.deleted.push_back(id);
    }

    /// Asserts I2 and I3 of the [module](super).
    pub fn check_invariants(&self) {
        assert_eq!(
            self.by_name.len(),
            self.by_id.len(),
            "names and ids are unique"
        );
        for topic in self.by_id.values() {
            let named = self
                .by_name
                .get(&topic.name)
                .expect("every id has its name");
            assert!(
                Arc::ptr_eq(named, topic),
                "{} is one topic under name and id",
                topic.name
            );
            assert!(
                !topic.partitions.is_empty(),
                "{} has a partition",
                topic.name
            );
            for partition in &topic.partitions {
                assert_eq!(partition.check(), Ok(()), "{}: {partition:?}", topic.name);
            }
        }
    }
}
