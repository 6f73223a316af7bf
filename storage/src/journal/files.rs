//! The journal's files: made ahead, pre-written, used in turn, recycled when they are released.
//!
//! *Durability*: a file is used only after its filler and header are synced and its directory entry is
//! too. *Invariants*
//! - F1. A released file is given away only when the first group of its successor is durable, so the
//!   newest group always stands somewhere.
//! - F2. The writer never waits for a release: a checkpoint has to commit before it can release
//!   anything. When no file is free it makes one, beyond the limit if need be; what keeps it from that
//!   is that ordinary records are not admitted to the last file ([`Files::has_space`]). A journal that
//!   gets no third file keeps the last one too: they go on in it only when that gives back at once
//!   the ones in use ([`Files::turns_over`]).
//!
//! *Limits*: `files_max` files for ordinary records; [`AHEAD`] free ones are kept ready.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use runtime::buffer::{AlignedBuf, BLOCK_BYTES};
use runtime::dir;
use runtime::file::{Durability, File, OpenMode};
use runtime::sync::Notify;
use runtime::time::{sleep, timeout};

use super::format::{FILLER, JournalId, encode_file_header};
use super::replay::Replayed;
use super::scan::Found;
use super::{JournalConfig, Shared};
use crate::directory::sync_dir;
use crate::error::StorageError;

/// Size of the very first file, so that a first start is quick; it is not used twice.
const FIRST_FILE_BYTES: u64 = 4 << 20;
/// Bytes of filler that are written at once.
const FILL_BYTES: u64 = 1 << 20;
/// Between two writes of filler while there is time: the next commit flushes them from the device's cache, too.
const FILL_PAUSE: Duration = Duration::from_millis(15);
/// Free files that are kept ready: one to go on in, one in reserve for records that free space.
const AHEAD: usize = 2;
/// After this time the making of a file is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Blocks that what has gathered may take beyond its bytes: headers and padding of two groups.
const ROUNDING_BYTES: u64 = 3 * BLOCK_BYTES as u64;

/// One file.
#[derive(Clone)]
pub(super) struct JournalFile {
    pub(super) number: u64,
    pub(super) path: Rc<Path>,
    pub(super) bytes: u64,
    pub(super) file: File,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}.journal")
}

/// A file that holds records which are not released.
struct Live {
    file: JournalFile,
    /// Newest sequence in it; `u64::MAX` while the newest group of all is in it (F1).
    last: u64,
}

/// All files of a journal.
#[expect(
    clippy::struct_field_names,
    reason = "file_bytes and files_max are the settings' names"
)]
pub(super) struct Files {
    dir: PathBuf,
    pub(super) journal: JournalId,
    file_bytes: u64,
    files_max: usize,
    /// Oldest first; the last one is in use, once one is.
    live: RefCell<VecDeque<Live>>,
    free: RefCell<VecDeque<JournalFile>>,
    /// Files that hold nothing any more and are too small or too many to be used again.
    retired: RefCell<Vec<JournalFile>>,
    next_number: Cell<u64>,
    /// The next file that is made is the very first.
    is_first: Cell<bool>,
    /// Bytes used of the file in use; none is before the first one is begun.
    used: Cell<Option<u64>>,
    /// Bytes of the groups in flight, and of the one that waits for its premises.
    claimed: Cell<u64>,
    /// Newest sequence of the file that ended last, until its successor's first group is durable.
    ended_last: Cell<Option<u64>>,
    /// Everything through this sequence was released.
    released: Cell<u64>,
    is_making: Cell<bool>,
    has_make_failed: Cell<bool>,
    made: Notify,
    pub(super) wanted: Notify,
    /// Somebody waits for the end of [`make_ahead`].
    is_ending: Cell<bool>,
    /// [`make_ahead`] has ended: nothing touches the directory any more.
    has_ended: Cell<bool>,
    ended: Notify,
}

