//! Cluster decisions as pure state machines: metadata, controller rules, consumer groups.
