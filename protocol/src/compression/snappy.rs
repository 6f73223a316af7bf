//! Snappy as Kafka's clients frame it: the xerial stream (Java, franz-go, kafkajs) or one raw block
//! (librdkafka).
//!
//! ```text
//! xerial: 0x82 "SNAPPY" 0x00, version i32, compatible version i32, then (length i32, raw block)*
//! ```
//! Limits: a raw block announces its length and must be decoded whole. The announcement is believed
//! only up to the reader's own limit and up to what the block's input can expand to at most, so a
//! few bytes cannot claim gigabytes.
//! Source: the snappy format description; xerial snappy-java's stream format.

use super::{Codec, CompressionError};

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Java's default block: small enough for every reader's window.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy element makes at most 64 bytes out of three, 21 to 1; rounded up.
const EXPANSION_MAX: usize = 32;

/// Reads a snappy stream block by block.
pub(super) struct SnappyReader<'a> {
    input: &'a [u8],
    is_framed: bool,
    bytes_max: usize,
    block: Vec<u8>,
    /// How much of `block` was handed out.
    taken: usize,
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn corrupt(detail: impl ToString) -> CompressionError {
    CompressionError::corrupt(Codec::Snappy, &detail)
}

impl<'a> SnappyReader<'a> {
    pub(super) fn open(
        input: &'a [u8],
        bytes_max: usize,
    ) -> Result<SnappyReader<'a>, CompressionError> {
        let is_framed = input.starts_with(&XERIAL_MAGIC);
        let input = if is_framed {
            input
                .get(XERIAL_HEADER_BYTES..)
                .ok_or_else(|| corrupt("header cut short"))?
        } else {
            input
        };
        Ok(SnappyReader {
            input,
            is_framed,
            bytes_max,
            block: Vec::new(),
            taken: 0,
        })
    }

    pub(super) fn read(&mut self, window: &mut [u8]) -> Result<usize, CompressionError> {
        // Empty blocks are legal; each pass consumes input, so the loop ends.
        while self.taken == self.block.len() {
            if self.input.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let rest = self.block.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(window.len());
        if let (Some(to), Some(from)) = (window.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        Ok(count)
    }

    fn next_block(&mut self) -> Result<(), CompressionError> {
        let raw = if self.is_framed {
            self.next_framed()?
        } else {
            std::mem::take(&mut self.input)
        };
        let bytes = snap::raw::decompress_len(raw).map_err(corrupt)?;
        if bytes > self.bytes_max {
            return Err(CompressionError::TooLarge {
                limit: self.bytes_max,
            });
        }
        if bytes > raw.len().saturating_mul(EXPANSION_MAX) {
            return Err(corrupt("claims more than its input can hold"));
        }
        self.taken = 0;
        self.block.clear();
        self.block.resize(bytes, 0);
        let written = snap::raw::Decoder::new()
            .decompress(raw, &mut self.block)
            .map_err(corrupt)?;
        self.block.truncate(written);
        Ok(())
    }

    /// Cuts the next length-prefixed block off the input. Streams may be concatenated: a length
    /// that reads as the magic starts another header.
    fn next_framed(&mut self) -> Result<&'a [u8], CompressionError> {
        if self.input.starts_with(&XERIAL_MAGIC) {
            self.input = self
                .input
                .get(XERIAL_HEADER_BYTES..)
                .ok_or_else(|| corrupt("header cut short"))?;
        }
        let (length, rest) = self
            .input
            .split_first_chunk::<4>()
            .ok_or_else(|| corrupt("block length cut short"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(corrupt)?;
        let (raw, rest) = rest
            .split_at_checked(length)
            .ok_or_else(|| corrupt("block cut short"))?;
        self.input = rest;
        Ok(raw)
    }
}

/// Appends `plain` as a xerial stream.
pub(super) fn compress(plain: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
    output.extend_from_slice(&XERIAL_MAGIC);
    output.extend_from_slice(&1_i32.to_be_bytes());
    output.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(BLOCK_BYTES) {
        let length_at = output.len();
        let body_at = length_at + 4;
        output.resize(body_at + snap::raw::max_compress_len(block.len()), 0);
        let body = output.get_mut(body_at..).unwrap_or_default();
        let written = encoder.compress(block, body).map_err(corrupt)?;
        output.truncate(body_at + written);
        let length = i32::try_from(written).map_err(corrupt)?;
        if let Some(prefix) = output.get_mut(length_at..body_at) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}
