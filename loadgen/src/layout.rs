//! Topics and how their partitions are spread over connections.
//!
//! Producers share all partitions of their broker; consumers and verifiers divide them, so that
//! each partition has one reader or writer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Broker, Cluster, Connection, ConnectionOptions, OffsetAt, Topic, TopicSpec};

use crate::args::TargetArgs;
use crate::error::LoadError;
use crate::fetch::list_positions;

/// Longest wait for the leaders of new topics.
const LEADERS_WAIT: Duration = Duration::from_mins(3);

/// Pause between attempts to reach a broker that is away.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) leader: i32,
}

/// One connection: the broker it goes to and the partitions it serves there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) address: String,
    pub(crate) targets: Vec<Target>,
}

/// The topics of a run.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) targets: Vec<Target>,
    brokers: Vec<Broker>,
}

/// How connections of this program are made.
pub(crate) fn connection_options(in_flight_max: u32) -> ConnectionOptions {
    ConnectionOptions {
        client_id: "loadgen".to_owned(),
        in_flight_max: in_flight_max as usize,
        response_bytes_max: 1 << 30,
        timeout: Duration::from_mins(1),
    }
}

pub(crate) fn topic_names(target: &TargetArgs) -> Vec<String> {
    (0..target.topics)
        .map(|number| format!("{}-{number}", target.topic_prefix))
        .collect()
}

/// Finds the topics, creates the missing ones, waits until every partition has a leader.
pub(crate) async fn prepare(target: &TargetArgs) -> Result<Layout, LoadError> {
    let mut cluster = Cluster::connect(&target.brokers, connection_options(1)).await?;
    let names = topic_names(target);
    let existing = cluster.metadata(&names).await?;
    let is_missing = |name: &&String| !existing.iter().any(|topic| topic.name == **name);
    let missing: Vec<TopicSpec> = names
        .iter()
        .filter(is_missing)
        .map(|name| TopicSpec {
            name: name.clone(),
            partitions: target.partitions,
            replication_factor: target.replication_factor,
            configs: target.topic_config.clone(),
        })
        .collect();
    cluster.create_topics(&missing).await?;
    let topics = cluster.wait_for_leaders(&names, LEADERS_WAIT).await?;
    let layout = Layout {
        targets: list_targets(&topics),
        brokers: cluster.brokers().to_vec(),
    };
    if !missing.is_empty() {
        layout.wait_until_led().await?;
    }
    Ok(layout)
}

