//! The journal's files: made ahead, pre-written, used in turn, recycled when they are released.
//!
//! *Durability*: a file is used only after its filler and header are synced and its directory entry is
//! too. A released file is written again only when the file in use is full, so the newest group always
//! stands somewhere.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Weak;

use runtime::buffer::{AlignedBuf, BLOCK_BYTES};
use runtime::dir;
use runtime::file::{Durability, File, OpenMode};
use runtime::sync::Notify;

use super::format::{self, FILLER, FileHeader, encode_file_header};
use super::replay::Replayed;
use super::{JournalConfig, Shared};
use crate::error::StorageError;

/// Size of the very first file, so that a first start is quick; it is not used twice.
const FIRST_FILE_BYTES: u64 = 4 << 20;
/// Bytes of filler that are written at once.
const FILL_BYTES: u64 = 1 << 20;
/// Free files that are kept ready.
const AHEAD: usize = 1;

/// One file.
#[derive(Clone)]
pub(super) struct JournalFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) file: File,
}

/// A file that holds records which are not released.
struct Live {
    file: JournalFile,
    /// Newest sequence in it; `u64::MAX` while it is written.
    last: u64,
}

/// All files of a journal.
pub(super) struct Files {
    dir: PathBuf,
    file_bytes: u64,
    files_max: usize,
    /// Oldest first; the last one is in use.
    live: RefCell<VecDeque<Live>>,
    free: RefCell<VecDeque<JournalFile>>,
    /// Files that hold nothing any more and are too small to be used again.
    retired: RefCell<Vec<JournalFile>>,
    next_number: Cell<u64>,
    /// Bytes used of the file in use.
    used: Cell<u64>,
    pub(super) freed: Notify,
    pub(super) wanted: Notify,
}

/// Opens every journal file of a directory, which is made if it is not there.
pub(super) async fn scan(dir: &Path) -> Result<Vec<JournalFile>, StorageError> {
    let io = |operation, path: &Path, error| StorageError::io(operation, path, error);
    if !dir::exists(dir).await.map_err(|e| io("look for", dir, e))? {
        dir::create_dir_all(dir).await.map_err(|e| io("create", dir, e))?;
        if let Some(parent) = dir.parent() {
            dir::sync_dir(parent).await.map_err(|e| io("fsync directory", parent, e))?;
        }
    }
    let mut found = Vec::new();
    for entry in dir::read_dir(dir).await.map_err(|e| io("read directory", dir, e))? {
        let number = entry.name.strip_suffix(".journal").and_then(|stem| stem.parse().ok());
        let Some(number) = number else { continue };
        let path = dir.join(&entry.name);
        let file = File::open(&path, OpenMode::ReadWrite).await.map_err(|e| io("open", &path, e))?;
        let block = file.read_at(0, BLOCK_BYTES).await.map_err(|e| io("read", &path, e))?;
        match format::decode_file_header(&block) {
            FileHeader::Valid { bytes } => found.push(JournalFile { number, path, bytes, file }),
            FileHeader::Version(version) => {
                let (found, supported) = (version, format::FORMAT_VERSION);
                return Err(StorageError::FormatVersion { file: path, found, supported });
            }
            // A group behind a damaged header: that file was in use, and nothing may be guessed.
            FileHeader::Invalid if has_group(&file).await.map_err(|e| io("read", &path, e))? => {
                let expected = "a valid file header before its groups";
                return Err(StorageError::corruption(&path, 0, expected, "another"));
            }
            // Its making was interrupted: it is made again under another number, and overwritten never.
            FileHeader::Invalid => {
                dir::remove_file(&path).await.map_err(|e| io("delete", &path, e))?;
            }
        }
    }
    found.sort_by_key(|file| file.number);
    Ok(found)
}

/// Whether a group begins where the first one of a file does.
async fn has_group(file: &File) -> std::io::Result<bool> {
    let block = file.read_at(BLOCK_BYTES as u64, BLOCK_BYTES).await?;
    Ok(format::GroupHeader::decode(&block).is_some())
}

impl Files {
    /// Sorts the found files into those that hold what was replayed and those that are free.
    pub(super) fn new(
        dir: &Path,
        config: &JournalConfig,
        found: Vec<JournalFile>,
        replayed: &Replayed,
    ) -> Self {
        let next_number = found.last().map_or(0, |file| file.number + 1);
        let (mut live, mut free, mut retired) = (Vec::new(), VecDeque::new(), Vec::new());
        for file in found {
            match replayed.live.iter().find(|(number, _)| *number == file.number) {
                Some((_, last)) => live.push(Live { file, last: *last }),
                None if file.bytes >= config.file_bytes => free.push_back(file),
                None => retired.push(file),
            }
        }
        live.sort_by_key(|live| live.last);
        Self {
            dir: dir.to_owned(),
            file_bytes: config.file_bytes,
            files_max: config.files_max,
            live: RefCell::new(live.into()),
            free: RefCell::new(free),
            retired: RefCell::new(retired),
            next_number: Cell::new(next_number),
            used: Cell::new(u64::MAX),
            freed: Notify::new(),
            wanted: Notify::new(),
        }
    }

    /// Whether `bytes` more fit without the last file that may be begun.
    pub(super) fn has_space(&self, bytes: u64) -> bool {
        let live = self.live.borrow();
        let left = live.back().map_or(0, |in_use| in_use.file.bytes.saturating_sub(self.used.get()));
        let files_max = self.files_max.max(3);
        // What is left of the last file is kept as well: a checkpoint has to commit to free others.
        live.len() < files_max && left >= bytes || live.len() + 1 < files_max
    }

