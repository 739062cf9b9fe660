//! A reading of a refused archive, and what the engine gets instead of it.
//!
//! ```text
//!  member ─┬─ layer ─▶ mended ─┬─ its size is known ──▶ passed
//!          └─ else ─▶ dropped  └─ it is not, or was wrong ──▶ from here on nothing is passed ──▶ Ending::Mend (sizes)
//! ```

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Mended, Plan,
    layer::{LayerError, Out, Passing},
};
use crate::image::{
    documents::{Described, Name, sha256_hex},
    outcome::{ArchiveError, Bounds, Ending, Learned},
    tar::{BLOCK_BYTES, END, Kind, Member, Piece, Scanner, clean, file_header, push_file},
};

/// See the documentation of the module.
pub struct Mender {
    plan: Plan,
    bounds: Bounds,
    scanner: Scanner,
    bytes: u64,
    members: u64,
    out_bytes: u64,
    /// The layer that passes by: its position in the plan.
    current: Option<(usize, Passing)>,
    /// What the layers unpack to now.
    after: Vec<Option<String>>,
    /// Nothing is passed any more: sizes are found out.
    only_sizes: bool,
    mended: Mended,
}

impl std::fmt::Debug for Mender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mender").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl From<LayerError> for ArchiveError {
    fn from(error: LayerError) -> Self {
        Self::NoImage(error.to_string())
    }
}

fn member_name(layer: usize) -> String {
    format!("layer-{layer}.tar")
}

impl Mender {
    /// For one reading.
    pub fn new(plan: Plan, bounds: Bounds) -> Self {
        let after = vec![None; plan.layers.len()];
        Self {
            plan,
            bounds,
            scanner: Scanner::default(),
            bytes: 0,
            members: 0,
            out_bytes: 0,
            current: None,
            after,
            only_sizes: false,
            mended: Mended::default(),
        }
    }

    /// Takes the next bytes of the archive and gives those for the engine to `out`. It decompresses, which takes a while.
    pub fn take(&mut self, mut chunk: Bytes, out: Out<'_>) -> Result<(), ArchiveError> {
        self.bytes += chunk.len() as u64;
        while let Some(piece) = self.scanner.next(&mut chunk)? {
            match piece {
                Piece::Member(member) => {
                    self.close(out)?;
                    self.begin(&member, out)?;
                }
                Piece::Content(content) => self.content(&content, out)?,
                Piece::Padding(_) => {}
                Piece::End => self.close(out)?,
            }
        }
        if self.bytes > self.bounds.bytes {
            return Err(self.too_large());
        }
        Ok(())
    }

    /// Says that the archive is complete.
    pub fn finish(mut self, name: &Name) -> Result<Ending, ArchiveError> {
        self.scanner.finish()?;
        let mut tail = Vec::new();
        self.close(&mut |bytes| {
            tail.extend_from_slice(&bytes);
            true
        })?;
        if self.only_sizes {
            self.plan.exact = true;
            return Ok(Ending::Mend(self.plan));
        }
        let after: Option<Vec<String>> = self.plan.order.iter().map(|at| self.after[*at].clone()).collect();
        let diff_ids = after.ok_or_else(|| ArchiveError::NoImage("no image: a layer is missing".to_owned()))?;
        let config = self.config(&diff_ids)?;
        let config_sha256 = sha256_hex(&config);
        let layers: Vec<String> = self.plan.order.iter().map(|at| member_name(*at)).collect();
        let config_name = format!("{config_sha256}.json");
        let manifest = json!([{ "Config": config_name, "RepoTags": [name.full()], "Layers": layers }]);
        push_file(&mut tail, &config_name, &config);
        push_file(&mut tail, "manifest.json", manifest.to_string().as_bytes());
        tail.extend_from_slice(&END);
        let image = Described { config_sha256, config_bytes: config.len(), diff_ids, layers };
        let learned = Learned {
            image: Some(image),
            // They are members of no archive that will come again.
            members: Vec::new(),
            skipped: (0, 0),
            bytes: self.bytes,
            plan: None,
            mended: self.mended,
        };
        Ok(Ending::Complete(tail, Box::new(learned)))
    }

