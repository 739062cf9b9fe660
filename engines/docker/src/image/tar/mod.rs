//! Reading a tar archive as it passes by.
//!
//! Nothing is unpacked and nothing is buffered except headers. What a header means is read in the way in which the
//! engines read it (Go's `archive/tar`), because a reader that sees other members than the engine sees is a reader that
//! can be lied to. Whatever the rules of the format leave open is an error here.
//!
//! ```text
//! Heads ──header block──▶ Body ──size bytes──▶ Padding ──▶ Heads      a PAX or GNU header for the next member: Extension ──▶ Heads
//!   └──two zero blocks──▶ Ended (everything after them is ignored)    a GNU sparse member: SparseMap ──▶ Body
//! ```

mod header;
mod scan;
pub(crate) mod write;

pub use header::{Kind, Member};
pub use scan::{Piece, Scanner};
pub use write::{END, file_header, push_file, put_size, seal};

/// Size of every block of an archive.
pub const BLOCK_BYTES: usize = 512;

/// Why something is no tar archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// Neither a header nor the end of the archive.
    #[error("no tar archive: the header at byte {0} has a wrong checksum or is none")]
    NoHeader(u64),
    /// A number that is none, or is negative.
    #[error("the header at byte {offset} has an unreadable {field}")]
    Number {
        /// Where the header begins.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
    /// An extended header that cannot be read.
    #[error("the extended header at byte {0} is malformed or too long")]
    Extension(u64),
    /// Not a single byte.
    #[error("the archive is empty")]
    Empty,
    /// The end came too early.
    #[error("the archive is truncated: it ends after {0} bytes, in the middle of a member")]
    Truncated(u64),
}

/// The path as the engines compare it: no empty and no `.` components, `..` taken away where possible. A leading slash stays.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if rooted {
        format!("/{joined}")
    } else if joined.is_empty() {
        ".".to_owned()
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_compared_as_the_engines_compare_them() {
        for (path, cleaned) in [
            ("manifest.json", "manifest.json"),
            ("./manifest.json", "manifest.json"),
            ("a/../manifest.json", "manifest.json"),
            ("a//b/", "a/b"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("", "."),
            ("./", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }
}
