use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;

use super::*;
use crate::configs::{AlterOperation, Alteration, BrokerLayers};
use crate::metadata::{
    BROKER_DEFAULTS, CONSUMER_OFFSETS, Command, Configs, Image, TRANSACTION_STATE,
};

const POLICY: Policy = Policy {
    default_partitions: 3,
    default_replication_factor: 1,
    partitions_per_request_max: 100,
};

fn image(brokers: i32) -> Image {
    let mut image = Image::default();
    for id in 1..=brokers {
        let (host, port) = ("h".to_owned(), 9092);
        let registered = image.apply(&Command::RegisterBroker {
            id,
            host,
            port,
            rack: None,
        });
        registered.unwrap();
    }
    image
}

fn new(name: &str, partition_count: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partition_count,
        replication_factor,
        ..NewTopic::default()
    }
}

fn create(image: &mut Image, new: &NewTopic) -> Result<(), Refusal> {
    let id = Uuid([image.topics().count() as u8 + 1; 16]);
    let command = create_topic(image, &POLICY, id, new)?;
    image.apply(&command).unwrap();
    image.check_invariants();
    Ok(())
}

fn refused(result: Result<(), Refusal>, code: ErrorCode, said: &str) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.code, code, "{}", refusal.message);
    assert!(refusal.message.contains(said), "{}", refusal.message);
}

#[test]
fn a_topic_gets_its_partitions_round_robin() {
    let mut image = image(3);
    create(&mut image, &new("t", 4, 2)).unwrap();
    let topic = image.topic("t").unwrap();
    let leaders: Vec<i32> = topic
        .partitions
        .iter()
        .map(|partition| partition.leader)
        .collect();
    assert_eq!(leaders, [1, 2, 3, 1]);
    assert_eq!(topic.partitions[2].isr, [3, 1]);
}

#[test]
fn defaults_are_taken_for_minus_one() {
    let mut image = image(1);
    create(&mut image, &new("t", -1, -1)).unwrap();
    assert_eq!(image.topic("t").unwrap().partitions.len(), 3);
}

#[test]
fn bad_topics_are_refused_with_kafkas_codes() {
    let mut image = image(1);
    create(&mut image, &new("a.b", 1, 1)).unwrap();
    let mut check = |topic: NewTopic, code, said| refused(create(&mut image, &topic), code, said);
    check(new("", 1, 1), ErrorCode::InvalidTopicException, "empty");
    check(new("..", 1, 1), ErrorCode::InvalidTopicException, "'..'");
    check(new("a/b", 1, 1), ErrorCode::InvalidTopicException, "'/'");
    check(
        new(&"x".repeat(250), 1, 1),
        ErrorCode::InvalidTopicException,
        "250",
    );
    check(
        new("a.b", 1, 1),
        ErrorCode::TopicAlreadyExists,
        "already exists",
    );
    check(
        new("a_b", 1, 1),
        ErrorCode::InvalidTopicException,
        "collides",
    );
    check(
        new("t", 0, 1),
        ErrorCode::InvalidPartitions,
        "larger than 0",
    );
    check(
        new("t", -2, 1),
        ErrorCode::InvalidPartitions,
        "larger than 0",
    );
    check(new("t", 101, 1), ErrorCode::PolicyViolation, "at most 100");
    check(
        new("__cluster_metadata", 1, 1),
        ErrorCode::InvalidRequest,
        "prohibited",
    );
    check(
        new("t", 1, 0),
        ErrorCode::InvalidReplicationFactor,
        "larger than 0",
    );
    check(
        new("t", 1, 2),
        ErrorCode::InvalidReplicationFactor,
        "only 1 broker",
    );
    let mut bad_config = new("t", 1, 1);
    bad_config.configs = vec![("retention.ms".to_owned(), Some("soon".to_owned()))];
    check(bad_config.clone(), ErrorCode::InvalidConfig, "retention.ms");
    bad_config.configs = vec![("retention.ms".to_owned(), None)];
    check(bad_config, ErrorCode::InvalidConfig, "Null value");
}

