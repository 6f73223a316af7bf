//! The data directories of a node: the first has the metadata, and knows the further ones.
//!
//! Place: `node` opens them before anything else; the shards then open what they have in those that are there.
//! Invariants:
//! - I1 a further directory is in the first one's identity before anything is put into it, and stays there when it
//!   cannot be found: so a start knows that logs are missing, and makes no empty ones in their place.
//! - I2 where a further directory was, an empty one is never taken for it: its disk may not be mounted.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::probe;

use super::data_dir::{self, DataDirError, FurtherDir, Identity};

/// One data directory of the node.
#[derive(Debug, Clone)]
pub(super) struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is not used, if it is not.
    pub offline: Option<String>,
    /// Directories of the node on its file system, this one included.
    pub on_file_system: usize,
}

/// All data directories of the node, taken for this process.
#[derive(Debug)]
pub(super) struct DataDirs {
    /// Identity of the first one.
    pub identity: Identity,
    /// The first one, the further ones in the order of the settings, and those that the settings name no more.
    pub dirs: Vec<DataDir>,
    /// What makes them this process's: every shard holds them as long as something of it is on its way to the disk.
    pub locks: Arc<[File]>,
}

/// Takes the directories for this process; those that are new are made the node's.
///
/// # Errors
/// The first one cannot be used, or the settings are wrong about one. A further one that is not there, or cannot
/// be read, is no error.
pub(super) fn open(paths: &[PathBuf]) -> Result<DataDirs, DataDirError> {
    let (first, further) = paths
        .split_first()
        .expect("the settings name a data directory");
    let mut locks = vec![data_dir::lock(first)?];
    // Before a wrong first directory is given an identity.
    if !data_dir::is_initialized(first)
        && let Some(used) = further.iter().find(|path| data_dir::is_initialized(path))
    {
        return Err(misplaced(used, FIRST_IS_NEW));
    }
    let mut identity = data_dir::open(first, Identity::new)?;
    if identity.first_directory_id.is_some() {
        return Err(misplaced(first, NOT_FIRST));
    }
    let mut dirs = vec![(first.clone(), None)];
    let before = identity.clone();
    let mut missing = before.further.clone();
    let mut found = Vec::new();
    for path in further {
        let offline = match open_further(path, &mut identity)? {
            Ok((lock, id)) => {
                locks.push(lock);
                refuse_copy(&mut found, &id, path)?;
                missing.retain(|known| known.directory_id != id);
                None
            }
            Err(reason) => {
                missing.retain(|known| known.path != *path);
                Some(reason)
            }
        };
        dirs.push((path.clone(), offline));
    }
    identity.format_version = identity.version_needed();
    if identity != before {
        identity.write(first)?;
    }
    let unnamed = "it is the node's, and not in node.further_data_dirs";
    dirs.extend(
        missing
            .into_iter()
            .map(|known| (known.path, Some(unnamed.to_owned()))),
    );
    let dirs = describe(dirs);
    for DataDir { path, offline, .. } in &dirs {
        if let Some(reason) = offline {
            tell_offline(path, reason);
        }
    }
    Ok(DataDirs {
        identity,
        dirs,
        locks: locks.into(),
    })
}

/// Says in the log that a directory is not used, and why.
pub(super) fn tell_offline(path: &Path, reason: &str) {
    tracing::error!(directory = %path.display(), reason, "log directory offline");
}

const NOT_FIRST: &str = "is a further data directory of a node, without its metadata; name it in node.further_data_dirs, behind the first one in node.data_dir";
const FIRST_IS_NEW: &str = "is in use by a node, but node.data_dir is not: are they named in the right order, and is the disk of the first one mounted?";
const NOT_OURS: &str = "belongs to another node, or is the first data directory of one; take it out of node.further_data_dirs";
const FORGOTTEN: &str = "was forgotten: the first data directory does not know it any more, and its partitions may have been made anew elsewhere; take it out of node.further_data_dirs, or empty it";
const IDENTITY_GONE: &str = "its streambus.meta is not there: is its disk mounted? A new disk in its place needs a path of its own, such as a directory below this one";

/// What a directory that was used has, all or some of it.
const USED: [&str; 5] = ["shards", "shards.old", "shards.new", "shards.next", "logs"];

/// A further directory, locked, and its id; or why it cannot be used now.
type Opened = Result<(File, String), String>;

