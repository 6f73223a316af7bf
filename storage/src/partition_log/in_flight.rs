//! What a log's direct writes have in flight: writes of blocks, in file order, and at most one sync.
//!
//! *Place*: the task of the direct writes. *Limits*: [`WRITES_MAX`] writes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use runtime::sync::Notify;
use runtime::task::JoinHandle;

use super::write_behind::NextWrite;
use crate::error::StorageError;

/// Writes of one log at a time. Half of them keep the device busy while the others have been written and wait for the
/// file system to note it.
const WRITES_MAX: usize = 8;

/// Writes that were begun, and a sync of some of those before them.
#[derive(Default)]
pub(super) struct InFlight {
    writes: VecDeque<(DirectWrite, JoinHandle<io::Result<()>>)>,
    sync: Option<JoinHandle<Result<(), StorageError>>>,
}

/// A write straight to a segment.
pub(super) struct DirectWrite {
    pub(super) next: NextWrite,
    /// It is durable when it has ended, and everything before it was when it began.
    pub(super) is_durable: bool,
}

/// What has ended.
pub(super) enum Ended {
    /// The first of the writes that are in flight.
    Write(DirectWrite, io::Result<()>),
    Sync(Result<(), StorageError>),
    /// Nothing; but there may be more to write.
    Nothing,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.sync.is_none()
    }

    pub(super) fn has_room(&self) -> bool {
        self.writes.len() < WRITES_MAX
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.sync.is_some()
    }

    pub(super) fn add_write(&mut self, write: DirectWrite, task: JoinHandle<io::Result<()>>) {
        self.writes.push_back((write, task));
    }

    pub(super) fn set_sync(&mut self, task: JoinHandle<Result<(), StorageError>>) {
        self.sync = Some(task);
    }

    /// Waits for the next end, or for `progress`.
    pub(super) async fn next_end(&mut self, progress: &Notify) -> Ended {
        let mut progress = pin!(progress.notified());
        poll_fn(|context| {
            if let Some((_, task)) = self.writes.front_mut()
                && let Poll::Ready(ended) = Pin::new(task).poll(context)
                && let Some((write, _)) = self.writes.pop_front()
            {
                let ended = ended.unwrap_or_else(|failed| Err(io::Error::other(failed)));
                return Poll::Ready(Ended::Write(write, ended));
            }
            if let Some(task) = &mut self.sync
                && let Poll::Ready(ended) = Pin::new(task).poll(context)
            {
                self.sync = None;
                let ended = ended.unwrap_or_else(|failed| {
                    let reason = failed.to_string();
                    Err(StorageError::Offline { reason })
                });
                return Poll::Ready(Ended::Sync(ended));
            }
            progress.as_mut().poll(context).map(|()| Ended::Nothing)
        })
        .await
    }
}