impl Files {
    /// Sorts the found files into those that hold what was replayed and those that are free.
    pub(super) fn new(
        dir: &Path,
        config: &JournalConfig,
        found: Found,
        replayed: &Replayed,
    ) -> Self {
        let (journal, is_first) = (
            found.journal.unwrap_or_else(JournalId::draw),
            found.files.is_empty(),
        );
        let all = found.files.iter().chain(&found.unfinished);
        let next_number = all.map(|file| file.number + 1).max().unwrap_or(0);
        let (mut free, mut retired) = (VecDeque::new(), Vec::new());
        let mut live: Vec<Option<Live>> = replayed.live.iter().map(|_| None).collect();
        for file in found.files {
            let place = replayed
                .live
                .iter()
                .position(|(number, _)| *number == file.number);
            match place {
                Some(place) => {
                    live[place] = Some(Live {
                        last: replayed.live[place].1,
                        file,
                    });
                }
                None if file.bytes >= config.file_bytes => free.push_back(file),
                None => retired.push(file),
            }
        }
        Self {
            dir: dir.to_owned(),
            journal,
            file_bytes: config.file_bytes,
            files_max: config.files_max,
            live: RefCell::new(live.into_iter().flatten().collect()),
            free: RefCell::new(free),
            retired: RefCell::new(retired),
            next_number: Cell::new(next_number),
            is_first: Cell::new(is_first),
            used: Cell::new(None),
            claimed: Cell::new(0),
            ended_last: Cell::new(None),
            released: Cell::new(0),
            is_making: Cell::new(false),
            has_make_failed: Cell::new(false),
            made: Notify::new(),
            wanted: Notify::new(),
            is_ending: Cell::new(false),
            has_ended: Cell::new(false),
            ended: Notify::new(),
        }
    }

    /// Whether an ordinary record of `bytes` may be added to `gathered` bytes, while the journal is durable
    /// through `durable`: both must fit without the file that is kept in reserve. Counted are files that
    /// exist, not those that could be made.
    pub(super) fn has_space(&self, gathered: usize, bytes: usize, durable: u64) -> bool {
        let live = self.live.borrow().len();
        if live == 0 || live >= self.files_max {
            return false;
        }
        let needed = (gathered + bytes) as u64 + ROUNDING_BYTES;
        let in_flight = self.claimed.get();
        if self.fits_here(in_flight + needed) {
            return true;
        }
        // A record that does not fit beside what has gathered would take a file more: it waits until
        // that is written.
        let fits_next = gathered == 0 || needed <= self.file_bytes - BLOCK_BYTES as u64;
        let may_go_on =
            self.free.borrow().len() >= AHEAD || in_flight == 0 && self.turns_over(needed, durable);
        fits_next && may_go_on
    }

    /// Whether `bytes` fit into the file in use, but for the part of it that is kept for records that free
    /// space as long as few files are free.
    fn fits_here(&self, bytes: u64) -> bool {
        let live = self.live.borrow();
        let (Some(in_use), Some(used)) = (live.back(), self.used.get()) else {
            return false;
        };
        let is_scarce = self.free.borrow().len() < AHEAD;
        let kept = if is_scarce { in_use.file.bytes / 4 } else { 0 };
        bytes + kept <= in_use.file.bytes.saturating_sub(used)
    }

    /// Whether a group of `bytes` goes to the only free file before the one in use is full: everything
    /// through `durable`, which is all that is written, is released, so as many files are free afterwards.
    pub(super) fn turns_over(&self, bytes: u64, durable: u64) -> bool {
        let is_last = self.free.borrow().len() == AHEAD - 1;
        is_last && self.released.get() >= durable && !self.fits_here(bytes)
    }

    /// Whether nothing but a release makes room: no file is free to go on in, and none can be made. `last`
    /// is the newest record.
    pub(super) fn needs_release(&self, last: u64) -> bool {
        let (live, free) = (self.live.borrow().len(), self.free.borrow().len());
        let is_at_end = self.has_make_failed.get() || live + free >= self.files_max;
        is_at_end && free < AHEAD && self.released.get() < last
    }

