//! All artifacts of a payload: found, and uploaded several at a time.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use tc_engine::{Content, Entry, EntryFault, Kind, Quiet, ReadError};
use tc_payload::native::{ArtifactSpec, Encoding, FileOrDirectory};
use tokio::sync::Semaphore;

use super::{
    body::Body,
    content::{content_encoding, content_type},
    gzip::{self, CompressError},
    put::{Target, UploadError, after_loss, publish},
};
use crate::api::NewArtifact;

/// Uploads at a time. Each holds at most a few hundred kilobytes of its bytes in memory.
const AT_A_TIME: usize = 16;
/// Files of at most this size together, in MiB, are compressed or lie compressed at a time; a larger one goes alone. Bounds
/// what is taken of the disk beside the files themselves.
const COMPRESSED_MIB: u32 = 4 << 10;

/// What becomes of the artifacts of one payload.
pub struct Collected {
    /// One row for each artifact, in the order of the payload and of paths.
    pub rows: Vec<Row>,
}

/// One artifact.
pub struct Row {
    /// Its name.
    pub name: String,
    /// The path it comes from, as people see it.
    pub path: String,
    /// It was found in a directory; its name is the task's choice and not the payload's.
    pub is_found: bool,
    /// Whether the task may complete without it.
    pub optional: bool,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// What became of it.
    pub ending: Ending,
}

/// What became of an artifact.
pub enum Ending {
    /// The store has it.
    Uploaded {
        /// Digest of its bytes before encoding.
        sha256: [u8; 32],
    },
    /// There is nothing to upload; an error artifact says so, unless that could not be published either.
    Missing {
        /// A word of the queue's list.
        reason: &'static str,
        /// A sentence.
        message: String,
        /// Why the error artifact could not be published.
        failure: Option<UploadError>,
    },
    /// It could not be uploaded.
    Failed(UploadError),
}

/// What is the same for all artifacts of a run.
pub struct Surroundings<'a> {
    /// Where artifacts go.
    pub target: &'a Target,
    /// When an artifact is forgotten whose spec does not say it.
    pub expires: Timestamp,
    /// Where compressed files lie until they are uploaded.
    pub spool_dir: PathBuf,
    /// Whether somebody else publishes an artifact of this name; then it is left alone.
    pub is_taken: &'a (dyn Fn(&str) -> bool + Sync),
}

/// Finds and uploads everything that `specs` name.
pub async fn collect(quiet: &dyn Quiet, specs: &[ArtifactSpec], surroundings: &Surroundings<'_>) -> Collected {
    let shared = Shared { surroundings, compressing: gzip::permits(), room: Semaphore::new(COMPRESSED_MIB as usize) };
    let mut uploads = FuturesUnordered::new();
    let mut rows = Vec::new();
    let mut seen: HashMap<String, Vec<(usize, String)>> = HashMap::new();
    for (position, spec) in specs.iter().enumerate() {
        let kind = match spec.kind {
            FileOrDirectory::File => Kind::File,
            FileOrDirectory::Directory => Kind::Directory,
        };
        let mut entries = quiet.read(&spec.path, kind);
        loop {
            let entry = tokio::select! {
                biased; // What is done makes room for what comes.
                Some(done) = uploads.next(), if !uploads.is_empty() => { rows.push(done); continue; }
                entry = entries.recv(), if uploads.len() < AT_A_TIME => entry,
            };
            let Some(entry) = entry else { break };
            let name = name(spec, &entry);
            if (surroundings.is_taken)(&name) {
                continue;
            }
            let before = seen.entry(name.clone()).or_default();
            // The same file named twice, alone and through its directory, is one artifact.
            if before.iter().any(|(other, shown)| *shown == entry.shown && same_properties(&specs[*other], spec)) {
                continue;
            }
            // Different things under one name follow each other, so that the queue sees them in the payload's order.
            if !before.is_empty() {
                while let Some(done) = uploads.next().await {
                    rows.push(done);
                }
            }
            before.push((position, entry.shown.clone()));
            let order = (position, entry.relative.clone());
            let upload = one(spec, entry, name, &shared);
            uploads.push(async move { (order, upload.await) });
        }
    }
    while let Some(done) = uploads.next().await {
        rows.push(done);
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Collected { rows: rows.into_iter().map(|(_, row)| row).collect() }
}

fn same_properties(a: &ArtifactSpec, b: &ArtifactSpec) -> bool {
    (&a.expires, &a.content_type, &a.content_encoding, a.optional)
        == (&b.expires, &b.content_type, &b.content_encoding, b.optional)
}

fn name(spec: &ArtifactSpec, entry: &Entry) -> String {
    let name = spec.published_name();
    if entry.relative.is_empty() { name.to_owned() } else { format!("{}/{}", name.trim_end_matches('/'), entry.relative) }
}

/// What all uploads of one payload share.
struct Shared<'a> {
    surroundings: &'a Surroundings<'a>,
    /// Permits to compress a block.
    compressing: Arc<Semaphore>,
    /// One permit for each MiB of [`COMPRESSED_MIB`].
    room: Semaphore,
}