    pub(super) fn used_percent(&self) -> u64 {
        let live = self.live.borrow();
        let full: u64 = live.iter().rev().skip(1).map(|live| live.file.bytes).sum();
        let used = full + self.used.get().min(self.file_bytes);
        used * 100 / (self.file_bytes * self.files_max as u64)
    }

    /// Frees files without records after `sequence`. Whether there were any.
    pub(super) fn release_through(&self, sequence: u64) -> bool {
        let mut live = self.live.borrow_mut();
        let before = live.len();
        while live.len() > 1 && live.front().is_some_and(|oldest| oldest.last <= sequence) {
            if let Some(Live { file, .. }) = live.pop_front() {
                if file.bytes >= self.file_bytes {
                    self.free.borrow_mut().push_back(file);
                } else {
                    self.retired.borrow_mut().push(file);
                }
            }
        }
        let is_freed = live.len() < before;
        if is_freed {
            self.freed.notify_one();
            self.wanted.notify_one();
        }
        is_freed
    }

    /// Bytes used of the file in use, or beyond its end when there is none.
    pub(super) fn position(&self) -> Option<(JournalFile, u64)> {
        let used = self.used.get();
        let live = self.live.borrow();
        live.back().filter(|_| used != u64::MAX).map(|in_use| (in_use.file.clone(), used))
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.used.set(self.used.get() + bytes);
    }

    /// Ends the file in use, whose newest record is `last`, and begins a free one.
    ///
    /// Waits until one is free: made, or released.
    pub(super) async fn begin_next(&self, last: u64) -> Result<JournalFile, StorageError> {
        loop {
            let free = self.free.borrow_mut().pop_front();
            if let Some(file) = free {
                return Ok(self.begin(file, last));
            }
            let (is_first, count) = (self.next_number.get() == 0, self.live.borrow().len());
            // The last file beyond the limit is for a start that finds every file in use.
            if count < self.files_max || self.used.get() == u64::MAX {
                let bytes = if is_first { self.file_bytes.min(FIRST_FILE_BYTES) } else { self.file_bytes };
                let file = self.make(bytes).await?;
                return Ok(self.begin(file, last));
            }
            self.freed.notified().await;
        }
    }

    fn begin(&self, file: JournalFile, last: u64) -> JournalFile {
        let mut live = self.live.borrow_mut();
        if self.used.get() != u64::MAX
            && let Some(ended) = live.back_mut()
        {
            ended.last = last;
        }
        live.push_back(Live { file: file.clone(), last: u64::MAX });
        self.used.set(BLOCK_BYTES as u64);
        self.wanted.notify_one();
        file
    }

    /// Makes a file: filler, header, sync, directory entry.
    async fn make(&self, bytes: u64) -> Result<JournalFile, StorageError> {
        let number = self.next_number.replace(self.next_number.get() + 1);
        let path = self.dir.join(format!("{number:08}.journal"));
        let io = |operation| {
            let path = path.clone();
            move |error| StorageError::io(operation, &path, error)
        };
        let file = File::open(&path, OpenMode::CreateNew).await.map_err(io("create"))?;
        file.allocate(0, bytes).await.map_err(io("allocate"))?;
        let mut filler = AlignedBuf::zeroed(FILL_BYTES.min(bytes) as usize);
        filler.fill(FILLER);
        let filler = filler.freeze();
        let mut at = 0;
        while at < bytes {
            let part = filler.sub(0..(bytes - at).min(FILL_BYTES) as usize);
            let len = part.len() as u64;
            file.write_at(at, part, Durability::Buffered).await.map_err(io("write"))?;
            at += len;
        }
        file.sync_data().await.map_err(io("fdatasync"))?;
        let mut header = AlignedBuf::zeroed(BLOCK_BYTES);
        let encoded = encode_file_header(bytes);
        header[..encoded.len()].copy_from_slice(&encoded);
        file.write_at(0, header.freeze(), Durability::DataSync).await.map_err(io("write"))?;
        dir::sync_dir(&self.dir).await.map_err(io("fsync directory of"))?;
        Ok(JournalFile { number, path, bytes, file })
    }

    async fn remove_retired(&self) {
        let retired = std::mem::take(&mut *self.retired.borrow_mut());
        for file in retired {
            if let Err(error) = dir::remove_file(&file.path).await {
                tracing::warn!(file = %file.path.display(), %error, "a retired journal file stays");
            }
        }
    }

    fn wants_more(&self) -> bool {
        let (live, free) = (self.live.borrow().len(), self.free.borrow().len());
        free < AHEAD && live + free < self.files_max
    }
}

/// Keeps a file ready ahead of the writer, until the journal is gone.
pub(super) async fn make_ahead(journal: Weak<Shared>) {
    while let Some(shared) = journal.upgrade() {
        if shared.failed.borrow().is_some() || shared.waiters.is_closed() {
            return;
        }
        shared.files.remove_retired().await;
        if !shared.files.wants_more() {
            shared.files.wanted.notified().await;
            continue;
        }
        match shared.files.make(shared.files.file_bytes).await {
            Ok(file) => {
                shared.files.free.borrow_mut().push_back(file);
                shared.files.freed.notify_one();
            }
            // The writer meets the same trouble when it needs the file, and answers for it.
            Err(error) => {
                tracing::warn!(%error, "a journal file could not be made ahead");
                shared.files.wanted.notified().await;
            }
        }
    }
}
