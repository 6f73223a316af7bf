//! Topics: names, partition counts, replication, placement.

use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;

use super::Refusal;
use super::configs::new_topic_configs;
use crate::metadata::{CLUSTER_METADATA, Command, Image, Topic};

/// Longest topic name (Kafka leaves room for the partition's suffix in a directory name).
const NAME_BYTES_MAX: usize = 249;

/// Defaults and bounds of this cluster.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Partitions of a topic whose creator says −1.
    pub default_partitions: i32,
    /// Replicas of a topic whose creator says −1.
    pub default_replication_factor: i16,
    /// Most partitions that one request may create.
    pub partitions_per_request_max: usize,
}

/// A topic as its creator wants it.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions, or −1 for the default (or with assignments).
    pub partition_count: i32,
    /// Replicas, or −1 for the default (or with assignments).
    pub replication_factor: i16,
    /// (partition, brokers), or empty: then the controller places them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configs; `None` as value is refused as Kafka does.
    pub configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// The partitions that it asks for, were there no bound; 0 if it asks for nonsense.
    pub fn partitions_asked(&self, policy: &Policy) -> usize {
        let count = match (self.assignments.len(), self.partition_count) {
            (0, -1) => policy.default_partitions,
            (0, count) => count,
            (assigned, _) => return assigned,
        };
        usize::try_from(count).unwrap_or(0)
    }
}

/// Refuses a whole request that asks for more partitions than one may, over all its topics.
pub fn check_request_total(
    policy: &Policy,
    partitions_asked: impl IntoIterator<Item = usize>,
) -> Result<(), Refusal> {
    let total = partitions_asked
        .into_iter()
        .fold(0_usize, usize::saturating_add);
    check_count(policy, total)
}

/// Checks a topic's name by Kafka's rules.
pub fn validate_topic_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidTopicException, why));
    if name.is_empty() {
        return refuse("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return refuse("Topic name is invalid: '.' or '..' is not allowed".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!(
            "Topic name is invalid: its length is {}, at most {NAME_BYTES_MAX} is allowed",
            name.len()
        ));
    }
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(illegal) = name.chars().find(|c| !is_legal(*c)) {
        return refuse(format!(
            "Topic name is invalid: {illegal:?} is not allowed; ASCII letters, digits, '.', '_' and '-' are"
        ));
    }
    Ok(())
}

/// Decides on a new topic with the drawn `id`.
pub fn create_topic(
    image: &Image,
    policy: &Policy,
    id: Uuid,
    new: &NewTopic,
) -> Result<Command, Refusal> {
    validate_topic_name(&new.name)?;
    if new.name == CLUSTER_METADATA {
        let message = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if image.topic(&new.name).is_some() {
        let message = format!("Topic '{}' already exists.", new.name);
        return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
    }
    refuse_collision(image, &new.name)?;
    let configs = new_topic_configs(&new.configs)?;
    let assignments = if new.assignments.is_empty() {
        place_new(image, policy, new)?
    } else {
        check_assignments(image, new)?
    };
    check_count(policy, assignments.len())?;
    Ok(Command::CreateTopic {
        id,
        name: new.name.clone(),
        assignments,
        configs,
    })
}

/// Metric names turn '.' into '_', so two topics that differ only there would share theirs.
fn refuse_collision(image: &Image, name: &str) -> Result<(), Refusal> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let folded = name.replace('.', "_");
    let other = image
        .topics()
        .find(|topic| topic.name.replace('.', "_") == folded);
    other.map_or(Ok(()), |other| {
        let message = format!(
            "Topic '{name}' collides with existing topic: {}",
            other.name
        );
        Err(Refusal::new(ErrorCode::InvalidTopicException, message))
    })
}

fn check_count(policy: &Policy, count: usize) -> Result<(), Refusal> {
    if count <= policy.partitions_per_request_max {
        return Ok(());
    }
    let limit = policy.partitions_per_request_max;
    let message = format!(
        "Excessively large number of partitions per request: {count}; at most {limit} are allowed."
    );
    Err(Refusal::new(ErrorCode::PolicyViolation, message))
}

