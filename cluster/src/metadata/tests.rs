//! What the metadata refuses, and that whatever it takes leaves it consistent and able to be saved.

use proptest::prelude::*;
use protocol::primitives::{DecodeError, Uuid};

use super::*;

fn register(id: i32) -> Command {
    Command::RegisterBroker {
        id,
        host: "h".to_owned(),
        port: 9092,
        rack: None,
    }
}

fn create(id: u8, name: &str, assignments: &[&[i32]]) -> Command {
    Command::CreateTopic {
        id: Uuid([id; 16]),
        name: name.to_owned(),
        assignments: assignments.iter().map(|brokers| brokers.to_vec()).collect(),
        configs: Configs::new(),
    }
}

fn add(expected_count: usize, assignments: &[&[i32]]) -> Command {
    Command::AddPartitions {
        id: Uuid([1; 16]),
        expected_count,
        assignments: assignments.iter().map(|brokers| brokers.to_vec()).collect(),
    }
}

/// Brokers 1 and 2, and the topic `t` (id 1) with a partition on each.
fn image() -> Image {
    let mut image = Image::default();
    for command in [register(1), register(2), create(1, "t", &[&[1, 2], &[2]])] {
        image.apply(&command).unwrap();
    }
    image
}

#[test]
fn a_command_that_contradicts_the_image_is_refused_and_changes_nothing() {
    let check = |command: Command, expected: MetadataError| {
        let mut image = image();
        assert_eq!(image.apply(&command), Err(expected), "{command:?}");
        assert_eq!(image, self::image(), "{command:?}");
    };
    let bad = |broker| MetadataError::BadReplica { broker };
    check(
        create(2, "u", &[]),
        MetadataError::PartitionCount { count: 0 },
    );
    check(create(2, "u", &[&[1], &[]]), MetadataError::NoReplicas);
    check(create(2, "u", &[&[1, 2, 1]]), bad(1));
    check(
        create(2, "u", &[&[1, 7]]),
        MetadataError::UnknownBroker { id: 7 },
    );
    check(
        create(2, "u", &[&[-1]]),
        MetadataError::UnknownBroker { id: -1 },
    );
    check(
        create(2, "", &[&[1]]),
        MetadataError::NameMissing { what: "topic" },
    );
    for (id, name) in [(1, "u"), (2, "t")] {
        let what = format!("topic {name:?} ({})", Uuid([id; 16]));
        check(create(id, name, &[&[1]]), MetadataError::Repeated { what });
    }
    let (expected, found) = (1, 2);
    let changed = MetadataError::UnexpectedPartitionCount { expected, found };
    check(add(1, &[&[1]]), changed);
    check(add(2, &[&[2, 2]]), bad(2));
    check(add(2, &[&[1], &[]]), MetadataError::NoReplicas);
    let id = Uuid([9; 16]);
    check(
        Command::DeleteTopic { id },
        MetadataError::UnknownTopic { id },
    );
    let (id, epoch) = (-1, 1);
    check(register(-1), MetadataError::BrokerOutOfRange { id, epoch });
    for count in [0, -1, i32::MIN] {
        check(
            Command::AllocateProducerIds { count },
            MetadataError::ProducerIdCount { count },
        );
    }
}

#[test]
fn a_topic_has_so_many_partitions_and_no_more() {
    let mut image = image();
    let most = vec![vec![1]; TOPIC_PARTITIONS_MAX - 2];
    let grow = |expected_count, assignments| Command::AddPartitions {
        id: Uuid([1; 16]),
        expected_count,
        assignments,
    };
    let before = image.clone();
    let mut too_many = most.clone();
    too_many.push(vec![1]);
    let count = TOPIC_PARTITIONS_MAX + 1;
    let refused = image.apply(&grow(2, too_many));
    assert_eq!(refused, Err(MetadataError::PartitionCount { count }));
    assert_eq!(image, before);
    image.apply(&grow(2, most)).unwrap();
    let restored = Image::from_snapshot(&image.to_snapshot()).unwrap();
    assert!(restored == image, "what may be can be saved and read again");
}

#[test]
fn the_topics_that_were_deleted_last_are_remembered() {
    let mut image = image();
    let numbered = |number: u32| {
        let mut id = [7; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Uuid(id)
    };
    let count = 16_384 + 3;
    for number in 0..count {
        image.remember_deleted(numbered(number));
    }
    let id = Uuid([1; 16]);
    assert!(!image.was_deleted(id));
    image.apply(&Command::DeleteTopic { id }).unwrap();
    let restored = Image::from_snapshot(&image.to_snapshot()).unwrap();
    assert_eq!(restored, image);
    assert!(restored.was_deleted(id));
    assert!(restored.was_deleted(numbered(count - 1)));
    assert!(
        !restored.was_deleted(numbered(0)),
        "their number is bounded"
    );
}

/// Written before deleted topics were remembered: a version byte, and nothing behind the topics.
#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let image = image();
    let mut bytes = image.to_snapshot();
    assert_eq!(bytes.pop(), Some(1), "an empty list");
    bytes[0] = 1;
    assert_eq!(Image::from_snapshot(&bytes).unwrap(), image);
}

