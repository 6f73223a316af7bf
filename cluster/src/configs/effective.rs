//! Where the value in force comes from: topic override, broker override, file, or default.
//!
//! Invariants: sources are asked from the most to the least specific; a stored value that does not
//! pass its validator is passed over (it was stored by a version that allowed it).
//! Source: KIP-226 (order of sources, synonyms).

use super::definition::{Definition, Synonym, find_broker_config};
use super::topic_definitions::TOPIC_CONFIGS;
use crate::metadata::{BrokerId, Configs, Image};

/// Source of a value, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Override of the topic.
    Topic,
    /// Override of one broker.
    Broker,
    /// Override for all brokers.
    BrokerDefault,
    /// Configuration file, flags or environment.
    Static,
    /// Nothing set it.
    Default,
}

impl ConfigSource {
    /// The number of the source in a `DescribeConfigs` response.
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Broker => 2,
            Self::BrokerDefault => 3,
            Self::Static => 4,
            Self::Default => 5,
        }
    }
}

/// A broker's configs, by Kafka's broker config names.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrokerLayers<'a> {
    /// Overrides of this broker.
    pub broker: Option<&'a Configs>,
    /// Overrides for all brokers.
    pub defaults: Option<&'a Configs>,
    /// From the configuration file.
    pub fixed: Option<&'a Configs>,
}

impl<'a> BrokerLayers<'a> {
    /// The configs of `broker` as of `image`; `fixed` comes from its configuration file.
    pub fn new(image: &'a Image, broker: BrokerId, fixed: &'a Configs) -> Self {
        Self {
            broker: image.broker_configs(broker),
            defaults: Some(image.broker_defaults()),
            fixed: Some(fixed),
        }
    }

    fn layers(&self) -> [(ConfigSource, Option<&'a Configs>); 3] {
        [
            (ConfigSource::Broker, self.broker),
            (ConfigSource::BrokerDefault, self.defaults),
            (ConfigSource::Static, self.fixed),
        ]
    }
}

/// One place where a config has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sourced {
    /// Name under which it is set there.
    pub(super) name: &'static str,
    /// Its value in canonical form, in units of the config asked for.
    pub(super) value: Option<String>,
    pub(super) source: ConfigSource,
}

/// Every place where a topic config has a value, the one in force first.
pub(super) fn topic_sources(
    definition: &'static Definition,
    topic: Option<&Configs>,
    broker: &BrokerLayers<'_>,
) -> Vec<Sourced> {
    let own = topic.and_then(|configs| configs.get(definition.name));
    let own = own.and_then(|value| definition.check(value).ok());
    let mut sources: Vec<Sourced> = own
        .map(|value| (definition.name, value))
        .into_iter()
        .map(|(name, value)| Sourced {
            name,
            value: Some(value),
            source: ConfigSource::Topic,
        })
        .collect();
    for (source, configs) in broker.layers() {
        let Some(configs) = configs else { continue };
        for synonym in definition.synonyms {
            let value = configs
                .get(synonym.name)
                .and_then(|value| scale(*synonym, value));
            let value = value.and_then(|value| definition.check(&value).ok());
            if let Some(value) = value {
                sources.push(Sourced {
                    name: synonym.name,
                    value: Some(value),
                    source,
                });
            }
        }
    }
    let name = definition
        .synonyms
        .last()
        .map_or(definition.name, |synonym| synonym.name);
    let value = definition.default.map(str::to_owned);
    sources.push(Sourced {
        name,
        value,
        source: ConfigSource::Default,
    });
    sources
}

/// Every place where a broker config has a value, the one in force first.
pub(super) fn broker_sources(
    definition: &'static Definition,
    broker: &BrokerLayers<'_>,
) -> Vec<Sourced> {
    let mut sources = Vec::new();
    for (source, configs) in broker.layers() {
        let value = configs.and_then(|configs| configs.get(definition.name));
        if let Some(value) = value.and_then(|value| definition.check(value).ok()) {
            sources.push(Sourced {
                name: definition.name,
                value: Some(value),
                source,
            });
        }
    }
    let value = definition.default.map(str::to_owned);
    sources.push(Sourced {
        name: definition.name,
        value,
        source: ConfigSource::Default,
    });
    sources
}

/// Every place where a broker config, or one that stands in for it, is set, each in its own units and the
/// strongest first, as `DescribeConfigs` shows them.
///
/// Kafka begins the list at the config's own name: what only a weaker name sets is not shown, though it
/// is in force.
pub(super) fn synonyms_of(name: &str, broker: &BrokerLayers<'_>) -> Vec<Sourced> {
    let names: Vec<&Definition> = family(name).filter_map(find_broker_config).collect();
    let mut rows = Vec::new();
    for (source, configs) in broker.layers() {
        for definition in &names {
            let value = configs.and_then(|configs| configs.get(definition.name));
            if let Some(value) = value.and_then(|value| definition.check(value).ok()) {
                rows.push(Sourced {
                    name: definition.name,
                    value: Some(value),
                    source,
                });
            }
        }
    }
    rows.extend(names.iter().filter_map(|definition| {
        Some(Sourced {
            name: definition.name,
            value: Some(definition.default?.to_owned()),
            source: ConfigSource::Default,
        })
    }));
    rows.into_iter()
        .skip_while(|row| row.name != name)
        .collect()
}

/// The broker configs that stand in for each other, `name` among them, the strongest first.
fn family(name: &str) -> impl Iterator<Item = &str> {
    let topic = TOPIC_CONFIGS
        .iter()
        .find(|topic| topic.synonyms.iter().any(|synonym| synonym.name == name));
    let synonyms = topic.map_or(&[][..], |topic| topic.synonyms);
    let alone = synonyms.is_empty().then_some(name);
    synonyms.iter().map(|synonym| synonym.name).chain(alone)
}

/// The value of a topic config in force.
pub(super) fn effective_topic_value(
    definition: &'static Definition,
    topic: &Configs,
    broker: &BrokerLayers<'_>,
) -> Option<String> {
    topic_sources(definition, Some(topic), broker)
        .into_iter()
        .next()?
        .value
}

impl BrokerLayers<'_> {
    /// The value of a broker config in force; `None` for unknown names and for Kafka's null.
    pub fn value(&self, name: &str) -> Option<String> {
        broker_sources(find_broker_config(name)?, self)
            .into_iter()
            .next()?
            .value
    }
}

/// A broker value in the units of the topic config. Negative numbers mean "no bound" in any unit.
fn scale(synonym: Synonym, value: &str) -> Option<String> {
    if synonym.factor == 1 {
        return Some(value.to_owned());
    }
    let number = value.trim().parse::<i64>().ok()?;
    let scaled = if number < 0 {
        number
    } else {
        number.checked_mul(synonym.factor)?
    };
    Some(scaled.to_string())
}
