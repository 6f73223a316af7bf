//! The simulated twin of the runtime: one seeded thread, virtual time, a faulty disk and network.
//!
//! *Place*: tests of everything that runs on the runtime. *Invariants*: **I1** the same seed, disk and
//! program give the same run, to the last poll. *Source*: the simulators of `FoundationDB` and
//! `TigerBeetle` for the idea.
//!
//! A run on a [`Disk`] until the power fails, then a second run on what is left of it:
//!
//! ```
//! use runtime::sim::{Disk, Simulation};
//! use runtime::{AlignedBuf, BLOCK_BYTES, Durability, File, OpenMode, dir};
//! use std::path::Path;
//!
//! async fn write_two_blocks() -> std::io::Result<()> {
//!     let file = File::open(Path::new("/log"), OpenMode::CreateNew).await?;
//!     dir::sync_dir(Path::new("/")).await?; // without it the file itself may be lost
//!     let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
//!     block.fill(1);
//!     let block = block.freeze();
//!     file.write_at(0, block.clone(), Durability::DataSync).await?;
//!     file.write_at(BLOCK_BYTES as u64, block, Durability::Buffered).await
//! }
//!
//! for crash_point in 0.. {
//!     let disk = Disk::new();
//!     disk.crash_after(crash_point); // that many operations end; the next one and the power do not
//!     let outcome = Simulation::new(7).disk(&disk).run(write_two_blocks());
//!     let finished = !outcome.is_crashed();
//!     let after = disk.crash(crash_point); // the second seed chooses what is lost
//!     let log = after.read(Path::new("/log"));
//!     if finished {
//!         assert_eq!(log.unwrap()[..BLOCK_BYTES], [1; BLOCK_BYTES]);
//!         break;
//!     }
//! }
//! ```
//!
//! [`Outcome::value`] gives the program's result and panics, with the reason, if there is none: the
//! disk crashed, or nothing could run any more. A run also panics if any task panicked, unless
//! [`Simulation::allow_panics`] says that this is expected.

pub mod disk;
mod network;
#[cfg(test)]
mod network_tests;
mod random;
mod simulation;
#[cfg(test)]
mod tests;
mod world;

pub use disk::Disk;
pub use network::reset_connections;
pub use random::Random;
pub use simulation::{End, Outcome, Simulation};

pub(crate) use disk::SimFile;
pub(crate) use network::{SimListener, SimStream};
pub(crate) use world::{World, current, with_current};
