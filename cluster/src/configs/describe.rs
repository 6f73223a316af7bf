//! The rows of a `DescribeConfigs` answer.
//!
//! Place: called by the handler of `DescribeConfigs`; pure lookup over the registry and the sources.
//! Source: KIP-226 (sources, synonyms), KIP-569 (type, documentation).

use super::broker_definitions::BROKER_CONFIGS;
use super::definition::{Definition, Update};
use super::effective::{
    BrokerLayers, ConfigSource, Sourced, broker_sources, synonyms_of, topic_sources,
};
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
    /// Where it, or a config that stands in for it, is set: in the units of that config.
    pub synonyms: Vec<SynonymRow>,
    /// Type.
    pub kind: ConfigType,
    /// Meaning.
    pub documentation: &'static str,
}

/// The configs of a topic; `names` limits the answer, `None` or none asks for all. Unknown names are
/// left out, as Kafka does.
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
            let mut sources = topic_sources(definition, Some(topic), broker);
            let in_force = sources.swap_remove(0);
            let own = (in_force.source == ConfigSource::Topic).then(|| in_force.clone());
            let inherited = definition.synonyms.first();
            let inherited = inherited.map(|synonym| synonyms_of(synonym.name, broker));
            let synonyms = own.into_iter().chain(inherited.unwrap_or_default());
            row(definition, in_force, synonyms, false)
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
            let in_force = broker_sources(definition, broker).swap_remove(0);
            let synonyms = synonyms_of(definition.name, broker);
            row(definition, in_force, synonyms, read_only)
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
    for row in &mut rows {
        row.synonyms
            .retain(|synonym| synonym.source == ConfigSource::BrokerDefault);
    }
    rows
}

fn is_wanted(definition: &Definition, names: Option<&[&str]>) -> bool {
    names.is_none_or(|names| names.is_empty() || names.contains(&definition.name))
}

fn row(
    definition: &'static Definition,
    in_force: Sourced,
    synonyms: impl IntoIterator<Item = Sourced>,
    read_only: bool,
) -> ConfigRow {
    let is_sensitive = definition.is_sensitive();
    let shown = |value: Option<String>| value.filter(|_| !is_sensitive);
    let synonyms = synonyms.into_iter().map(|one| SynonymRow {
        name: one.name,
        value: shown(one.value),
        source: one.source,
    });
    ConfigRow {
        name: definition.name,
        value: shown(in_force.value),
        read_only,
        source: in_force.source,
        is_sensitive,
        synonyms: synonyms.collect(),
        kind: definition.kind,
        documentation: definition.documentation,
    }
}