    /// Bytes used of those allowed; 100 also when nothing but a release can make room.
    pub(super) fn used_percent(&self) -> u64 {
        let (live, free) = (self.live.borrow(), self.free.borrow().len());
        // Told when the last ordinary file is begun: that is a commit, at which somebody looks.
        let is_last = live.len() + 1 >= self.files_max;
        let is_disk_full = self.has_make_failed.get() && free < AHEAD;
        if live.len() >= 2 && (is_last || is_disk_full) {
            return 100;
        }
        let ended: u64 = live.iter().rev().skip(1).map(|live| live.file.bytes).sum();
        let used = ended + self.used.get().unwrap_or(0);
        (used * 100 / (self.file_bytes * self.files_max as u64)).min(100)
    }

    /// Frees files without records after `sequence`.
    pub(super) fn release_through(&self, sequence: u64) {
        self.released.set(self.released.get().max(sequence));
        self.free_released();
    }

    fn free_released(&self) -> bool {
        let (mut live, mut free) = (self.live.borrow_mut(), self.free.borrow_mut());
        let before = live.len();
        while live.len() > 1
            && live
                .front()
                .is_some_and(|oldest| oldest.last <= self.released.get())
        {
            if let Some(Live { file, .. }) = live.pop_front() {
                if file.bytes >= self.file_bytes && live.len() + free.len() < self.files_max {
                    free.push_back(file);
                } else {
                    self.retired.borrow_mut().push(file);
                }
            }
        }
        let is_freed = live.len() < before;
        if is_freed {
            self.wanted.notify_one();
        }
        is_freed
    }

    /// Where the group stands that was claimed last, of `bytes`, if it goes to the file in use.
    pub(super) fn place_of_claim(&self, bytes: u64) -> Option<(JournalFile, u64)> {
        let before = self.used.get()? + self.claimed.get() - bytes;
        let live = self.live.borrow();
        live.back().map(|in_use| (in_use.file.clone(), before))
    }

    /// A group of `bytes` is the next that is written.
    pub(super) fn claim(&self, bytes: u64) {
        self.claimed.set(self.claimed.get() + bytes);
    }

    /// Whether a group of `bytes` may be written before those that are claimed are durable: it goes to the file
    /// in use, whose first group is durable, and takes nothing that is kept for records that free space.
    pub(super) fn fits_beside(&self, bytes: u64) -> bool {
        self.ended_last.get().is_none() && self.fits_here(self.claimed.get() + bytes)
    }

    /// The oldest claimed group, of `bytes`, is durable. Whether files came free.
    pub(super) fn advance(&self, bytes: u64) -> bool {
        self.claimed.set(self.claimed.get() - bytes);
        let used = self
            .used
            .get()
            .expect("a group is written to the file in use");
        self.used.set(Some(used + bytes));
        let Some(last) = self.ended_last.take() else {
            return false;
        };
        let mut live = self.live.borrow_mut();
        assert!(live.len() >= 2, "a file ended and another began");
        let ended = live.len() - 2;
        live[ended].last = last;
        drop(live);
        self.free_released()
    }

    /// Ends the file in use, whose newest record is `last`, and begins a free one, which is made if
    /// there is none (F2).
    pub(super) async fn begin_next(&self, last: u64) -> Result<(), StorageError> {
        let file = loop {
            if let Some(file) = self.free.borrow_mut().pop_front() {
                break file;
            }
            if self.is_making.get() {
                self.made.notified().await;
                continue;
            }
            let first_bytes = self.file_bytes.min(FIRST_FILE_BYTES);
            let bytes = if self.is_first.take() {
                first_bytes
            } else {
                self.file_bytes
            };
            break self.make(bytes).await?;
        };
        if self.used.get().is_some() {
            assert!(
                self.ended_last.get().is_none(),
                "a file that was begun holds a group"
            );
            self.ended_last.set(Some(last));
        }
        self.live.borrow_mut().push_back(Live {
            file,
            last: u64::MAX,
        });
        self.used.set(Some(BLOCK_BYTES as u64));
        self.wanted.notify_one();
        Ok(())
    }

