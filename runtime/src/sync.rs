//! Waiting for one another on one shard: a notification, a one-shot channel, a semaphore.
//!
//! *Place*: everything that waits for something on its own shard. *Core*: shard-local, made of cells;
//! to reach another thread use `mailbox` or `oneshot_remote`. *Ordering*: waiters are served first come,
//! first served.

mod notify;
pub mod oneshot;
mod semaphore;
#[cfg(test)]
mod tests;

pub use notify::{Notified, Notify};
pub use oneshot::oneshot;
pub use semaphore::{Permit, Semaphore};
