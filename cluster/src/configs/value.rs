//! Types of config values, and what values are allowed.
//!
//! Invariants: `Validator` never panics on any text; its words tell what would be accepted.

use std::collections::BTreeSet;
use std::fmt;

/// Kafka's types of config values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A 32-bit number.
    Int,
    /// A 16-bit number.
    Short,
    /// A 64-bit number.
    Long,
    /// A number with a fraction.
    Double,
    /// Words with commas between them.
    List,
    /// The name of a Java class.
    Class,
    /// Text that is not shown.
    Password,
}

impl ConfigType {
    /// The number of the type in a `DescribeConfigs` response.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// What values of the right type are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validator {
    /// All.
    Any,
    /// Numbers from this on.
    AtLeast(i64),
    /// Numbers in this range, both ends included.
    Between(i64, i64),
    /// -1, or a number in this range, both ends included.
    MinusOneOr(i64, i64),
    /// Fractions in this range, both ends included.
    Fraction(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words; the list may be empty.
    ListOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
}

impl fmt::Display for Validator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => write!(formatter, "any value of its type"),
            Self::AtLeast(min) => write!(formatter, "at least {min}"),
            Self::Between(min, max) => write!(formatter, "from {min} to {max}"),
            Self::MinusOneOr(min, max) => write!(formatter, "-1, or from {min} to {max}"),
            Self::Fraction(min, max) => write!(formatter, "from {min} to {max}"),
            Self::OneOf(words) => write!(formatter, "one of {}", words.join(", ")),
            Self::ListOf(words) => write!(formatter, "a list of {}", words.join(", ")),
            Self::ThrottledReplicas => {
                write!(
                    formatter,
                    "'*' or a list of partition:broker, such as 0:1,1:2"
                )
            }
        }
    }
}

/// A value that a config does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {value} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The config.
    pub name: String,
    /// The value as it was given.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// Checks `value` and returns it in canonical form: without surrounding blanks, booleans in small
/// letters, lists without blanks and repetitions.
pub(super) fn check(
    name: &str,
    kind: ConfigType,
    validator: Validator,
    value: &str,
) -> Result<String, InvalidValue> {
    let trimmed = value.trim();
    let canonical = match kind {
        ConfigType::Boolean => check_boolean(trimmed),
        ConfigType::Int => check_integer(trimmed, kind, i64::from(i32::MIN), i64::from(i32::MAX)),
        ConfigType::Short => check_integer(trimmed, kind, i64::from(i16::MIN), i64::from(i16::MAX)),
        ConfigType::Long => check_integer(trimmed, kind, i64::MIN, i64::MAX),
        ConfigType::Double => match trimmed.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(trimmed.to_owned()),
            _ => Err(format!("Not a number of type {}", kind.name())),
        },
        ConfigType::List => Ok(canonical_list(trimmed)),
        ConfigType::String | ConfigType::Class | ConfigType::Password => Ok(trimmed.to_owned()),
    };
    let canonical = canonical.map_err(|reason| match validator {
        Validator::Any => reason,
        _ => format!("{reason}; allowed: {validator}"),
    });
    let allowed = canonical.and_then(|canonical| check_allowed(validator, canonical));
    allowed.map_err(|reason| InvalidValue {
        name: name.to_owned(),
        value: shorten(value),
        reason,
    })
}

/// The words of a list value; an empty text has none.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn canonical_list(list: &str) -> String {
    let mut distinct = BTreeSet::new();
    let kept: Vec<&str> = words(list).filter(|word| distinct.insert(*word)).collect();
    kept.join(",")
}

/// Values come from clients: a message repeats no more than the start of one.
fn shorten(value: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    match value.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", value.split_at(end).0),
        None => value.to_owned(),
    }
}

fn check_boolean(value: &str) -> Result<String, String> {
    let small = value.to_ascii_lowercase();
    if matches!(small.as_str(), "true" | "false") {
        return Ok(small);
    }
    Err("Expected value to be either true or false".to_owned())
}

