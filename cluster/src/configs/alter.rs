//! Alterations of configs: incremental (KIP-339) and by replacing all (the old `AlterConfigs`).
//!
//! Place: called by `controller`; returns the changes for a command, already in canonical form.
//! Limits: names and values of at most [`TEXT_BYTES_MAX`] bytes.

use std::collections::BTreeSet;

use super::definition::Definition;
use super::value::{ConfigType, InvalidValue, words};
use crate::metadata::{ConfigChange, Configs};

/// Longest name or value that is stored.
const TEXT_BYTES_MAX: usize = 32_767;

/// What an alteration does, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterOperation {
    /// Sets the value.
    Set,
    /// Removes the override.
    Delete,
    /// Adds words to a list.
    Append,
    /// Takes words out of a list.
    Subtract,
}

impl AlterOperation {
    /// The operation of a number in an `IncrementalAlterConfigs` request.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// One alteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    /// Name of the config.
    pub name: String,
    /// What to do.
    pub operation: AlterOperation,
    /// The value, or the words; not used by [`AlterOperation::Delete`].
    pub value: Option<String>,
}

/// Why an alteration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// There is no config of that name.
    #[error("Unknown {scope} config name: {name}")]
    Unknown {
        /// `topic` or `broker`.
        scope: &'static str,
        /// The name.
        name: String,
    },
    /// The config does not take the value.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// No value where one is needed.
    #[error("Null value not supported for config {name}")]
    NullValue {
        /// The config.
        name: String,
    },
    /// One config twice in a request.
    #[error("The config {name} is named more than once in the request")]
    Repeated {
        /// The config.
        name: String,
    },
    /// Words are added to or taken from something that is no list.
    #[error("Can't {operation} to config {name}: its type is not LIST")]
    NotAList {
        /// `append` or `subtract`.
        operation: &'static str,
        /// The config.
        name: String,
    },
    /// A config that is fixed while the broker runs.
    #[error(
        "Cannot update the config {name} while the broker runs; it is set in the configuration file"
    )]
    ReadOnly {
        /// The config.
        name: String,
    },
    /// A name or value beyond what is stored.
    #[error("The name or value of a config has {bytes} bytes, the most is {TEXT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The changes that `alterations` make to `current`.
///
/// `definition_of` finds a config and refuses those that may not be altered here; `in_force` gives
/// the value that words are added to when there is no override yet.
pub fn alter_incrementally(
    current: &Configs,
    alterations: &[Alteration],
    definition_of: impl Fn(&str) -> Result<&'static Definition, AlterError>,
    in_force: impl Fn(&'static Definition) -> Option<String>,
) -> Result<Vec<ConfigChange>, AlterError> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        if !seen.insert(alteration.name.as_str()) {
            return Err(AlterError::Repeated {
                name: alteration.name.clone(),
            });
        }
        if alteration.operation == AlterOperation::Delete {
            // Whether or not there is such a config: what an older version stored can be removed, and what
            // is not there need not be.
            let is_stored = current.contains_key(&alteration.name);
            changes.extend(is_stored.then(|| ConfigChange {
                name: alteration.name.clone(),
                value: None,
            }));
            continue;
        }
        let definition = definition_of(&alteration.name)?;
        let override_now = current.get(definition.name).cloned();
        let value = match alteration.operation {
            AlterOperation::Set | AlterOperation::Delete => alteration.value.clone(),
            AlterOperation::Append | AlterOperation::Subtract => {
                let list = override_now
                    .or_else(|| in_force(definition))
                    .unwrap_or_default();
                Some(edit_list(definition, alteration, &list)?)
            }
        };
        changes.push(ConfigChange {
            name: alteration.name.clone(),
            value: Some(check(definition, value.as_deref())?),
        });
    }
    Ok(changes)
}

/// The changes that make `wanted` the only overrides: the old `AlterConfigs`.
pub fn replace_all(
    current: &Configs,
    wanted: &[(String, Option<String>)],
    definition_of: impl Fn(&str) -> Result<&'static Definition, AlterError>,
) -> Result<Vec<ConfigChange>, AlterError> {
    let mut changes = Vec::with_capacity(wanted.len());
    let mut seen = BTreeSet::new();
    for (name, value) in wanted {
        if !seen.insert(name.as_str()) {
            return Err(AlterError::Repeated { name: name.clone() });
        }
        let definition = definition_of(name)?;
        let value = check(definition, value.as_deref())?;
        changes.push(ConfigChange {
            name: name.clone(),
            value: Some(value),
        });
    }
    let dropped = current.keys().filter(|name| !seen.contains(name.as_str()));
    changes.extend(dropped.map(|name| ConfigChange {
        name: name.clone(),
        value: None,
    }));
    Ok(changes)
}

/// Checks a value that must be there, and gives its canonical form.
fn check(definition: &'static Definition, value: Option<&str>) -> Result<String, AlterError> {
    let name = || definition.name.to_owned();
    let value = value.ok_or_else(|| AlterError::NullValue { name: name() })?;
    if value.len() > TEXT_BYTES_MAX {
        return Err(AlterError::TooLong { bytes: value.len() });
    }
    Ok(definition.check(value)?)
}

fn edit_list(
    definition: &'static Definition,
    alteration: &Alteration,
    list: &str,
) -> Result<String, AlterError> {
    let name = || definition.name.to_owned();
    let is_append = alteration.operation == AlterOperation::Append;
    if definition.kind != ConfigType::List {
        let operation = if is_append { "append" } else { "subtract" };
        return Err(AlterError::NotAList {
            operation,
            name: name(),
        });
    }
    let value = alteration.value.as_deref();
    let value = value.ok_or_else(|| AlterError::NullValue { name: name() })?;
    let mut edited: Vec<&str> = words(list).collect();
    if is_append {
        // A word that is there already is not added again.
        let added = words(value).filter(|word| !words(list).any(|before| before == *word));
        edited.extend(added);
    } else {
        edited.retain(|word| !words(value).any(|taken| taken == *word));
    }
    Ok(edited.join(","))
}
