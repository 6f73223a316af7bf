use proptest::prelude::*;
use protocol::error_code::ErrorCode;
use protocol::primitives::Uuid;

use super::*;
use crate::configs::{AlterOperation, Alteration, BrokerLayers};
use crate::metadata::{Command, ConfigChange, Configs, Image};

const POLICY: Policy = Policy {
    default_partitions: 3,
    default_replication_factor: 1,
    partitions_per_request_max: 100,
};

fn image(brokers: i32) -> Image {
    let mut image = Image::default();
    for id in 1..=brokers {
        let (host, port) = ("h".to_owned(), 9092);
        image.apply(&Command::RegisterBroker {
            id,
            host,
            port,
            rack: None,
        });
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
    image.apply(&command);
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
    image.apply(&command);
    assert_eq!(image.topic("t").unwrap().partitions.len(), 4);
    let unknown = add_partitions(&image, &POLICY, "u", 4, None).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownTopicOrPartition);
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
    image.apply(&by_name);
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
    image.apply(&register);
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
    image.apply(&command);
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

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (0_u8..4).prop_map(|n| Uuid([n; 16]));
    let assignments = || prop::collection::vec(prop::collection::vec(1_i32..3, 1..3), 0..4);
    let configs = || prop::collection::btree_map("[a-z]{1,4}", "[a-z]{0,4}", 0..3);
    let changes = || {
        let change = ("[a-z]{1,2}", prop::option::of("[a-z]{0,4}"));
        prop::collection::vec(
            change.prop_map(|(name, value)| ConfigChange { name, value }),
            0..3,
        )
    };
    prop_oneof![
        "[a-z]{0,5}".prop_map(|cluster_id| Command::NameCluster { cluster_id }),
        (1_i32..3, any::<u16>(), prop::option::of("[a-z]{1,3}")).prop_map(|(id, port, rack)| {
            Command::RegisterBroker {
                id,
                host: "h".to_owned(),
                port,
                rack,
            }
        }),
        (id(), "[a-c]{1}", assignments(), configs()).prop_map(
            |(id, name, assignments, configs)| {
                Command::CreateTopic {
                    id,
                    name,
                    assignments,
                    configs,
                }
            }
        ),
        id().prop_map(|id| Command::DeleteTopic { id }),
        (id(), assignments())
            .prop_map(|(id, assignments)| Command::AddPartitions { id, assignments }),
        (id(), changes()).prop_map(|(id, changes)| Command::AlterTopicConfigs { id, changes }),
        (-1_i32..3, changes())
            .prop_map(|(broker, changes)| Command::AlterBrokerConfigs { broker, changes }),
        any::<i32>().prop_map(|count| Command::AllocateProducerIds { count }),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants_and_survive_a_snapshot(
        commands in prop::collection::vec(any_command(), 0..40)
    ) {
        let mut image = Image::default();
        for command in &commands {
            prop_assert_eq!(&Command::decode(&command.encode()).unwrap(), command);
            image.apply(command);
            image.check_invariants();
        }
        prop_assert_eq!(Image::from_snapshot(&image.to_snapshot()).unwrap(), image);
    }

    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::decode(&bytes);
        let _ = Image::from_snapshot(&bytes);
    }

    #[test]
    fn a_damaged_command_is_a_command_or_an_error(
        command in any_command(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = command.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Command::decode(&bytes);
    }
}
