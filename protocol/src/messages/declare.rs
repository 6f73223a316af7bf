//! `message!`: one declaration of a message gives its encoding in every version.
//!
//! ```text
//! message! {
//!     ThingRequest<'a>, versions 1..=4, flexible 3;
//!
//!     /// The root, named above with the versions that exist and the first with compact types.
//!     pub struct ThingRequest<'a> {
//!         /// In every version.
//!         pub parts: Vec<Part<'a>> => (0..),
//!         /// In versions 2 and 3; may be null in 3.
//!         pub rack: Option<Cow<'a, str>> => (2..=3, nullable 3..),
//!         /// A tagged field; −1 if it is absent.
//!         pub epoch: i32 => (3.., tag 0, default -1; ignorable),
//!     }
//!
//!     /// Structures inside the root follow it.
//!     pub struct Part<'a> { … }
//! }
//! ```
//!
//! For each field, in the order of the wire:
//! - the versions that have it. In other versions decoding gives the default;
//! - `nullable`: versions in which an `Option` may be null;
//! - `tag`: the field is one of the tagged fields after the others, left out when it is the default;
//! - `default`: the value of a field that is absent (otherwise the type's own default: zero, empty,
//!   or `None`);
//! - `ignorable`: encoding a version without the field drops its value. Without this word, a value
//!   other than the default is an error there, because the receiver would misunderstand the rest.
//!
//! Every structure gets `Debug`, `Clone`, `PartialEq`, `Default`; the root gets `decode`, `encode`,
//! `VERSIONS`, `FIRST_FLEXIBLE`.
//!
//! Invariants: I1 the fields stand in the order of Kafka's message definition, since that is the
//! order of the bytes. I2 tags of a structure ascend.
//! Source: Kafka's message definitions, whose vocabulary this keeps; KIP-482.

