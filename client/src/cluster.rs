//! The cluster as metadata tells it: brokers, topics, leaders.
//!
//! Place: set-up and recovery paths of the load generator and tests; hot paths use [`Connection`].

use std::borrow::Cow;
use std::time::{Duration, Instant};

use protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use protocol::messages::{Request, Response};
use protocol::{ApiKey, ErrorCode};

use crate::connection::{Connection, ConnectionOptions};
use crate::error::ClientError;
use crate::requests::mismatch;

/// Pause between questions for metadata that is not there yet.
const METADATA_PAUSE: Duration = Duration::from_millis(100);

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub node_id: i32,
    /// Its host and port, as advertised.
    pub address: (String, u16),
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, in order of their index.
    pub partitions: Vec<Partition>,
}

/// A partition and who leads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its index in the topic.
    pub index: i32,
    /// Node id of its leader, -1 if it has none.
    pub leader: i32,
}

/// A way into a cluster.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
    pub(crate) options: ConnectionOptions,
    brokers: Vec<Broker>,
    connection: Option<Connection>,
}

impl Broker {
    /// Where it listens, as `host:port`.
    pub fn host_port(&self) -> String {
        let (host, port) = &self.address;
        format!("{host}:{port}")
    }
}

impl Cluster {
    /// Connects to the first bootstrap broker (`host:port`) that answers.
    ///
    /// # Errors
    /// The last broker's error.
    pub async fn connect(
        bootstrap: &[String],
        options: ConnectionOptions,
    ) -> Result<Cluster, ClientError> {
        let mut cluster = Cluster {
            bootstrap: bootstrap.to_vec(),
            options,
            brokers: Vec::new(),
            connection: None,
        };
        cluster.metadata(&[]).await?;
        Ok(cluster)
    }

    /// The brokers, as the last metadata told them.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// One request to any broker; connects anew if the connection was lost.
    pub(crate) async fn ask<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(Response<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open_any().await?,
        };
        let outcome = connection.call(request).await.and_then(read);
        // A connection that failed is not put back.
        if matches!(&outcome, Ok(_) | Err(ClientError::Refused { .. })) {
            self.connection = Some(connection);
        }
        outcome
    }

    async fn open_any(&self) -> Result<Connection, ClientError> {
        let known = self.brokers.iter().map(Broker::host_port);
        let mut last = ClientError::Closed { in_flight: 0 };
        for host in self.bootstrap.iter().cloned().chain(known) {
            match Connection::open_host(&host, &self.options).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Opens a connection of its own to a broker.
    ///
    /// # Errors
    /// [`ClientError::Incomplete`] for a node id that metadata did not tell, and those of
    /// [`Connection::open`].
    pub async fn open_broker(&self, node_id: i32) -> Result<Connection, ClientError> {
        let known = self.brokers.iter().find(|broker| broker.node_id == node_id);
        let Some(broker) = known else {
            let what = format!("broker {node_id}");
            return Err(ClientError::Incomplete {
                key: ApiKey::Metadata,
                what,
            });
        };
        Connection::open_host(&broker.host_port(), &self.options).await
    }

    /// Learns the brokers and the named topics; topics that do not exist are left out.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a topic's error other than being unknown or without leader.
    pub async fn metadata(&mut self, topics: &[String]) -> Result<Vec<Topic>, ClientError> {
        let asked = topics.iter().map(|name| MetadataRequestTopic {
            name: Some(Cow::Borrowed(name)),
            ..MetadataRequestTopic::default()
        });
        let request = Request::Metadata(MetadataRequest {
            topics: Some(asked.collect()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        });
        let read = |response: Response<'_>| {
            let Response::Metadata(response) = response else {
                return Err(mismatch(ApiKey::Metadata));
            };
            Ok((read_brokers(&response), read_topics(&response)?))
        };
        let (brokers, topics) = self.ask(&request, read).await?;
        self.brokers = brokers;
        Ok(topics)
    }

    /// Waits until every named topic exists and each of its partitions has a leader.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`], or the last error of asking.
    pub async fn wait_for_leaders(
        &mut self,
        names: &[String],
        after: Duration,
    ) -> Result<Vec<Topic>, ClientError> {
        let deadline = Instant::now() + after;
        loop {
            let outcome = self.metadata(names).await;
            let is_complete = |topics: &Vec<Topic>| {
                let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
                topics.len() == names.len() && partitions.all(|partition| partition.leader >= 0)
            };
            match outcome {
                Ok(topics) if is_complete(&topics) => return Ok(topics),
                Ok(_) if Instant::now() >= deadline => return Err(ClientError::TimedOut { after }),
                Err(error) if Instant::now() >= deadline || !error.is_retriable() => {
                    return Err(error);
                }
                Ok(_) | Err(_) => tokio::time::sleep(METADATA_PAUSE).await,
            }
        }
    }
}

fn read_brokers(response: &MetadataResponse<'_>) -> Vec<Broker> {
    let brokers = response.brokers.iter().filter_map(|broker| {
        let port = u16::try_from(broker.port).ok()?;
        Some(Broker {
            node_id: broker.node_id,
            address: (broker.host.to_string(), port),
        })
    });
    brokers.collect()
}

fn read_topics(response: &MetadataResponse<'_>) -> Result<Vec<Topic>, ClientError> {
    let mut topics = Vec::with_capacity(response.topics.len());
    for topic in &response.topics {
        let code = ErrorCode::from_i16(topic.error_code);
        if code == Some(ErrorCode::UnknownTopicOrPartition) {
            continue;
        }
        if code != Some(ErrorCode::LeaderNotAvailable) {
            ClientError::check(ApiKey::Metadata, topic.error_code, topic.name.as_deref())?;
        }
        topics.push(read_topic(topic));
    }
    Ok(topics)
}

fn read_topic(topic: &MetadataResponseTopic<'_>) -> Topic {
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: partition.leader_id,
        })
        .collect();
    partitions.sort_unstable_by_key(|partition| partition.index);
    Topic {
        name: topic.name.as_deref().unwrap_or_default().to_owned(),
        partitions,
    }
}
