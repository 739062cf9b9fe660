//! What extended headers say about the entry after them.

use super::{
    TarError,
    header::{MOST_BYTES, text},
    sparse::Stated,
};

/// What is known about the next entry.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// The name of a sparse file; the other one is made up.
    pub(super) sparse_name: Option<Vec<u8>>,
    /// What is said about a sparse file.
    pub(super) sparse: Option<Stated>,
}

impl Pax {
    /// Takes the text of one extended header.
    pub(super) fn add(&mut self, flag: u8, body: &[u8]) -> Result<(), TarError> {
        match flag {
            b'L' => self.path = Some(text(body).to_vec()),
            b'K' => self.target = Some(text(body).to_vec()),
            b'x' => {
                let mut rest = body;
                while !rest.is_empty() {
                    let (record, after) = split(rest)?;
                    let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::Extended)?;
                    self.take(&record[..equals], &record[equals + 1..])?;
                    rest = after;
                }
            }
            // Holds for all entries that follow; nobody puts into it what matters here.
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    if key == b"name" {
                        self.sparse_name = Some(value.to_vec());
                    }
                    self.sparse.get_or_insert_default().take(key, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Splits `<length of all of this> <key>=<value>\n` off: key and value, and what follows.
fn split(text: &[u8]) -> Result<(&[u8], &[u8]), TarError> {
    let space = text.iter().take(20).position(|byte| *byte == b' ').ok_or(TarError::Extended)?;
    let length = usize::try_from(decimal(&text[..space])?).map_err(|_| TarError::Extended)?;
    if length > text.len() || length < space + 2 {
        return Err(TarError::Extended);
    }
    let (record, rest) = text.split_at(length);
    Ok((record[space + 1..].strip_suffix(b"\n").ok_or(TarError::Extended)?, rest))
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    if digits.is_empty() {
        return Err(TarError::Number);
    }
    let number = digits.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(byte - b'0'))).ok_or(TarError::Number),
        _ => Err(TarError::Number),
    })?;
    if number > MOST_BYTES { Err(TarError::Number) } else { Ok(number) }
}
