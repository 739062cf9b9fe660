//! What a reading of an archive is bounded by, and how it ends.

use std::collections::HashSet;

use super::{
    documents::Described,
    known::LayerMember,
    mend::{Mended, Plan},
    tar::TarError,
};

/// Bounds of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes after decompression.
    pub bytes: u64,
    /// Members.
    pub members: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 512 << 30, members: 100_000 }
    }
}

/// Why an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It is no tar archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It is one, but of no image.
    #[error("{0}")]
    NoImage(String),
    /// It is larger than is allowed.
    #[error("larger than {limit} {what}, the limit of this worker")]
    TooLarge {
        /// How many.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
}

/// Which layers may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// Those that the engine probably has.
    Guess,
    /// Exactly these members.
    Exactly(HashSet<String>),
    /// None.
    Nothing,
}

/// What was learned from a complete archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The image, if its configuration was seen.
    pub image: Option<Described>,
    /// Its layers as members.
    pub members: Vec<LayerMember>,
    /// How many members were left out, and their size.
    pub skipped: (usize, u64),
    /// Size of the archive.
    pub bytes: u64,
    /// What mending it takes, if its configuration was seen.
    pub plan: Option<Plan>,
    /// What was mended.
    pub mended: Mended,
}

/// How a pass ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// These bytes complete the archive.
    Complete(Vec<u8>, Box<Learned>),
    /// The guess was wrong: once more.
    Again(Skip),
    /// Sizes were not known or wrong: once more.
    Mend(Plan),
}