/// Finds the topics, which must exist, waiting as long as `patience` for the broker to come back.
pub(crate) async fn find(target: &TargetArgs, patience: Duration) -> Result<Layout, LoadError> {
    let deadline = Instant::now() + patience;
    let mut cluster = loop {
        match Cluster::connect(&target.brokers, connection_options(1)).await {
            Ok(cluster) => break cluster,
            Err(error) if error.is_retriable() && Instant::now() < deadline => {
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let topics = cluster
        .wait_for_leaders(&topic_names(target), patience)
        .await?;
    Ok(Layout {
        targets: list_targets(&topics),
        brokers: cluster.brokers().to_vec(),
    })
}

/// Finds the one broker that leads all of a connection's partitions now; returns its address.
pub(crate) async fn locate(
    target: &TargetArgs,
    targets: &mut [Target],
) -> Result<String, LoadError> {
    let mut cluster = Cluster::connect(&target.brokers, connection_options(1)).await?;
    let mut names: Vec<String> = targets
        .iter()
        .map(|target| target.topic.to_string())
        .collect();
    names.dedup();
    let topics = cluster.wait_for_leaders(&names, LEADERS_WAIT).await?;
    let found = list_targets(&topics);
    for target in targets.iter_mut() {
        let now = found
            .iter()
            .find(|now| now.topic == target.topic && now.partition == target.partition);
        target.leader = now.map_or(-1, |now| now.leader);
    }
    let layout = Layout {
        targets: targets.to_vec(),
        brokers: cluster.brokers().to_vec(),
    };
    match layout.leaders().as_slice() {
        [leader] => layout.address(*leader),
        _ => Err(LoadError::Setup(
            "the partitions of a connection have moved to different brokers: \
             use as many --connections as there are partitions"
                .to_owned(),
        )),
    }
}

/// Deletes the topics of a run, if asked to.
pub(crate) async fn clean_up(target: &TargetArgs) -> Result<(), LoadError> {
    if target.delete_topics {
        let mut cluster = Cluster::connect(&target.brokers, connection_options(1)).await?;
        cluster.delete_topics(&topic_names(target)).await?;
    }
    Ok(())
}

fn list_targets(topics: &[Topic]) -> Vec<Target> {
    let targets = topics.iter().flat_map(|topic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.iter().map(move |partition| Target {
            topic: Arc::clone(&name),
            partition: partition.index,
            leader: partition.leader,
        })
    });
    targets.collect()
}

impl Layout {
    /// Node ids that lead something, ascending.
    fn leaders(&self) -> Vec<i32> {
        let mut leaders: Vec<i32> = self.targets.iter().map(|target| target.leader).collect();
        leaders.sort_unstable();
        leaders.dedup();
        leaders
    }

    fn address(&self, leader: i32) -> Result<String, LoadError> {
        let broker = self.brokers.iter().find(|broker| broker.node_id == leader);
        let unknown = || LoadError::Setup(format!("metadata names no broker {leader}"));
        broker.map(Broker::host_port).ok_or_else(unknown)
    }

    fn led_by(&self, leader: i32) -> impl Iterator<Item = &Target> {
        self.targets
            .iter()
            .filter(move |target| target.leader == leader)
    }

    /// Waits until the leaders of all partitions know that they are.
    async fn wait_until_led(&self) -> Result<(), LoadError> {
        for lane in self.divide(1)? {
            let options = connection_options(1);
            let mut connection = Connection::open_host(&lane.address, &options).await?;
            list_positions(&mut connection, &lane.targets, OffsetAt::Latest).await?;
        }
        Ok(())
    }

    /// `count` connections, spread over the brokers, each with all partitions of its broker;
    /// neighbours begin with different partitions.
    pub(crate) fn share(&self, count: u32) -> Result<Vec<Lane>, LoadError> {
        let leaders = self.leaders();
        let lane = |number: usize| {
            let leader = leaders[number % leaders.len()];
            let mut targets: Vec<Target> = self.led_by(leader).cloned().collect();
            let first = number / leaders.len() % targets.len();
            targets.rotate_left(first);
            Ok(Lane {
                address: self.address(leader)?,
                targets,
            })
        };
        (0..count as usize).map(lane).collect()
    }

    /// At most about `count` connections (one for each broker at least), which divide the
    /// partitions.
    pub(crate) fn divide(&self, count: u32) -> Result<Vec<Lane>, LoadError> {
        let leaders = self.leaders();
        let for_each = (count as usize).div_ceil(leaders.len().max(1));
        let mut lanes = Vec::new();
        for leader in leaders {
            let address = self.address(leader)?;
            let led: Vec<&Target> = self.led_by(leader).collect();
            for number in 0..for_each.min(led.len()) {
                let part = led.iter().skip(number).step_by(for_each);
                let targets = part.map(|target| (*target).clone()).collect();
                lanes.push(Lane {
                    address: address.clone(),
                    targets,
                });
            }
        }
        Ok(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(partitions: i32, brokers: i32) -> Layout {
        let topic: Arc<str> = "t".into();
        let target = |partition| Target {
            topic: Arc::clone(&topic),
            partition,
            leader: partition % brokers,
        };
        let broker = |node_id| Broker {
            node_id,
            address: ("h".to_owned(), 9000 + node_id as u16),
        };
        Layout {
            targets: (0..partitions).map(target).collect(),
            brokers: (0..brokers).map(broker).collect(),
        }
    }

    fn partitions(lane: &Lane) -> Vec<i32> {
        lane.targets.iter().map(|target| target.partition).collect()
    }

    #[test]
    fn sharing_gives_every_connection_its_brokers_partitions() {
        let lanes = layout(4, 2).share(4).unwrap();
        let expected = [vec![0, 2], vec![1, 3], vec![2, 0], vec![3, 1]];
        assert_eq!(lanes.iter().map(partitions).collect::<Vec<_>>(), expected);
        assert_eq!(lanes[1].address, "h:9001");
    }

    #[test]
    fn dividing_gives_every_partition_one_connection() {
        for (count, brokers) in [(1, 1), (3, 1), (20, 1), (1, 3), (5, 3)] {
            let lanes = layout(10, brokers).divide(count).unwrap();
            let mut all: Vec<i32> = lanes.iter().flat_map(partitions).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
            assert!(lanes.iter().all(|lane| !lane.targets.is_empty()));
        }
    }
}
