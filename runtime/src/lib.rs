//! Thread-per-core runtime: executors, direct I/O, sockets, mailboxes, and their simulated twin.
//!
//! *Place*: everything above it speaks to the machine through these modules only; no other crate
//! names glommio or io-uring. *Core*: every handle belongs to the thread that made it unless its
//! documentation says otherwise.
//!
//! There are two backends behind one face. A thread on which a [`sim::Simulation`] runs uses the
//! simulated one: one seeded thread, virtual time, a faulty disk and network in memory. Every other
//! thread uses the real one, and must be one that [`executor`] started for all that awaits.

#![deny(unsafe_code)]

pub mod budget;
pub mod buffer;
pub mod dir;
pub mod executor;
pub mod file;
pub mod mailbox;
pub mod net;
pub mod oneshot_remote;
pub mod probe;
mod real;
mod ring;
pub mod sim;
pub mod sync;
pub mod task;
pub mod time;
mod zero_copy;

pub use budget::{Charge, MemoryBudget};
pub use buffer::{AlignedBuf, AppendBuf, BLOCK_BYTES, Slice};
pub use file::{Durability, File, OpenMode};
