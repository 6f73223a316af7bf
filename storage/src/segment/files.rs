//! File names of a log directory, and the bounded set of files kept open.
//!
//! *Place*: write-behind, reads and deletion open files through here. *Limits*: `open_files_max`; a
//! file picked at random is let go (one in use stays open until its user is done). Not the one used
//! longest ago: more logs than files, written in turn, would miss every time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use runtime::{File, OpenMode};

use super::SegmentName;

/// Kinds of files in a log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    Segment,
    Index,
    Producers,
}

impl FileKind {
    fn extension(self) -> &'static str {
        match self {
            FileKind::Segment => "log",
            FileKind::Index => "index",
            FileKind::Producers => "producers",
        }
    }

    /// Every kind, for deletion.
    pub(crate) const ALL: [FileKind; 3] = [FileKind::Segment, FileKind::Index, FileKind::Producers];
}

/// The file of `kind` of a segment. Producer states are the same whatever became of the segment.
pub(crate) fn file_path(log_dir: &Path, segment: SegmentName, kind: FileKind) -> PathBuf {
    let SegmentName {
        base_offset,
        version,
    } = segment;
    let extension = kind.extension();
    if version == 0 || kind == FileKind::Producers {
        log_dir.join(format!("{base_offset:020}.{extension}"))
    } else {
        log_dir.join(format!("{base_offset:020}-{version}.{extension}"))
    }
}

/// The segment whose rewritten file (or index) has this name; `None`: it is another file.
pub(crate) fn rewritten_segment(file_name: &str) -> Option<SegmentName> {
    let (stem, extension) = file_name.split_once('.')?;
    let (base_offset, version) = stem.split_once('-')?;
    let is_ours = base_offset.len() == 20 && ["log", "index"].contains(&extension);
    let name = SegmentName {
        base_offset: base_offset.parse().ok()?,
        version: version.parse().ok()?,
    };
    (is_ours && name.version > 0).then_some(name)
}

/// Which file: log incarnation, segment, kind.
type FileKey = (u64, SegmentName, FileKind);

/// Open files by key.
pub(crate) struct OpenFiles {
    state: RefCell<OpenFilesState>,
    open_files_max: usize,
}

#[derive(Default)]
struct OpenFilesState {
    /// Each with its place in `keys`.
    files: HashMap<FileKey, (File, usize)>,
    keys: Vec<FileKey>,
    /// State of the generator that picks who is let go.
    random: u64,
}

impl OpenFilesState {
    fn remove(&mut self, key: FileKey) {
        let Some((_, place)) = self.files.remove(&key) else {
            return;
        };
        self.keys.swap_remove(place);
        if let Some(moved) = self.keys.get(place) {
            let (_, moved_place) = self.files.get_mut(moved).expect("every key has its file");
            *moved_place = place;
        }
    }

    /// A file by chance. Source: Knuth's MMIX generator, of which the upper half is used.
    fn pick(&mut self) -> FileKey {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.keys[(self.random >> 32) as usize % self.keys.len()]
    }
}

impl OpenFiles {
    pub(crate) fn new(open_files_max: usize) -> Self {
        OpenFiles {
            state: RefCell::default(),
            open_files_max,
        }
    }

    /// The file of `key` if it is open.
    pub(crate) fn get(&self, key: FileKey) -> Option<File> {
        let state = self.state.borrow();
        state.files.get(&key).map(|(file, _)| file.clone())
    }

    /// The open file of `key`, opened now if need be.
    ///
    /// # Errors
    /// The system's answer to opening `path`; `NotFound` when it does not exist.
    pub(crate) async fn open(&self, key: FileKey, path: &Path, mode: OpenMode) -> io::Result<File> {
        if let Some(file) = self.get(key) {
            return Ok(file);
        }
        let file = File::open(path, mode).await?;
        self.keep(key, file.clone());
        Ok(file)
    }

    /// [`Self::open`] to read and write; makes the file and its directory if need be. Whether they were made.
    ///
    /// # Errors
    /// The system's answer.
    pub(crate) async fn open_or_create(
        &self,
        key: FileKey,
        path: &Path,
    ) -> io::Result<(File, bool)> {
        if let Some(file) = self.get(key) {
            return Ok((file, false));
        }
        let (file, is_made) = File::open_or_create(path).await?;
        self.keep(key, file.clone());
        Ok((file, is_made))
    }

    fn keep(&self, key: FileKey, file: File) {
        let mut state = self.state.borrow_mut();
        state.remove(key);
        if state.keys.len() >= self.open_files_max {
            let unlucky = state.pick();
            state.remove(unlucky);
        }
        let place = state.keys.len();
        state.keys.push(key);
        state.files.insert(key, (file, place));
        assert!(
            state.files.len() <= self.open_files_max && state.files.len() == state.keys.len(),
            "more open files than allowed, or a file without its key"
        );
    }

    /// Lets go of the files of one segment.
    pub(crate) fn forget_segment(&self, incarnation: u64, segment: SegmentName) {
        let mut state = self.state.borrow_mut();
        for kind in FileKind::ALL {
            state.remove((incarnation, segment, kind));
        }
    }

    /// Lets go of all files of a log.
    pub(crate) fn forget_log(&self, incarnation: u64) {
        let mut state = self.state.borrow_mut();
        let of_log = state.keys.iter().filter(|key| key.0 == incarnation);
        for key in of_log.copied().collect::<Vec<_>>() {
            state.remove(key);
        }
    }

    /// Lets go of every file.
    pub(crate) fn forget_all(&self) {
        *self.state.borrow_mut() = OpenFilesState::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewritten_segments_are_told_by_their_names() {
        let check = |base_offset, version, kind| {
            let name = SegmentName {
                base_offset,
                version,
            };
            let path = file_path(Path::new("/log"), name, kind);
            let file_name = path.file_name().and_then(|name| name.to_str());
            let found = rewritten_segment(file_name.expect("a name"));
            (found == Some(name), found.is_some())
        };
        for kind in [FileKind::Segment, FileKind::Index] {
            assert_eq!(check(77, 3, kind), (true, true));
            assert_eq!(check(i64::MAX, u32::MAX, kind), (true, true));
            assert_eq!(check(77, 0, kind), (false, false));
        }
        assert_eq!(check(77, 3, FileKind::Producers), (false, false));
        for other in [
            "",
            "x-1.log",
            "1-1.log",
            "00000000000000000000-1.tmp",
            "-.log",
        ] {
            assert_eq!(rewritten_segment(other), None, "{other}");
        }
    }
}
