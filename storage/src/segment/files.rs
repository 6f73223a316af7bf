//! File names of a log directory, and the bounded set of files kept open.
//!
//! *Place*: write-behind, reads and deletion open files through here. *Limits*: `open_files_max`;
//! the least recently used one is let go (a file in use stays open until its user is done).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use runtime::{File, OpenMode};

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

/// The file of `kind` of the segment at `base_offset`.
pub(crate) fn file_path(log_dir: &Path, base_offset: i64, kind: FileKind) -> PathBuf {
    log_dir.join(format!("{base_offset:020}.{}", kind.extension()))
}

/// Which file: log incarnation, segment, kind.
type FileKey = (u64, i64, FileKind);

/// Open files by key, with the time of their last use in a counter.
#[derive(Default)]
pub(crate) struct OpenFiles {
    state: RefCell<OpenFilesState>,
    open_files_max: usize,
}

#[derive(Default)]
struct OpenFilesState {
    files: HashMap<FileKey, (File, u64)>,
    uses: u64,
}

impl OpenFiles {
    pub(crate) fn new(open_files_max: usize) -> Self {
        OpenFiles {
            state: RefCell::default(),
            open_files_max,
        }
    }

    /// The open file of `key`, opened now if need be.
    ///
    /// # Errors
    /// The system's answer to opening `path`; `NotFound` when it does not exist.
    pub(crate) async fn open(&self, key: FileKey, path: &Path, mode: OpenMode) -> io::Result<File> {
        if let Some(file) = self.cached(key) {
            return Ok(file);
        }
        let file = File::open(path, mode).await?;
        self.keep(key, file.clone());
        Ok(file)
    }

    fn cached(&self, key: FileKey) -> Option<File> {
        let mut state = self.state.borrow_mut();
        state.uses += 1;
        let uses = state.uses;
        let (file, used) = state.files.get_mut(&key)?;
        *used = uses;
        Some(file.clone())
    }

    fn keep(&self, key: FileKey, file: File) {
        let mut state = self.state.borrow_mut();
        if state.files.len() >= self.open_files_max {
            let oldest = state
                .files
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                state.files.remove(&oldest);
            }
        }
        let uses = state.uses;
        state.files.insert(key, (file, uses));
        assert!(
            state.files.len() <= self.open_files_max,
            "more open files than allowed"
        );
    }

    /// Lets go of the files of one segment.
    pub(crate) fn forget_segment(&self, incarnation: u64, base_offset: i64) {
        let mut state = self.state.borrow_mut();
        for kind in FileKind::ALL {
            state.files.remove(&(incarnation, base_offset, kind));
        }
    }

    /// Lets go of all files of a log.
    pub(crate) fn forget_log(&self, incarnation: u64) {
        self.state
            .borrow_mut()
            .files
            .retain(|key, _| key.0 != incarnation);
    }

    /// Lets go of every file.
    pub(crate) fn forget_all(&self) {
        self.state.borrow_mut().files.clear();
    }
}
