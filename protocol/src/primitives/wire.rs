//! How each Rust type of a message field looks on the wire.
//!
//! Place: the [`message!`](crate::messages) macro calls these for every field; structures in
//! messages get theirs from the macro. A nullable field is an `Option`.

use std::borrow::Cow;

use super::records::Records;
use super::{DecodeError, Decoder, Encoder, Uuid};

/// What the encoding of a field depends on besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Version of the message.
    pub version: i16,
    /// Whether that version has compact types and tagged fields.
    pub flexible: bool,
}

/// A type of message fields.
pub trait Wire<'a>: Sized {
    /// Reads a value.
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError>;

    /// Writes the value.
    fn encode(&self, encoder: &mut Encoder, format: Format);
}

/// A type that has a null on the wire.
pub trait Nullable<'a>: Wire<'a> {
    /// Reads a value or null.
    fn decode_nullable(
        decoder: &mut Decoder<'a>,
        format: Format,
    ) -> Result<Option<Self>, DecodeError>;

    /// Writes a value or null.
    fn encode_nullable(value: Option<&Self>, encoder: &mut Encoder, format: Format);
}

impl<'a, T: Nullable<'a>> Wire<'a> for Option<T> {
    #[inline]
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError> {
        T::decode_nullable(decoder, format)
    }

    #[inline]
    fn encode(&self, encoder: &mut Encoder, format: Format) {
        T::encode_nullable(self.as_ref(), encoder, format);
    }
}

/// Whether a field has another value than the one it has when it is absent.
#[inline]
#[allow(
    clippy::needless_pass_by_value,
    reason = "the default is made for this comparison"
)]
pub(crate) fn differs<T: PartialEq>(value: &T, default: T) -> bool {
    *value != default
}

macro_rules! fixed_size {
    ($($type:ty: $get:ident, $put:ident;)*) => {$(
        impl<'a> Wire<'a> for $type {
            #[inline]
            fn decode(decoder: &mut Decoder<'a>, _: Format) -> Result<Self, DecodeError> {
                decoder.$get()
            }

            #[inline]
            fn encode(&self, encoder: &mut Encoder, _: Format) {
                encoder.$put(*self);
            }
        }
    )*};
}

fixed_size! {
    bool: get_bool, put_bool;
    i8: get_i8, put_i8;
    i16: get_i16, put_i16;
    i32: get_i32, put_i32;
    i64: get_i64, put_i64;
    Uuid: get_uuid, put_uuid;
}

impl<'a> Wire<'a> for Cow<'a, str> {
    #[inline]
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError> {
        decoder.get_string(format.flexible).map(Cow::Borrowed)
    }

    #[inline]
    fn encode(&self, encoder: &mut Encoder, format: Format) {
        encoder.put_string(self, format.flexible);
    }
}

impl<'a> Nullable<'a> for Cow<'a, str> {
    #[inline]
    fn decode_nullable(
        decoder: &mut Decoder<'a>,
        format: Format,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(decoder
            .get_nullable_string(format.flexible)?
            .map(Cow::Borrowed))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, encoder: &mut Encoder, format: Format) {
        encoder.put_nullable_string(value.map(AsRef::as_ref), format.flexible);
    }
}

impl<'a> Wire<'a> for Cow<'a, [u8]> {
    #[inline]
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError> {
        decoder.get_bytes(format.flexible).map(Cow::Borrowed)
    }

    #[inline]
    fn encode(&self, encoder: &mut Encoder, format: Format) {
        encoder.put_bytes(self, format.flexible);
    }
}

impl<'a> Nullable<'a> for Cow<'a, [u8]> {
    #[inline]
    fn decode_nullable(
        decoder: &mut Decoder<'a>,
        format: Format,
    ) -> Result<Option<Self>, DecodeError> {
        Ok(decoder
            .get_nullable_bytes(format.flexible)?
            .map(Cow::Borrowed))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, encoder: &mut Encoder, format: Format) {
        encoder.put_nullable_bytes(value.map(AsRef::as_ref), format.flexible);
    }
}

/// Records are nullable wherever they appear.
impl<'a> Wire<'a> for Records<'a> {
    #[inline]
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError> {
        let bytes = decoder.get_nullable_bytes(format.flexible)?;
        Ok(bytes.map_or(Self::Null, Self::from))
    }

    #[inline]
    fn encode(&self, encoder: &mut Encoder, format: Format) {
        match self {
            Self::Null => encoder.put_nullable_bytes(None, format.flexible),
            Self::Inline(bytes) => encoder.put_bytes(bytes, format.flexible),
            Self::External { bytes } => encoder.put_external_bytes(*bytes, format.flexible),
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    #[inline]
    fn decode(decoder: &mut Decoder<'a>, format: Format) -> Result<Self, DecodeError> {
        let at = decoder.position();
        Self::decode_nullable(decoder, format)?.ok_or(DecodeError::UnexpectedNull { at })
    }

    #[inline]
    fn encode(&self, encoder: &mut Encoder, format: Format) {
        Self::encode_nullable(Some(self), encoder, format);
    }
}

impl<'a, T: Wire<'a>> Nullable<'a> for Vec<T> {
    fn decode_nullable(
        decoder: &mut Decoder<'a>,
        format: Format,
    ) -> Result<Option<Self>, DecodeError> {
        let Some(count) = decoder.get_array_count(format.flexible, size_of::<T>())? else {
            return Ok(None);
        };
        let mut elements = decoder.vec_for(count);
        for _ in 0..count {
            let element = T::decode(decoder, format)?;
            Decoder::push(&mut elements, count, element);
        }
        Ok(Some(elements))
    }

    fn encode_nullable(value: Option<&Self>, encoder: &mut Encoder, format: Format) {
        encoder.put_length(value.map(Vec::len), format.flexible);
        for element in value.into_iter().flatten() {
            element.encode(encoder, format);
        }
    }
}
