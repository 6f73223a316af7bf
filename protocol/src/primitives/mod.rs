//! The bytes below every message: integers, varints, strings, arrays, tagged fields.
//!
//! Place: used by [`crate::messages`] through [`message!`](crate::messages), by [`crate::header`],
//! and by whoever reads or writes Kafka's encodings outside a message (group metadata, offsets).
//! Invariants: I1 a [`Decoder`] never panics and never reads outside its frame. I2 what it makes
//! its callers allocate is bounded by the frame's own length ([`decoder::MEMORY_FACTOR`]). I3 an
//! [`Encoder`] copies no record bytes that are marked as external.
//! Source: Kafka protocol guide, "Protocol Primitive Types"; KIP-482 for compact types and tagged
//! fields.

pub mod decoder;
pub mod encoder;
pub mod error;
pub mod records;
pub mod uuid;
pub mod wire;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::{DecodeError, EncodeError};
pub use records::Records;
pub use uuid::Uuid;
