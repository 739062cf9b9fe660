//! The store: artifact bytes in files, behind signed URLs as an object store has them.
//!
//! A URL is bound to a method, a run or an upload of an object, a name, a content type (uploads) and a date, and no two are alike. Files have names of our own, one for each upload, so no
//! artifact name is ever a path, and an upload replaces what was there only once it is complete.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt::Write as _,
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::state::TaskId;

/// How the names of uploads begin that are not complete.
pub(crate) const PARTIAL: &str = ".upload-";
/// Where the store's URLs begin.
pub(crate) const PREFIX: &str = "/storage";
/// Where those of objects begin.
pub(crate) const OBJECTS: &str = "/objects";
/// The directory of objects in the store's.
const OBJECTS_DIR: &str = "objects";

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a URL allows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Permit<'a> {
    /// Upload bytes of this content type.
    Put { content_type: &'a str },
    /// Download.
    Get,
    /// Upload an object of this content type and this length.
    PutObject { content_type: &'a str, bytes: u64 },
    /// Download an object.
    GetObject,
}

/// Why a URL was refused, as an object store says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Expired,
    Signature,
}

/// Files and the key that signs their URLs.
pub(crate) struct Store {
    dir: PathBuf,
    key: hmac::Key,
    next_file: AtomicU64,
    next_url: AtomicU64,
}

impl Store {
    /// A store in this directory, which is made.
    pub(crate) fn open(dir: &Path, secret: &str) -> io::Result<Self> {
        fs_err::create_dir_all(dir)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(Self { dir: dir.to_owned(), key, next_file: AtomicU64::new(0), next_url: AtomicU64::new(0) })
    }

    /// Names and lengths of all files in the store. No name that is given out later is among them.
    pub(crate) fn files(&self) -> HashMap<OsString, u64> {
        let entries = fs_err::read_dir(&self.dir).into_iter().flatten().flatten();
        let files: HashMap<_, _> = entries
            .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok().filter(Metadata::is_file)?.len())))
            .collect();
        let number = |name: &OsString| name.to_str()?.rsplit_once('-')?.1.parse::<u64>().ok();
        let next = files.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
        self.next_file.fetch_max(next, Ordering::Relaxed);
        files
    }

    /// Removes files that belong to no artifact: uploads that were cut off, and those that were replaced.
    pub(crate) fn sweep(&self, names: impl Iterator<Item = OsString>) {
        let ours = |name: &OsString| {
            let text = name.to_str().unwrap_or_default();
            text.starts_with(PARTIAL) || text.get(..TaskId::LENGTH).is_some_and(|id| TaskId::parse(id).is_some())
        };
        for name in names.filter(ours) {
            // One that stays does no harm.
            let _ = fs_err::remove_file(self.dir.join(name));
        }
    }

    /// Where uploads are written until they are complete.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the bytes of objects are. It is there once there are any.
    pub(crate) fn objects_dir(&self) -> PathBuf {
        self.dir.join(OBJECTS_DIR)
    }

    /// A place that was never given out before.
    pub(crate) fn new_path(&self, task: TaskId, run: u32) -> PathBuf {
        self.dir.join(format!("{task}-{run}-{}", self.next_file.fetch_add(1, Ordering::Relaxed)))
    }

    /// A URL that permits this until then. For an object, its upload id takes the place of the task's. `base` is the root URL by which the caller reached us.
    pub(crate) fn url(
        &self,
        base: &str,
        permit: Permit<'_>,
        (task, run, name): (TaskId, u32, &str),
        until: Timestamp,
    ) -> String {
        let until = until.as_second();
        // Slashes stay as they are, so that downloads get a good file name, unless a client would take the path for something else.
        let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let name_in_url = if plain {
            name.split('/').map(|part| utf8_percent_encode(part, SEGMENT).to_string()).collect::<Vec<_>>().join("/")
        } else {
            utf8_percent_encode(name, SEGMENT).to_string()
        };
        // Dates are whole seconds, and a URL that was refused must not come again when somebody asks for a fresh one.
        let number = self.next_url.fetch_add(1, Ordering::Relaxed);
        let message = message(permit, (task, run, name), (until, number));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &message));
        let path = match permit {
            Permit::Put { .. } | Permit::Get => format!("{PREFIX}/{task}/{run}"),
            Permit::PutObject { .. } | Permit::GetObject => format!("{OBJECTS}/{task}"),
        };
        format!("{base}{path}/{name_in_url}?expires={until}&number={number}&signature={signature}")
    }

    /// Checks the query of such a URL.
    pub(crate) fn check(
        &self,
        permit: Permit<'_>,
        object: (TaskId, u32, &str),
        query: &str,
        now: Timestamp,
    ) -> Result<(), Denied> {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let until: i64 = value("expires").and_then(|text| text.parse().ok()).ok_or(Denied::Signature)?;
        let number: u64 = value("number").and_then(|text| text.parse().ok()).ok_or(Denied::Signature)?;
        let signature =
            value("signature").and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or(Denied::Signature)?;
        hmac::verify(&self.key, &message(permit, object, (until, number)), &signature).map_err(|_| Denied::Signature)?;
        if now.as_second() > until { Err(Denied::Expired) } else { Ok(()) }
    }
}