    /// Makes a file, and removes what there is of it if that fails. One at a time.
    async fn make(&self, bytes: u64) -> Result<JournalFile, StorageError> {
        assert!(
            !self.is_making.replace(true),
            "files are made one at a time"
        );
        let number = self.next_number.replace(self.next_number.get() + 1);
        let path = self.dir.join(file_name(number));
        let made = self.make_at(&path, number, bytes).await;
        if made.is_err() {
            // It has no valid header, so the next start removes it if this does not.
            let _ = dir::remove_file(&path).await;
        }
        self.has_make_failed.set(made.is_err());
        self.is_making.set(false);
        self.made.notify_one();
        made
    }

    /// Filler, sync, header, directory entry, in this order.
    async fn make_at(
        &self,
        path: &Path,
        number: u64,
        bytes: u64,
    ) -> Result<JournalFile, StorageError> {
        let io = |operation| move |error| StorageError::io(operation, path, error);
        let file = File::open(path, OpenMode::CreateNew)
            .await
            .map_err(io("create"))?;
        file.allocate(0, bytes).await.map_err(io("allocate"))?;
        let mut filler = AlignedBuf::zeroed(FILL_BYTES.min(bytes) as usize);
        filler.fill(FILLER);
        let filler = filler.freeze();
        let mut at = 0;
        while at < bytes {
            let part = filler.sub(0..(bytes - at).min(FILL_BYTES) as usize);
            let len = part.len() as u64;
            file.write_at(at, part, Durability::Buffered)
                .await
                .map_err(io("write"))?;
            at += len;
            if at < bytes && !self.is_hurried() {
                sleep(FILL_PAUSE).await;
            }
        }
        file.sync_data().await.map_err(io("fdatasync"))?;
        let mut header = AlignedBuf::zeroed(BLOCK_BYTES);
        let encoded = encode_file_header(bytes, self.journal);
        header[..encoded.len()].copy_from_slice(&encoded);
        file.write_at(0, header.freeze(), Durability::DataSync)
            .await
            .map_err(io("write"))?;
        sync_dir(&self.dir).await?;
        Ok(JournalFile {
            number,
            path: path.into(),
            bytes,
            file,
        })
    }

    /// Whether the file that is being made may be needed soon, or somebody waits for the end of its making.
    fn is_hurried(&self) -> bool {
        let live = self.live.borrow();
        let (Some(in_use), Some(used)) = (live.back(), self.used.get()) else {
            return true;
        };
        self.is_ending.get() || used > in_use.file.bytes / 2
    }

    async fn remove_retired(&self) {
        let retired = std::mem::take(&mut *self.retired.borrow_mut());
        for file in retired {
            if let Err(error) = dir::remove_file(&file.path).await {
                tracing::warn!(file = %file.path.display(), %error, "a retired journal file stays");
            }
        }
    }

    /// Waits until no file is being made or removed any more, after the journal was closed.
    pub(super) async fn ended(&self) {
        self.is_ending.set(true);
        while !self.has_ended.get() {
            self.ended.notified().await;
        }
    }

    fn wants_more(&self) -> bool {
        let (live, free) = (self.live.borrow().len(), self.free.borrow().len());
        free < AHEAD && live + free < self.files_max && !self.is_making.get()
    }
}

/// Keeps files ready ahead of the writer, until the journal fails or is closed.
pub(super) async fn make_ahead(shared: Rc<Shared>) {
    let files = &shared.files;
    while shared.failed.borrow().is_none() && !shared.waiters.is_closed() {
        files.remove_retired().await;
        if !files.wants_more() {
            files.wanted.notified().await;
            continue;
        }
        match files.make(files.file_bytes).await {
            Ok(file) => {
                files.free.borrow_mut().push_back(file);
                shared.room.notify_waiters();
            }
            // Nothing is lost: ordinary records wait, the others still have the file in reserve.
            Err(error) if error.is_shortage() => {
                tracing::warn!(%error, "a journal file could not be made ahead");
                let _ = timeout(RETRY, files.wanted.notified()).await;
            }
            // A disk that fails gives no space back: nobody is to wait for that.
            Err(error) => shared.fail(error.to_string()),
        }
    }
    files.has_ended.set(true);
    files.ended.notify_waiters();
}
