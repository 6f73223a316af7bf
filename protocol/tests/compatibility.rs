//! `docs/compatibility.md` says what the code serves, and nothing else.

use protocol::{ApiKey, SERVED};

const DOCUMENT: &str = include_str!("../../docs/compatibility.md");

/// Cells of the rows between a heading and the next one, without the table's own head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let start = DOCUMENT.find(heading).expect("the heading") + heading.len();
    let section = &DOCUMENT[start..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let lines = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    lines
        .map(|line| line.split('|').skip(1).map(str::trim).collect())
        .collect()
}

#[test]
fn the_table_lists_every_served_api_with_its_versions() {
    let documented: Vec<Vec<String>> = rows("## APIs that are served\n")
        .iter()
        .map(|cells| cells[..4].iter().map(|cell| (*cell).to_owned()).collect())
        .collect();
    let served: Vec<Vec<String>> = SERVED
        .iter()
        .map(|api| {
            let versions = if api.min_version == api.max_version {
                api.min_version.to_string()
            } else {
                format!("{}–{}", api.min_version, api.max_version)
            };
            let flexible = match api.key.first_flexible_version() {
                i16::MAX => String::new(),
                version => version.to_string(),
            };
            vec![
                api.key.to_string(),
                api.key.as_i16().to_string(),
                versions,
                flexible,
            ]
        })
        .collect();
    assert_eq!(documented, served);
}

#[test]
fn no_api_is_listed_as_served_and_as_not_served() {
    let rows = rows("## APIs of Kafka 4.3.1 that are not served\n");
    let mut listed = 0;
    for name in rows.iter().flat_map(|cells| cells[1].split(", ")) {
        listed += 1;
        assert!(SERVED.iter().all(|api| api.key.name() != name), "{name}");
    }
    assert_eq!(listed + SERVED.len(), 77, "APIs of Kafka 4.3.1");
    assert!(ApiKey::from_i16(24).is_none(), "AddPartitionsToTxn");
}