fn message(permit: Permit<'_>, (task, run, name): (TaskId, u32, &str), (until, number): (i64, u64)) -> Vec<u8> {
    let mut message = String::new();
    // Lengths keep two different objects from having the same message. Writing to a string does not fail.
    let _ = match permit {
        Permit::Put { content_type } => write!(message, "PUT {} {content_type}", content_type.len()),
        Permit::Get => write!(message, "GET"),
        Permit::PutObject { content_type, bytes } => {
            write!(message, "PUT object {bytes} {} {content_type}", content_type.len())
        }
        Permit::GetObject => write!(message, "GET object"),
    };
    let _ = write!(message, "\n{task}\n{run}\n{until}\n{number}\n{name}");
    message.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_permits_what_it_was_made_for_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), "secret").expect("a store");
        let task = TaskId::parse("fN1SbArXTPSVFNUvaOlinQ").expect("an id");
        let at = |second| Timestamp::from_second(second).expect("a date");
        let put = Permit::Put { content_type: "text/plain" };
        let url = store.url("http://h", put, (task, 0, "public/a b.txt"), at(1000));
        let query = url.split_once('?').expect("a query").1;
        assert!(url.starts_with("http://h/storage/fN1SbArXTPSVFNUvaOlinQ/0/public/a%20b.txt?"), "{url}");
        let object = (task, 0, "public/a b.txt");
        assert_eq!(store.check(put, object, query, at(1000)), Ok(()));
        assert_eq!(store.check(put, object, query, at(1001)), Err(Denied::Expired));
        for (permit, object, query) in [
            (Permit::Get, object, query),
            (Permit::Put { content_type: "text/html" }, object, query),
            (put, (task, 1, "public/a b.txt"), query),
            (put, (task, 0, "public/other"), query),
            (put, object, ""),
            (put, object, &*query.replace("expires=1000", "expires=2000")),
            (put, object, &*query.replace("number=0", "number=1")),
        ] {
            assert_eq!(store.check(permit, object, query, at(1000)), Err(Denied::Signature), "{permit:?} {object:?} {query}");
        }
    }

    #[test]
    fn no_name_is_a_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), "secret").expect("a store");
        let task = TaskId::parse("fN1SbArXTPSVFNUvaOlinQ").expect("an id");
        let url = store.url("http://h", Permit::Get, (task, 0, "a/../../b"), Timestamp::UNIX_EPOCH);
        assert!(url.contains("/0/a%2F..%2F..%2Fb?"), "{url}");
    }
}
