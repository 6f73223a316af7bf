//! What the controller decides: requests against an image become commands, or a refusal that says why.
//!
//! *Place*: `src/control` calls these with the authoritative image and makes the commands durable.
//! Nothing here changes an image. Ids are drawn by the caller, so that decisions stay deterministic.
//! *Source*: Kafka's controller rules for topics, partitions and configs.

mod configs;
mod topics;

pub use configs::{ConfigAlteration, alter_broker, alter_topic};
pub use topics::{
    NewTopic, Policy, add_partitions, check_request_total, create_topic, delete_topic,
    partitions_to_add, validate_topic_name,
};

use protocol::error_code::ErrorCode;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Code for the client.
    pub code: ErrorCode,
    /// What was wrong and what is allowed.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
