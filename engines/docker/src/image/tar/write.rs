//! Writing the few members that are our own.

use super::BLOCK_BYTES;

/// What an archive ends with.
pub const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Appends a regular file with mode 0644, owned by root, from the beginning of time. The name has at most 100 bytes.
pub fn push_file(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    archive.extend_from_slice(&file_header(name, content.len() as u64));
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// The header of such a file.
pub fn file_header(name: &str, bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0u8; BLOCK_BYTES];
    let name = &name.as_bytes()[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    put_size(&mut block, bytes);
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

/// Writes the size of what follows a header. What has too many octal digits is written in base 256.
pub fn put_size(block: &mut [u8; BLOCK_BYTES], bytes: u64) {
    let octal = format!("{bytes:011o}\0");
    if octal.len() == 12 {
        block[124..136].copy_from_slice(octal.as_bytes());
    } else {
        block[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
        block[128..136].copy_from_slice(&bytes.to_be_bytes());
    }
}

/// Writes the checksum of a header.
pub fn seal(block: &mut [u8; BLOCK_BYTES]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}
