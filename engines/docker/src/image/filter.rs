//! The filter between an archive and the engine: what is passed, what is held back, what is left out.
//!
//! Members pass byte for byte. The documents that name the image are held back and come last, rewritten; a layer that the
//! engine probably has is left out. When the archive is complete, what was left out is verified against the manifest and
//! the configuration. An image is what its configuration says (the engine checks each layer that it unpacks against it),
//! so a wrong guess, or an archive that lies about its members, costs a second pass and never gives another image.
//!
//! ```text
//!  member ─┬─ document ───────────────▶ held ─────────────┐
//!          ├─ layer that is there ────▶ left out ─┐       ▼
//!          └─ else ───────────────────▶ passed    └▶ verified? ─yes─▶ Ending::Complete (documents, end of archive)
//!                                                     └─no──────────▶ Ending::Again (which layers may be left out)
//! ```

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};

use super::{
    documents::{Described, Documents, HELD, Name, diff_ids_of, hex, oci_documents},
    known::{Known, LayerMember, Store, WORTH_SKIPPING_BYTES, looks_like_layer},
    mend::{Mended, Plan, Planned, gzip_says},
    outcome::{ArchiveError, Bounds, Ending, Learned, Skip},
    tar::{END, Kind, Member, Piece, Scanner, clean, push_file},
};
use crate::packing::Packing;

/// Bound of a document that is held back.
const HELD_BYTES: u64 = 8 << 20;
/// Bound of a small JSON member that may be a configuration or a manifest.
const KEPT_BYTES: u64 = 4 << 20;
/// Bound of all of them.
const ALL_KEPT_BYTES: u64 = 32 << 20;
/// Longer names are no names of layers.
const NAME_BYTES: usize = 512;
/// Most links that are followed from a layer's name to a member.
const LINK_HOPS: usize = 8;

#[derive(Debug)]
struct Seen {
    bytes: u64,
    last: [u8; 4],
    skipped: bool,
    sha256: Option<String>,
    packing: Packing,
}

#[derive(Debug)]
enum Fate {
    Pass,
    Drop,
    Hold(String, BytesMut),
}

/// See the documentation of the module.
#[derive(Debug)]
pub struct Filter<'a> {
    known: &'a Known,
    skip: Skip,
    name: &'a Name,
    bounds: Bounds,
    scanner: Scanner,
    documents: Documents,
    seen: HashMap<String, Seen>,
    links: HashMap<String, String>,
    fate: Fate,
    current: Option<Current>,
    /// The configuration of an image that the engine has in whole was seen.
    whole: bool,
    kept_bytes: u64,
    bytes: u64,
    members: u64,
    ended: bool,
}

/// The regular file that is passing by.
struct Current {
    name: String,
    bytes: u64,
    skipped: bool,
    first: BytesMut,
    last: [u8; 4],
    digest: Option<Context>,
    kept: Option<BytesMut>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Filter<'a> {
    /// A filter for one pass.
    pub fn new(known: &'a Known, skip: Skip, name: &'a Name, bounds: Bounds) -> Self {
        Self {
            known,
            skip,
            name,
            bounds,
            scanner: Scanner::default(),
            documents: Documents::default(),
            seen: HashMap::new(),
            links: HashMap::new(),
            fate: Fate::Pass,
            current: None,
            whole: false,
            kept_bytes: 0,
            bytes: 0,
            members: 0,
            ended: false,
        }
    }