#[test]
fn assignments_must_be_whole_and_of_registered_brokers() {
    let check = |assignments: Vec<(i32, Vec<i32>)>, code, said| {
        let topic = NewTopic {
            assignments,
            ..new("t", -1, -1)
        };
        refused(create(&mut image(2), &topic), code, said);
    };
    let code = ErrorCode::InvalidReplicaAssignment;
    check(vec![(0, vec![1]), (2, vec![1])], code, "once each");
    check(vec![(0, vec![1]), (0, vec![1])], code, "once each");
    check(vec![(0, vec![1, 1])], code, "twice");
    check(vec![(0, vec![7])], code, "not registered");
    check(vec![(0, vec![1]), (1, vec![1, 2])], code, "same number");
    let topic = NewTopic {
        assignments: vec![(0, vec![2, 1])],
        ..new("t", -1, -1)
    };
    create(&mut image(2), &topic).unwrap();
}

#[test]
fn partitions_only_grow() {
    let mut image = image(1);
    create(&mut image, &new("t", 2, 1)).unwrap();
    let grow = |count, assignments: Option<&[Vec<i32>]>| {
        add_partitions(&image, &POLICY, "t", count, assignments)
    };
    assert_eq!(
        grow(2, None).unwrap_err().code,
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        grow(1, None).unwrap_err().code,
        ErrorCode::InvalidPartitions
    );
    assert_eq!(
        grow(4, Some(&[vec![1]])).unwrap_err().code,
        ErrorCode::InvalidReplicaAssignment
    );
    let command = grow(4, None).unwrap();
    image.apply(&command).unwrap();
    assert_eq!(image.topic("t").unwrap().partitions.len(), 4);
    let unknown = add_partitions(&image, &POLICY, "u", 4, None).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn the_partitions_of_a_request_are_bounded_over_all_its_topics() {
    let asked = |topics: &[NewTopic]| {
        let asked = topics.iter().map(|topic| topic.partitions_asked(&POLICY));
        check_request_total(&POLICY, asked)
    };
    let assigned = NewTopic {
        assignments: vec![(0, vec![1]); 40],
        ..new("c", -1, -1)
    };
    // 57 + 3 by default + 40 assigned, and nothing for the one that will be refused by itself.
    let most = [new("a", 57, 1), new("b", -1, 1), assigned, new("d", -7, 1)];
    asked(&most).unwrap();
    let [_, b, c, d] = most;
    let code = ErrorCode::PolicyViolation;
    let over = [new("a", 58, 1), b, c, d];
    refused(asked(&over), code, "at most 100 are allowed");
    let lying = [new("a", i32::MAX, 1), new("b", i32::MAX, 1)];
    refused(
        asked(&lying),
        code,
        "Excessively large number of partitions",
    );
    let mut image = image(1);
    create(&mut image, &new("t", 4, 1)).unwrap();
    let added = [("t", 10), ("t", 3), ("t", -1), ("u", 10)]
        .map(|(name, count)| partitions_to_add(&image, name, count));
    assert_eq!(added, [6, 0, 0, 0]);
}

#[test]
fn internal_topics_can_be_made_and_keep_their_partitions() {
    let mut image = image(1);
    for name in [CONSUMER_OFFSETS, TRANSACTION_STATE] {
        create(&mut image, &new(name, 3, 1)).unwrap();
        let grown = add_partitions(&image, &POLICY, name, 4, None).map(|_| ());
        refused(grown, ErrorCode::InvalidRequest, "cannot change");
    }
}

#[test]
fn configs_without_a_value_are_refused_before_anything_else() {
    let image = image(1);
    let layers = BrokerLayers::default();
    let incremental = |operation| {
        ConfigAlteration::Incremental(vec![Alteration {
            name: "retention.ms".to_owned(),
            operation,
            value: None,
        }])
    };
    let old = ConfigAlteration::ReplaceAll(vec![("a".to_owned(), None), ("b".to_owned(), None)]);
    let cases = [
        (incremental(AlterOperation::Set), "for : retention.ms"),
        (incremental(AlterOperation::Append), "for : retention.ms"),
        (incremental(AlterOperation::Subtract), "for : retention.ms"),
        (old, "for : a, b"),
    ];
    for (alteration, said) in cases {
        // Even of a topic and a broker that do not exist.
        let topic = alter_topic(&image, &layers, "no.such", &alteration);
        refused(topic.map(|_| ()), ErrorCode::InvalidRequest, said);
        for broker in [1, 7, BROKER_DEFAULTS] {
            let broker = alter_broker(&image, &layers, broker, &alteration);
            refused(broker.map(|_| ()), ErrorCode::InvalidRequest, said);
        }
    }
    let delete = incremental(AlterOperation::Delete);
    alter_broker(&image, &layers, 1, &delete).unwrap();
    let none = alter_topic(&image, &layers, "", &delete).map(|_| ());
    refused(none, ErrorCode::InvalidRequest, "Default topic resources");
}

#[test]
fn a_bad_value_is_an_invalid_request_of_a_broker_and_an_invalid_config_of_a_topic() {
    let mut image = image(1);
    create(&mut image, &new("t", 1, 1)).unwrap();
    let layers = BrokerLayers::default();
    let set =
        |name: &str| ConfigAlteration::ReplaceAll(vec![(name.to_owned(), Some("x".to_owned()))]);
    let broker = alter_broker(&image, &layers, 1, &set("log.retention.ms")).map(|_| ());
    refused(broker, ErrorCode::InvalidRequest, "Invalid value x");
    let topic = alter_topic(&image, &layers, "t", &set("retention.ms")).map(|_| ());
    refused(topic, ErrorCode::InvalidConfig, "Invalid value x");
}

#[test]
fn a_topic_is_deleted_by_name_or_id() {
    let mut image = image(1);
    create(&mut image, &new("t", 1, 1)).unwrap();
    let id = image.topic("t").unwrap().id;
    let unknown = delete_topic(&image, Some("u"), Uuid::ZERO).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopicOrPartition);
    let unknown = delete_topic(&image, None, Uuid([9; 16])).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopicId);
    let by_name = delete_topic(&image, Some("t"), Uuid::ZERO).unwrap();
    assert_eq!(by_name, delete_topic(&image, None, id).unwrap());
    image.apply(&by_name).unwrap();
    assert!(image.topic("t").is_none() && image.topic_by_id(id).is_none());
    image.check_invariants();
}

