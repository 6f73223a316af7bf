//! The value in force: the most specific source wins, units are converted, bad values passed over.

use super::configs;
use crate::configs::{AckDurability, BrokerLayers, CleanupPolicy, TimestampType, TopicConfig};
use crate::metadata::Configs;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn resolve(
    topic: Pairs<'_>,
    broker: Pairs<'_>,
    defaults: Pairs<'_>,
    fixed: Pairs<'_>,
) -> TopicConfig {
    let (broker, defaults, fixed) = (configs(broker), configs(defaults), configs(fixed));
    let layers = BrokerLayers {
        broker: Some(&broker),
        defaults: Some(&defaults),
        fixed: Some(&fixed),
    };
    TopicConfig::resolve(&configs(topic), &layers)
}

#[test]
fn defaults_are_durable_and_bounded() {
    let config = TopicConfig::default();
    assert_eq!(config.ack_durability, AckDurability::Disk);
    assert_eq!(config.cleanup_policy, CleanupPolicy::Delete);
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.retention_ms, Some(604_800_000));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.segment_bytes, 1 << 30);
    assert!(!config.unclean_leader_election_enable);
}

#[test]
fn the_most_specific_source_wins() {
    let own: Pairs<'_> = &[("retention.ms", "1")];
    let broker: Pairs<'_> = &[("log.retention.ms", "2")];
    let defaults: Pairs<'_> = &[("log.retention.ms", "3")];
    let fixed: Pairs<'_> = &[("log.retention.ms", "4")];
    let check = |config: TopicConfig, expected| assert_eq!(config.retention_ms, Some(expected));
    check(resolve(own, broker, defaults, fixed), 1);
    check(resolve(&[], broker, defaults, fixed), 2);
    check(resolve(&[], &[], defaults, fixed), 3);
    check(resolve(&[], &[], &[], fixed), 4);
}

#[test]
fn minutes_beat_hours_and_milliseconds_beat_both() {
    let check = |fixed: Pairs<'_>, expected| {
        assert_eq!(resolve(&[], &[], &[], fixed).retention_ms, expected);
    };
    check(&[("log.retention.hours", "2")], Some(7_200_000));
    check(
        &[("log.retention.hours", "2"), ("log.retention.minutes", "5")],
        Some(300_000),
    );
    check(
        &[("log.retention.minutes", "5"), ("log.retention.ms", "7")],
        Some(7),
    );
    check(&[("log.retention.hours", "-1")], None);
    // A value that overflows is passed over, not wrapped.
    check(
        &[("log.retention.hours", "9223372036854775807")],
        Some(604_800_000),
    );
}

#[test]
fn a_broker_override_beats_the_files_stronger_synonym() {
    let config = resolve(
        &[],
        &[],
        &[("log.roll.ms", "9")],
        &[("log.roll.ms", "5"), ("log.roll.hours", "1")],
    );
    assert_eq!(config.segment_ms, 9);
}

#[test]
fn minus_one_is_no_bound() {
    let config = resolve(
        &[("retention.ms", "-1"), ("retention.bytes", "10")],
        &[],
        &[],
        &[],
    );
    assert_eq!(
        (config.retention_ms, config.retention_bytes),
        (None, Some(10))
    );
}

#[test]
fn lists_become_policies() {
    let check = |value, expected: CleanupPolicy| {
        let config = resolve(&[("cleanup.policy", value)], &[], &[], &[]);
        assert_eq!(config.cleanup_policy, expected, "{value}");
    };
    check("delete", CleanupPolicy::Delete);
    check("compact", CleanupPolicy::Compact);
    check("delete,compact", CleanupPolicy::CompactDelete);
    check("compact,delete", CleanupPolicy::CompactDelete);
    check("", CleanupPolicy::None);
    assert!(
        CleanupPolicy::CompactDelete.has_compact() && CleanupPolicy::CompactDelete.has_delete()
    );
    assert!(!CleanupPolicy::None.has_compact() && !CleanupPolicy::None.has_delete());
}

#[test]
fn durability_is_relaxed_for_one_topic_or_by_default() {
    let name = "streambus.ack.durability";
    let check = |topic: Pairs<'_>, defaults: Pairs<'_>, expected: AckDurability| {
        assert_eq!(resolve(topic, &[], defaults, &[]).ack_durability, expected);
    };
    check(&[(name, "memory")], &[], AckDurability::Memory);
    check(&[], &[(name, "memory")], AckDurability::Memory);
    check(&[(name, "disk")], &[(name, "memory")], AckDurability::Disk);
    // Unknown words never relax anything.
    check(&[(name, "fast")], &[], AckDurability::Disk);
}

#[test]
fn a_stored_value_that_is_no_longer_valid_falls_back() {
    let config = resolve(
        &[("segment.bytes", "12"), ("max.message.bytes", "many")],
        &[],
        &[("message.max.bytes", "77")],
        &[],
    );
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.max_message_bytes, 77);
}

#[test]
fn broker_values_are_looked_up_by_name() {
    let fixed = configs(&[("num.partitions", "4")]);
    let layers = BrokerLayers {
        fixed: Some(&fixed),
        ..BrokerLayers::default()
    };
    assert_eq!(layers.value("num.partitions").as_deref(), Some("4"));
    assert_eq!(layers.value("log.retention.hours").as_deref(), Some("168"));
    assert_eq!(layers.value("log.retention.ms"), None);
    assert_eq!(layers.value("no.such.config"), None);
    assert_eq!(
        TopicConfig::resolve(&Configs::new(), &layers),
        TopicConfig::default()
    );
}