    /// Takes the next bytes of the archive and gives those for the engine to `out`.
    pub fn take(&mut self, mut chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), ArchiveError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.bounds.bytes {
            return Err(ArchiveError::TooLarge { limit: self.bounds.bytes, what: "bytes" });
        }
        while let Some(piece) = self.scanner.next(&mut chunk)? {
            match piece {
                Piece::Member(member) => {
                    self.close();
                    self.begin(member, out)?;
                }
                Piece::Content(content) => {
                    if let Some(current) = &mut self.current {
                        current.pass(&content);
                    }
                    match &mut self.fate {
                        Fate::Pass => out.push(content),
                        Fate::Drop => {}
                        Fate::Hold(_, held) => held.extend_from_slice(&content),
                    }
                }
                Piece::Padding(padding) => {
                    if matches!(self.fate, Fate::Pass) {
                        out.push(padding);
                    }
                }
                Piece::End => {
                    self.close();
                    self.ended = true;
                }
            }
        }
        Ok(())
    }

    /// Says that the archive is complete.
    pub fn finish(mut self) -> Result<Ending, ArchiveError> {
        self.scanner.finish()?;
        self.close();
        let image = self.documents.describe().map_err(ArchiveError::NoImage)?;
        let members = image.as_ref().map(|image| self.layer_members(image)).unwrap_or_default();
        let skipped = self.seen.values().filter(|seen| seen.skipped);
        let skipped = skipped.fold((0, 0), |(count, bytes), seen| (count + 1, bytes + seen.bytes));
        let documents = if skipped.0 == 0 {
            self.documents.rewritten(self.name, self.known.store()).map_err(ArchiveError::NoImage)?
        } else {
            match self.verified(image.as_ref(), &members)? {
                Ok(documents) => documents,
                Err(skip) => return Ok(Ending::Again(skip)),
            }
        };
        let mut tail = Vec::new();
        for (name, content) in documents {
            push_file(&mut tail, &name, &content);
        }
        tail.extend_from_slice(&END);
        let plan = image.as_ref().and_then(|image| self.plan(image));
        let members = members.into_iter().flatten().collect();
        let learned = Learned { image, members, skipped, bytes: self.bytes, plan, mended: Mended::default() };
        Ok(Ending::Complete(tail, Box::new(learned)))
    }

    fn begin(&mut self, member: Member, out: &mut Vec<Bytes>) -> Result<(), ArchiveError> {
        self.members += 1;
        if self.members > self.bounds.members {
            return Err(ArchiveError::TooLarge { limit: self.bounds.members, what: "members" });
        }
        let name = clean(&member.name);
        let held = |name: &str| HELD.contains(&name.trim_start_matches('/'));
        if held(&name) || member.plain_name.as_deref().is_some_and(|plain| held(&clean(plain))) {
            // Whatever else goes by such a name could only serve to put other documents in the place of ours.
            if member.kind != Kind::File {
                self.fate = Fate::Drop;
            } else if member.bytes > HELD_BYTES {
                return Err(ArchiveError::NoImage(format!("no image: its {name} has {} bytes", member.bytes)));
            } else {
                self.fate = Fate::Hold(name.trim_start_matches('/').to_owned(), BytesMut::new());
            }
            return Ok(());
        }
        self.fate = Fate::Pass;
        match member.kind {
            Kind::File if name.len() <= NAME_BYTES => {
                if self.is_skipped(&name, member.bytes) {
                    self.fate = Fate::Drop;
                }
                self.current = Some(Current::new(name, &member, &self.fate, self.known.store()));
            }
            Kind::Symlink | Kind::Link if name.len() + member.target.len() <= NAME_BYTES => {
                let target = match (member.kind, name.rsplit_once('/')) {
                    (Kind::Symlink, Some((parent, _))) if !member.target.starts_with('/') => {
                        clean(&format!("{parent}/{}", member.target))
                    }
                    _ => clean(&member.target),
                };
                // A hard link to what was left out cannot be made.
                if member.kind == Kind::Link && self.seen.get(&target).is_some_and(|seen| seen.skipped) {
                    self.fate = Fate::Drop;
                }
                self.links.insert(name, target);
            }
            _ => {}
        }
        if matches!(self.fate, Fate::Pass) {
            out.push(member.head);
        }
        Ok(())
    }

    fn is_skipped(&self, name: &str, bytes: u64) -> bool {
        match &self.skip {
            Skip::Nothing => false,
            Skip::Exactly(names) => names.contains(name),
            Skip::Guess if self.whole => bytes >= WORTH_SKIPPING_BYTES && looks_like_layer(name),
            Skip::Guess => self.known.probably_has(name, bytes),
        }
    }

    /// Ends the member that is passing by.
    fn close(&mut self) {
        if let Fate::Hold(name, content) = std::mem::replace(&mut self.fate, Fate::Pass) {
            self.documents.held.insert(name, content.freeze());
        }
        let Some(current) = self.current.take() else { return };
        let packing = Packing::of(&current.first);
        if let Some(kept) = current.kept
            && self.kept_bytes + kept.len() as u64 <= ALL_KEPT_BYTES
        {
            self.kept_bytes += kept.len() as u64;
            if self.known.store() == Store::Graph && !self.whole {
                self.whole = diff_ids_of(&kept).is_some_and(|ids| !ids.is_empty() && self.known.has_chain(&ids));
            }
            self.documents.kept.insert(current.name.clone(), kept.freeze());
        }
        let sha256 = current.digest.map(|digest| hex(digest.finish().as_ref()));
        let seen = Seen { bytes: current.bytes, last: current.last, skipped: current.skipped, sha256, packing };
        self.seen.insert(current.name, seen);
    }

    /// The name of the member that a name leads to.
    fn resolve(&self, name: &str) -> String {
        let mut name = clean(name);
        for _ in 0..LINK_HOPS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }

    /// The members that are the image's layers; none where there is no such member.
    fn layer_members(&self, image: &Described) -> Vec<Option<LayerMember>> {
        let member = |(layer, diff_id): (&String, &String)| {
            let name = self.resolve(layer);
            let seen = self.seen.get(&name)?;
            if seen.skipped
                && let Some(known) = self.known.member(&name)
            {
                return Some(known.clone());
            }
            let (sha256, packing) = (seen.sha256.clone(), seen.packing);
            Some(LayerMember { name, bytes: seen.bytes, diff_id: diff_id.clone(), sha256, packing })
        };
        image.layers.iter().zip(&image.diff_ids).map(member).collect()
    }

    /// What mending this archive takes.
    fn plan(&self, image: &Described) -> Option<Plan> {
        let config = self.documents.config()?;
        let mut plan = Plan { config, layers: Vec::new(), order: Vec::new(), exact: false };
        for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
            let name = self.resolve(layer);
            let at = plan.layers.iter().position(|planned| planned.name == name);
            if let Some(at) = at {
                plan.order.push(at);
                continue;
            }
            let seen = self.seen.get(&name)?;
            let unpacked_bytes = match seen.packing {
                Packing::Plain => Some(seen.bytes),
                Packing::Gzip => gzip_says(seen.last, seen.bytes),
                Packing::Zstd => None,
            };
            plan.order.push(plan.layers.len());
            let (bytes, packing, diff_id) = (seen.bytes, seen.packing, diff_id.clone());
            plan.layers.push(Planned { name, bytes, packing, diff_id, unpacked_bytes });
        }
        Some(plan)
    }

    /// The documents of an archive from which layers were left out, or what may be left out instead.
    #[expect(clippy::type_complexity, reason = "the outer error is the archive's, the inner one the guess's")]
    fn verified(
        &self,
        image: Option<&Described>,
        members: &[Option<LayerMember>],
    ) -> Result<Result<Vec<(String, Vec<u8>)>, Skip>, ArchiveError> {
        let Some(image) = image else { return Ok(Err(Skip::Nothing)) };
        if self.known.store() == Store::Containerd && !self.documents.is_oci() {
            let all: Option<Vec<LayerMember>> = members.iter().cloned().collect();
            return Ok(all.and_then(|all| oci_documents(image, &all, self.name)).ok_or(Skip::Nothing));
        }
        if self.known.store() == Store::Graph {
            let names: Vec<String> = image.layers.iter().map(|layer| self.resolve(layer)).collect();
            let there = |at: usize| self.known.has_chain(&image.diff_ids[..=at]);
            let skipped = |at: usize| self.seen.get(&names[at]).is_some_and(|seen| seen.skipped);
            if (0..names.len()).any(|at| skipped(at) && !there(at)) {
                let needed: HashSet<&String> = (0..names.len()).filter(|at| !there(*at)).map(|at| &names[at]).collect();
                let spared = names.iter().filter(|name| !needed.contains(name)).cloned().collect();
                return Ok(Err(Skip::Exactly(spared)));
            }
        }
        self.documents.rewritten(self.name, self.known.store()).map(Ok).map_err(ArchiveError::NoImage)
    }
}

impl Current {
    fn new(name: String, member: &Member, fate: &Fate, store: Store) -> Self {
        let skipped = matches!(fate, Fate::Drop);
        let worth = !skipped && store == Store::Containerd && member.bytes >= WORTH_SKIPPING_BYTES;
        Self {
            name,
            bytes: member.bytes,
            skipped,
            first: BytesMut::new(),
            last: [0; 4],
            digest: worth.then(|| Context::new(&SHA256)),
            kept: (!skipped && member.bytes <= KEPT_BYTES).then(BytesMut::new),
        }
    }

    fn pass(&mut self, content: &[u8]) {
        if self.first.len() < 4 {
            self.first.extend_from_slice(&content[..content.len().min(4 - self.first.len())]);
        }
        let fresh = content.len().min(4);
        self.last.rotate_left(fresh);
        self.last[4 - fresh..].copy_from_slice(&content[content.len() - fresh..]);
        if let Some(digest) = &mut self.digest {
            digest.update(content);
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(content);
        }
        if self.first.first().is_some_and(|byte| !byte.is_ascii_whitespace() && *byte != b'{') {
            self.kept = None;
        }
    }
}
