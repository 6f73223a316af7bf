//! Tests of the journal on the simulated disk. `STREAMBUS_SEEDS` (default 1) multiplies the random ones.

mod crash;
mod damage;
mod failures;
mod format;
mod lifecycle;
mod model;
mod recycling;
mod room;
mod world;
