//! Reads groups from a journal file, a large piece at a time.
//!
//! *Place*: the replay, and the scan at start. *Limits*: memory for one window, or one group if that is
//! larger.

use runtime::buffer::{BLOCK_BYTES, Slice};

use super::files::JournalFile;
use super::format::{GroupHeader, JournalId};
use crate::error::StorageError;

/// Bytes that are read at once: most groups are far smaller, and one read each would make a start slow.
const WINDOW_BYTES: u64 = 1 << 20;

/// Reads the groups of one file.
pub(super) struct GroupReader<'a> {
    file: &'a JournalFile,
    /// Whose groups are looked for; any journal's if none.
    journal: Option<JournalId>,
    window: Slice,
    window_at: u64,
}

impl<'a> GroupReader<'a> {
    pub(super) fn new(file: &'a JournalFile, journal: Option<JournalId>) -> Self {
        GroupReader {
            file,
            journal,
            window: Slice::default(),
            window_at: 0,
        }
    }

    /// What stands at `position`: `len` bytes, fewer at the file's end.
    pub(super) async fn bytes(&mut self, position: u64, len: u64) -> Result<Slice, StorageError> {
        let len = len.min(self.file.bytes.saturating_sub(position));
        let held = self.window_at..self.window_at + self.window.len() as u64;
        if position < held.start || position + len > held.end {
            let wanted = len
                .max(WINDOW_BYTES)
                .min(self.file.bytes.saturating_sub(position));
            let read = self.file.file.read_at(position, wanted as usize).await;
            self.window = read.map_err(|e| StorageError::io("read", &self.file.path, e))?;
            self.window_at = position;
        }
        let at = (position - self.window_at) as usize;
        Ok(self
            .window
            .sub(at..(at + len as usize).min(self.window.len())))
    }

    /// The header at `position`, whether or not its group is whole.
    pub(super) async fn header(
        &mut self,
        position: u64,
    ) -> Result<Option<GroupHeader>, StorageError> {
        let block = self.bytes(position, BLOCK_BYTES as u64).await?;
        Ok(self.decode(&block))
    }

    fn decode(&self, block: &[u8]) -> Option<GroupHeader> {
        let header = GroupHeader::decode(block)?;
        self.journal
            .is_none_or(|journal| journal == header.journal)
            .then_some(header)
    }

    /// The whole group at `position`, or `None` if there is none.
    pub(super) async fn group(
        &mut self,
        position: u64,
    ) -> Result<Option<(GroupHeader, Slice)>, StorageError> {
        let Some(header) = self.header(position).await? else {
            return Ok(None);
        };
        let bytes = header.padded_bytes();
        if position + bytes > self.file.bytes {
            return Ok(None);
        }
        let group = self.bytes(position, bytes).await?;
        Ok(header.is_whole(&group).then_some((header, group)))
    }

    /// The first whole group of lap `lap_min` or later from `from` on that `counts`.
    pub(super) async fn find(
        &mut self,
        from: u64,
        lap_min: u64,
        counts: impl Fn(u64, &GroupHeader) -> bool,
    ) -> Result<Option<(u64, GroupHeader)>, StorageError> {
        for position in (from..self.file.bytes).step_by(BLOCK_BYTES) {
            let begun = self.header(position).await?;
            if begun.is_some_and(|header| header.lap >= lap_min && counts(position, &header))
                && let Some((header, _)) = self.group(position).await?
            {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }
}
