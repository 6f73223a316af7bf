//! Cluster decisions as pure state machines: metadata, controller rules, consumer groups.

pub mod group;
