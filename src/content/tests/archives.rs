//! Each format with real data: whole, cut at many places, spoiled, too large.

use std::io::{Read as _, Write as _};

use super::*;
use crate::content::{
    Format,
    codec::{Broken, decode},
    parcel::{Reader, Supply},
};

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    // As the program does it.
    encoder.include_checksum(true).expect("set");
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn xz(plain: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    liblzma::bufread::XzEncoder::new(plain, 1).read_to_end(&mut whole).expect("into memory");
    whole
}

fn bzip2(plain: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    bzip2::bufread::BzEncoder::new(plain, bzip2::Compression::fast()).read_to_end(&mut whole).expect("into memory");
    whole
}

type Encode = fn(&[u8]) -> Vec<u8>;

const FORMATS: [(Format, Encode); 5] =
    [(Format::Gzip, gzip), (Format::Zstd, zstd), (Format::Lz4, lz4), (Format::Xz, xz), (Format::Bzip2, bzip2)];

/// Something like an archive: some of it compresses, some does not.
fn content() -> Vec<u8> {
    let mut content = noise(200_000);
    content.extend("words that come again and again ".repeat(20_000).bytes());
    content.extend(noise(150_000));
    content
}

async fn unpack(packed: Vec<u8>) -> Result<Vec<u8>, ContentError> {
    let digest = sha256(&packed);
    let server = Server::files(packed).await;
    let (bytes, of_packed) = fetch(&server, Packing::Unpack).await?;
    assert_eq!(of_packed, digest, "the digest is that of the archive as it is kept");
    Ok(bytes)
}

#[tokio::test]
async fn every_format_is_known_by_its_first_bytes_and_unpacked() {
    let content = content();
    for (format, encode) in FORMATS {
        let packed = encode(&content);
        assert_eq!(Format::sniff(&packed), format);
        assert!(unpack(packed).await.as_ref() == Ok(&content), "{}", format.name());
    }
    assert!(unpack(content.clone()).await == Ok(content));
}

#[tokio::test]
async fn several_streams_in_one_file_are_one_content() {
    let content = content();
    for (format, encode) in FORMATS {
        let mut packed: Vec<u8> = content.chunks(123_457).flat_map(encode).collect();
        assert!(unpack(packed.clone()).await.as_ref() == Ok(&content), "{}", format.name());
        if matches!(format, Format::Gzip | Format::Lz4) {
            packed.resize(packed.len() + 1000, 0);
            assert!(unpack(packed).await.as_ref() == Ok(&content), "{} with zeros behind", format.name());
        }
    }
    // Parallel compressors begin with a frame that is skipped.
    let mut packed = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    packed.extend(zstd(&content));
    assert!(unpack(packed).await == Ok(content));
}

/// Bytes in memory as a supply, in small pieces.
struct Memory(std::collections::VecDeque<bytes::Bytes>);

impl Supply for Memory {
    fn next(&mut self) -> Result<Option<bytes::Bytes>, ContentError> {
        Ok(self.0.pop_front())
    }
}

fn decoded(packed: &[u8]) -> Result<Vec<u8>, Broken> {
    let pieces = packed.chunks(1000).map(bytes::Bytes::copy_from_slice).collect();
    let mut whole = Vec::new();
    decode(Format::sniff(packed), &mut Reader::new(Memory(pieces)), &mut |bytes, _| {
        whole.extend_from_slice(&bytes);
        true
    })?;
    Ok(whole)
}

#[test]
fn a_cut_archive_is_truncated_wherever_it_is_cut() {
    let content: Vec<u8> = content().into_iter().skip(120_000).take(150_000).collect();
    for (format, encode) in FORMATS {
        let packed = encode(&content);
        assert_eq!(decoded(&packed).expect("whole"), content, "{}", format.name());
        // Near the ends, at odd places, and at every block of lz4.
        let mut cuts: Vec<usize> = (7..40).chain([packed.len() / 2, packed.len() / 3]).collect();
        cuts.extend((1..20).map(|back| packed.len() - back));
        cuts.extend(blocks_of_lz4(&packed));
        for cut in cuts {
            let result = decoded(&packed[..cut]);
            assert!(matches!(result, Err(Broken::Truncated)), "{} cut at {cut}: {:?}", format.name(), result.map(|b| b.len()));
        }
    }
}

#[tokio::test]
async fn a_cut_archive_is_the_tasks_fault() {
    for (format, encode) in FORMATS {
        let packed = encode(&content());
        let error = unpack(packed[..packed.len() - 5].to_vec()).await.expect_err(format.name());
        assert!(
            error.fault == Fault::Task && error.message.contains(&format!("{} data is truncated", format.name())),
            "{error:?}"
        );
    }
}

/// Where the blocks of a frame begin.
fn blocks_of_lz4(packed: &[u8]) -> Vec<usize> {
    if Format::sniff(packed) != Format::Lz4 {
        return Vec::new();
    }
    let mut at = 7;
    let mut places = Vec::new();
    while let Some(length) = packed.get(at..at + 4) {
        places.push(at);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) & 0x7fff_ffff;
        at += 4 + length as usize;
    }
    places
}

#[tokio::test]
async fn a_spoiled_archive_is_the_tasks_fault() {
    let content = content();
    for (format, encode) in FORMATS {
        let mut packed = encode(&content);
        let middle = packed.len() / 2;
        for byte in &mut packed[middle..middle + 200] {
            *byte ^= 0x55;
        }
        // Formats without a checksum by default, which is lz4 here, may give other bytes; nobody could know.
        match unpack(packed).await {
            Err(error) => assert!(error.fault == Fault::Task && error.message.contains(format.name()), "{error:?}"),
            Ok(bytes) => assert!(format == Format::Lz4 && bytes != content, "{} {}", format.name(), bytes == content),
        }
        let mut packed = encode(&content);
        packed.extend(b"something else behind it");
        let error = unpack(packed).await.expect_err(format.name());
        assert_eq!(error.fault, Fault::Task, "{error:?}");
    }
}

#[tokio::test]
async fn windows_of_128_mb_are_taken_and_longer_ones_are_not() {
    for (window_log, good) in [(27, true), (28, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.long_distance_matching(true).expect("set");
        encoder.window_log(window_log).expect("set");
        // Nothing says how much will come, so the window is as large as it may be.
        encoder.write_all(&noise(1000)).expect("into memory");
        let result = unpack(encoder.finish().expect("into memory")).await;
        assert_eq!(result.is_ok(), good, "{window_log}: {:?}", result.err());
    }
}

#[tokio::test]
async fn a_bomb_is_left_before_it_does_harm() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    let zeros = vec![0; 1 << 20];
    for _ in 0..3 << 10 {
        encoder.write_all(&zeros).expect("into memory");
    }
    let bomb = encoder.finish().expect("into memory");
    let server = Server::files(bomb).await;
    let mut stream = open(Arc::new(server.artifact()), Packing::Unpack);
    let mut given = 0;
    let error = loop {
        match stream.next().await {
            Ok(Some(piece)) => given += piece.len() as u64,
            Ok(None) => panic!("a bomb went off"),
            Err(error) => break error,
        }
    };
    assert!(error.fault == Fault::Task && error.message.contains("decompress"), "{error:?}");
    assert!(given <= (1 << 30) + (1 << 20), "{given}");
}
