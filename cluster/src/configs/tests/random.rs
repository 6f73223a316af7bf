//! Any text as a value: an answer, never a panic; what is taken stays what it is.

use proptest::prelude::*;

use crate::configs::{
    BROKER_CONFIGS, BrokerLayers, ConfigSource, TOPIC_CONFIGS, TopicConfig, describe_topic,
};
use crate::metadata::Configs;

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<i64>().prop_map(|number| number.to_string()),
        "[0-9:,*. +-]{0,12}",
        "(compact|delete|true|FALSE|zstd|memory|LogAppendTime| |,){0,4}",
    ]
}

fn any_config() -> impl Strategy<Value = (String, String)> {
    let names = TOPIC_CONFIGS
        .iter()
        .chain(BROKER_CONFIGS)
        .map(|definition| definition.name);
    let name = prop::sample::select(names.collect::<Vec<_>>());
    (name.prop_map(str::to_owned), any_value())
}

fn any_configs() -> impl Strategy<Value = Configs> {
    prop::collection::btree_map(any_config().prop_map(|(name, _)| name), any_value(), 0..20)
}

proptest! {
    #[test]
    fn a_value_is_refused_or_has_a_stable_canonical_form(
        index in any::<prop::sample::Index>(),
        value in any_value(),
    ) {
        let registered: Vec<_> = TOPIC_CONFIGS.iter().chain(BROKER_CONFIGS).collect();
        let definition = registered[index.index(registered.len())];
        if let Ok(canonical) = definition.check(&value) {
            prop_assert_eq!(definition.check(&canonical), Ok(canonical));
        }
    }

    #[test]
    fn whatever_is_stored_resolves_to_valid_values(
        topic in any_configs(),
        broker in any_configs(),
        fixed in any_configs(),
    ) {
        let layers =
            BrokerLayers { broker: Some(&broker), defaults: None, fixed: Some(&fixed) };
        let config = TopicConfig::resolve(&topic, &layers);
        prop_assert!(config.segment_bytes >= 1 << 20);
        prop_assert!(config.segment_ms >= 1);
        prop_assert!(config.min_insync_replicas >= 1);
        prop_assert!(i32::try_from(config.max_message_bytes).is_ok());
        prop_assert!((0.0..=1.0).contains(&config.min_cleanable_dirty_ratio));
        for row in describe_topic(&topic, &layers, None) {
            prop_assert!(row.value.is_some(), "{} has a value", row.name);
            let own = row.synonyms.iter().find(|synonym| synonym.source == ConfigSource::Topic);
            prop_assert_eq!(own.is_some(), row.source == ConfigSource::Topic);
            prop_assert!(own.is_none_or(|own| own.value == row.value));
        }
    }
}
