//! Cluster decisions as pure state machines: metadata, controller rules, consumer groups.

pub mod configs;
pub mod controller;
pub mod group;
pub mod metadata;