fn check_integer(value: &str, kind: ConfigType, min: i64, max: i64) -> Result<String, String> {
    match value.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
        _ => Err(format!("Not a number of type {}", kind.name())),
    }
}

fn check_allowed(validator: Validator, value: String) -> Result<String, String> {
    // Integers were parsed before; what else gets here fails the bounds.
    let is_between = |min, max| value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n));
    let is_allowed = match validator {
        Validator::Any => true,
        Validator::AtLeast(min) => is_between(min, i64::MAX),
        Validator::Between(min, max) => is_between(min, max),
        Validator::MinusOneOr(min, max) => is_between(-1, -1) || is_between(min, max),
        Validator::Fraction(min, max) => value
            .parse::<f64>()
            .is_ok_and(|number| (min..=max).contains(&number)),
        Validator::OneOf(allowed) => allowed.contains(&value.as_str()),
        Validator::ListOf(allowed) => words(&value).all(|word| allowed.contains(&word)),
        Validator::ThrottledReplicas => is_throttled_replicas(&value),
    };
    if is_allowed {
        Ok(value)
    } else {
        Err(format!("Value must be {validator}"))
    }
}

fn is_throttled_replicas(value: &str) -> bool {
    let is_pair = |word: &str| {
        word.split_once(':').is_some_and(|(partition, broker)| {
            partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
        })
    };
    value == "*" || words(value).all(is_pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_value(kind: ConfigType, validator: Validator, value: &str, expected: Option<&str>) {
        let result = check("a.config", kind, validator, value);
        assert_eq!(result.as_deref().ok(), expected, "{value}: {result:?}");
    }

    #[test]
    fn values_are_made_canonical() {
        check_value(ConfigType::Boolean, Validator::Any, " TRUE ", Some("true"));
        check_value(ConfigType::Int, Validator::Any, "+7", Some("7"));
        check_value(ConfigType::List, Validator::Any, " a , b,,", Some("a,b"));
    }

    #[test]
    fn numbers_are_within_their_type() {
        check_value(ConfigType::Int, Validator::Any, "2147483648", None);
        check_value(
            ConfigType::Long,
            Validator::Any,
            "2147483648",
            Some("2147483648"),
        );
        check_value(ConfigType::Short, Validator::Any, "32768", None);
        check_value(ConfigType::Long, Validator::Any, "1e3", None);
        check_value(ConfigType::Double, Validator::Any, "NaN", None);
    }

    #[test]
    fn validators_bound_values() {
        check_value(ConfigType::Long, Validator::AtLeast(-1), "-1", Some("-1"));
        check_value(ConfigType::Long, Validator::AtLeast(-1), "-2", None);
        check_value(ConfigType::Int, Validator::Between(1, 9), "10", None);
        check_value(
            ConfigType::Int,
            Validator::MinusOneOr(1, 9),
            "-1",
            Some("-1"),
        );
        check_value(ConfigType::Int, Validator::MinusOneOr(1, 9), "0", None);
        check_value(
            ConfigType::Double,
            Validator::Fraction(0.0, 1.0),
            "1.5",
            None,
        );
        let words = Validator::ListOf(&["compact", "delete"]);
        check_value(
            ConfigType::List,
            words,
            "compact, delete",
            Some("compact,delete"),
        );
        check_value(ConfigType::List, words, "compact,compact", Some("compact"));
        check_value(ConfigType::List, words, "delet", None);
        check_value(
            ConfigType::List,
            Validator::ThrottledReplicas,
            "0:1,1:2",
            Some("0:1,1:2"),
        );
        check_value(ConfigType::List, Validator::ThrottledReplicas, "0:x", None);
    }

    #[test]
    fn message_says_what_is_wrong_and_what_is_allowed() {
        let error = check(
            "retention.ms",
            ConfigType::Long,
            Validator::AtLeast(-1),
            "abc",
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "Invalid value abc for configuration retention.ms: Not a number of type LONG; \
             allowed: at least -1"
        );
    }
}
