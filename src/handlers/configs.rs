//! `DescribeConfigs`, `AlterConfigs` and `IncrementalAlterConfigs` for topics and brokers.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::configs::{
    AlterOperation, Alteration, BrokerLayers, ConfigRow, describe_broker, describe_broker_defaults,
    describe_topic,
};
use cluster::controller::{
    ConfigAlteration, Refusal, alter_broker, alter_topic, validate_topic_name,
};
use cluster::metadata::{BROKER_DEFAULTS, BrokerId, Image};
use protocol::error_code::ErrorCode;
use protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::{alter_configs, incremental_alter_configs};
use protocol::primitives::{DecodeError, Decoder};

use super::context::{Context, Handlers};
use crate::control::Decision;
use crate::net::response::Response;

/// Resource types of Kafka's config requests.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Whose configs a request means.
enum Resource {
    Topic(String),
    Broker(BrokerId),
}

impl Resource {
    /// Reads type and name; an empty broker name means all brokers.
    fn new(handlers: &Handlers, kind: i8, name: &str) -> Result<Self, Refusal> {
        let invalid = |message: String| Refusal {
            code: ErrorCode::InvalidRequest,
            message,
        };
        match kind {
            TOPIC => Ok(Self::Topic(name.to_owned())),
            BROKER if name.is_empty() => Ok(Self::Broker(BROKER_DEFAULTS)),
            BROKER => {
                let id = name.parse::<BrokerId>();
                let id = id.map_err(|_| invalid(format!("'{name}' is not a broker id")))?;
                let own = handlers.shard.config.node_id;
                if id == own {
                    return Ok(Self::Broker(id));
                }
                Err(invalid(format!(
                    "Unexpected broker id, expected {own} but received {id}"
                )))
            }
            _ => Err(invalid(format!(
                "resource type {kind} has no configs here; topics ({TOPIC}) and brokers ({BROKER}) have"
            ))),
        }
    }
}

/// Serves `DescribeConfigs`.
pub(super) fn describe(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = DescribeConfigsRequest::decode(decoder, context.version())?;
    let image = context.image();
    let mut response = DescribeConfigsResponse::default();
    for asked in &request.resources {
        let mut answer = DescribeConfigsResult {
            error_message: None,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            ..Default::default()
        };
        match rows(context.handlers, &image, asked) {
            Ok(rows) => {
                answer.configs = rows
                    .into_iter()
                    .map(|row| config_result(row, &request))
                    .collect();
            }
            Err(refusal) => {
                answer.error_code = refusal.code.as_i16();
                answer.error_message = Some(refusal.message.into());
            }
        }
        response.results.push(answer);
    }
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

fn rows(
    handlers: &Handlers,
    image: &Image,
    asked: &DescribeConfigsResource<'_>,
) -> Result<Vec<ConfigRow>, Refusal> {
    let names: Option<Vec<&str>> = asked
        .configuration_keys
        .as_ref()
        .map(|names| names.iter().map(|name| &**name).collect());
    let names = names.as_deref();
    let layers = BrokerLayers::new(
        image,
        handlers.shard.config.node_id,
        &handlers.shard.broker_configs,
    );
    match Resource::new(handlers, asked.resource_type, &asked.resource_name)? {
        Resource::Topic(name) => {
            validate_topic_name(&name)?;
            let topic = image.topic(&name).ok_or_else(|| Refusal {
                code: ErrorCode::UnknownTopicOrPartition,
                message: format!("The topic '{name}' does not exist."),
            })?;
            Ok(describe_topic(&topic.configs, &layers, names))
        }
        Resource::Broker(BROKER_DEFAULTS) => {
            Ok(describe_broker_defaults(image.broker_defaults(), names))
        }
        Resource::Broker(_) => Ok(describe_broker(&layers, names)),
    }
}

fn config_result(
    row: ConfigRow,
    request: &DescribeConfigsRequest<'_>,
) -> DescribeConfigsResourceResult<'static> {
    let synonyms = if request.include_synonyms {
        row.synonyms
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: row.name.into(),
        value: row.value.map(Into::into),
        read_only: row.read_only,
        config_source: row.source.code(),
        is_sensitive: row.is_sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Into::into),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: row.kind.code(),
        documentation: request
            .include_documentation
            .then(|| row.documentation.into()),
    }
}

/// One resource's change in a request.
struct Change {
    kind: i8,
    name: String,
    alteration: Result<ConfigAlteration, Refusal>,
}

