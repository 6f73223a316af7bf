//! What can go wrong between this client and a broker.

use std::io;
use std::time::Duration;

use protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};
use thiserror::Error;

/// A failed call or connection.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The broker closed the connection.
    #[error("the broker closed the connection with {in_flight} requests in flight")]
    Closed {
        /// Requests without an answer.
        in_flight: usize,
    },
    /// Nothing came for too long.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// A response cannot be decoded.
    #[error("a response of {} v{version} cannot be decoded: {source}", key.name())]
    Decode {
        /// The API.
        key: ApiKey,
        /// The version of the request.
        version: i16,
        /// What the decoder said.
        #[source]
        source: DecodeError,
    },
    /// A request cannot be said in the version the broker speaks.
    #[error("a request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A response's length is negative or beyond `response_bytes_max`.
    #[error("a response claims {bytes} bytes, the limit is {limit}")]
    FrameInvalid {
        /// The length prefix.
        bytes: i32,
        /// `response_bytes_max`.
        limit: usize,
    },
    /// A response answers no request, or not the oldest one.
    #[error("a response has correlation id {found}, expected {expected:?}")]
    OutOfStep {
        /// Correlation id of the response.
        found: i32,
        /// The oldest request's, if there is one.
        expected: Option<i32>,
    },
    /// Broker and client have no version of an API in common.
    #[error("the broker has no usable version of {}", key.name())]
    VersionMissing {
        /// The API.
        key: ApiKey,
    },
    /// The broker answered with an error code.
    #[error("{} was refused: {}{}", key.name(), error_name(*code), detail(message.as_deref()))]
    Refused {
        /// The API.
        key: ApiKey,
        /// The error code.
        code: i16,
        /// The broker's message, if it gave one.
        message: Option<String>,
    },
    /// The broker's answer does not contain what was asked for.
    #[error("the answer to {} lacks {what}", key.name())]
    Incomplete {
        /// The API.
        key: ApiKey,
        /// What is missing.
        what: String,
    },
}

impl ClientError {
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> ClientError {
        let context = context.into();
        move |source| ClientError::Io { context, source }
    }

    /// Turns an error code other than 0 into an error.
    pub(crate) fn check(key: ApiKey, code: i16, message: Option<&str>) -> Result<(), ClientError> {
        if code == ErrorCode::None as i16 {
            return Ok(());
        }
        Err(ClientError::Refused {
            key,
            code,
            message: message.map(str::to_owned),
        })
    }

    /// Whether connecting and asking again may help: the connection is gone, or the broker said so.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Io { .. } | ClientError::Closed { .. } | ClientError::TimedOut { .. } => {
                true
            }
            ClientError::Refused { code, .. } => {
                ErrorCode::from_i16(*code).is_some_and(ErrorCode::is_retriable)
            }
            ClientError::Decode { .. }
            | ClientError::Encode(_)
            | ClientError::FrameInvalid { .. }
            | ClientError::OutOfStep { .. }
            | ClientError::VersionMissing { .. }
            | ClientError::Incomplete { .. } => false,
        }
    }
}

fn error_name(code: i16) -> String {
    ErrorCode::from_i16(code).map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}

fn detail(message: Option<&str>) -> String {
    message.map(|text| format!(" ({text})")).unwrap_or_default()
}
