//! What is known of one config: name, type, default, bounds, meaning, and where else it can be set.

use super::broker_definitions::BROKER_CONFIGS;
use super::topic_definitions::TOPIC_CONFIGS;
use super::value::{ConfigType, InvalidValue, Validator, check};

/// A broker config that gives a topic config its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// Name of the broker config.
    pub name: &'static str,
    /// How many units of the topic config one unit of the broker config is.
    pub factor: i64,
}

/// How a broker config can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// In the configuration file only; shown as read-only.
    ReadOnly,
    /// While running, for one broker or for all.
    ClusterWide,
}

/// One config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: ConfigType,
    /// Default in text form; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Allowed values.
    pub validator: Validator,
    /// Broker configs that give a topic config its default, the strongest first.
    pub synonyms: &'static [Synonym],
    /// How it can be changed; topic configs always can.
    pub update: Update,
    /// Meaning, in a sentence or two.
    pub documentation: &'static str,
}

impl Definition {
    /// A topic config.
    pub(super) const fn topic(
        name: &'static str,
        kind: ConfigType,
        default: &'static str,
        validator: Validator,
        synonyms: &'static [Synonym],
        documentation: &'static str,
    ) -> Self {
        let (default, update) = (Some(default), Update::ClusterWide);
        Self {
            name,
            kind,
            default,
            validator,
            synonyms,
            update,
            documentation,
        }
    }

    /// A broker config.
    pub(super) const fn broker(
        name: &'static str,
        kind: ConfigType,
        default: Option<&'static str>,
        validator: Validator,
        update: Update,
        documentation: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            validator,
            synonyms: &[],
            update,
            documentation,
        }
    }

    /// Whether the value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// Checks a value and returns it in canonical form.
    pub fn check(&self, value: &str) -> Result<String, InvalidValue> {
        check(self.name, self.kind, self.validator, value)
    }
}

/// A topic config by name.
pub fn find_topic_config(name: &str) -> Option<&'static Definition> {
    TOPIC_CONFIGS
        .iter()
        .find(|definition| definition.name == name)
}

/// A broker config by name.
pub fn find_broker_config(name: &str) -> Option<&'static Definition> {
    BROKER_CONFIGS
        .iter()
        .find(|definition| definition.name == name)
}
