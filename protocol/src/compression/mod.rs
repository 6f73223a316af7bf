//! The four codecs of record batches, in the framings Kafka's clients write.
//!
//! Place: called by `record_batch` (validation, record iteration, building); calls the codec crates.
//! Decompression is a stream ([`Decompressor`]) read through a small window, so that a batch is
//! checked without holding what it expands to; [`decompress`] gathers a stream into a buffer for
//! readers who want the records.
//! Limits: whoever reads a stream bounds the bytes taken from it (`decompressed_bytes_max`); no
//! buffer is allocated by a length that the data claims, but a raw snappy block, whose claim is
//! checked against what its input can possibly expand to.
//! Source: Kafka's record batch documentation; KIP-31, KIP-57 (lz4 framing), KIP-110 (zstd); the
//! xerial snappy stream format.

mod snappy;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use thiserror::Error;
use zstd::zstd_safe::{DCtx, ResetDirective};

use self::snappy::SnappyReader;

/// The compression codec named by the low three bits of a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Records as they are.
    #[default]
    None,
    /// A gzip member (RFC 1952).
    Gzip,
    /// Snappy: read in the xerial stream framing or as one raw block, written xerial framed.
    Snappy,
    /// The lz4 frame format.
    Lz4,
    /// A zstd frame.
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their ids.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec of an id (0 to 4), `None` for an id that Kafka does not define.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// The id in a batch's attributes.
    pub fn id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The name in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of a name as in Kafka's `compression.type`.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompressionError {
    /// The stream is not what its codec says; `detail` is the codec's own message.
    #[error("broken {} stream: {detail}", codec.name())]
    Corrupt {
        /// The codec that refused the bytes.
        codec: Codec,
        /// What the codec said.
        detail: String,
    },
    /// The stream expands to more bytes than the reader allows.
    #[error("decompressed data exceeds {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl CompressionError {
    /// The codec's own complaint, kept as text: the codecs' error types have nothing in common.
    fn corrupt(codec: Codec, detail: &impl ToString) -> CompressionError {
        CompressionError::Corrupt {
            codec,
            detail: detail.to_string(),
        }
    }
}

/// Decompression state worth keeping between batches; one per shard or client is enough.
///
/// Holds the zstd context (about 160 KiB once used), which is costly to build for each batch.
#[derive(Default)]
pub struct DecompressContext {
    zstd: Option<DCtx<'static>>,
}

impl std::fmt::Debug for DecompressContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DecompressContext")
            .finish_non_exhaustive()
    }
}

/// A stream of decompressed bytes over a compressed slice.
pub struct Decompressor<'a> {
    codec: Codec,
    stream: Stream<'a>,
}

/// The stream of each codec. The boxed ones are large.
enum Stream<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'a, &'a [u8]>),
}

impl<'a> Decompressor<'a> {
    /// Opens a stream over `compressed`. `bytes_max` bounds the single allocation that depends on
    /// the data (a raw snappy block); the reader itself counts what it takes.
    ///
    /// # Errors
    /// A stream whose first bytes already show that it is broken or too large.
    pub fn open(
        codec: Codec,
        compressed: &'a [u8],
        context: &'a mut DecompressContext,
        bytes_max: usize,
    ) -> Result<Decompressor<'a>, CompressionError> {
        let stream = match codec {
            Codec::None => Stream::Plain(compressed),
            Codec::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(compressed))),
            Codec::Snappy => Stream::Snappy(SnappyReader::open(compressed, bytes_max)?),
            Codec::Lz4 => Stream::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(compressed))),
            Codec::Zstd => {
                let zstd = context.zstd.get_or_insert_with(DCtx::create);
                // A batch that failed half way leaves its frame open; the next starts afresh.
                zstd.reset(ResetDirective::SessionOnly).map_err(|code| {
                    CompressionError::corrupt(codec, &zstd::zstd_safe::get_error_name(code))
                })?;
                Stream::Zstd(zstd::stream::read::Decoder::with_context(compressed, zstd))
            }
        };
        Ok(Decompressor { codec, stream })
    }

    /// Reads some bytes into `window`; 0 means the end of the stream.
    ///
    /// # Errors
    /// [`CompressionError::Corrupt`] when the codec refuses the bytes.
    pub fn read(&mut self, window: &mut [u8]) -> Result<usize, CompressionError> {
        let codec = self.codec;
        let read = match &mut self.stream {
            Stream::Plain(rest) => rest.read(window),
            Stream::Gzip(stream) => stream.read(window),
            Stream::Snappy(stream) => return stream.read(window),
            Stream::Lz4(stream) => stream.read(window),
            Stream::Zstd(stream) => stream.read(window),
        };
        read.map_err(|error| CompressionError::corrupt(codec, &error))
    }
}

/// First growth of a buffer that gathers a decompressed stream.
const GATHER_BYTES: usize = 16 * 1024;

/// Decompresses all of `compressed` and appends it to `output`.
///
/// `output` grows with the data that really comes out (doubling), never by a claimed length.
///
/// # Errors
/// [`CompressionError::TooLarge`] once more than `bytes_max` bytes came out;
/// [`CompressionError::Corrupt`] when the codec refuses the bytes. `output` then holds a part.
pub fn decompress(
    codec: Codec,
    compressed: &[u8],
    context: &mut DecompressContext,
    bytes_max: usize,
    output: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let start = output.len();
    let mut stream = Decompressor::open(codec, compressed, context, bytes_max)?;
    let mut filled = start;
    loop {
        if output.len() == filled {
            let grow = (filled - start).max(GATHER_BYTES);
            output.resize(filled + grow, 0);
        }
        let read = stream.read(output.get_mut(filled..).unwrap_or_default())?;
        filled += read;
        if read == 0 || filled - start > bytes_max {
            output.truncate(filled);
            break;
        }
    }
    if filled - start > bytes_max {
        return Err(CompressionError::TooLarge { limit: bytes_max });
    }
    Ok(())
}

/// Compresses `plain` and appends it to `output`, in the framing of Kafka's Java client.
///
/// # Errors
/// [`CompressionError::Corrupt`] with the codec's message; codecs fail only when they cannot get
/// memory.
pub fn compress(codec: Codec, plain: &[u8], output: &mut Vec<u8>) -> Result<(), CompressionError> {
    match codec {
        Codec::None => {
            output.extend_from_slice(plain);
            Ok(())
        }
        Codec::Gzip => compress_gzip(plain, output),
        Codec::Snappy => return snappy::compress(plain, output),
        Codec::Lz4 => compress_lz4(plain, output),
        Codec::Zstd => compress_zstd(plain, output),
    }
    .map_err(|error| CompressionError::corrupt(codec, &error))
}

fn compress_gzip(plain: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = GzEncoder::new(output, flate2::Compression::default());
    encoder.write_all(plain)?;
    encoder.finish().map(drop)
}

fn compress_lz4(plain: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    // 64 KiB independent blocks, as Kafka's Java client writes: readers need one block's memory.
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, output);
    encoder.write_all(plain)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

fn compress_zstd(plain: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    zstd::stream::copy_encode(plain, output, zstd::DEFAULT_COMPRESSION_LEVEL)
}
