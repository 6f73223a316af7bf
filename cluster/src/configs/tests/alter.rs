//! Alterations: incremental, and by replacing all.

use super::configs;
use crate::configs::{
    AlterError, AlterOperation, Alteration, Definition, alter_incrementally, find_topic_config,
    replace_all,
};
use crate::metadata::{ConfigChange, Configs};

type Changes = Vec<(String, Option<String>)>;

fn definition_of(name: &str) -> Result<&'static Definition, AlterError> {
    let unknown = || AlterError::Unknown {
        scope: "topic",
        name: name.to_owned(),
    };
    find_topic_config(name).ok_or_else(unknown)
}

fn pairs(changes: Vec<ConfigChange>) -> Changes {
    changes
        .into_iter()
        .map(|change| (change.name, change.value))
        .collect()
}

fn alter(
    current: &Configs,
    alterations: &[(&str, AlterOperation, Option<&str>)],
) -> Result<Changes, AlterError> {
    let alterations: Vec<Alteration> = alterations
        .iter()
        .map(|(name, operation, value)| Alteration {
            name: (*name).to_owned(),
            operation: *operation,
            value: value.map(str::to_owned),
        })
        .collect();
    let in_force = |definition: &'static Definition| definition.default.map(str::to_owned);
    alter_incrementally(current, &alterations, definition_of, in_force).map(pairs)
}

fn check(
    current: &[(&str, &str)],
    alteration: (&str, AlterOperation, Option<&str>),
    expected: Option<&str>,
) {
    let changes = alter(&configs(current), &[alteration]).unwrap();
    assert_eq!(
        changes,
        [(alteration.0.to_owned(), expected.map(str::to_owned))]
    );
}

fn check_refused(alteration: (&str, AlterOperation, Option<&str>), expected: &str) {
    let refused = alter(&Configs::new(), &[alteration])
        .unwrap_err()
        .to_string();
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn set_stores_the_canonical_form() {
    check(
        &[],
        ("retention.ms", AlterOperation::Set, Some(" 007 ")),
        Some("7"),
    );
    check(
        &[],
        ("preallocate", AlterOperation::Set, Some("True")),
        Some("true"),
    );
}

#[test]
fn delete_removes_the_override() {
    check(
        &[("retention.ms", "1")],
        ("retention.ms", AlterOperation::Delete, None),
        None,
    );
    // One that this version does not know any more can be removed.
    check(
        &[("old.config", "1")],
        ("old.config", AlterOperation::Delete, None),
        None,
    );
    // What is not there need not be removed.
    for name in ["retention.ms", "old.config"] {
        let nothing = alter(&Configs::new(), &[(name, AlterOperation::Delete, None)]);
        assert_eq!(nothing.unwrap(), []);
    }
}

#[test]
fn append_adds_to_the_override_or_to_what_is_in_force() {
    let append = |value| ("cleanup.policy", AlterOperation::Append, Some(value));
    check(&[], append("compact"), Some("delete,compact"));
    check(
        &[("cleanup.policy", "compact")],
        append("delete"),
        Some("compact,delete"),
    );
    check(
        &[("cleanup.policy", "compact")],
        append("compact"),
        Some("compact"),
    );
}

#[test]
fn subtract_takes_words_away() {
    let subtract = |value| ("cleanup.policy", AlterOperation::Subtract, Some(value));
    check(
        &[("cleanup.policy", "compact,delete")],
        subtract("compact"),
        Some("delete"),
    );
    check(&[], subtract("compact"), Some("delete"));
    check(&[], subtract("delete"), Some(""));
}

#[test]
fn refusals_say_what_is_wrong_and_what_is_allowed() {
    use AlterOperation::{Append, Set, Subtract};
    check_refused(
        ("no.such", Set, Some("1")),
        "Unknown topic config name: no.such",
    );
    check_refused(
        ("retention.ms", Set, Some("abc")),
        "Not a number of type LONG; allowed: at least -1",
    );
    check_refused(
        ("retention.ms", Set, Some("-2")),
        "Value must be at least -1",
    );
    check_refused(("retention.ms", Set, None), "Null value not supported");
    check_refused(
        ("retention.ms", Append, Some("1")),
        "Can't append to config retention.ms",
    );
    check_refused(("retention.ms", Subtract, Some("1")), "Can't subtract");
    check_refused(
        ("cleanup.policy", Append, Some("shred")),
        "Value must be a list of compact, delete",
    );
    check_refused(("cleanup.policy", Append, None), "Null value not supported");
    check_refused(
        ("compression.type", Set, Some("rar")),
        "uncompressed, zstd, lz4",
    );
    check_refused(
        ("streambus.ack.durability", Set, Some("none")),
        "one of disk, memory",
    );
    check_refused(("remote.storage.enable", Set, Some("true")), "one of false");
    check_refused(("segment.bytes", Set, Some("1024")), "at least 1048576");
}

#[test]
fn messages_and_values_are_bounded() {
    let long = "9".repeat(40_000);
    check_refused(
        ("retention.ms", AlterOperation::Set, Some(&long)),
        "the most is 32767",
    );
    let long = "9".repeat(30_000);
    let alterations = [("retention.ms", AlterOperation::Set, Some(long.as_str()))];
    let message = alter(&Configs::new(), &alterations)
        .unwrap_err()
        .to_string();
    assert!(message.len() < 400, "{} bytes", message.len());
}

#[test]
fn one_config_twice_is_refused() {
    let set = ("retention.ms", AlterOperation::Set, Some("1"));
    let refused = alter(&Configs::new(), &[set, set]).unwrap_err();
    assert_eq!(
        refused,
        AlterError::Repeated {
            name: "retention.ms".to_owned()
        }
    );
}

#[test]
fn one_bad_alteration_refuses_all() {
    let good = ("retention.ms", AlterOperation::Set, Some("1"));
    let bad = ("segment.ms", AlterOperation::Set, Some("0"));
    assert!(alter(&Configs::new(), &[good, bad]).is_err());
}

#[test]
fn replacing_drops_what_is_not_named() {
    let current = configs(&[("retention.ms", "1"), ("segment.ms", "2")]);
    let wanted = [("segment.ms".to_owned(), Some("3".to_owned()))];
    let changes = replace_all(&current, &wanted, definition_of)
        .map(pairs)
        .unwrap();
    let expected = [
        ("segment.ms".to_owned(), Some("3".to_owned())),
        ("retention.ms".to_owned(), None),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn replacing_checks_like_setting() {
    let check = |wanted: &[(&str, Option<&str>)], expected: &str| {
        let wanted: Changes = wanted
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect();
        let refused = replace_all(&Configs::new(), &wanted, definition_of).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    };
    check(&[("no.such", Some("1"))], "Unknown topic config name");
    check(&[("retention.ms", Some("x"))], "Not a number");
    check(&[("retention.ms", None)], "Null value not supported");
    check(
        &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
        "more than once",
    );
}

#[test]
fn operations_have_kafkas_numbers() {
    use AlterOperation::{Append, Delete, Set, Subtract};
    let codes = [0, 1, 2, 3].map(AlterOperation::from_code);
    assert_eq!(
        codes,
        [Some(Set), Some(Delete), Some(Append), Some(Subtract)]
    );
    assert_eq!([-1, 4].map(AlterOperation::from_code), [None, None]);
}
