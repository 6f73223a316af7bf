//! Tests of the group machine, one file per event.
