//! The broker process as a library; `main.rs` is its binary.
//!
//! Modules in the order of use: each may use only those before it (`tests/tidy.rs` checks it).

pub mod config;
pub mod control;
pub mod coordinator;
pub mod handlers;
pub mod http;
pub mod metrics;
pub mod net;
pub mod node;
pub mod offline;
pub mod partition;
