//! Tests of the journal on the simulated disk.
