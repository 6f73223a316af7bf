//! What each command does to the image.

use std::sync::Arc;

use protocol::primitives::Uuid;

use super::error::check_partition_count;
use super::{
    BROKER_DEFAULTS, Broker, Command, ConfigChange, Configs, Image, MetadataError, Partition,
    Replica, Topic,
};

impl Image {
    /// Applies a command.
    ///
    /// # Errors
    /// The command contradicts the image, for example because it was decided on one that another command
    /// has changed since: the image stays as it was, on every node alike.
    pub fn apply(&mut self, command: &Command) -> Result<(), MetadataError> {
        match command {
            Command::NameCluster { cluster_id } => self.name_cluster(cluster_id),
            Command::RegisterBroker {
                id,
                host,
                port,
                rack,
            } => self.register_broker(*id, host, *port, rack.as_deref()),
            Command::CreateTopic {
                id,
                name,
                assignments,
                configs,
            } => self.create_topic(*id, name, assignments, configs),
            Command::DeleteTopic { id } => {
                let topic = self.by_id.remove(id);
                let topic = topic.ok_or(MetadataError::UnknownTopic { id: *id })?;
                self.by_name.remove(&topic.name);
                self.remember_deleted(*id);
                Ok(())
            }
            Command::AddPartitions {
                id,
                expected_count,
                assignments,
            } => self.add_partitions(*id, *expected_count, assignments),
            Command::AlterTopicConfigs { id, changes } => {
                let mut topic = self.topic_to_change(*id)?;
                change_configs(&mut topic.configs, changes);
                self.put_topic(topic);
                Ok(())
            }
            Command::AlterBrokerConfigs { broker, changes } => {
                self.alter_broker_configs(*broker, changes)
            }
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
        }
    }

    fn name_cluster(&mut self, cluster_id: &str) -> Result<(), MetadataError> {
        if !self.cluster_id.is_empty() {
            let name = self.cluster_id.clone();
            return Err(MetadataError::ClusterIsNamed { name });
        }
        if cluster_id.is_empty() {
            return Err(MetadataError::NameMissing { what: "cluster" });
        }
        cluster_id.clone_into(&mut self.cluster_id);
        Ok(())
    }

    /// Registers a process of a broker, and begins a leader epoch of all that it leads.
    fn register_broker(
        &mut self,
        id: i32,
        host: &str,
        port: u16,
        rack: Option<&str>,
    ) -> Result<(), MetadataError> {
        let epoch = match self.brokers.get(&id) {
            Some(broker) => broker.epoch.checked_add(1),
            None => Some(1),
        };
        let what = "broker epochs";
        let epoch = epoch.ok_or(MetadataError::Exhausted { what })?;
        let broker = Broker {
            id,
            epoch,
            host: host.to_owned(),
            port,
            rack: rack.map(str::to_owned),
        };
        broker.check()?;
        // All of it is known to succeed before any of it is done.
        let led = self.begin_leader_epochs(id)?;
        self.brokers.insert(id, broker);
        for topic in led {
            self.put_topic(topic);
        }
        Ok(())
    }

    /// The topics of which `leader` leads partitions, with the next leader epoch of these.
    fn begin_leader_epochs(&self, leader: i32) -> Result<Vec<Topic>, MetadataError> {
        let leads = |partition: &Partition| partition.leader == leader;
        let mut changed = Vec::new();
        for topic in self.by_id.values() {
            if !topic.partitions.iter().any(leads) {
                continue;
            }
            let mut topic = Topic::clone(topic);
            for partition in topic.partitions.iter_mut().filter(|one| leads(one)) {
                let what = "leader epochs";
                let next = partition.leader_epoch.checked_add(1);
                partition.leader_epoch = next.ok_or(MetadataError::Exhausted { what })?;
            }
            changed.push(topic);
        }
        Ok(changed)
    }

    fn create_topic(
        &mut self,
        id: Uuid,
        name: &str,
        assignments: &[Vec<i32>],
        configs: &Configs,
    ) -> Result<(), MetadataError> {
        let topic = Topic {
            id,
            name: name.into(),
            partitions: self.new_partitions(assignments)?,
            configs: configs.clone(),
        };
        self.check_new_topic(&topic)?;
        self.put_topic(topic);
        Ok(())
    }

    fn add_partitions(
        &mut self,
        id: Uuid,
        expected_count: usize,
        assignments: &[Vec<i32>],
    ) -> Result<(), MetadataError> {
        let mut topic = self.topic_to_change(id)?;
        let (expected, found) = (expected_count, topic.partitions.len());
        if expected != found {
            return Err(MetadataError::UnexpectedPartitionCount { expected, found });
        }
        check_partition_count(found.saturating_add(assignments.len()))?;
        topic.partitions.extend(self.new_partitions(assignments)?);
        self.put_topic(topic);
        Ok(())
    }

    fn alter_broker_configs(
        &mut self,
        broker: i32,
        changes: &[ConfigChange],
    ) -> Result<(), MetadataError> {
        if broker != BROKER_DEFAULTS && !self.brokers.contains_key(&broker) {
            return Err(MetadataError::UnknownBroker { id: broker });
        }
        let mut configs = self.broker_configs.remove(&broker).unwrap_or_default();
        change_configs(&mut configs, changes);
        if !configs.is_empty() {
            self.broker_configs.insert(broker, configs);
        }
        Ok(())
    }

    fn allocate_producer_ids(&mut self, count: i32) -> Result<(), MetadataError> {
        if count < 1 {
            return Err(MetadataError::ProducerIdCount { count });
        }
        let what = "producer ids";
        let next = self.next_producer_id.checked_add(i64::from(count));
        self.next_producer_id = next.ok_or(MetadataError::Exhausted { what })?;
        Ok(())
    }

    /// A copy of a topic, to be changed and put back.
    fn topic_to_change(&self, id: Uuid) -> Result<Topic, MetadataError> {
        let topic: Option<&Arc<Topic>> = self.by_id.get(&id);
        let topic = topic.ok_or(MetadataError::UnknownTopic { id })?;
        Ok(Topic::clone(topic))
    }

    /// Partitions at their beginning, on registered brokers.
    fn new_partitions(&self, assignments: &[Vec<i32>]) -> Result<Vec<Partition>, MetadataError> {
        let mut partitions = Vec::with_capacity(assignments.len());
        for brokers in assignments {
            if let Some(&id) = brokers.iter().find(|id| !self.brokers.contains_key(id)) {
                return Err(MetadataError::UnknownBroker { id });
            }
            let partition = first(brokers);
            partition.check()?;
            partitions.push(partition);
        }
        Ok(partitions)
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
