//! The task that writes groups: one durable write at a time, the next group gathers meanwhile.

use std::rc::Rc;

use runtime::buffer::{AppendBuf, BLOCK_BYTES};
use runtime::file::Durability;
use runtime::task;
use runtime::time::{self, timeout};

use super::files::{JournalFile, RETRY};
use super::format::{GROUP_HEADER_BYTES, GroupHeader, padded};
use super::replay::Replayed;
use super::{Gathering, Sequence, Shared};
use crate::error::{StorageError, WRITE_DURABLY};

/// Looks at what has arrived that a group waits for while the shard has other work: requests that are
/// in the sockets already ride along, and there are fewer writes. More looks gain nothing more.
const GATHERING_TURNS: u32 = 2;

pub(super) struct Writer {
    shared: Rc<Shared>,
    generation: u64,
    lap: u64,
    previous_crc: u32,
    /// Records wait for their group; before that a start waits, and is better told that the disk is full.
    has_started: bool,
    /// The journal ends: space was asked for once more, for what is being written.
    has_asked_last: bool,
}

impl Writer {
    /// A writer that goes on after what was replayed, in a generation of its own.
    pub(super) fn new(shared: &Rc<Shared>, replayed: &Replayed) -> Self {
        Writer {
            shared: shared.clone(),
            generation: replayed.generation + 1,
            lap: replayed.lap,
            previous_crc: replayed.last_crc,
            has_started: false,
            has_asked_last: false,
        }
    }

    /// Begins a file and states in it that this generation has begun.
    pub(super) async fn begin(&mut self) -> Result<(), StorageError> {
        self.write_empty(false).await
    }

    async fn write_empty(&mut self, is_end: bool) -> Result<(), StorageError> {
        let mut buffer = AppendBuf::with_capacity(2 * BLOCK_BYTES);
        buffer.append_zeros(GROUP_HEADER_BYTES);
        let first = self.shared.last.get() + 1;
        self.write(
            &mut Gathering {
                buffer,
                premises: Vec::new(),
                first,
                records: 0,
            },
            is_end,
        )
        .await
    }

    /// Writes groups until the journal is closed or fails, by its own doing or another's.
    pub(super) async fn run(mut self) {
        self.has_started = true;
        while self.shared.failed.borrow().is_none() {
            // One behind which there is another is full.
            if self.shared.gathering.borrow().len() == 1 {
                task::lull(GATHERING_TURNS).await;
            }
            let next = self.shared.gathering.borrow_mut().pop_front();
            let Some(mut group) = next else {
                if self.shared.is_closing.get() {
                    match self.write_empty(true).await {
                        Ok(()) => self.shared.waiters.set_closed(),
                        Err(error) => self.shared.fail(error.to_string()),
                    }
                    self.shared.fail("it was closed".to_owned());
                    return;
                }
                self.shared.work.notified().await;
                continue;
            };
            let last = group.first + u64::from(group.records) - 1;
            if let Err(error) = self.write_after_premises(&mut group).await {
                tracing::error!(%error, "the journal failed; nothing is acknowledged any more");
                self.shared.fail(error.to_string());
                return;
            }
            self.committed(last, group.buffer);
        }
    }

    async fn write_after_premises(&mut self, group: &mut Gathering) -> Result<(), StorageError> {
        // Its place is taken while it waits: what gathers meanwhile is admitted behind it.
        let bytes = padded(group.buffer.len() - GROUP_HEADER_BYTES);
        self.shared.files.claim(bytes as u64);
        for premise in group.premises.drain(..) {
            premise.await?;
        }
        self.write(group, false).await
    }

    async fn write(&mut self, group: &mut Gathering, is_end: bool) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        assert_eq!(
            group.first,
            shared.durable.get() + 1,
            "all before a group is durable (I1)"
        );
        let payload_bytes = group.buffer.len() - GROUP_HEADER_BYTES;
        let bytes = padded(payload_bytes);
        shared.files.claim(bytes as u64);
        let (file, position) = self.place(bytes as u64, group.first - 1).await?;
        let header = GroupHeader {
            journal: shared.files.journal,
            lap: self.lap,
            generation: self.generation,
            first: group.first,
            records: group.records,
            payload_bytes: u32::try_from(payload_bytes).expect("a group fits in a file"),
            durable: shared.durable.get(),
            previous_crc: self.previous_crc,
            is_end,
            crc: 0,
        };
        group.buffer.append_zeros(bytes - group.buffer.len());
        let unsealed = group
            .buffer
            .as_unique_mut()
            .expect("nobody reads a group that gathers");
        let crc = header.seal(unsealed);
        let begun = time::now();
        loop {
            let content = group.buffer.slice(0..bytes);
            let written = file
                .file
                .write_at(position, content, Durability::DataSync)
                .await;
            match written {
                Ok(()) => break,
                Err(error) => {
                    let error = StorageError::io(WRITE_DURABLY, &file.path, error);
                    self.wait_for_space(error).await?;
                }
            }
        }
        self.has_asked_last = false;
        shared.counts.borrow_mut().count(bytes, time::now() - begun);
        self.previous_crc = crc;
        if shared.files.advance() {
            shared.room.notify_waiters();
        }
        Ok(())
    }

    /// Where a group of `bytes` goes: behind the last one, or to the beginning of the next file.
    async fn place(&mut self, bytes: u64, last: u64) -> Result<(JournalFile, u64), StorageError> {
        let shared = Rc::clone(&self.shared);
        let files = &shared.files;
        if let Some((file, position)) = files.position()
            && position + bytes <= file.bytes
            && !files.turns_over(bytes, last)
        {
            return Ok((file, position));
        }
        while let Err(error) = files.begin_next(last).await {
            self.wait_for_space(error).await?;
        }
        self.lap += 1;
        let (file, position) = files.position().expect("a file was begun");
        assert!(
            position + bytes <= file.bytes,
            "a group of {bytes} bytes in a file of {}",
            file.bytes
        );
        Ok((file, position))
    }

    /// Waits a little where there is no space, or nothing to make a file with: the same bytes can then be
    /// written to the same place, since nobody was told of them. Who ends the journal does not wait. Any other
    /// error is passed on.
    async fn wait_for_space(&mut self, error: StorageError) -> Result<(), StorageError> {
        let is_ending = self.shared.is_ending.get();
        if !error.is_shortage() || !self.has_started || is_ending && self.has_asked_last {
            return Err(error);
        }
        if is_ending {
            self.has_asked_last = true;
            return Ok(());
        }
        tracing::warn!(%error, "the journal waits for space");
        let _ = timeout(RETRY, self.shared.ending.notified()).await;
        Ok(())
    }

    fn committed(&self, last: u64, mut buffer: AppendBuf) {
        let shared = &self.shared;
        assert!(last > shared.durable.get(), "commits go forward");
        shared.durable.set(last);
        let usual = shared.config.group_bytes_max + 2 * BLOCK_BYTES;
        if buffer.capacity() <= usual && buffer.try_clear() {
            *shared.spare.borrow_mut() = Some(buffer);
        }
        if let Some(observer) = &*shared.observer.borrow() {
            observer(Sequence::from(last));
        }
        shared.waiters.wake_through(last);
        shared.room.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An observer that panics must not leave everybody waiting for ever.
        if std::thread::panicking() {
            self.shared.fail("its writer panicked".to_owned());
        }
        self.shared.has_writer_ended.set(true);
        self.shared.writer_ended.notify_waiters();
    }
}
