//! The registries agree with their own rules and with each other.

use crate::configs::{
    BROKER_CONFIGS, BrokerLayers, ConfigType, Definition, TOPIC_CONFIGS, TopicConfig,
    describe_topic, find_broker_config, find_topic_config,
};
use crate::metadata::Configs;

fn all() -> impl Iterator<Item = &'static Definition> {
    TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS)
}

#[test]
fn defaults_are_valid() {
    for definition in all() {
        let Some(default) = definition.default else {
            continue;
        };
        let canonical = definition.check(default);
        assert_eq!(canonical.as_deref(), Ok(default), "{}", definition.name);
    }
    // Resolves every name that `TopicConfig` asks for; panics on one that is missing.
    let _config = TopicConfig::default();
}

#[test]
fn names_are_unique_and_in_order() {
    for registry in [TOPIC_CONFIGS, BROKER_CONFIGS] {
        for pair in registry.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} before {}",
                pair[0].name,
                pair[1].name
            );
        }
    }
}

#[test]
fn every_config_is_documented_in_sentences() {
    for definition in all() {
        assert!(
            definition.documentation.ends_with('.'),
            "{}",
            definition.name
        );
        assert!(definition.documentation.len() > 20, "{}", definition.name);
    }
}

#[test]
fn synonyms_are_broker_configs_of_the_same_kind() {
    for definition in TOPIC_CONFIGS {
        for synonym in definition.synonyms {
            let broker = find_broker_config(synonym.name);
            let broker = broker.unwrap_or_else(|| panic!("{} is not registered", synonym.name));
            let is_number = |kind| matches!(kind, ConfigType::Int | ConfigType::Long);
            assert!(
                broker.kind == definition.kind
                    || is_number(broker.kind) && is_number(definition.kind),
                "{}",
                synonym.name
            );
            assert!(synonym.factor >= 1, "{}", synonym.name);
        }
    }
}

#[test]
fn broker_defaults_and_topic_defaults_are_the_same() {
    for definition in TOPIC_CONFIGS {
        let set = definition.synonyms.iter().rev().find_map(|synonym| {
            let broker = find_broker_config(synonym.name)?;
            Some((synonym.factor, broker.default?))
        });
        let Some((factor, default)) = set else {
            continue;
        };
        let scaled = match default.parse::<i64>() {
            Ok(number) => (number * factor).to_string(),
            Err(_) => default.to_owned(),
        };
        assert_eq!(
            Some(scaled.as_str()),
            definition.default,
            "{}",
            definition.name
        );
    }
}

#[test]
fn what_a_topic_takes_its_broker_default_takes_too() {
    for definition in TOPIC_CONFIGS {
        for synonym in definition
            .synonyms
            .iter()
            .filter(|synonym| synonym.factor == 1)
        {
            let broker = find_broker_config(synonym.name).unwrap();
            assert_eq!(broker.validator, definition.validator, "{}", synonym.name);
        }
    }
}

#[test]
fn kafkas_topic_defaults_are_kept() {
    // From the config definition in the jars of Apache Kafka 4.3.1.
    let expected = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("delete.retention.ms", "86400000"),
        ("file.delete.delay.ms", "60000"),
        ("flush.messages", "9223372036854775807"),
        ("flush.ms", "9223372036854775807"),
        ("index.interval.bytes", "4096"),
        ("local.retention.bytes", "-2"),
        ("local.retention.ms", "-2"),
        ("max.compaction.lag.ms", "9223372036854775807"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("min.compaction.lag.ms", "0"),
        ("min.insync.replicas", "1"),
        ("preallocate", "false"),
        ("remote.storage.enable", "false"),
        ("retention.bytes", "-1"),
        ("retention.ms", "604800000"),
        ("segment.bytes", "1073741824"),
        ("segment.index.bytes", "10485760"),
        ("segment.jitter.ms", "0"),
        ("segment.ms", "604800000"),
        ("unclean.leader.election.enable", "false"),
    ];
    for (name, value) in expected {
        let rows = describe_topic(&Configs::new(), &BrokerLayers::default(), Some(&[name]));
        assert_eq!(rows[0].value.as_deref(), Some(value), "{name}");
    }
}

#[test]
fn configs_that_kafka_4_dropped_are_unknown() {
    for name in [
        "message.format.version",
        "message.downconversion.enable",
        "message.timestamp.difference.max.ms",
    ] {
        assert!(find_topic_config(name).is_none(), "{name}");
    }
}