/// Has the changes decided on; a refusal for each, in their order.
async fn alter_all(
    context: &Context<'_>,
    changes: Vec<Change>,
    validate_only: bool,
) -> Vec<Option<Refusal>> {
    let count = changes.len();
    let mut times = BTreeMap::new();
    for change in &changes {
        *times.entry((change.kind, change.name.clone())).or_insert(0) += 1;
    }
    let decisions = changes.into_iter().map(|mut change| {
        if times.get(&(change.kind, change.name.clone())) != Some(&1) {
            change.alteration = Err(Refusal {
                code: ErrorCode::InvalidRequest,
                message: "Each resource must appear at most once.".to_owned(),
            });
        }
        decision(context.handlers, change)
    });
    let decisions = decisions.collect();
    match context
        .handlers
        .control
        .decide(decisions, validate_only)
        .await
    {
        Ok(decided) => decided.results.into_iter().map(Result::err).collect(),
        Err(code) => vec![
            Some(Refusal {
                code,
                message: String::new()
            });
            count
        ],
    }
}

fn decision(handlers: &Handlers, change: Change) -> Decision {
    let resource = Resource::new(handlers, change.kind, &change.name);
    let fixed = handlers.shard.broker_configs.clone();
    let node_id = handlers.shard.config.node_id;
    Box::new(move |image| {
        let fixed = Arc::clone(&fixed);
        let layers = BrokerLayers::new(image, node_id, &fixed);
        let alteration = change.alteration?;
        match resource? {
            Resource::Topic(name) => alter_topic(image, &layers, &name, &alteration),
            Resource::Broker(broker) => alter_broker(image, &layers, broker, &alteration),
        }
    })
}

/// Serves `AlterConfigs`, which replaces all configs of a resource.
pub(super) async fn alter(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    let request = alter_configs::AlterConfigsRequest::decode(decoder, context.version())?;
    let changes = request.resources.iter().map(|resource| Change {
        kind: resource.resource_type,
        name: resource.resource_name.to_string(),
        alteration: Ok(ConfigAlteration::ReplaceAll(
            resource
                .configs
                .iter()
                .map(|one| {
                    (
                        one.name.to_string(),
                        one.value.as_ref().map(ToString::to_string),
                    )
                })
                .collect(),
        )),
    });
    let refusals = alter_all(context, changes.collect(), request.validate_only).await;
    let responses = request
        .resources
        .iter()
        .zip(refusals)
        .map(|(resource, refusal)| {
            let code = refusal
                .as_ref()
                .map_or(ErrorCode::None, |refusal| refusal.code);
            alter_configs::AlterConfigsResourceResponse {
                error_code: code.as_i16(),
                error_message: refusal.map(|refusal| refusal.message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            }
        });
    let response = alter_configs::AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}

/// Serves `IncrementalAlterConfigs` (KIP-339).
pub(super) async fn alter_incrementally(
    context: &Context<'_>,
    decoder: &mut Decoder<'_>,
) -> Result<Response, DecodeError> {
    use incremental_alter_configs as wire;
    let request = wire::IncrementalAlterConfigsRequest::decode(decoder, context.version())?;
    let changes = request.resources.iter().map(|resource| Change {
        kind: resource.resource_type,
        name: resource.resource_name.to_string(),
        alteration: resource
            .configs
            .iter()
            .map(|one| {
                let operation =
                    AlterOperation::from_code(one.config_operation).ok_or_else(|| Refusal {
                        code: ErrorCode::InvalidRequest,
                        message: format!("unknown config operation {}", one.config_operation),
                    })?;
                let (name, value) = (
                    one.name.to_string(),
                    one.value.as_ref().map(ToString::to_string),
                );
                Ok(Alteration {
                    name,
                    operation,
                    value,
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map(ConfigAlteration::Incremental),
    });
    let refusals = alter_all(context, changes.collect(), request.validate_only).await;
    let responses = request
        .resources
        .iter()
        .zip(refusals)
        .map(|(resource, refusal)| {
            let code = refusal
                .as_ref()
                .map_or(ErrorCode::None, |refusal| refusal.code);
            wire::AlterConfigsResourceResponse {
                error_code: code.as_i16(),
                error_message: refusal.map(|refusal| refusal.message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            }
        });
    let response = wire::IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    };
    Ok(context.reply().encode(Vec::new(), |encoder, version| {
        response.encode(encoder, version);
    }))
}
