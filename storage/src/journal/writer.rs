//! The task that writes groups, durably: while one is on its way the next gathers; one that is large goes
//! beside it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use runtime::buffer::{AppendBuf, BLOCK_BYTES, Slice};
use runtime::file::Durability;
use runtime::task;
use runtime::time::{self, timeout};

use super::files::{JournalFile, RETRY};
use super::format::{GROUP_HEADER_BYTES, GroupHeader};
use super::replay::Replayed;
use super::{Gathering, Sequence, Shared};
use crate::error::{StorageError, WRITE_DURABLY};

/// Looks at what has arrived that a group waits for while the shard has other work: requests that are
/// in the sockets already ride along, and there are fewer writes. More looks gain nothing more.
const GATHERING_TURNS: u32 = 2;

/// Groups on their way at once (I1).
const IN_FLIGHT_MAX: usize = 2;

pub(super) struct Writer {
    shared: Rc<Shared>,
    generation: u64,
    lap: u64,
    previous_crc: u32,
    /// Groups on their way, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Records wait for their group; before that a start waits, and is better told that the disk is full.
    has_started: bool,
}

/// A group on its way to the disk.
struct InFlight {
    last: u64,
    bytes: u64,
    buffer: AppendBuf,
    write: Pin<Box<dyn Future<Output = Result<(), StorageError>>>>,
    ended: Option<Result<(), StorageError>>,
}

impl InFlight {
    /// Begins the write, or looks whether it has ended.
    fn poll(&mut self, context: &mut Context<'_>) {
        if self.ended.is_none()
            && let Poll::Ready(ended) = self.write.as_mut().poll(context)
        {
            self.ended = Some(ended);
        }
    }
}

impl Writer {
    /// A writer that goes on after what was replayed, in a generation of its own.
    pub(super) fn new(shared: &Rc<Shared>, replayed: &Replayed) -> Self {
        Writer {
            shared: shared.clone(),
            generation: replayed.generation + 1,
            lap: replayed.lap,
            previous_crc: replayed.last_crc,
            in_flight: VecDeque::new(),
            has_started: false,
        }
    }

    /// Begins a file and states in it that this generation has begun.
    pub(super) async fn begin(&mut self) -> Result<(), StorageError> {
        self.write_empty(false).await?;
        self.has_started = true;
        Ok(())
    }

    async fn write_empty(&mut self, is_end: bool) -> Result<(), StorageError> {
        let mut buffer = AppendBuf::with_capacity(2 * BLOCK_BYTES);
        buffer.append_zeros(GROUP_HEADER_BYTES);
        let group = Gathering {
            buffer,
            premises: Vec::new(),
            first: self.shared.last.get() + 1,
            records: 0,
        };
        self.begin_alone(group, is_end).await?;
        while !self.in_flight.is_empty() {
            self.go_on().await?;
        }
        Ok(())
    }

    /// Writes groups until the journal is closed or fails, by its own doing or another's.
    pub(super) async fn run(mut self) {
        while self.shared.failed.borrow().is_none() {
            if let Err(error) = self.step().await {
                tracing::error!(%error, "the journal failed; nothing is acknowledged any more");
                self.shared.fail(error.to_string());
            }
        }
        // Nothing touches the directory any more when the writer has ended.
        for mut group in self.in_flight.drain(..) {
            if group.ended.is_none() {
                let _ = group.write.as_mut().await;
            }
        }
    }

    async fn step(&mut self) -> Result<(), StorageError> {
        if !self.in_flight.is_empty() {
            let Some(group) = self.take_beside() else {
                return self.go_on().await;
            };
            self.begin_beside(group);
            return Ok(());
        }
        // One behind which there is another is full.
        if self.shared.gathering.borrow().len() == 1 {
            task::lull(GATHERING_TURNS).await;
        }
        let next = self.shared.gathering.borrow_mut().pop_front();
        match next {
            Some(group) => self.begin_alone(group, false).await?,
            None if self.shared.is_closing.get() => {
                self.write_empty(true).await?;
                self.shared.waiters.set_closed();
                self.shared.fail("it was closed".to_owned());
            }
            None => self.shared.work.notified().await,
        }
        Ok(())
    }

