//! Kafka's wire protocol: primitives, one file per API, error codes, record batch v2.
