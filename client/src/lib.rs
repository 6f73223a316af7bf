//! A small Kafka client over the protocol crate: connections, metadata, produce, fetch.
