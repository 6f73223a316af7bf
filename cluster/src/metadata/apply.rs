//! What each command does to the image.

use std::sync::Arc;

use super::{Broker, Command, ConfigChange, Configs, Image, Partition, Replica, Topic};

impl Image {
    /// Applies a command. A command that names what does not exist changes nothing: it was decided on an
    /// image that another command has changed since.
    pub fn apply(&mut self, command: &Command) {
        match command {
            Command::NameCluster { cluster_id } => {
                if self.cluster_id.is_empty() {
                    self.cluster_id.clone_from(cluster_id);
                }
            }
            Command::RegisterBroker {
                id,
                host,
                port,
                rack,
            } => {
                self.register_broker(*id, host, *port, rack.as_deref());
            }
            Command::CreateTopic {
                id,
                name,
                assignments,
                configs,
            } => {
                let is_known = self.by_id.contains_key(id) || self.by_name.contains_key(&**name);
                if !is_known && !assignments.is_empty() {
                    self.put_topic(Topic {
                        id: *id,
                        name: name.as_str().into(),
                        partitions: assignments.iter().map(|brokers| first(brokers)).collect(),
                        configs: configs.clone(),
                    });
                }
            }
            Command::DeleteTopic { id } => {
                if let Some(topic) = self.by_id.remove(id) {
                    self.by_name.remove(&topic.name);
                }
            }
            Command::AddPartitions { id, assignments } => self.change_topic(*id, |topic| {
                topic
                    .partitions
                    .extend(assignments.iter().map(|brokers| first(brokers)));
            }),
            Command::AlterTopicConfigs { id, changes } => {
                self.change_topic(*id, |topic| change_configs(&mut topic.configs, changes));
            }
            Command::AlterBrokerConfigs { broker, changes } => {
                let mut configs = self.broker_configs.remove(broker).unwrap_or_default();
                change_configs(&mut configs, changes);
                if !configs.is_empty() {
                    self.broker_configs.insert(*broker, configs);
                }
            }
            Command::AllocateProducerIds { count } => {
                let count = i64::from((*count).max(0));
                self.next_producer_id = self.next_producer_id.saturating_add(count);
            }
        }
    }

    /// Registers a process of a broker, and begins a leader epoch of all that it leads.
    fn register_broker(&mut self, id: i32, host: &str, port: u16, rack: Option<&str>) {
        let epoch = self.brokers.get(&id).map_or(0, |broker| broker.epoch) + 1;
        let (host, rack) = (host.to_owned(), rack.map(str::to_owned));
        self.brokers.insert(
            id,
            Broker {
                id,
                epoch,
                host,
                port,
                rack,
            },
        );
        let led: Vec<Arc<Topic>> = self
            .by_id
            .values()
            .filter(|topic| {
                topic
                    .partitions
                    .iter()
                    .any(|partition| partition.leader == id)
            })
            .cloned()
            .collect();
        for topic in led {
            let mut topic = Topic::clone(&topic);
            for partition in topic.partitions.iter_mut().filter(|p| p.leader == id) {
                partition.leader_epoch += 1;
            }
            self.put_topic(topic);
        }
    }

    fn change_topic(&mut self, id: protocol::primitives::Uuid, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.by_id.get(&id) {
            let mut topic = Topic::clone(topic);
            change(&mut topic);
            self.put_topic(topic);
        }
    }
}

/// A partition at its beginning: the first replica leads, all are in sync.
fn first(brokers: &[i32]) -> Partition {
    Partition {
        replicas: brokers
            .iter()
            .map(|broker| Replica { broker: *broker })
            .collect(),
        isr: brokers.to_vec(),
        leader: brokers.first().copied().unwrap_or(-1),
        leader_epoch: 0,
    }
}

fn change_configs(configs: &mut Configs, changes: &[ConfigChange]) {
    for change in changes {
        match &change.value {
            Some(value) => configs.insert(change.name.clone(), value.clone()),
            None => configs.remove(&change.name),
        };
    }
}
