//! Writes archives for tests: byte by byte, so also bad ones.

/// An archive that grows.
#[derive(Debug, Default)]
pub(in crate::archive) struct Writer {
    pub(in crate::archive) bytes: Vec<u8>,
}

impl Writer {
    /// Writes a header and `data` after it. `stated` is the size in the header.
    pub(in crate::archive) fn raw(&mut self, flag: u8, name: &[u8], target: &[u8], stated: u64, data: &[u8]) {
        let mut block = [0_u8; 512];
        block[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        block[100..108].copy_from_slice(b"0000644\0");
        if stated < 1 << 33 {
            block[124..136].copy_from_slice(format!("{stated:011o}\0").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&stated.to_be_bytes());
        }
        block[156] = flag;
        block[157..157 + target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.block(block);
        self.data(data);
    }

    /// Writes a header block with its checksum.
    pub(in crate::archive) fn block(&mut self, mut block: [u8; 512]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
    }

    /// Writes data and fills the last block up.
    pub(in crate::archive) fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// Writes PAX records for the next header.
    pub(in crate::archive) fn pax(&mut self, records: &[(&str, &[u8])]) {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..rest + 20).find(|length| length - rest == length.to_string().len()).unwrap_or_default();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.raw(b'x', b"PaxHeaders/x", b"", text.len() as u64, &text);
    }

    /// Writes one thing, in whatever way its names need.
    pub(in crate::archive) fn item(&mut self, flag: u8, name: &[u8], target: &[u8], data: &[u8]) {
        let is_long = |text: &[u8]| text.len() > 100 || !text.is_ascii();
        let records: Vec<(&str, &[u8])> =
            [("path", name), ("linkpath", target)].into_iter().filter(|(_, text)| is_long(text)).collect();
        if !records.is_empty() {
            self.pax(&records);
        }
        self.raw(flag, name, target, data.len() as u64, data);
    }

    /// The archive, complete.
    pub(in crate::archive) fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}
