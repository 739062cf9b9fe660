//! Images that no engine loads as they are: their hard links made such that it does.
//!
//! An engine refuses a layer with a hard link whose target it does not find in the same layer: the target is in a layer
//! below, stands further behind, or is nowhere; some refuse each absolute target. (Tried with Docker 20.10 and 28.5, both
//! stores; 29.7 is known for the last.) kaniko and other builders write such layers.
//!
//! Nothing of this is looked for before the engine has refused an archive, so that all others cost nothing and keep the
//! identifier that `docker load` gives them. Then the archive is read again, and what goes to the engine is another one: its
//! layers without compression, with headers that were changed in place, and a configuration that names what they are now.
//!
//! ```text
//!  target in the layer, before the link ──▶ the link, with a relative target
//!  else ──────────────────────────────────▶ a symbolic link from the root: right if the target is below or comes later
//! ```
//!
//! A file of a tar archive stands behind its size, and how large a compressed layer is without compression is known at its
//! end. gzip files say it in their last bytes, which the first reading has seen. If that was wrong, or there is nothing that
//! says it, the rest of the second reading only finds it out for all layers, and there is a third. Layers that are zstd files
//! are always such, and are what an engine without zstd gets mended, too.

mod head;
mod layer;
mod pass;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::packing::Packing;

pub use pass::Mender;

/// What a refused archive holds, as far as mending it needs that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The image's configuration.
    pub config: Bytes,
    /// The members that are layers.
    pub layers: Vec<Planned>,
    /// Which of them the image's layers are, from the bottom.
    pub order: Vec<usize>,
    /// Whether their sizes without compression were found out by reading them.
    pub exact: bool,
}

/// A member that is a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its cleaned name.
    pub name: String,
    /// Its size in the archive.
    pub bytes: u64,
    /// How it is compressed.
    pub packing: Packing,
    /// What the configuration says that it unpacks to.
    pub diff_id: String,
    /// How large that is, as far as it is known.
    pub unpacked_bytes: Option<u64>,
}

impl Plan {
    /// Whether what an engine said against an archive may be about what can be mended in it.
    pub fn answers(&self, message: &str) -> bool {
        // What failed stands at the beginning of a part: `link a b: no such file or directory`. The end may be cut off.
        let links = message.contains("hardlink") || message.split(": ").any(|part| part.trim_start().starts_with("link"));
        // An engine that does not know zstd says many things about it.
        links || self.layers.iter().any(|layer| layer.packing == Packing::Zstd)
    }
}

/// The size of a gzip file without compression, of which the last bytes say the lower half; `bytes` is its own size.
pub fn gzip_says(last: [u8; 4], bytes: u64) -> Option<u64> {
    let low = u64::from(u32::from_le_bytes(last));
    // What cannot be compressed grows by less than this.
    let smallest = bytes.saturating_sub(bytes / 256 + 64);
    let size = if low >= smallest { low } else { low + (smallest - low).next_multiple_of(1 << 32) };
    // A tar archive has whole blocks. If this has none, the file has several parts.
    size.is_multiple_of(super::tar::BLOCK_BYTES as u64).then_some(size)
}

/// What was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// Hard links whose targets are relative now.
    pub relative: usize,
    /// Hard links that are symbolic ones now.
    pub symbolic: usize,
    /// Hard links that had to be left out, since their headers had no room for another target.
    pub left_out: usize,
    /// One that is not a hard link any more, and its target.
    pub example: Option<(String, String)>,
}

impl Mended {
    /// What a task should know of it.
    pub fn warning(&self, shown: &str) -> Option<String> {
        let (link, target) = self.example.as_ref()?;
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!(", {count} of them were left out"),
        };
        Some(format!(
            "image {shown}: the engine cannot make {} hard links of its layers, whose targets are in other layers or nowhere; \
             they became symbolic links{left_out}, {link:?} to {target:?} for one",
            self.symbolic + self.left_out
        ))
    }

    fn add(&mut self, more: Self) {
        self.relative += more.relative;
        self.symbolic += more.symbolic;
        self.left_out += more.left_out;
        self.example = self.example.take().or(more.example);
    }
}
