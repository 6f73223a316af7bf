use super::*;

fn check(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("streambus.toml");
    std::fs::write(&path, file).unwrap();
    let environment: Vec<_> = environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    load(Some(&path), environment.into_iter(), &flags).map_err(|error| error.to_string())
}

#[test]
fn flag_wins_over_environment_wins_over_file() {
    let file = "[journal]\nfiles_max = 3\nfile_bytes = \"2MiB\"\n[runtime]\nshards = 1\n";
    let environment = [
        ("STREAMBUS__JOURNAL__FILES_MAX", "4"),
        ("STREAMBUS__RUNTIME__SHARDS", "2"),
    ];
    let config = check(file, &environment, &[("runtime.shards", "3")]).unwrap();
    assert_eq!(config.storage.journal_file_bytes, 2 << 20);
    assert_eq!(config.storage.journal_files_max, 4);
    assert_eq!(config.shards, Some(3));
}

#[test]
fn a_bad_value_is_refused_with_file_key_value_and_range() {
    let error = check("[journal]\nfiles_max = 1\n", &[], &[]).unwrap_err();
    assert!(error.contains("streambus.toml"), "{error}");
    assert!(error.contains("journal.files_max = 1"), "{error}");
    assert!(error.contains("from 2 to 1024"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    let error = check("[storage]\nfiles_max = 4\n", &[], &[]).unwrap_err();
    assert!(
        error.contains("did you mean `journal.files_max`"),
        "{error}"
    );
    let error = check("", &[("STREAMBUS__NOPE__KEY", "1")], &[]).unwrap_err();
    assert!(error.contains("STREAMBUS__NOPE__KEY"), "{error}");
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let error = check("[journal\n", &[], &[]).unwrap_err();
    assert!(error.contains("line 1"), "{error}");
}

#[test]
fn the_documented_file_loads_and_changes_nothing() {
    let documented = check(&documented_file(), &[], &[]).unwrap();
    let defaults = check("", &[], &[]).unwrap();
    assert_eq!(format!("{documented:?}"), format!("{defaults:?}"));
}

#[test]
fn further_data_directories_come_after_the_first() {
    let check = |file: &str| {
        check(file, &[], &[("node.data_dir", "/a")])
            .unwrap()
            .data_dirs
    };
    assert_eq!(check(""), [Path::new("/a")]);
    let expected = ["/a", "/b", "/c"].map(Path::new);
    assert_eq!(check("[node]\nfurther_data_dirs = \"/b, /c\"\n"), expected);
    assert_eq!(
        check("[node]\nfurther_data_dirs = [\"/b\", \"/c\"]\n"),
        expected
    );
}

#[test]
fn pinning_is_auto_on_or_off() {
    let check = |file: &str| check(file, &[], &[]).map(|config| config.pinning);
    assert_eq!(check("").unwrap(), Pinning::Auto);
    assert_eq!(check("[runtime]\npinning = \"on\"\n").unwrap(), Pinning::On);
    assert_eq!(
        check("[runtime]\npinning = \"off\"\n").unwrap(),
        Pinning::Off
    );
}

#[test]
fn zero_copy_is_auto_on_or_off() {
    let check = |file: &str| check(file, &[], &[]).map(|config| config.net.zero_copy);
    assert_eq!(check("").unwrap(), ZeroCopyMode::Auto);
    for (word, mode) in [
        ("auto", ZeroCopyMode::Auto),
        ("on", ZeroCopyMode::On),
        ("off", ZeroCopyMode::Off),
    ] {
        let file = format!("[net]\nzero_copy = \"{word}\"\n");
        assert_eq!(check(&file).unwrap(), mode);
    }
    let error = check("[net]\nzero_copy = \"true\"\n").unwrap_err();
    assert!(error.contains("one of auto, on, off"), "{error}");
}
