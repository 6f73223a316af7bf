//! Topic ids, directory ids and cluster ids: 128 bits, written as 22 letters.
//!
//! Source: KIP-516; the text form is base64url (RFC 4648 §5) without padding, as Kafka's tools
//! print and read it.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Letters in the text form.
const TEXT_LETTERS: usize = 22;

/// A 128-bit identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// A text that is not the base64url form of 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 letters of base64url without padding")]
pub struct ParseUuidError;

impl Uuid {
    /// All zero bits: "no id" in every message.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Self::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits and four zero bits make 22 groups of six, highest first.
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0; TEXT_LETTERS];
        for (index, letter) in text.iter_mut().enumerate() {
            let group = match 122_usize.checked_sub(6 * index) {
                Some(shift) => (bits >> shift) & 0x3f,
                None => (bits << 4) & 0x3f,
            };
            *letter = ALPHABET.get(group as usize).copied().unwrap_or_default();
        }
        formatter.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != TEXT_LETTERS {
            return Err(ParseUuidError);
        }
        let mut bits = 0_u128;
        for (index, letter) in text.bytes().enumerate() {
            let group = ALPHABET.iter().position(|known| *known == letter);
            let group = group.ok_or(ParseUuidError)? as u128;
            if index + 1 < TEXT_LETTERS {
                bits = bits << 6 | group;
            } else if group.trailing_zeros() >= 4 {
                bits = bits << 2 | group >> 4;
            } else {
                return Err(ParseUuidError); // Bits after the 128th.
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_kafkas() {
        // From `org.apache.kafka.common.Uuid.toString` of 4.3.1.
        let check = |bytes: [u8; 16], text: &str| {
            assert_eq!(Uuid(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Uuid(bytes)));
        };
        check([0; 16], "AAAAAAAAAAAAAAAAAAAAAA");
        check([255; 16], "_____________________w");
        check(
            std::array::from_fn(|index| index as u8),
            "AAECAwQFBgcICQoLDA0ODw",
        );
        check(1_u128.to_be_bytes(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "AAAA",
            "_____________________x",
            "AAECAwQFBgcICQoLDA0OD=",
            "é",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
