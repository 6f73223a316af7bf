//! The rows of a `DescribeConfigs` answer.
//!
//! Place: called by the handler of `DescribeConfigs`; pure lookup over the registry and the sources.
//! Source: KIP-226 (sources, synonyms), KIP-569 (type, documentation).

use super::broker_definitions::BROKER_CONFIGS;
use super::definition::{Definition, Update};
use super::effective::{BrokerLayers, ConfigSource, Sourced, broker_sources, topic_sources};
use super::topic_definitions::TOPIC_CONFIGS;
use super::value::ConfigType;
use crate::metadata::Configs;

/// One place where a described config has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynonymRow {
    /// Name under which it is set there.
    pub name: &'static str,
    /// Its value there; `None` is null, also for values that are not shown.
    pub value: Option<String>,
    /// The place.
    pub source: ConfigSource,
}

/// One described config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    /// Name.
    pub name: &'static str,
    /// The value in force; `None` is null, also for values that are not shown.
    pub value: Option<String>,
    /// Whether it can be changed only in the configuration file.
    pub read_only: bool,
    /// Where the value in force comes from.
    pub source: ConfigSource,
    /// Whether the value is not shown.
    pub is_sensitive: bool,
    /// Every place where it has a value, the one in force first.
    pub synonyms: Vec<SynonymRow>,
    /// Type.
    pub kind: ConfigType,
    /// Meaning.
    pub documentation: &'static str,
}

/// The configs of a topic; `names` limits the answer, `None` asks for all. Unknown names are left
/// out, as Kafka does.
pub fn describe_topic(
    topic: &Configs,
    broker: &BrokerLayers<'_>,
    names: Option<&[&str]>,
) -> Vec<ConfigRow> {
    let wanted = TOPIC_CONFIGS
        .iter()
        .filter(|definition| is_wanted(definition, names));
    wanted
        .map(|definition| {
            row(
                definition,
                topic_sources(definition, Some(topic), broker),
                false,
            )
        })
        .collect()
}

/// The configs of a broker.
pub fn describe_broker(broker: &BrokerLayers<'_>, names: Option<&[&str]>) -> Vec<ConfigRow> {
    let wanted = BROKER_CONFIGS
        .iter()
        .filter(|definition| is_wanted(definition, names));
    wanted
        .map(|definition| {
            let read_only = definition.update == Update::ReadOnly;
            row(definition, broker_sources(definition, broker), read_only)
        })
        .collect()
}

/// The overrides for all brokers: only what is set, as Kafka answers for the empty broker name.
pub fn describe_broker_defaults(defaults: &Configs, names: Option<&[&str]>) -> Vec<ConfigRow> {
    let layers = BrokerLayers {
        defaults: Some(defaults),
        ..BrokerLayers::default()
    };
    let mut rows = describe_broker(&layers, names);
    rows.retain(|row| row.source == ConfigSource::BrokerDefault);
    rows
}

fn is_wanted(definition: &Definition, names: Option<&[&str]>) -> bool {
    names.is_none_or(|names| names.contains(&definition.name))
}

fn row(definition: &'static Definition, sources: Vec<Sourced>, read_only: bool) -> ConfigRow {
    let is_sensitive = definition.is_sensitive();
    let shown = |value: Option<String>| value.filter(|_| !is_sensitive);
    let synonyms: Vec<SynonymRow> = sources
        .into_iter()
        .map(
            |Sourced {
                 name,
                 value,
                 source,
             }| SynonymRow {
                name,
                value: shown(value),
                source,
            },
        )
        .collect();
    let (value, source) = match synonyms.first() {
        Some(first) => (first.value.clone(), first.source),
        None => (None, ConfigSource::Default),
    };
    ConfigRow {
        name: definition.name,
        value,
        read_only,
        source,
        is_sensitive,
        synonyms,
        kind: definition.kind,
        documentation: definition.documentation,
    }
}
