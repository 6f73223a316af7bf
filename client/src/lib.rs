//! A small Kafka client over the protocol crate: connections, metadata, produce, fetch.
//!
//! Place: the load generator and tests that want to see every request; not a client for
//! applications (no linger, no rebalancing, no retries of its own).
//! Core: runs on any tokio runtime. A [`Connection`] is one socket with one owner and no task of its
//! own: its owner queues requests and receives responses, so that a request costs no hop.
//! Limits: `in_flight_max` requests and `response_bytes_max` of a frame for each connection.

mod cluster;
mod connection;
mod error;
mod frame;
mod requests;
mod topics;
mod versions;

pub use cluster::{Broker, Cluster, Partition, Topic};
pub use connection::{Connection, ConnectionOptions, EncodedRequest, Reply};
pub use error::ClientError;
pub use requests::{
    FetchOutcome, OffsetAt, ProduceAck, ProducerId, fetch_request, produce_acks, produce_request,
};
pub use topics::TopicSpec;
pub use versions::ApiRanges;
