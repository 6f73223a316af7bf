//! A shard's helper thread, for calls that may block: opening, directories, unlinking large files.
//!
//! *Place*: used by `real::{file, dir}`. The thread starts with the first call and ends with its
//! shard; it is not pinned, so that it does not stand in its shard's way.
//! *Ordering*: calls of one shard run one after the other.
//! *Limits*: rare calls only; each costs two thread switches.

use std::cell::OnceCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use super::system;
use crate::executor;
use crate::oneshot_remote;

type Call = Box<dyn FnOnce() + Send>;

/// The way to a shard's helper thread.
#[derive(Debug, Default)]
pub(super) struct Helper {
    calls: OnceCell<mpsc::Sender<Call>>,
}

impl Helper {
    fn calls(&self) -> io::Result<&mpsc::Sender<Call>> {
        if let Some(calls) = self.calls.get() {
            return Ok(calls);
        }
        let (sender, receiver) = mpsc::channel::<Call>();
        std::thread::Builder::new()
            .name("streambus-file".into())
            .spawn(move || {
                let _ = system::set_affinity(executor::process_cpus());
                while let Ok(call) = receiver.recv() {
                    call();
                }
            })?;
        Ok(self.calls.get_or_init(|| sender))
    }

    /// Has `call` run on the helper thread, before all that are handed over later.
    pub(super) fn start(&self, call: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let boxed: Call = Box::new(move || {
            let _ = catch_unwind(AssertUnwindSafe(call));
        });
        let sent = self.calls()?.send(boxed);
        sent.map_err(|_| io::Error::other("the helper thread is gone"))
    }

    /// Runs `call` on the helper thread.
    ///
    /// # Cancel safety
    /// The call runs to its end even if the future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (sender, receiver) = oneshot_remote::channel();
        // A panic drops the sender, which answers the caller.
        self.start(move || drop(sender.send(call())))?;
        receiver
            .await
            .map_err(|_| io::Error::other("a blocking call panicked"))?
    }
}
