//! What stands before every request and every response.
//!
//! Place: the network layer reads a request header before it knows the message; handlers write the
//! response header before the message.
//! Invariants: I1 an `ApiVersions` response never has tagged fields in its header, whatever the
//! version, because the client does not know yet what the broker speaks (KIP-511). I2 the client id
//! is never compact, so that a broker can read the header of any `ApiVersions` request.
//! Source: Kafka protocol guide, "Protocol Request/Response Headers".

use crate::api_key::ApiKey;
use crate::primitives::{DecodeError, Decoder, Encoder};

/// The header of a request, versions 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Key of the API, known or not.
    pub api_key: i16,
    /// Version of the request, served or not.
    pub api_version: i16,
    /// Number that the response repeats.
    pub correlation_id: i32,
    /// Name that the client gives itself.
    pub client_id: Option<&'a str>,
}

/// Whether request headers of this API and version end with tagged fields.
fn is_flexible(api_key: i16, api_version: i16) -> bool {
    ApiKey::from_i16(api_key).is_some_and(|key| key.is_flexible(api_version))
}

impl<'a> RequestHeader<'a> {
    /// Reads a header; of an unknown API, everything but what may follow the client id.
    pub fn decode(decoder: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let api_key = decoder.get_i16()?;
        let api_version = decoder.get_i16()?;
        let correlation_id = decoder.get_i32()?;
        let client_id = decoder.get_nullable_string(false)?;
        if is_flexible(api_key, api_version) {
            decoder.skip_tagged_fields()?;
        }
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
        })
    }

    /// Writes the header.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.put_i16(self.api_key);
        encoder.put_i16(self.api_version);
        encoder.put_i32(self.correlation_id);
        encoder.put_nullable_string(self.client_id, false);
        if is_flexible(self.api_key, self.api_version) {
            encoder.put_unsigned_varint(0);
        }
    }
}

/// Whether response headers of this API and version end with tagged fields (I1).
fn is_response_flexible(api_key: i16, api_version: i16) -> bool {
    api_key != ApiKey::ApiVersions.as_i16() && is_flexible(api_key, api_version)
}

/// Writes the header of a response to a request of this API and version.
pub fn encode_response_header(
    encoder: &mut Encoder,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
) {
    encoder.put_i32(correlation_id);
    if is_response_flexible(api_key, api_version) {
        encoder.put_unsigned_varint(0);
    }
}

/// Reads the header of a response to a request of this API and version: its correlation id.
pub fn decode_response_header(
    decoder: &mut Decoder<'_>,
    api_key: i16,
    api_version: i16,
) -> Result<i32, DecodeError> {
    let correlation_id = decoder.get_i32()?;
    if is_response_flexible(api_key, api_version) {
        decoder.skip_tagged_fields()?;
    }
    Ok(correlation_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: RequestHeader<'_>, expected: &[u8]) {
        let mut encoder = Encoder::new();
        header.encode(&mut encoder);
        assert_eq!(encoder.into_parts().0, expected);
        let mut decoder = Decoder::new(expected);
        assert_eq!(RequestHeader::decode(&mut decoder), Ok(header));
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn requests_have_tagged_fields_from_the_first_flexible_version() {
        let header = |api_key, api_version, client_id| RequestHeader {
            api_key,
            api_version,
            correlation_id: 5,
            client_id,
        };
        check(header(0, 8, Some("c")), b"\0\0\0\x08\0\0\0\x05\0\x01c");
        check(header(0, 9, Some("c")), b"\0\0\0\x09\0\0\0\x05\0\x01c\0");
        check(header(18, 3, None), b"\0\x12\0\x03\0\0\0\x05\xff\xff\0");
        check(header(18, 99, None), b"\0\x12\0\x63\0\0\0\x05\xff\xff\0");
        check(header(47, 0, None), b"\0\x2f\0\0\0\0\0\x05\xff\xff");
        check(header(999, 9, None), b"\x03\xe7\0\x09\0\0\0\x05\xff\xff");
    }

    #[test]
    fn responses_have_tagged_fields_but_for_api_versions() {
        let check = |api_key, api_version, expected: &[u8]| {
            let mut encoder = Encoder::new();
            encode_response_header(&mut encoder, api_key, api_version, 5);
            assert_eq!(encoder.into_parts().0, expected);
            let mut decoder = Decoder::new(expected);
            assert_eq!(
                decode_response_header(&mut decoder, api_key, api_version),
                Ok(5)
            );
            assert_eq!(decoder.finish(), Ok(()));
        };
        check(0, 8, b"\0\0\0\x05");
        check(0, 9, b"\0\0\0\x05\0");
        check(18, 4, b"\0\0\0\x05");
        check(60, 0, b"\0\0\0\x05\0");
    }
}
