//! The object service: named bytes that are uploaded once, checked, and never changed after.
//!
//! ```text
//!  createUpload ─▶ open ──(bytes: inline, or PUT to a signed URL)──▶ filled ─finishUpload─▶ finished ─▶ downloads
//!                   └────────────── a day later: forgotten ◀──────────┘          └─ `expires`: forgotten
//! ```
//! An upload belongs to whoever knows its `uploadId`. What arrives is hashed on its way, so that the hashes which the uploader states can
//! be compared with what is there. Files have names of our own; no object's name is ever a path.

pub(crate) mod bytes;
mod call;
mod download;

use std::{collections::HashSet, io, path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use call::{create_upload, finish_upload};
pub(crate) use download::{download, metadata, start_download, url};

use super::{
    desk::Desk,
    fault::{Code, Fault},
    ledger::Ledger,
    shelf::Shelf,
};

/// An upload that is not finished by then is given up.
const UPLOAD_TIME: SignedDuration = SignedDuration::from_hours(24);
/// Longest name.
const MOST_NAME: usize = 2048;

/// An object as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Object {
    pub(crate) project_id: String,
    upload_id: String,
    pub(crate) expires: Timestamp,
    created: Timestamp,
    /// What the uploader says the digests are, by algorithm.
    hashes: Map<String, Value>,
    pub(crate) stored: Option<Kept>,
    pub(crate) finished: bool,
}

/// Bytes that have arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// Its name in the directory of objects.
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) content_type: String,
    sha256: String,
    sha512: String,
}

impl Object {
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires <= now || (!self.finished && now.duration_since(self.created) > UPLOAD_TIME)
    }

    /// Takes over what the uploader says about its digests.
    fn state(&mut self, hashes: &Map<String, Value>) -> Result<(), Fault> {
        for (algorithm, hash) in hashes {
            let known = self.hashes.entry(algorithm.clone()).or_insert_with(|| hash.clone());
            if known != hash {
                let message = format!("hash {algorithm} was stated before, with another value");
                return Err(Fault::new(Code::RequestConflict, message));
            }
        }
        Ok(())
    }

    /// The digests that were stated, and those that were found.
    fn known_hashes(&self) -> Map<String, Value> {
        let mut hashes = self.hashes.clone();
        if let Some(kept) = &self.stored {
            hashes.insert("sha256".to_owned(), json!(kept.sha256));
            hashes.insert("sha512".to_owned(), json!(kept.sha512));
        }
        hashes
    }
}

/// Whether this can be the name of an object.
pub(crate) fn is_object_name(name: &str) -> bool {
    (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// The objects that the ledger has kept. Files that belong to none of them are removed: uploads that were cut off, and those that were
/// replaced.
pub(crate) fn restore(ledger: &Arc<Ledger>, dir: &Path) -> io::Result<Shelf<Object>> {
    let objects: Shelf<Object> = Shelf::open("object", ledger)?;
    // An upload that was being replaced may be gone, and the one in its place was never answered.
    for (name, mut object) in objects.all() {
        let is_there = |kept: &Kept| dir.join(&kept.file).metadata().is_ok_and(|file| file.len() == kept.bytes);
        if !object.finished && object.stored.take_if(|kept| !is_there(kept)).is_some() {
            objects.put(&name, object);
        }
    }
    // Whose a file is may be what could not be read.
    if !objects.is_whole() {
        return Ok(objects);
    }
    let used: HashSet<String> = objects.all().into_iter().filter_map(|(_, object)| Some(object.stored?.file)).collect();
    for entry in fs_err::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_none_or(|name| !used.contains(name)) {
            // One that stays does no harm.
            let _ = fs_err::remove_file(entry.path());
        }
    }
    Ok(objects)
}

/// Forgets objects that have expired, with their bytes.
pub(crate) fn sweep(objects: &Shelf<Object>, dir: &Path, now: Timestamp) {
    for (_, object) in objects.retain(|_, object| !object.is_over(now)) {
        if let Some(kept) = object.stored {
            // One that is gone already is what we wanted.
            let _ = fs_err::remove_file(dir.join(kept.file));
        }
    }
}

/// The object, if its upload has been finished.
pub(crate) fn finished(desk: &Desk, name: &str, now: Timestamp) -> Result<(Object, Kept), Fault> {
    let missing = |what: &str| Fault::new(Code::ResourceNotFound, format!("object \"{name}\" {what}"));
    let object = desk.objects.get(name).filter(|object| !object.is_over(now)).ok_or_else(|| missing("does not exist"))?;
    match object.stored.clone().filter(|_| object.finished) {
        Some(kept) => Ok((object, kept)),
        None => Err(missing("has not been uploaded yet")),
    }
}
