//! The rows of `DescribeConfigs`: value, source, synonyms.

use super::configs;
use crate::configs::{
    BROKER_CONFIGS, BrokerLayers, ConfigRow, ConfigSource, ConfigType, TOPIC_CONFIGS,
    describe_broker, describe_broker_defaults, describe_topic,
};
use crate::metadata::Configs;

fn synonyms(row: &ConfigRow) -> Vec<(&str, Option<&str>, ConfigSource)> {
    row.synonyms
        .iter()
        .map(|row| (row.name, row.value.as_deref(), row.source))
        .collect()
}

#[test]
fn all_configs_are_described_without_a_filter() {
    let layers = BrokerLayers::default();
    let rows = describe_topic(&Configs::new(), &layers, None);
    assert_eq!(rows.len(), TOPIC_CONFIGS.len());
    assert!(
        rows.iter()
            .all(|row| row.source == ConfigSource::Default && !row.read_only)
    );
    assert_eq!(describe_broker(&layers, None).len(), BROKER_CONFIGS.len());
}

#[test]
fn a_filter_limits_the_answer_and_unknown_names_are_left_out() {
    let layers = BrokerLayers::default();
    let names = ["segment.ms", "no.such.config", "retention.ms"];
    let rows = describe_topic(&Configs::new(), &layers, Some(&names));
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names, ["retention.ms", "segment.ms"]);
    assert!(describe_topic(&Configs::new(), &layers, Some(&[])).is_empty());
}

#[test]
fn a_row_names_every_place_where_the_config_is_set() {
    let topic = configs(&[("retention.ms", "1")]);
    let (broker, defaults) = (
        configs(&[("log.retention.ms", "2")]),
        configs(&[("log.retention.ms", "3")]),
    );
    let fixed = configs(&[("log.retention.minutes", "1")]);
    let layers = BrokerLayers {
        broker: Some(&broker),
        defaults: Some(&defaults),
        fixed: Some(&fixed),
    };
    let rows = describe_topic(&topic, &layers, Some(&["retention.ms"]));
    let [row] = rows.as_slice() else {
        panic!("one row: {rows:?}")
    };
    assert_eq!(
        (row.value.as_deref(), row.source),
        (Some("1"), ConfigSource::Topic)
    );
    assert_eq!(row.kind, ConfigType::Long);
    assert_eq!(
        synonyms(row),
        [
            ("retention.ms", Some("1"), ConfigSource::Topic),
            ("log.retention.ms", Some("2"), ConfigSource::Broker),
            ("log.retention.ms", Some("3"), ConfigSource::BrokerDefault),
            ("log.retention.minutes", Some("60000"), ConfigSource::Static),
            (
                "log.retention.hours",
                Some("604800000"),
                ConfigSource::Default
            ),
        ]
    );
}

#[test]
fn broker_rows_tell_what_can_be_changed() {
    let fixed = configs(&[("num.partitions", "4")]);
    let defaults = configs(&[("log.cleaner.threads", "2")]);
    let layers = BrokerLayers {
        broker: None,
        defaults: Some(&defaults),
        fixed: Some(&fixed),
    };
    let check = |name: &str, value: Option<&str>, source: ConfigSource, read_only: bool| {
        let rows = describe_broker(&layers, Some(&[name]));
        let [row] = rows.as_slice() else {
            panic!("one row of {name}: {rows:?}")
        };
        let described = (row.value.as_deref(), row.source, row.read_only);
        assert_eq!(described, (value, source, read_only), "{name}");
    };
    check("num.partitions", Some("4"), ConfigSource::Static, true);
    check(
        "log.cleaner.threads",
        Some("2"),
        ConfigSource::BrokerDefault,
        false,
    );
    check(
        "log.retention.hours",
        Some("168"),
        ConfigSource::Default,
        true,
    );
    check("log.retention.ms", None, ConfigSource::Default, false);
}

#[test]
fn defaults_of_all_brokers_show_only_what_is_set() {
    let rows = describe_broker_defaults(&configs(&[("message.max.bytes", "9")]), None);
    let [row] = rows.as_slice() else {
        panic!("one row: {rows:?}")
    };
    assert_eq!(
        (row.name, row.value.as_deref()),
        ("message.max.bytes", Some("9"))
    );
    assert!(describe_broker_defaults(&Configs::new(), None).is_empty());
}

#[test]
fn numbers_on_the_wire_are_kafkas() {
    let sources = [
        ConfigSource::Topic,
        ConfigSource::Broker,
        ConfigSource::BrokerDefault,
        ConfigSource::Static,
        ConfigSource::Default,
    ];
    assert_eq!(sources.map(ConfigSource::code), [1, 2, 3, 4, 5]);
    let kinds = [
        ConfigType::Boolean,
        ConfigType::String,
        ConfigType::Int,
        ConfigType::Short,
        ConfigType::Long,
        ConfigType::Double,
        ConfigType::List,
        ConfigType::Class,
        ConfigType::Password,
    ];
    assert_eq!(kinds.map(ConfigType::code), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}
