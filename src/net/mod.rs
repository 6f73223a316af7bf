//! The Kafka listener: connections, frames, pipelining and order; frames go to a dispatcher it is given.
//!
//! Place: `node` starts a [`server::Server`] on every shard; `handlers` is the dispatcher.
//! It knows frames and their order, and nothing of APIs.

pub mod connection;
mod frames;
pub mod response;
pub mod server;