#[test]
fn numbers_do_not_wrap() {
    let mut image = image();
    let mut topic = Topic::clone(image.topic("t").unwrap());
    topic.partitions[1].leader_epoch = i32::MAX;
    image.put_topic(topic);
    let before = image.clone();
    let what = "leader epochs";
    assert_eq!(
        image.apply(&register(2)),
        Err(MetadataError::Exhausted { what })
    );
    assert_eq!(image, before);
    image.apply(&register(1)).unwrap();
    image.brokers.get_mut(&1).unwrap().epoch = i64::MAX;
    let what = "broker epochs";
    assert_eq!(
        image.apply(&register(1)),
        Err(MetadataError::Exhausted { what })
    );
    image.next_producer_id = i64::MAX - 1;
    let what = "producer ids";
    let two = Command::AllocateProducerIds { count: 2 };
    assert_eq!(image.apply(&two), Err(MetadataError::Exhausted { what }));
    assert_eq!(image.next_producer_id(), i64::MAX - 1);
}

#[test]
fn a_port_is_one_of_16_bits() {
    let bytes = register(1).encode();
    let at = bytes
        .windows(4)
        .position(|four| four == [0, 0, 0x23, 0x84])
        .unwrap();
    for port in [65_536, -1, i32::MIN] {
        let refused = DecodeError::ValueOutOfRange {
            message: "RegisterBroker",
            field: "port",
            value: i64::from(port),
        };
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&port.to_be_bytes());
        assert_eq!(Command::decode(&bytes), Err(refused));
    }
}

#[test]
fn a_snapshot_of_what_cannot_be_is_refused() {
    let check = |change: fn(&mut Partition), expected: MetadataError| {
        let mut image = image();
        let mut topic = Topic::clone(image.topic("t").unwrap());
        change(&mut topic.partitions[0]);
        image.put_topic(topic);
        let refused = Image::from_snapshot(&image.to_snapshot());
        assert_eq!(refused, Err(SnapshotError::Invalid(expected)));
    };
    check(
        |one| one.leader = 7,
        MetadataError::NotAReplica { broker: 7 },
    );
    check(
        |one| one.isr.push(7),
        MetadataError::NotAReplica { broker: 7 },
    );
    check(
        |one| one.isr.push(1),
        MetadataError::BadReplica { broker: 1 },
    );
    check(|one| one.replicas.clear(), MetadataError::NoReplicas);
    check(
        |one| one.replicas.push(Replica { broker: 2 }),
        MetadataError::BadReplica { broker: 2 },
    );
    check(
        |one| one.leader_epoch = -1,
        MetadataError::NegativeLeaderEpoch { epoch: -1 },
    );
    let mut image = image();
    image.broker_configs.insert(7, Configs::new());
    let refused = Image::from_snapshot(&image.to_snapshot());
    let unknown = MetadataError::UnknownBroker { id: 7 };
    assert_eq!(refused, Err(SnapshotError::Invalid(unknown)));
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (0_u8..4).prop_map(|n| Uuid([n; 16]));
    // Mostly brokers that are registered in the end, and lists of which some are empty or repeat.
    let assignments = || prop::collection::vec(prop::collection::vec(0_i32..4, 0..3), 0..4);
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
        (-1_i32..4, any::<u16>(), prop::option::of("[a-z]{1,3}")).prop_map(|(id, port, rack)| {
            Command::RegisterBroker {
                id,
                host: "h".to_owned(),
                port,
                rack,
            }
        }),
        (id(), "[a-c]{0,1}", assignments(), configs()).prop_map(
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
        (id(), 0_usize..5, assignments()).prop_map(|(id, expected_count, assignments)| {
            Command::AddPartitions {
                id,
                expected_count,
                assignments,
            }
        }),
        (id(), changes()).prop_map(|(id, changes)| Command::AlterTopicConfigs { id, changes }),
        (-2_i32..4, changes())
            .prop_map(|(broker, changes)| Command::AlterBrokerConfigs { broker, changes }),
        any::<i32>().prop_map(|count| Command::AllocateProducerIds { count }),
    ]
}

/// Brokers 0 to 3 and then anything, so that much of it is taken and much is not.
fn any_history() -> impl Strategy<Value = (Image, Vec<Command>)> {
    prop::collection::vec(any_command(), 0..60).prop_map(|commands| {
        let mut image = Image::default();
        for id in 0..3 {
            image.apply(&register(id)).unwrap();
        }
        (image, commands)
    })
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants_and_survive_a_snapshot((mut image, commands) in any_history()) {
        for command in &commands {
            prop_assert_eq!(&Command::decode(&command.encode()).unwrap(), command);
            let before = image.clone();
            if image.apply(command).is_err() {
                prop_assert_eq!(&image, &before, "{:?} was refused and changed something", command);
            }
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
    fn a_damaged_command_is_refused_or_keeps_the_invariants(
        (mut image, commands) in any_history(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        for command in &commands {
            let mut bytes = command.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(command) = Command::decode(&bytes) {
                let _ = image.apply(&command);
                image.check_invariants();
            }
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_an_image_that_may_be(
        (mut image, commands) in any_history(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        for command in &commands {
            let _ = image.apply(command);
        }
        let mut bytes = image.to_snapshot();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Image::from_snapshot(&bytes) {
            read.check_invariants();
            prop_assert_eq!(Image::from_snapshot(&read.to_snapshot()).unwrap(), read);
        }
    }
}
