//! What extensions in front of an entry say about it.

use super::{
    header::{self, Moment},
    tar::TarError,
};
use crate::archive::tar::sparse::Stated;

/// What extensions said about the entry that follows them.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub bytes: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub modified: Option<Moment>,
    pub accessed: Option<Moment>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Stated>,
    /// A sparse file's name; the other one is made up.
    pub sparse_path: Option<Vec<u8>>,
}

impl Extensions {
    /// Takes the records of an extension.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), TarError> {
        let senseless = TarError::Damaged("an extension makes no sense");
        let Some(records) = header::records(data) else { return Err(senseless) };
        for (key, value) in records {
            let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.bytes = Some(number().filter(|&bytes| i64::try_from(bytes).is_ok()).ok_or(senseless_number())?),
                b"uid" => self.uid = Some(number().ok_or(senseless_number())?),
                b"gid" => self.gid = Some(number().ok_or(senseless_number())?),
                b"mtime" => self.modified = Some(header::moment(value).ok_or(senseless_number())?),
                b"atime" => self.accessed = Some(header::moment(value).ok_or(senseless_number())?),
                b"GNU.sparse.name" => self.sparse_path = Some(value.to_vec()),
                _ => {
                    if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        let sparse = self.sparse.get_or_insert_default();
                        sparse.take(key, value).map_err(|_| senseless_number())?;
                    } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.attributes.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn senseless_number() -> TarError {
    TarError::Damaged("a number in an extension makes no sense")
}

/// The part before the first zero byte.
pub(super) fn until_zero(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|&byte| byte == 0) {
        data.truncate(end);
    }
    data
}