fn place_new(image: &Image, policy: &Policy, new: &NewTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    let count = if new.partition_count == -1 {
        policy.default_partitions
    } else {
        new.partition_count
    };
    if count < 1 {
        let message = "Number of partitions must be larger than 0, or -1 for the default.";
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    check_count(policy, usize::try_from(count).unwrap_or(usize::MAX))?;
    let factor = match new.replication_factor {
        -1 => policy.default_replication_factor,
        factor => factor,
    };
    place(image, count, factor, 0)
}

/// Places partitions round robin over the brokers, beginning at partition `from`.
fn place(image: &Image, count: i32, factor: i16, from: usize) -> Result<Vec<Vec<i32>>, Refusal> {
    let brokers: Vec<i32> = image.brokers().map(|broker| broker.id).collect();
    let wanted = usize::try_from(factor).unwrap_or(0);
    if wanted < 1 {
        let message = "Replication factor must be larger than 0, or -1 for the default.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if wanted > brokers.len() {
        let message = format!(
            "Unable to replicate the partition {wanted} time(s): only {} broker(s) are registered.",
            brokers.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let at = |index: usize| {
        brokers
            .iter()
            .cycle()
            .skip(index % brokers.len())
            .take(wanted)
    };
    let partitions = from..from + usize::try_from(count).unwrap_or(0);
    Ok(partitions
        .map(|partition| at(partition).copied().collect())
        .collect())
}

fn check_assignments(image: &Image, new: &NewTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if new.partition_count != -1 || new.replication_factor != -1 {
        let message = "With replica assignments the partition count and the replication factor must both be -1.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut by_partition = vec![None; new.assignments.len()];
    for (partition, brokers) in &new.assignments {
        let slot = usize::try_from(*partition)
            .ok()
            .and_then(|index| by_partition.get_mut(index));
        let Some(slot @ None) = slot else {
            let message = "Replica assignments must name the partitions 0, 1, 2 … once each.";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        };
        *slot = Some(brokers.clone());
    }
    let assignments: Vec<Vec<i32>> = by_partition.into_iter().flatten().collect();
    check_replicas(image, &assignments)?;
    Ok(assignments)
}

fn check_replicas(image: &Image, assignments: &[Vec<i32>]) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
    let width = assignments.first().map_or(0, Vec::len);
    for brokers in assignments {
        if brokers.is_empty() || brokers.len() != width {
            return refuse(
                "Every partition needs the same number of replicas, at least 1.".to_owned(),
            );
        }
        for (index, broker) in brokers.iter().enumerate() {
            if brokers.iter().take(index).any(|other| other == broker) {
                return refuse(format!("Broker {broker} is named twice for one partition."));
            }
            if image.broker(*broker).is_none() {
                return refuse(format!("Broker {broker} is not registered."));
            }
        }
    }
    Ok(())
}

/// Decides on the end of a topic, given by name or id.
pub fn delete_topic(image: &Image, name: Option<&str>, id: Uuid) -> Result<Command, Refusal> {
    let (topic, unknown) = match name {
        Some(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
        None => (image.topic_by_id(id), ErrorCode::UnknownTopicId),
    };
    match topic {
        Some(topic) => Ok(Command::DeleteTopic { id: topic.id }),
        None => Err(Refusal::new(
            unknown,
            "This server does not host this topic.",
        )),
    }
}

/// Decides on more partitions: `count` is the new total.
pub fn add_partitions(
    image: &Image,
    policy: &Policy,
    name: &str,
    count: i32,
    assignments: Option<&[Vec<i32>]>,
) -> Result<Command, Refusal> {
    let topic = image.topic(name).ok_or_else(|| {
        Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            "This server does not host this topic.",
        )
    })?;
    if topic.is_internal() {
        // Kafka takes this, and its groups and transactions lose their state at the next start.
        let message = format!(
            "The number of partitions of {name} cannot change: its partitions are found by it."
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let present = topic.partitions.len();
    let total = usize::try_from(count).unwrap_or(0);
    if total <= present {
        let message = format!(
            "Topic currently has {present} partitions, which is {} the requested {count}.",
            if total == present {
                "the same as"
            } else {
                "higher than"
            }
        );
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let more = total - present;
    check_count(policy, more)?;
    let assignments = match assignments {
        Some(assignments) if assignments.len() != more => {
            let message = format!(
                "Increasing the number of partitions by {more} but {} assignments provided.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Some(assignments) => {
            check_replicas(image, assignments)?;
            assignments.to_vec()
        }
        None => place(image, more as i32, replication_factor(topic), present)?,
    };
    Ok(Command::AddPartitions {
        id: topic.id,
        expected_count: present,
        assignments,
    })
}

/// The partitions that a request for `count` in total adds to a topic; 0 if there is no such topic.
pub fn partitions_to_add(image: &Image, name: &str, count: i32) -> usize {
    let present = image.topic(name).map(|topic| topic.partitions.len());
    let total = usize::try_from(count).unwrap_or(0);
    present.map_or(0, |present| total.saturating_sub(present))
}

fn replication_factor(topic: &Topic) -> i16 {
    topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len() as i16)
}
