//! The record batches of one partition in a Produce request or a Fetch response.

use std::borrow::Cow;

/// Record batches as they are on the wire, not looked into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Records<'a> {
    /// No records, said as null.
    #[default]
    Null,
    /// The bytes of the batches, one after the other.
    Inline(Cow<'a, [u8]>),
    /// Batches that are not in the message's own bytes.
    ///
    /// Encoding writes only their length and notes the place
    /// ([`Encoder::into_parts`](super::Encoder::into_parts)); whoever sends the message sends
    /// exactly so many bytes there. Decoding never gives this.
    External {
        /// Length of the batches.
        bytes: usize,
    },
}

impl Records<'_> {
    /// The bytes, unless they are null or elsewhere.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Inline(bytes) => Some(bytes),
            Self::Null | Self::External { .. } => None,
        }
    }

    /// Length of the batches; zero for null.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Inline(bytes) => bytes.len(),
            Self::External { bytes } => *bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Records<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Inline(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Records<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Inline(Cow::Owned(bytes))
    }
}
