//! The journal through its public face alone, whatever its files look like: crashes at every operation,
//! random programs, one damaged byte anywhere, disks without room. What knows the format is tested in
//! `storage/src/journal/tests`. `STREAMBUS_SEEDS` (default 1) multiplies the random ones.

#![allow(clippy::unwrap_used, reason = "tests")]

mod crash;
mod damage;
mod random;
mod room;
mod world;