#[test]
fn a_registration_begins_an_epoch_of_all_that_the_broker_leads() {
    let mut image = image(2);
    create(&mut image, &new("t", 2, 1)).unwrap();
    let before = image.clone();
    let register = Command::RegisterBroker {
        id: 1,
        host: "h".to_owned(),
        port: 1,
        rack: Some("r".to_owned()),
    };
    image.apply(&register).unwrap();
    let epochs: Vec<i32> = image
        .topic("t")
        .unwrap()
        .partitions
        .iter()
        .map(|partition| partition.leader_epoch)
        .collect();
    assert_eq!(epochs, [1, 0]);
    assert_eq!(image.broker(1).unwrap().epoch, 2);
    assert_eq!(image.changes_since(&before).len(), 1);
}

#[test]
fn config_changes_are_decided_on_the_present_ones() {
    let mut image = image(1);
    create(&mut image, &new("t", 1, 1)).unwrap();
    let change = ConfigAlteration::Incremental(vec![Alteration {
        name: "retention.ms".to_owned(),
        operation: AlterOperation::Set,
        value: Some("5".to_owned()),
    }]);
    let layers = BrokerLayers::default();
    let command = alter_topic(&image, &layers, "t", &change).unwrap();
    image.apply(&command).unwrap();
    let expected: Configs = [("retention.ms".to_owned(), "5".to_owned())].into();
    assert_eq!(image.topic("t").unwrap().configs, expected);
    let code = alter_topic(&image, &layers, "u", &change).unwrap_err().code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    let read_only =
        ConfigAlteration::ReplaceAll(vec![("broker.id".to_owned(), Some("5".to_owned()))]);
    assert_eq!(
        alter_broker(&image, &layers, 1, &read_only)
            .unwrap_err()
            .code,
        ErrorCode::InvalidRequest
    );
}