/// Opens a further directory, and notes it in the first one's identity, which is written before it is used (I1).
fn open_further(path: &Path, first: &mut Identity) -> Result<Opened, DataDirError> {
    let was_here = first.further.iter().any(|known| known.path == path);
    if was_here && !data_dir::is_initialized(path) {
        return Ok(Err(IDENTITY_GONE.to_owned()));
    }
    if let Err(error) = probe::check_data_dir(path) {
        return Ok(Err(error.to_string()));
    }
    let opened = data_dir::lock(path).and_then(|lock| {
        let identity = data_dir::open(path, || first.of_further())?;
        Ok((lock, identity))
    });
    let (lock, mut identity) = match opened {
        Ok(opened) => opened,
        Err(error @ (DataDirError::Io { .. } | DataDirError::Damaged { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    note(path, &identity, first)?;
    if identity.format_version != identity.version_needed() {
        identity.format_version = identity.version_needed();
        if let Err(error) = identity.write(path) {
            return Ok(Err(error.to_string()));
        }
    }
    Ok(Ok((lock, identity.directory_id)))
}

/// Refuses a directory that has the id of one `found` before.
fn refuse_copy(
    found: &mut Vec<(String, PathBuf)>,
    id: &str,
    path: &Path,
) -> Result<(), DataDirError> {
    if let Some((_, other)) = found.iter().find(|(known, _)| known == id) {
        return Err(DataDirError::Copy {
            path: path.to_owned(),
            other: other.clone(),
        });
    }
    found.push((id.to_owned(), path.to_owned()));
    Ok(())
}

/// Has the first directory know a further one, and where it is.
fn note(path: &Path, identity: &Identity, first: &mut Identity) -> Result<(), DataDirError> {
    if identity.first_directory_id.as_ref() != Some(&first.directory_id) {
        return Err(misplaced(path, NOT_OURS));
    }
    let here = FurtherDir {
        directory_id: identity.directory_id.clone(),
        path: path.to_owned(),
    };
    let mut known = first.further.iter_mut();
    match known.find(|known| known.directory_id == here.directory_id) {
        Some(known) if *known == here => return Ok(()),
        Some(known) => *known = here,
        None if USED.iter().any(|name| path.join(name).exists()) => {
            return Err(misplaced(path, FORGOTTEN));
        }
        None => first.further.push(here),
    }
    Ok(())
}

fn misplaced(path: &Path, reason: &'static str) -> DataDirError {
    DataDirError::Misplaced {
        path: path.to_owned(),
        reason,
    }
}

/// Looks which directories share a file system, and so its space.
fn describe(dirs: Vec<(PathBuf, Option<String>)>) -> Vec<DataDir> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let devices: Vec<_> = dirs
        .iter()
        .map(|(path, offline)| offline.is_none().then(|| device(path)).flatten())
        .collect();
    let on = |device: &Option<u64>| devices.iter().filter(|other| *other == device).count();
    let described = dirs.into_iter().zip(&devices);
    described
        .map(|((path, offline), device)| DataDir {
            path,
            offline,
            on_file_system: on(device),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(tempfile::TempDir);

    impl World {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn open(&self, names: &[&str]) -> Result<Vec<(PathBuf, bool)>, DataDirError> {
            let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
            fs::create_dir_all(&paths[0]).unwrap();
            let opened = open(&paths)?;
            // As a start would.
            for dir in opened.dirs.iter().filter(|dir| dir.offline.is_none()) {
                fs::create_dir_all(dir.path.join("shards")).unwrap();
            }
            let dirs = opened.dirs.into_iter();
            Ok(dirs.map(|dir| (dir.path, dir.offline.is_none())).collect())
        }

        fn check(&self, names: &[&str], expected: &[(&str, bool)]) {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, is)| (self.path(name), *is))
                .collect();
            assert_eq!(self.open(names).unwrap(), expected);
        }
    }

    fn world() -> World {
        let world = World(tempfile::tempdir().unwrap());
        world.check(&["a", "b", "c"], &[("a", true), ("b", true), ("c", true)]);
        world
    }

    #[test]
    fn a_directory_that_is_gone_or_not_named_is_offline_until_it_is_back() {
        let world = world();
        fs::rename(world.path("b"), world.path("aside")).unwrap();
        world.check(&["a", "b", "c"], &[("a", true), ("b", false), ("c", true)]);
        // As with a disk that is not mounted: what is there instead is left alone.
        fs::create_dir_all(world.path("b")).unwrap();
        world.check(&["a", "b", "c"], &[("a", true), ("b", false), ("c", true)]);
        assert_eq!(fs::read_dir(world.path("b")).unwrap().count(), 0);
        world.check(&["a", "c"], &[("a", true), ("c", true), ("b", false)]);
        fs::remove_dir(world.path("b")).unwrap();
        fs::rename(world.path("aside"), world.path("b")).unwrap();
        world.check(&["a", "c", "b"], &[("a", true), ("c", true), ("b", true)]);
    }

    #[test]
    fn a_directory_is_known_by_its_identity_wherever_it_is() {
        let world = world();
        fs::rename(world.path("b"), world.path("d")).unwrap();
        world.check(&["a", "d", "c"], &[("a", true), ("d", true), ("c", true)]);
        // Where it was there is room for a new one.
        world.check(
            &["a", "d", "c", "b"],
            &[("a", true), ("d", true), ("c", true), ("b", true)],
        );
    }

    #[test]
    fn directories_in_the_wrong_place_are_refused() {
        let world = world();
        let is_misplaced = |names: &[&str], why: &str| {
            let refused = world.open(names);
            assert!(
                matches!(&refused, Err(DataDirError::Misplaced { reason, .. }) if *reason == why),
                "{refused:?}"
            );
        };
        is_misplaced(&["b", "a"], NOT_FIRST);
        for further in ["a", "b"] {
            is_misplaced(&["new", further], FIRST_IS_NEW);
            assert!(!data_dir::is_initialized(&world.path("new")));
        }
        world.check(&["other"], &[("other", true)]);
        is_misplaced(&["other", "b"], NOT_OURS);
        is_misplaced(&["other", "a"], NOT_OURS);
        let twice = world.open(&["a", "b", "b"]);
        assert!(matches!(twice, Err(DataDirError::InUse(_))), "{twice:?}");
        let mut first = data_dir::open(&world.path("a"), Identity::new).unwrap();
        first.further.clear();
        first.write(&world.path("a")).unwrap();
        // A change of the shard count, or whoever removes it, may have been stopped.
        let mut present = "shards";
        for name in ["shards", "shards.old", "shards.new", "logs"] {
            fs::rename(world.path("b").join(present), world.path("b").join(name)).unwrap();
            present = name;
            is_misplaced(&["a", "b"], FORGOTTEN);
        }
    }

    #[test]
    fn a_copy_of_a_directory_is_refused_beside_it() {
        let world = world();
        fs::create_dir_all(world.path("copy")).unwrap();
        fs::copy(
            world.path("b/streambus.meta"),
            world.path("copy/streambus.meta"),
        )
        .unwrap();
        let refused = world.open(&["a", "b", "c", "copy"]);
        assert!(
            matches!(&refused, Err(DataDirError::Copy { path, other }) if *path == world.path("copy") && *other == world.path("b")),
            "{refused:?}"
        );
        fs::remove_dir_all(world.path("copy")).unwrap();
        world.check(&["a", "b", "c"], &[("a", true), ("b", true), ("c", true)]);
    }

    fn version(world: &World, name: &str) -> u32 {
        let identity = data_dir::open(&world.path(name), Identity::new).unwrap();
        identity.format_version
    }

    /// A version that knows one directory only would make the others' logs anew, empty.
    #[test]
    fn several_directories_are_a_format_of_their_own() {
        let world = world();
        for name in ["a", "b", "c"] {
            assert_eq!(version(&world, name), 2, "{name}");
            let mut identity = data_dir::open(&world.path(name), Identity::new).unwrap();
            identity.format_version = 1;
            identity.write(&world.path(name)).unwrap();
        }
        world.check(&["a", "c", "b"], &[("a", true), ("c", true), ("b", true)]);
        for name in ["a", "b", "c"] {
            assert_eq!(version(&world, name), 2, "{name}");
        }
        world.check(&["one"], &[("one", true)]);
        assert_eq!(version(&world, "one"), 1);
    }

    /// A stop after a new directory had its identity, and before the first one knew it.
    #[test]
    fn a_directory_whose_making_was_interrupted_is_new() {
        let world = world();
        let first = data_dir::open(&world.path("a"), Identity::new).unwrap();
        fs::create_dir_all(world.path("d")).unwrap();
        first.of_further().write(&world.path("d")).unwrap();
        world.check(
            &["a", "b", "c", "d"],
            &[("a", true), ("b", true), ("c", true), ("d", true)],
        );
    }
}
