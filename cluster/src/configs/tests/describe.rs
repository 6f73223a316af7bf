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
    let all = describe_topic(&Configs::new(), &layers, Some(&[]));
    assert_eq!(
        all.len(),
        TOPIC_CONFIGS.len(),
        "no names mean all, as in Kafka"
    );
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
            ("log.retention.minutes", Some("1"), ConfigSource::Static),
            ("log.retention.hours", Some("168"), ConfigSource::Default),
        ]
    );
}

/// As an Apache Kafka 4.3.1 described itself before and after `log.retention.ms` was set for all brokers.
#[test]
fn synonyms_are_those_that_kafka_shows() {
    let shown = |rows: Vec<ConfigRow>| -> Vec<String> {
        let synonyms = rows.iter().flat_map(|row| &row.synonyms);
        let text = synonyms.map(|one| format!("{}={:?}", one.name, one.value.as_deref()));
        text.collect()
    };
    let (unset, none) = (BrokerLayers::default(), Vec::<String>::new());
    let topic = |layers: &BrokerLayers<'_>, name| {
        shown(describe_topic(&Configs::new(), layers, Some(&[name])))
    };
    let broker = |layers: &BrokerLayers<'_>, name| shown(describe_broker(layers, Some(&[name])));
    for name in [
        "retention.ms",
        "segment.ms",
        "flush.ms",
        "remote.storage.enable",
    ] {
        assert_eq!(topic(&unset, name), none, "{name}");
    }
    assert_eq!(broker(&unset, "log.retention.ms"), none);
    assert_eq!(broker(&unset, "node.id"), none);
    assert_eq!(
        broker(&unset, "log.retention.hours"),
        ["log.retention.hours=Some(\"168\")"]
    );
    let defaults = configs(&[("log.retention.ms", "7")]);
    let set = BrokerLayers {
        defaults: Some(&defaults),
        ..BrokerLayers::default()
    };
    let both = [
        "log.retention.ms=Some(\"7\")",
        "log.retention.hours=Some(\"168\")",
    ];
    assert_eq!(topic(&set, "retention.ms"), both);
    assert_eq!(broker(&set, "log.retention.ms"), both);
    assert_eq!(broker(&set, "log.retention.hours"), both[1..]);
    assert_eq!(shown(describe_broker_defaults(&defaults, None)), both[..1]);
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