    /// The next group, if it may go beside those in flight: it is large, rests on nothing else, and goes to
    /// the same file, whose first group is durable.
    fn take_beside(&self) -> Option<Gathering> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let mut gathering = self.shared.gathering.borrow_mut();
        let next = gathering.front()?;
        let goes_beside = next.buffer.len() >= self.shared.config.beside_bytes()
            && next.premises.is_empty()
            && self.shared.files.fits_beside(next.padded_bytes());
        goes_beside.then(|| gathering.pop_front())?
    }

    fn begin_beside(&mut self, group: Gathering) {
        let bytes = group.padded_bytes();
        self.shared.files.claim(bytes);
        let place = self.shared.files.place_of_claim(bytes);
        let (file, position) = place.expect("a file is in use");
        self.write(group, file, position, false);
    }

    /// Begins a group when everything before it is durable, and what it rests on.
    async fn begin_alone(
        &mut self,
        mut group: Gathering,
        is_end: bool,
    ) -> Result<(), StorageError> {
        let bytes = group.padded_bytes();
        // Its place is taken while it waits: what gathers meanwhile is admitted behind it.
        self.shared.files.claim(bytes);
        for premise in group.premises.drain(..) {
            premise.await?;
        }
        let (file, position) = self.place(bytes, group.first - 1).await?;
        self.write(group, file, position, is_end);
        Ok(())
    }

    fn write(&mut self, mut group: Gathering, file: JournalFile, position: u64, is_end: bool) {
        let shared = &self.shared;
        let before = self.in_flight.back().map(|group| group.last);
        let before = before.unwrap_or_else(|| shared.durable.get());
        assert_eq!(group.first, before + 1, "groups go in order");
        let payload_bytes = group.buffer.len() - GROUP_HEADER_BYTES;
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
        let (bytes, last) = (header.padded_bytes(), header.last());
        let padding = bytes as usize - group.buffer.len();
        group.buffer.append_zeros(padding);
        let unsealed = group
            .buffer
            .as_unique_mut()
            .expect("nobody reads a group that gathers");
        self.previous_crc = header.seal(unsealed);
        let content = group.buffer.slice(0..bytes as usize);
        let write = write_durably(self.patience(), file, position, content);
        self.in_flight.push_back(InFlight {
            last,
            bytes,
            buffer: group.buffer,
            write: Box::pin(write),
            ended: None,
        });
    }

    /// Waits until the oldest group is durable, or the next is large enough to go beside it.
    async fn go_on(&mut self) -> Result<(), StorageError> {
        let shared = self.shared.clone();
        let may_begin = self.in_flight.len() < IN_FLIGHT_MAX;
        let mut is_large = pin!(shared.is_large.notified());
        poll_fn(|context| {
            for group in &mut self.in_flight {
                group.poll(context);
            }
            let oldest = self.in_flight.front();
            if oldest.is_none_or(|oldest| oldest.ended.is_some()) {
                return Poll::Ready(());
            }
            if may_begin {
                return is_large.as_mut().poll(context);
            }
            Poll::Pending
        })
        .await;
        if let Some(ended) = self
            .in_flight
            .front_mut()
            .and_then(|oldest| oldest.ended.take())
        {
            let oldest = self.in_flight.pop_front().expect("it has ended");
            ended?;
            self.commit(oldest);
        }
        Ok(())
    }

    /// Where a group of `bytes` goes: behind the last one, or to the beginning of the next file.
    async fn place(&mut self, bytes: u64, last: u64) -> Result<(JournalFile, u64), StorageError> {
        let files = &self.shared.files;
        if let Some((file, position)) = files.place_of_claim(bytes)
            && position + bytes <= file.bytes
            && !files.turns_over(bytes, last)
        {
            return Ok((file, position));
        }
        let mut patience = self.patience();
        while let Err(error) = files.begin_next(last).await {
            patience.wait_for_space(error).await?;
        }
        self.lap += 1;
        let (file, position) = files.place_of_claim(bytes).expect("a file was begun");
        assert!(
            position + bytes <= file.bytes,
            "a group of {bytes} bytes in a file of {}",
            file.bytes
        );
        Ok((file, position))
    }

    fn patience(&self) -> Patience {
        Patience {
            shared: self.shared.clone(),
            has_started: self.has_started,
            has_asked_last: false,
        }
    }

    /// The oldest group is durable.
    fn commit(&self, group: InFlight) {
        let shared = &self.shared;
        let InFlight {
            last,
            bytes,
            mut buffer,
            write,
            ..
        } = group;
        if shared.files.advance(bytes) {
            shared.room.notify_waiters();
        }
        // It holds the buffer.
        drop(write);
        if last == shared.durable.get() {
            return;
        }
        assert!(last > shared.durable.get(), "commits go forward");
        shared.durable.set(last);
        let usual = shared.config.group_bytes_max + 2 * BLOCK_BYTES;
        let mut spare = shared.spare.borrow_mut();
        if spare.len() < IN_FLIGHT_MAX && buffer.capacity() <= usual && buffer.try_clear() {
            spare.push(buffer);
        }
        drop(spare);
        if let Some(observer) = &*shared.observer.borrow() {
            observer(Sequence::from(last));
        }
        shared.waiters.wake_through(last);
        shared.room.notify_one();
    }
}

async fn write_durably(
    mut patience: Patience,
    file: JournalFile,
    position: u64,
    content: Slice,
) -> Result<(), StorageError> {
    let begun = time::now();
    loop {
        let written = file
            .file
            .write_at(position, content.clone(), Durability::DataSync)
            .await;
        let Err(error) = written else {
            break;
        };
        let error = StorageError::io(WRITE_DURABLY, &file.path, error);
        patience.wait_for_space(error).await?;
    }
    let took = time::now() - begun;
    patience
        .shared
        .counts
        .borrow_mut()
        .count(content.len(), took);
    Ok(())
}

/// For how long something is tried again that found no space.
struct Patience {
    shared: Rc<Shared>,
    has_started: bool,
    /// The journal ends: space was asked for once more.
    has_asked_last: bool,
}

impl Patience {
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
        } else {
            tracing::warn!(%error, "the journal waits for space");
            let _ = timeout(RETRY, self.shared.ending.notified()).await;
        }
        // The group beside this one may have failed meanwhile (I4).
        if self.shared.failed.borrow().is_some() {
            return Err(error);
        }
        Ok(())
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
