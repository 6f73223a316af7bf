//! Every API in every version: against bytes of Apache Kafka, against another codec, against
//! hostile bytes.

mod golden;
mod hostile;
mod oracle;
pub(super) mod sample;

use super::{Request, Response};
use crate::api_key::{ApiKey, SERVED};
use crate::primitives::wire::Format;
use crate::primitives::{DecodeError, Decoder, Encoder};
use sample::Generator;

/// A message of either direction.
#[derive(Debug, Clone, PartialEq)]
enum AnyMessage<'a> {
    Request(Request<'a>),
    Response(Response<'a>),
}

/// Which message of an API, in which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    key: ApiKey,
    is_request: bool,
    version: i16,
}

impl Kind {
    /// Every message in every version that can be decoded.
    fn all() -> Vec<Self> {
        let mut kinds = Vec::new();
        for api in SERVED {
            for version in api.min_version..=api.max_version {
                if api.accepts(version) {
                    kinds.push(Self {
                        key: api.key,
                        is_request: true,
                        version,
                    });
                    kinds.push(Self {
                        key: api.key,
                        is_request: false,
                        version,
                    });
                }
            }
        }
        kinds
    }

    fn default_message(self) -> AnyMessage<'static> {
        if self.is_request {
            AnyMessage::Request(Request::default_of(self.key))
        } else {
            AnyMessage::Response(Response::default_of(self.key))
        }
    }

    fn sample(self, generator: &mut Generator) -> AnyMessage<'static> {
        let flexible = self.key.is_flexible(self.version);
        let format = Format {
            version: self.version,
            flexible,
        };
        if self.is_request {
            AnyMessage::Request(Request::sample(generator, self.key, format))
        } else {
            AnyMessage::Response(Response::sample(generator, self.key, format))
        }
    }

    /// Reads a message; bytes after it are an error.
    fn decode(self, bytes: &[u8]) -> Result<AnyMessage<'_>, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let message = if self.is_request {
            Request::decode(self.key, &mut decoder, self.version).map(AnyMessage::Request)?
        } else {
            Response::decode(self.key, &mut decoder, self.version).map(AnyMessage::Response)?
        };
        decoder.finish()?;
        Ok(message)
    }

    fn encode(self, message: &AnyMessage<'_>) -> Vec<u8> {
        let mut encoder = Encoder::new();
        match message {
            AnyMessage::Request(request) => request.encode(&mut encoder, self.version),
            AnyMessage::Response(response) => response.encode(&mut encoder, self.version),
        }
        match encoder.finish() {
            Ok((bytes, _)) => bytes,
            Err(error) => panic!("{self:?}: {error}"),
        }
    }
}