/// Declares one message with the structures inside it; see the [module](self).
macro_rules! message {
    (
        $root:ident $(<$root_life:lifetime>)?, versions $versions:expr $(, flexible $flexible:literal)?;
        $($structures:tt)*
    ) => {
        impl $(<$root_life>)? $root $(<$root_life>)? {
            /// Versions in which this message exists.
            pub const VERSIONS: std::ops::RangeInclusive<i16> = $versions;

            /// First version with compact types and tagged fields; `i16::MAX` if there is none.
            pub const FIRST_FLEXIBLE: i16 = message!(@or [$($flexible)?] i16::MAX);

            fn format(version: i16) -> Option<$crate::primitives::wire::Format> {
                let flexible = version >= Self::FIRST_FLEXIBLE;
                Self::VERSIONS
                    .contains(&version)
                    .then_some($crate::primitives::wire::Format { version, flexible })
            }

            /// Reads the message as `version` has it; bytes after it are left to the caller.
            ///
            /// # Errors
            /// [`DecodeError`](crate::primitives::DecodeError): the bytes are no such message, or
            /// the version does not exist.
            pub fn decode(
                decoder: &mut message!(@decoder $($root_life)?),
                version: i16,
            ) -> Result<Self, $crate::primitives::DecodeError> {
                let Some(format) = Self::format(version) else {
                    let message = stringify!($root);
                    return Err($crate::primitives::DecodeError::UnsupportedVersion {
                        message,
                        version,
                    });
                };
                $crate::primitives::wire::Wire::decode(decoder, format)
            }

            /// Writes the message as `version` has it.
            ///
            /// What cannot be said in that version is an error that the encoder keeps
            /// ([`Encoder::finish`](crate::primitives::Encoder::finish)).
            pub fn encode(&self, encoder: &mut $crate::primitives::Encoder, version: i16) {
                match Self::format(version) {
                    Some(format) => {
                        $crate::primitives::wire::Wire::encode(self, encoder, format);
                    }
                    None => encoder.fail($crate::primitives::EncodeError::UnsupportedVersion {
                        message: stringify!($root),
                        version,
                    }),
                }
            }
        }

        message! { @structures $($structures)* }
    };

    (@structures $(
        $(#[$doc:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $(
                $(#[$field_doc:meta])*
                pub $field:ident: $type:ty => (
                    $versions:expr
                    $(, nullable $nullable:expr)?
                    $(, tag $tag:literal)?
                    $(, default $default:expr)?
                    $(; $ignorable:ident)?
                ),
            )*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                Self { $($field: message!(@or [$($default)?] Default::default()),)* }
            }
        }

        impl<'a> $crate::primitives::wire::Wire<'a> for $name $(<$life>)? {
            fn decode(
                decoder: &mut $crate::primitives::Decoder<'a>,
                format: $crate::primitives::wire::Format,
            ) -> Result<Self, $crate::primitives::DecodeError> {
                #[allow(unused_mut, reason = "changed only by tagged fields")]
                let mut value = Self {
                    $($field: message!(
                        @untagged [$($tag)?] ($versions).contains(&format.version),
                        message!(@read decoder, format, $name.$field, [$($nullable)?]),
                        message!(@or [$($default)?] Default::default())
                    ),)*
                };
                if format.flexible {
                    decoder.get_tagged_fields(|tag, decoder| {
                        let _ = (tag, &decoder); // Not used by structures without tagged fields.
                        $(message!(
                            @read_tagged [$($tag)?] tag, ($versions).contains(&format.version),
                            value.$field,
                            message!(@read decoder, format, $name.$field, [$($nullable)?])
                        );)*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn encode(
                &self,
                encoder: &mut $crate::primitives::Encoder,
                format: $crate::primitives::wire::Format,
            ) {
                $(
                    message!(
                        @write [$($tag)?] ($versions).contains(&format.version),
                        encoder, format, $name, self.$field, [$($nullable)?]
                    );
                    message!(
                        @refuse [$($ignorable)?] ($versions).contains(&format.version),
                        encoder, format, $name.$field,
                        message!(@is_set self.$field, [$($default)?])
                    );
                )*
                if format.flexible {
                    let count = 0 $(+ message!(
                        @count_tagged [$($tag)?] ($versions).contains(&format.version),
                        message!(@is_set self.$field, [$($default)?])
                    ))*;
                    encoder.put_unsigned_varint(count);
                    $(message!(
                        @write_tagged [$($tag)?] ($versions).contains(&format.version),
                        message!(@is_set self.$field, [$($default)?]),
                        encoder, format, self.$field
                    );)*
                }
            }
        }

        #[cfg(test)]
        impl $(<$life>)? $crate::messages::tests::sample::Sample for $name $(<$life>)? {
            fn sample(
                generator: &mut $crate::messages::tests::sample::Generator,
                format: $crate::primitives::wire::Format,
            ) -> Self {
                let _ = (&generator, format); // Not used by structures without fields.
                Self {
                    $($field: if ($versions).contains(&format.version) {
                        message!(@sample generator, format, [$($nullable)?])
                    } else {
                        message!(@or [$($default)?] Default::default())
                    },)*
                }
            }
        }

        impl<'a> $crate::primitives::wire::Nullable<'a> for $name $(<$life>)? {
            fn decode_nullable(
                decoder: &mut $crate::primitives::Decoder<'a>,
                format: $crate::primitives::wire::Format,
            ) -> Result<Option<Self>, $crate::primitives::DecodeError> {
                let present = decoder.get_i8()? >= 0;
                present
                    .then(|| $crate::primitives::wire::Wire::decode(decoder, format))
                    .transpose()
            }

            fn encode_nullable(
                value: Option<&Self>,
                encoder: &mut $crate::primitives::Encoder,
                format: $crate::primitives::wire::Format,
            ) {
                encoder.put_i8(if value.is_some() { 1 } else { -1 });
                if let Some(value) = value {
                    $crate::primitives::wire::Wire::encode(value, encoder, format);
                }
            }
        }
    )*};

    (@decoder) => { $crate::primitives::Decoder<'_> };
    (@decoder $life:lifetime) => { $crate::primitives::Decoder<$life> };

    // The first of two expressions that is there.
    (@or [] $otherwise:expr) => { $otherwise };
    (@or [$given:expr] $otherwise:expr) => { $given };

    // Whether a field differs from what it is when it is absent.
    (@is_set $self:ident.$field:ident, [$($default:expr)?]) => {
        $crate::primitives::wire::differs(
            &$self.$field,
            message!(@or [$($default)?] Default::default()),
        )
    };

    // Reading, field by field: in the place of a tagged field there is nothing.
    (@untagged [] $in_version:expr, $read:expr, $default:expr) => {
        if $in_version { $read } else { $default }
    };
    (@untagged [$tag:literal] $in_version:expr, $read:expr, $default:expr) => { $default };

    (@read_tagged [] $given:ident, $in_version:expr, $place:expr, $read:expr) => {};
    (@read_tagged [$tag:literal] $given:ident, $in_version:expr, $place:expr, $read:expr) => {
        if $given == $tag && $in_version {
            $place = $read;
            return Ok(true);
        }
    };

    (@read $decoder:ident, $format:ident, $name:ident.$field:ident, []) => {
        $crate::primitives::wire::Wire::decode($decoder, $format)?
    };
    (@read $decoder:ident, $format:ident, $name:ident.$field:ident, [$nullable:expr]) => {{
        let value: Option<_> = $crate::primitives::wire::Wire::decode($decoder, $format)?;
        if value.is_none() && !($nullable).contains(&$format.version) {
            return Err($crate::primitives::DecodeError::NullInVersion {
                message: stringify!($name),
                field: stringify!($field),
                version: $format.version,
            });
        }
        value
    }};

    // Writing, field by field.
    (@write [$tag:literal] $($rest:tt)*) => {};
    (
        @write [] $in_version:expr, $encoder:ident, $format:ident, $name:ident,
        $self:ident.$field:ident, []
    ) => {
        if $in_version {
            $crate::primitives::wire::Wire::encode(&$self.$field, $encoder, $format);
        }
    };
    (
        @write [] $in_version:expr, $encoder:ident, $format:ident, $name:ident,
        $self:ident.$field:ident, [$nullable:expr]
    ) => {
        if $in_version {
            if $self.$field.is_none() && !($nullable).contains(&$format.version) {
                $encoder.fail($crate::primitives::EncodeError::NullInVersion {
                    message: stringify!($name),
                    field: stringify!($field),
                    version: $format.version,
                });
            }
            $crate::primitives::wire::Wire::encode(&$self.$field, $encoder, $format);
        }
    };

    (
        @refuse [ignorable] $in_version:expr, $encoder:ident, $format:ident,
        $name:ident.$field:ident, $is_set:expr
    ) => {};
    (
        @refuse [] $in_version:expr, $encoder:ident, $format:ident,
        $name:ident.$field:ident, $is_set:expr
    ) => {
        if !$in_version && $is_set {
            $encoder.fail($crate::primitives::EncodeError::FieldNotInVersion {
                message: stringify!($name),
                field: stringify!($field),
                version: $format.version,
            });
        }
    };

    (@count_tagged [] $in_version:expr, $is_set:expr) => { 0 };
    (@count_tagged [$tag:literal] $in_version:expr, $is_set:expr) => {
        u32::from($in_version && $is_set)
    };

    (@write_tagged [] $($rest:tt)*) => {};
    (
        @write_tagged [$tag:literal] $in_version:expr, $is_set:expr, $encoder:ident,
        $format:ident, $self:ident.$field:ident
    ) => {
        if $in_version && $is_set {
            $encoder.put_tagged_field($tag, |encoder| {
                $crate::primitives::wire::Wire::encode(&$self.$field, encoder, $format);
            });
        }
    };

    // A value for tests that the version can say.
    (@sample $generator:ident, $format:ident, []) => {
        $crate::messages::tests::sample::Sample::sample($generator, $format)
    };
    (@sample $generator:ident, $format:ident, [$nullable:expr]) => {
        if ($nullable).contains(&$format.version) {
            $crate::messages::tests::sample::Sample::sample($generator, $format)
        } else {
            Some($crate::messages::tests::sample::Sample::sample($generator, $format))
        }
    };
}

pub(crate) use message;
