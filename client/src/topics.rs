//! Creating and deleting topics.

use std::borrow::Cow;

use protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::messages::{Request, Response};
use protocol::{ApiKey, ErrorCode};

use crate::cluster::Cluster;
use crate::error::ClientError;
use crate::requests::mismatch;

/// Most partitions created by one request; Apache Kafka refuses 10,000 and more.
const CREATE_PARTITIONS_MAX: i32 = 5_000;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each, -1 for the broker's default.
    pub replication_factor: i16,
    /// Topic configs, name and value.
    pub configs: Vec<(String, String)>,
}

impl Cluster {
    /// Creates topics; those that exist already stay as they are.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for the first topic that is refused.
    pub async fn create_topics(&mut self, specs: &[TopicSpec]) -> Result<(), ClientError> {
        let mut rest = specs;
        while !rest.is_empty() {
            // As many topics as stay below the limit on partitions, but at least one.
            let mut partitions = 0;
            let fitting = rest.iter().take_while(|spec| {
                partitions += spec.partitions.min(CREATE_PARTITIONS_MAX);
                partitions <= CREATE_PARTITIONS_MAX
            });
            let count = fitting.count().max(1);
            let (chunk, after) = rest.split_at(count);
            self.create_chunk(chunk).await?;
            rest = after;
        }
        for spec in specs {
            let mut count = CREATE_PARTITIONS_MAX;
            while count < spec.partitions {
                count = spec.partitions.min(count + CREATE_PARTITIONS_MAX);
                self.grow(&spec.name, count).await?;
            }
        }
        Ok(())
    }

    /// Raises the number of partitions of a topic that was too large for one request.
    async fn grow(&mut self, name: &str, count: i32) -> Result<(), ClientError> {
        let key = ApiKey::CreatePartitions;
        let request = Request::CreatePartitions(CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: name.into(),
                count,
                assignments: None,
            }],
            timeout_ms: self.options.timeout.as_millis() as i32,
            validate_only: false,
        });
        let read = |response: Response<'_>| {
            let Response::CreatePartitions(response) = response else {
                return Err(mismatch(key));
            };
            for topic in &response.results {
                ClientError::check(key, topic.error_code, topic.error_message.as_deref())?;
            }
            Ok(())
        };
        self.ask(&request, read).await
    }

    async fn create_chunk(&mut self, specs: &[TopicSpec]) -> Result<(), ClientError> {
        let key = ApiKey::CreateTopics;
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: specs.iter().map(creatable).collect(),
            timeout_ms: self.options.timeout.as_millis() as i32,
            validate_only: false,
        });
        let read = |response: Response<'_>| {
            let Response::CreateTopics(response) = response else {
                return Err(mismatch(key));
            };
            let refused = response
                .topics
                .iter()
                .filter(|topic| topic.error_code != ErrorCode::TopicAlreadyExists as i16);
            for topic in refused {
                ClientError::check(key, topic.error_code, topic.error_message.as_deref())?;
            }
            Ok(())
        };
        self.ask(&request, read).await
    }

    /// Deletes topics; unknown ones are passed over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for the first topic that is refused.
    pub async fn delete_topics(&mut self, names: &[String]) -> Result<(), ClientError> {
        let key = ApiKey::DeleteTopics;
        let states = names.iter().map(|name| DeleteTopicState {
            name: Some(Cow::Borrowed(name)),
            ..DeleteTopicState::default()
        });
        let request = Request::DeleteTopics(DeleteTopicsRequest {
            topics: states.collect(),
            timeout_ms: self.options.timeout.as_millis() as i32,
            ..DeleteTopicsRequest::default()
        });
        let read = |response: Response<'_>| {
            let Response::DeleteTopics(response) = response else {
                return Err(mismatch(key));
            };
            let refused = response
                .responses
                .iter()
                .filter(|topic| topic.error_code != ErrorCode::UnknownTopicOrPartition as i16);
            for topic in refused {
                ClientError::check(key, topic.error_code, topic.error_message.as_deref())?;
            }
            Ok(())
        };
        self.ask(&request, read).await
    }
}

fn creatable(spec: &TopicSpec) -> CreatableTopic<'_> {
    let configs = spec
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig {
            name: Cow::Borrowed(name),
            value: Some(Cow::Borrowed(value)),
        });
    CreatableTopic {
        name: Cow::Borrowed(&spec.name),
        num_partitions: spec.partitions.min(CREATE_PARTITIONS_MAX),
        replication_factor: spec.replication_factor,
        configs: configs.collect(),
        ..CreatableTopic::default()
    }
}
