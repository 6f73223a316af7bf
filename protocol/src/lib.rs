//! Kafka's wire protocol: primitives, one file per API, error codes, record batch v2.
//!
//! Place: the lowest crate; knows no sockets, no clocks, no partitions. The broker decodes requests
//! and encodes responses with it, clients and tests the reverse; storage and validation view record
//! batches through [`record_batch`].
//! Invariants: I1 no input makes a decoder panic. I2 what a decoder allocates is bounded by the
//! bytes that it was given, or by a limit that its caller named. I3 nothing here copies record
//! bytes unless its name says so.
//! Source: Kafka protocol guide; field by field, Apache Kafka 4.3.1.

#[cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod api_key;
pub mod compression;
pub mod crc32c;
#[cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod error_code;
#[cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod header;
#[cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod messages;
#[cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod primitives;
pub mod record_batch;

pub use api_key::{ApiKey, SERVED, ServedApi};
pub use error_code::ErrorCode;
pub use primitives::{DecodeError, Decoder, EncodeError, Encoder, Records, Uuid};