async fn one(spec: &ArtifactSpec, entry: Entry, name: String, shared: &Shared<'_>) -> Row {
    let expires = spec.expires.unwrap_or(shared.surroundings.expires);
    let Entry { relative, shown, content } = entry;
    let ending = match content {
        Ok(content) => match upload(spec, content, &shown, &name, expires, shared).await {
            Ok(sha256) => Ending::Uploaded { sha256 },
            Err(error) => Ending::Failed(error),
        },
        // Nobody knows whether it is missing.
        Err(EntryFault::Lost(why)) => Ending::Failed(UploadError::Service(why)),
        Err(fault) => {
            let wanted = if relative.is_empty() { spec.kind } else { FileOrDirectory::File };
            let (reason, message) = explain(&fault, wanted, &shown);
            let artifact = NewArtifact::Error { reason, message: message.clone(), expires };
            let target = shared.surroundings.target;
            let created = target.queue.create_artifact(&target.task_id, target.run_id, &name, &artifact).await;
            Ending::Missing { reason, message, failure: created.err().map(Into::into) }
        }
    };
    Row { name, path: shown, is_found: !relative.is_empty(), optional: spec.optional, expires, ending }
}

async fn upload(
    spec: &ArtifactSpec,
    content: Content,
    shown: &str,
    name: &str,
    expires: Timestamp,
    shared: &Shared<'_>,
) -> Result<[u8; 32], UploadError> {
    let target = shared.surroundings.target;
    let content_type = spec.content_type.clone().filter(|t| !t.is_empty()).unwrap_or_else(|| content_type(shown));
    if target.objects || spec.content_encoding.unwrap_or_else(|| content_encoding(shown)) == Encoding::Identity {
        return publish(target, name, &content_type, expires, &Body::identity(content)).await;
    }
    // Given back when the compressed bytes are gone. Nobody closes the semaphore.
    let mib = u32::try_from(content.bytes().div_ceil(1 << 20)).unwrap_or(COMPRESSED_MIB).min(COMPRESSED_MIB);
    let _room = shared.room.acquire_many(mib).await.ok();
    let mut losses = 0;
    let body = loop {
        let why = match gzip::compress(&content, &shared.surroundings.spool_dir, &shared.compressing).await {
            Ok(body) => break body,
            Err(CompressError::Source(ReadError::Lost(why))) => why,
            Err(error @ CompressError::Source(_)) => return Err(UploadError::Changed(format!("compress: {error}"))),
            Err(error @ CompressError::Spool(_)) => return Err(UploadError::Service(format!("compress: {error}"))),
        };
        losses += 1;
        after_loss(losses, name, why).await?;
    };
    drop(content);
    publish(target, name, &content_type, expires, &body).await
}

/// Reason and message of an error artifact; programs know them.
fn explain(fault: &EntryFault, wanted: FileOrDirectory, shown: &str) -> (&'static str, String) {
    let noun = match wanted {
        FileOrDirectory::File => "file",
        FileOrDirectory::Directory => "directory",
    };
    match fault {
        EntryFault::Missing => ("file-missing-on-worker", format!("Could not read {noun} '{shown}'")),
        EntryFault::IsDirectory => {
            ("invalid-resource-on-worker", format!("File artifact '{shown}' exists as a directory, not a file, on the worker"))
        }
        EntryFault::NotDirectory => (
            "invalid-resource-on-worker",
            format!("Directory artifact '{shown}' exists as a file, not a directory, on the worker"),
        ),
        EntryFault::Special(_) => ("invalid-resource-on-worker", format!("Could not read {noun} '{shown}': it {fault}")),
        EntryFault::Outward | EntryFault::Above => {
            ("file-not-readable-on-worker", format!("Could not read {noun} '{shown}': it {fault}"))
        }
        EntryFault::Unreadable(error) => ("file-not-readable-on-worker", format!("Could not read {noun} '{shown}': {error}")),
        EntryFault::Lost(why) => ("file-not-readable-on-worker", format!("Could not read {noun} '{shown}': {why}")),
    }
}
