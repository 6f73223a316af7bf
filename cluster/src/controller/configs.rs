//! Config changes of topics and brokers.

use protocol::error_code::ErrorCode;

use super::Refusal;
use crate::configs::{
    AlterError, AlterOperation, Alteration, BrokerLayers, Definition, Update, alter_incrementally,
    find_broker_config, find_topic_config, replace_all,
};
use crate::metadata::{BROKER_DEFAULTS, BrokerId, Command, Configs, Image};

/// A change of one resource's configs.
#[derive(Debug, Clone)]
pub enum ConfigAlteration {
    /// The incremental form (KIP-339).
    Incremental(Vec<Alteration>),
    /// The old form: exactly these, everything else at its default.
    ReplaceAll(Vec<(String, Option<String>)>),
}

/// Decides on a change of a topic's configs. `layers` are the values of this broker, to whose lists
/// words are added.
pub fn alter_topic(
    image: &Image,
    layers: &BrokerLayers<'_>,
    name: &str,
    alteration: &ConfigAlteration,
) -> Result<Command, Refusal> {
    refuse_nulls(alteration)?;
    if name.is_empty() {
        let message = "Default topic resources are not allowed.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let topic = image.topic(name).ok_or_else(|| {
        let message = format!("The topic '{name}' does not exist.");
        Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let in_force = |definition: &'static Definition| {
        let rows = crate::configs::describe_topic(&topic.configs, layers, Some(&[definition.name]));
        rows.into_iter().next()?.value
    };
    let changes = match alteration {
        ConfigAlteration::Incremental(alterations) => {
            alter_incrementally(&topic.configs, alterations, topic_definition, in_force)
        }
        ConfigAlteration::ReplaceAll(wanted) => {
            replace_all(&topic.configs, wanted, topic_definition)
        }
    };
    Ok(Command::AlterTopicConfigs {
        id: topic.id,
        changes: changes.map_err(|error| refuse(&error))?,
    })
}

/// Decides on a change of one broker's configs, or of all brokers' ([`BROKER_DEFAULTS`]).
pub fn alter_broker(
    image: &Image,
    layers: &BrokerLayers<'_>,
    broker: BrokerId,
    alteration: &ConfigAlteration,
) -> Result<Command, Refusal> {
    refuse_nulls(alteration)?;
    if broker != BROKER_DEFAULTS && image.broker(broker).is_none() {
        let message = format!("Broker {broker} is not registered.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let none = Configs::new();
    let current = image.broker_configs(broker).unwrap_or(&none);
    let changes = match alteration {
        ConfigAlteration::Incremental(alterations) => {
            let in_force = |definition: &'static Definition| layers.value(definition.name);
            alter_incrementally(current, alterations, broker_definition, in_force)
        }
        ConfigAlteration::ReplaceAll(wanted) => replace_all(current, wanted, broker_definition),
    };
    let changes = changes.map_err(|error| Refusal {
        // A broker says so of its own configs, the controller of a topic's.
        code: match error {
            AlterError::Invalid(_) => ErrorCode::InvalidRequest,
            _ => refuse(&error).code,
        },
        ..refuse(&error)
    })?;
    Ok(Command::AlterBrokerConfigs { broker, changes })
}

/// Refuses configs without a value that are not to be removed, before anything else is looked at.
fn refuse_nulls(alteration: &ConfigAlteration) -> Result<(), Refusal> {
    let without_value: Vec<&str> = match alteration {
        ConfigAlteration::Incremental(alterations) => alterations
            .iter()
            .filter(|one| one.operation != AlterOperation::Delete && one.value.is_none())
            .map(|one| one.name.as_str())
            .collect(),
        ConfigAlteration::ReplaceAll(wanted) => wanted
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.as_str())
            .collect(),
    };
    if without_value.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Null value not supported for : {}",
        without_value.join(", ")
    );
    Err(Refusal::new(ErrorCode::InvalidRequest, message))
}

fn topic_definition(name: &str) -> Result<&'static Definition, AlterError> {
    find_topic_config(name).ok_or_else(|| AlterError::Unknown {
        scope: "topic",
        name: name.to_owned(),
    })
}

fn broker_definition(name: &str) -> Result<&'static Definition, AlterError> {
    let definition = find_broker_config(name).ok_or_else(|| AlterError::Unknown {
        scope: "broker",
        name: name.to_owned(),
    })?;
    match definition.update {
        Update::ReadOnly => Err(AlterError::ReadOnly {
            name: name.to_owned(),
        }),
        Update::ClusterWide => Ok(definition),
    }
}

/// The configs of a new topic.
pub(super) fn new_topic_configs(wanted: &[(String, Option<String>)]) -> Result<Configs, Refusal> {
    if let Some((name, _)) = wanted.iter().find(|(_, value)| value.is_none()) {
        let message = format!("Null value not supported for topic configs: {name}");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let changes =
        replace_all(&Configs::new(), wanted, topic_definition).map_err(|error| refuse(&error))?;
    Ok(changes
        .into_iter()
        .filter_map(|change| Some((change.name, change.value?)))
        .collect())
}

fn refuse(error: &AlterError) -> Refusal {
    let code = match error {
        AlterError::Unknown { .. }
        | AlterError::Invalid(_)
        | AlterError::NotAList { .. }
        | AlterError::TooLong { .. } => ErrorCode::InvalidConfig,
        AlterError::NullValue { .. }
        | AlterError::Repeated { .. }
        | AlterError::ReadOnly { .. } => ErrorCode::InvalidRequest,
    };
    Refusal::new(code, error.to_string())
}
