//! `CreateTopics`, and the creation of topics that clients use without creating them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::configs::{BrokerLayers, describe_topic};
use cluster::controller::{NewTopic, Policy, Refusal, check_request_total, create_topic};
use cluster::metadata::{CONSUMER_OFFSETS, Command, Image};
use protocol::error_code::ErrorCode;
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use protocol::primitives::{DecodeError, Decoder, Uuid};

use super::context::{Context, Handlers};
use crate::config::Config;
use crate::control::Decision;
use crate::net::response::Response;

/// Most partitions that one request may create.
const PARTITIONS_PER_REQUEST_MAX: usize = 100_000;

/// Serves `CreateTopics`.
pub(super) async fn handle(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = CreateTopicsRequest::decode(decoder, context.version())?;
    let handlers = context.handlers;
    let mut times = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&*topic.name).or_insert(0) += 1;
    }
    let new: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let policy = policy(&handlers.shard.config);
    let within_bound =
        check_request_total(&policy, new.iter().map(|one| one.partitions_asked(&policy)));
    let decisions = new.into_iter().map(|topic| {
        let is_repeated = times
            .get(topic.name.as_str())
            .is_some_and(|times| *times > 1);
        decision(&handlers.shard.config, topic, is_repeated)
    });
    let decided = async {
        within_bound?;
        let decisions = decisions.collect();
        let decided = handlers.control.decide(decisions, request.validate_only);
        decided.await.map_err(refusal_without_message)
    };
    let decided = decided.await;
    let mut response = CreateTopicsResponse::default();
    for (index, topic) in request.topics.iter().enumerate() {
        let result = match &decided {
            Ok(decided) => decided.results[index].clone(),
            Err(refusal) => Err(refusal.clone()),
        };
        response
            .topics
            .push(topic_result(handlers, &topic.name, result));
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// The control thread did not decide, and the code says all that is known.
pub(super) fn refusal_without_message(code: ErrorCode) -> Refusal {
    Refusal {
        code,
        message: String::new(),
    }
}

fn new_topic(topic: &CreatableTopic<'_>) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|one| (one.partition_index, one.broker_ids.clone()))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|one| {
                (
                    one.name.to_string(),
                    one.value.as_ref().map(ToString::to_string),
                )
            })
            .collect(),
    }
}

pub(super) fn policy(config: &Config) -> Policy {
    Policy {
        default_partitions: config.topics.partitions,
        default_replication_factor: 1,
        partitions_per_request_max: PARTITIONS_PER_REQUEST_MAX,
    }
}

fn decision(config: &Config, new: NewTopic, is_repeated: bool) -> Decision {
    let policy = policy(config);
    let id = Uuid(*uuid::Uuid::new_v4().as_bytes());
    Box::new(move |image| {
        if is_repeated {
            let message = "Duplicate topic name.".to_owned();
            return Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message,
            });
        }
        create_topic(image, &policy, id, &new)
    })
}

fn topic_result<'a>(
    handlers: &Handlers,
    name: &'a str,
    result: Result<Command, Refusal>,
) -> CreatableTopicResult<'a> {
    let mut answer = CreatableTopicResult {
        name: name.into(),
        ..Default::default()
    };
    match result {
        Ok(Command::CreateTopic {
            id,
            assignments,
            configs,
            ..
        }) => {
            answer.topic_id = id;
            answer.error_message = None;
            answer.num_partitions = assignments.len() as i32;
            answer.replication_factor = assignments.first().map_or(-1, |one| one.len() as i16);
            let image = handlers.shard.image();
            let node_id = handlers.shard.config.node_id;
            let layers = BrokerLayers::new(&image, node_id, &handlers.shard.broker_configs);
            let rows = describe_topic(&configs, &layers, None);
            let rows = rows.into_iter().map(|row| CreatableTopicConfigs {
                name: row.name.into(),
                value: row.value.map(Into::into),
                read_only: row.read_only,
                config_source: row.source.code(),
                is_sensitive: row.is_sensitive,
            });
            answer.configs = Some(rows.collect());
        }
        Ok(_) => answer.error_code = ErrorCode::UnknownServerError.as_i16(),
        Err(refusal) => {
            answer.error_code = refusal.code.as_i16();
            answer.error_message = Some(refusal.message.into());
            answer.configs = None;
        }
    }
    answer
}

/// Creates a topic with the defaults because a client uses it. What cannot be created stays unknown.
pub(super) async fn create_automatically(handlers: &Handlers, name: &str) {
    let config = &handlers.shard.config;
    let new = match name {
        CONSUMER_OFFSETS => offsets_topic(config),
        _ => NewTopic {
            name: name.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            ..NewTopic::default()
        },
    };
    let decided = handlers
        .control
        .decide(vec![decision(config, new, false)], false)
        .await;
    let refusal = decided
        .ok()
        .and_then(|mut decided| decided.results.pop()?.err());
    if let Some(refusal) = refusal
        && refusal.code != ErrorCode::TopicAlreadyExists
    {
        tracing::info!(
            topic = name,
            reason = refusal.message,
            "topic was not created on first use"
        );
    }
}

/// The topic of group coordinators, as Kafka makes it, but for its segments: the newest one is not
/// compacted, and all of it is read at each start. Kafka's have 100 MiB.
fn offsets_topic(config: &Config) -> NewTopic {
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "16777216"),
    ];
    NewTopic {
        name: CONSUMER_OFFSETS.to_owned(),
        partition_count: config.groups.offsets_partitions,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: configs
            .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
            .into(),
    }
}

impl Handlers {
    /// The image with the topic of group coordinators in it, which is created on first need.
    pub(super) async fn image_with_offsets_topic(&self) -> Arc<Image> {
        if self.shard.image().topic(CONSUMER_OFFSETS).is_none() {
            create_automatically(self, CONSUMER_OFFSETS).await;
        }
        self.shard.image()
    }
}
