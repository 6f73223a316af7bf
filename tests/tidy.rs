//! Checks that the tree keeps its shape: dependency order, purity, module headers, sizes.
//!
//! The rules are in `docs/ARCHITECTURE.md`. Sizes are ratchets: a file or function that is listed with
//! its size may shrink, never grow; one that is not listed keeps to the general limit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crate → the workspace crates that it may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("runtime", &[]),
    ("protocol", &[]),
    ("storage", &["protocol", "runtime"]),
    ("cluster", &["protocol"]),
    ("client", &["protocol"]),
    ("loadgen", &["client", "protocol"]),
    ("tests/power_loss", &["runtime"]),
];

/// Modules of the root package: each may use only those before it.
const MODULES: &[&str] = &[
    "config",
    "metrics",
    "net",
    "security",
    "partition",
    "coordinator",
    "control",
    "handlers",
    "http",
    "node",
    "offline",
    "main",
];

/// What pure crates may not name outside their tests.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "async fn",
    ".await",
    "rand::",
    "tokio",
    "glommio",
    "println!",
];

/// Files that may hold `unsafe` (the ⚠ files of the architecture page).
const UNSAFE_FOLDERS: &[&str] = &[
    "runtime/src/buffer",
    "runtime/src/ring",
    "runtime/src/real",
    "runtime/src/probe",
    "runtime/src/executor",
];

const FILE_LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the project")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(
        !found.is_empty(),
        "no Rust files below {}",
        folder.display()
    );
    found
}

fn all_sources() -> Vec<PathBuf> {
    let folders = CRATES.iter().map(|(name, _)| root().join(name).join("src"));
    folders
        .chain([root().join("src")])
        .flat_map(|folder| rust_files(&folder))
        .collect()
}

fn name(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// The file's text without its trailing test module.
fn production(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    match text.find("\n#[cfg(test)]\nmod tests {") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn is_test_file(path: &Path) -> bool {
    let name = name(path);
    name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("_test.rs")
}

#[test]
fn crates_depend_only_downward() {
    for (crate_name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(crate_name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for (other, _) in CRATES {
            assert!(
                !dependencies.contains_key(*other) || allowed.contains(other),
                "{crate_name} may not depend on {other}"
            );
        }
    }
}

#[test]
fn modules_use_only_those_before_them() {
    for (index, module) in MODULES.iter().enumerate() {
        let folder = root().join("src").join(module);
        let file = root().join("src").join(format!("{module}.rs"));
        let files = if folder.is_dir() {
            rust_files(&folder)
        } else {
            vec![file]
        };
        for path in files
            .iter()
            .filter(|path| path.exists() && !is_test_file(path))
        {
            let text = production(path);
            for later in &MODULES[index + 1..] {
                assert!(
                    !text.contains(&format!("crate::{later}")),
                    "{} uses `{later}`, which comes after `{module}`",
                    name(path)
                );
            }
        }
    }
}

#[test]
fn pure_crates_name_no_io_clock_or_await() {
    for crate_name in ["protocol", "cluster"] {
        for path in rust_files(&root().join(crate_name).join("src")) {
            if is_test_file(&path) {
                continue;
            }
            for line in production(&path)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                for word in IMPURE {
                    assert!(
                        !line.contains(word),
                        "{} is pure and has `{word}`: {line}",
                        name(&path)
                    );
                }
            }
        }
    }
}

#[test]
fn only_runtime_names_the_runtime_libraries() {
    for path in all_sources() {
        if name(&path).starts_with("runtime/") {
            continue;
        }
        let text = production(&path);
        for word in ["glommio::", "io_uring::"] {
            assert!(!text.contains(word), "{} names {word}", name(&path));
        }
    }
}

#[test]
fn every_file_has_a_header() {
    for path in all_sources().iter().filter(|path| !is_test_file(path)) {
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} has no `//!` header",
            name(path)
        );
    }
}

#[test]
fn unsafe_lives_only_in_its_files() {
    for path in all_sources() {
        let name = name(&path);
        if UNSAFE_FOLDERS.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        for line in production(&path).lines() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(
                !code.contains("unsafe {") && !code.contains("unsafe fn"),
                "{name}: {line}"
            );
        }
    }
}

#[test]
fn files_keep_their_size() {
    let text = fs::read_to_string(root().join("tests/tidy_sizes.txt")).unwrap();
    let known: BTreeMap<&str, usize> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let (name, lines) = line.rsplit_once(' ').expect("`file lines`");
            (name, lines.parse().expect("a number of lines"))
        })
        .collect();
    for path in all_sources().iter().filter(|path| !is_test_file(path)) {
        let lines = production(path).lines().count();
        let name = name(path);
        let limit = known.get(name.as_str()).copied().unwrap_or(FILE_LINES_MAX);
        assert!(
            lines <= limit,
            "{name} has {lines} lines, more than {limit}: split it"
        );
    }
    for (name, lines) in known {
        let path = root().join(name);
        assert!(
            path.exists() && lines > FILE_LINES_MAX,
            "tidy_sizes.txt: {name} need not be listed"
        );
    }
}
