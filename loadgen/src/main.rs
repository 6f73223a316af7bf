//! `loadgen`: open-loop load generator and verifier for Kafka-speaking brokers.

fn main() {}
