//! Round trips, foreign framings, bombs and broken streams of every codec.

use proptest::prelude::*;

use super::*;

const CAP: usize = 1 << 20;

fn expand(codec: Codec, bytes: &[u8], cap: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    decompress(
        codec,
        bytes,
        &mut DecompressContext::default(),
        cap,
        &mut output,
    )?;
    Ok(output)
}

fn shrink(codec: Codec, plain: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    compress(codec, plain, &mut output).unwrap();
    output
}

fn sample() -> Vec<u8> {
    (0..200_000_u32)
        .flat_map(|n| (n / 7).to_le_bytes())
        .take(300_000)
        .collect()
}

#[test]
fn every_codec_round_trips() {
    for codec in Codec::ALL {
        for plain in [Vec::new(), b"x".to_vec(), sample()] {
            assert_eq!(
                expand(codec, &shrink(codec, &plain), CAP).unwrap(),
                plain,
                "{codec:?}"
            );
        }
    }
}

#[test]
fn ids_and_names_map_both_ways() {
    for codec in Codec::ALL {
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert_eq!(Codec::from_name("brotli"), None);
}

#[test]
fn raw_snappy_of_librdkafka_is_read() {
    let plain = sample();
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(expand(Codec::Snappy, &raw, CAP).unwrap(), plain);
}

#[test]
fn concatenated_xerial_streams_are_read() {
    let mut twice = shrink(Codec::Snappy, b"first");
    twice.extend(shrink(Codec::Snappy, b"second"));
    assert_eq!(expand(Codec::Snappy, &twice, CAP).unwrap(), b"firstsecond");
}

#[test]
fn lz4_frames_with_content_size_and_linked_blocks_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain = sample();
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        let info = FrameInfo::new()
            .content_size(Some(plain.len() as u64))
            .content_checksum(true)
            .block_checksums(true)
            .block_size(BlockSize::Max4MB)
            .block_mode(mode);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        let frame = encoder.finish().unwrap();
        assert_eq!(expand(Codec::Lz4, &frame, CAP).unwrap(), plain);
    }
}

#[test]
fn zstd_frames_with_and_without_content_size_are_read() {
    let plain = sample();
    let known = zstd::bulk::compress(&plain, 3).unwrap();
    let streamed = zstd::stream::encode_all(plain.as_slice(), 19).unwrap();
    assert_eq!(expand(Codec::Zstd, &known, CAP).unwrap(), plain);
    assert_eq!(expand(Codec::Zstd, &streamed, CAP).unwrap(), plain);
}

#[test]
fn bombs_stop_at_the_cap() {
    let zeros = vec![0_u8; 32 << 20];
    for codec in Codec::ALL {
        let bomb = shrink(codec, &zeros);
        assert_eq!(
            expand(codec, &bomb, CAP),
            Err(CompressionError::TooLarge { limit: CAP }),
            "{codec:?}"
        );
    }
    let raw = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(
        expand(Codec::Snappy, &raw, CAP),
        Err(CompressionError::TooLarge { limit: CAP })
    );
}

#[test]
fn snappy_block_that_claims_gigabytes_is_refused() {
    // A varint length of about 1 GiB and nothing behind it.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x03, 0, 0, 0];
    let error = expand(Codec::Snappy, &claim, usize::MAX).unwrap_err();
    assert!(matches!(
        error,
        CompressionError::Corrupt {
            codec: Codec::Snappy,
            ..
        }
    ));
}

#[test]
fn cut_streams_are_errors_and_the_context_survives_them() {
    let plain = sample();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let whole = shrink(codec, &plain);
        let mut context = DecompressContext::default();
        let mut output = Vec::new();
        let cut = &whole[..whole.len() / 2];
        let result = decompress(codec, cut, &mut context, CAP, &mut output);
        assert!(
            matches!(result, Err(CompressionError::Corrupt { .. })) || output != plain,
            "{codec:?}"
        );
        output.clear();
        decompress(codec, &whole, &mut context, CAP, &mut output).unwrap();
        assert_eq!(output, plain, "{codec:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for codec in Codec::ALL {
            let _ = expand(codec, &bytes, CAP);
            let mut framed = shrink(codec, b"some records");
            framed.extend_from_slice(&bytes);
            let _ = expand(codec, &framed, CAP);
        }
    }

    #[test]
    fn any_plain_bytes_round_trip(plain in proptest::collection::vec(0_u8..8, 0..5000)) {
        for codec in Codec::ALL {
            prop_assert_eq!(&expand(codec, &shrink(codec, &plain), CAP).unwrap(), &plain);
        }
    }
}