    fn begin(&mut self, member: &Member, out: Out<'_>) -> Result<(), ArchiveError> {
        self.members += 1;
        if self.members > self.bounds.members {
            return Err(ArchiveError::TooLarge { limit: self.bounds.members, what: "members" });
        }
        let name = clean(&member.name);
        let found = self.plan.layers.iter().position(|layer| layer.name == name && layer.bytes == member.bytes);
        let Some(at) = found.filter(|at| member.kind == Kind::File && self.after[*at].is_none()) else { return Ok(()) };
        let planned = &self.plan.layers[at];
        match planned.unpacked_bytes {
            Some(bytes) if !self.only_sizes => {
                out(Bytes::copy_from_slice(&file_header(&member_name(at), bytes)));
            }
            _ => self.only_sizes = true,
        }
        self.current = Some((at, Passing::new(planned.packing)?));
        Ok(())
    }

    fn content(&mut self, content: &Bytes, out: Out<'_>) -> Result<(), ArchiveError> {
        let Some((at, mut passing)) = self.current.take() else { return Ok(()) };
        let mut gate = self.gate(at, passing.out_bytes());
        passing.take(content, &mut |bytes| gate.pass(bytes, out))?;
        self.settle(&gate)?;
        self.current = Some((at, passing));
        Ok(())
    }

    /// Ends the layer that passes by.
    fn close(&mut self, out: Out<'_>) -> Result<(), ArchiveError> {
        let Some((at, passing)) = self.current.take() else { return Ok(()) };
        let mut gate = self.gate(at, passing.out_bytes());
        let done = passing.finish(&mut |bytes| gate.pass(bytes, out))?;
        self.settle(&gate)?;
        let planned = &mut self.plan.layers[at];
        if done.before != planned.diff_id {
            let why = format!("a layer is {}, its configuration says {}", done.before, planned.diff_id);
            return Err(ArchiveError::NoImage(format!("no image: {why}")));
        }
        if planned.unpacked_bytes != Some(done.bytes) {
            self.only_sizes = true;
        } else if !self.only_sizes {
            let padding = done.bytes.next_multiple_of(BLOCK_BYTES as u64) - done.bytes;
            out(Bytes::from_static(&END[..usize::try_from(padding).unwrap_or_default()]));
        }
        if self.only_sizes && self.plan.exact {
            return Err(ArchiveError::NoImage("no image: its layers change from one download to the next".to_owned()));
        }
        planned.unpacked_bytes = Some(done.bytes);
        self.after[at] = Some(done.after);
        self.mended.add(done.mended);
        Ok(())
    }

    fn gate(&self, at: usize, passed: u64) -> Gate {
        let said = self.plan.layers[at].unpacked_bytes.unwrap_or_default();
        let left = if self.only_sizes { 0 } else { said.saturating_sub(passed) };
        Gate { left, open: !self.only_sizes, passed: 0, most: self.bounds.bytes.saturating_sub(self.out_bytes) }
    }

    fn settle(&mut self, gate: &Gate) -> Result<(), ArchiveError> {
        self.out_bytes = self.out_bytes.saturating_add(gate.passed);
        self.only_sizes |= !gate.open;
        if gate.passed > gate.most { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> ArchiveError {
        ArchiveError::TooLarge { limit: self.bounds.bytes, what: "bytes" }
    }

    /// The configuration with what the layers unpack to now. If that is what they unpacked to before, it is the same.
    fn config(&self, diff_ids: &[String]) -> Result<Vec<u8>, ArchiveError> {
        let same = self.plan.order.iter().zip(diff_ids).all(|(at, after)| self.plan.layers[*at].diff_id == *after);
        if same {
            return Ok(self.plan.config.to_vec());
        }
        let mut config: Value = serde_json::from_slice(&self.plan.config)
            .map_err(|error| ArchiveError::NoImage(format!("no image: read its configuration: {error}")))?;
        config["rootfs"]["diff_ids"] = json!(diff_ids);
        Ok(config.to_string().into_bytes())
    }
}

/// Lets pass as many bytes of a layer as its header has said, and none when that turns out wrong.
struct Gate {
    left: u64,
    open: bool,
    passed: u64,
    most: u64,
}

impl Gate {
    fn pass(&mut self, bytes: Bytes, out: Out<'_>) -> bool {
        self.passed = self.passed.saturating_add(bytes.len() as u64);
        if bytes.len() as u64 > self.left {
            self.open = false;
        }
        if self.passed > self.most {
            return false;
        }
        if self.open {
            self.left -= bytes.len() as u64;
            return out(bytes);
        }
        true
    }
}
