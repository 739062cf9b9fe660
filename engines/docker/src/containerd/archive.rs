//! The archive of an image, read in one pass: layers are unpacked and digested while they go by, small files are kept.
//!
//! What is a layer is seen from its first bytes. Which layer lies on which is not known before the end, so each is unpacked
//! into a directory of its own.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, Read},
    os::fd::OwnedFd,
};

use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;

use super::{
    blobs::Blob,
    description::{Contents, LayerFile},
    digests::{is_digest, named},
    feed::{Feed, read_buffered},
    header::{BLOCK, Entry, Kind},
    layer::{LayerError, Limits, Unpacked},
    packing,
    tar::{Entries, TarError},
    tree::{joined, open_directory, steps},
};
use crate::packing::Packing;

/// Most bytes of one file that is kept in memory, and of all of them.
const FILE_BYTES: u64 = 4 << 20;
const FILES_BYTES: u64 = 32 << 20;
/// Most files, layers and links of an archive. Each is remembered.
const ENTRIES: usize = 10_000;

/// What the store has already.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Digests of the files that it has.
    pub blobs: HashSet<String>,
    /// Digests of layers of images that it has unpacked.
    pub diffs: HashSet<String>,
    /// The digests without compression of files that it has.
    pub uncompressed: HashMap<String, String>,
}

/// The names in the area of what belongs to the layer at a position.
pub(super) fn tree_name(layer: usize) -> String {
    format!("layer-{layer}")
}

/// The same for its file.
pub(super) fn blob_name(layer: usize) -> String {
    format!("blob-{layer}")
}

/// Reads an archive to its end. What is unpacked comes into the directory `area`; the file of each layer is handed on as soon as it
/// is whole. With what the archive says comes what is left to be done to each layer; nothing if the store has it unpacked.
pub(super) fn read(
    feed: Feed,
    area: OwnedFd,
    known: &Known,
    limits: &mut Limits,
    blobs: mpsc::Sender<Blob>,
) -> Result<(Contents, Vec<Option<Unpacked>>), LayerError> {
    let mut reading = Reading {
        entries: Entries::new(feed),
        area,
        known,
        kept_bytes: 0,
        layer_bytes: 0,
        layer_limit_bytes: limits.bytes,
        contents: Contents::default(),
        trees: Vec::new(),
        blobs,
    };
    while let Some(entry) = reading.entries.next()? {
        reading.take(&entry, limits)?;
        let contents = &reading.contents;
        if contents.files.len() + contents.layers.len() + contents.aliases.len() > ENTRIES {
            return Err(TarError::Strange("it has too many files".to_owned()).into());
        }
    }
    // What follows the end of the archive belongs to what was downloaded and has to be verified with it.
    let rest = reading.entries.input();
    loop {
        let amount = rest.fill_buf().map_err(TarError::from)?.len();
        if amount == 0 {
            return Ok((reading.contents, reading.trees));
        }
        rest.consume(amount);
    }
}

struct Reading<'a> {
    entries: Entries<Feed>,
    area: OwnedFd,
    known: &'a Known,
    kept_bytes: u64,
    /// Bytes of the layers' files so far, and how many there may be.
    layer_bytes: u64,
    layer_limit_bytes: u64,
    contents: Contents,
    trees: Vec<Option<Unpacked>>,
    blobs: mpsc::Sender<Blob>,
}

impl Reading<'_> {
    fn take(&mut self, entry: &Entry, limits: &mut Limits) -> Result<(), LayerError> {
        let clean = |path: &[u8]| steps(path).map(|steps| String::from_utf8_lossy(&joined(&steps)).into_owned());
        let path = clean(&entry.path).map_err(TarError::from)?;
        match entry.kind {
            Kind::Symlink => {
                let beside = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = [beside.as_bytes(), b"/", &entry.link].concat();
                self.contents.aliases.insert(path, clean(&target).map_err(TarError::from)?);
                return Ok(());
            }
            Kind::File if self.entries.is_sparse() => {
                return Err(TarError::Strange("a sparse file among its layers".to_owned()).into());
            }
            Kind::File => {}
            _ => return Ok(()),
        }
        let start =
            self.entries.input().look(usize::try_from(entry.bytes).unwrap_or(BLOCK).min(BLOCK)).map_err(TarError::from)?;
        let start = &start[..start.len().min(usize::try_from(entry.bytes).unwrap_or(BLOCK))];
        match (packing::of_layer(start), start) {
            (Some(packing), _) => self.layer(path, entry.bytes, packing, limits),
            (None, [b'{' | b'[', ..]) if entry.bytes <= FILE_BYTES => self.keep(path, entry.bytes),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, path: String, bytes: u64) -> Result<(), LayerError> {
        self.kept_bytes += bytes;
        if self.kept_bytes > FILES_BYTES {
            return Err(TarError::Strange("it has too many small files".to_owned()).into());
        }
        let mut data = Vec::new();
        loop {
            let part = self.entries.data()?;
            let amount = part.len();
            if amount == 0 {
                break;
            }
            data.extend_from_slice(part);
            self.entries.take(amount);
        }
        self.contents.files.insert(path, data);
        Ok(())
    }

    fn layer(&mut self, path: String, bytes: u64, packing: Packing, limits: &mut Limits) -> Result<(), LayerError> {
        let at = self.trees.len();
        self.layer_bytes = self.layer_bytes.saturating_add(bytes);
        if self.layer_bytes > self.layer_limit_bytes {
            return Err(LayerError::TooLarge("the image is too large"));
        }
        // The layer's file is as large as it says; what is unpacked is looked after while it is written.
        let space = rustix::fs::fstatvfs(&self.area).map_err(io::Error::from).map_err(TarError::from)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < bytes.saturating_add(limits.keep_free_bytes) {
            return Err(LayerError::NoRoom);
        }
        let named_so = digest_in(&path);
        let has_blob = named_so.as_ref().is_some_and(|digest| self.known.blobs.contains(digest));
        let expected_diff = named_so.as_ref().filter(|_| has_blob).and_then(|digest| {
            let diff = if packing == Packing::Plain { Some(digest) } else { self.known.uncompressed.get(digest) };
            diff.filter(|diff| self.known.diffs.contains(*diff)).cloned()
        });
        let file = if has_blob { None } else { Some(self.create(&blob_name(at)).map_err(TarError::from)?) };
        self.entries.input().copy_to(file).map_err(TarError::from)?;
        let (unpacked, diff) = if expected_diff.is_some() {
            self.pass_over()?;
            (None, expected_diff)
        } else {
            let name = tree_name(at);
            rustix::fs::mkdirat(&self.area, name.as_str(), Mode::RWXU).map_err(io::Error::from).map_err(TarError::from)?;
            let root = open_directory(std::os::fd::AsFd::as_fd(&self.area), name.as_bytes()).map_err(TarError::from)?;
            let (unpacked, diff) = packing::unpack(packing, Data(&mut self.entries), root, limits)?;
            self.pass_over()?;
            (Some(unpacked), diff)
        };
        let digested = self.entries.input().copied().map_err(no_room)?;
        let blob = named(digested.sha256);
        if unpacked.is_none() && named_so.as_ref() != Some(&blob) {
            return Err(TarError::Damaged("a layer is not what its name says").into());
        }
        let diff = diff.unwrap_or_else(|| blob.clone());
        let file = LayerFile { blob, bytes, diff, packing };
        // Who takes it is gone only if the whole load is.
        drop(self.blobs.blocking_send(Blob { at, file: file.clone(), written: !has_blob }));
        self.contents.layers.push(file);
        self.contents.layer_paths.insert(path, at);
        self.trees.push(unpacked);
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The mode of the files of the content store.
        let mode = Mode::RUSR | Mode::RGRP | Mode::ROTH;
        let file = rustix::fs::openat(&self.area, name, flags, mode)?;
        rustix::fs::fchmod(&file, mode)?;
        Ok(file.into())
    }

    /// Reads the rest of the current file, so that it is digested.
    fn pass_over(&mut self) -> Result<(), LayerError> {
        loop {
            let amount = self.entries.data()?.len();
            if amount == 0 {
                return Ok(());
            }
            self.entries.take(amount);
        }
    }
}

fn no_room(error: io::Error) -> LayerError {
    if error.kind() == io::ErrorKind::StorageFull { LayerError::NoRoom } else { TarError::from(error).into() }
}

/// The digest in the name of a file: 64 digits, perhaps with an ending, as layouts and kaniko call them.
fn digest_in(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let hex = name.get(..64)?;
    let ends = matches!(&name[64..], "" | ".tar" | ".tar.gz" | ".tar.zst");
    let digest = format!("sha256:{hex}");
    (ends && is_digest(&digest)).then_some(digest)
}

/// The data of the current file of the outer archive.
struct Data<'a>(&'a mut Entries<Feed>);

impl BufRead for Data<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.data().map_err(|error| match error {
            TarError::Read(error) => error,
            other => io::Error::new(io::ErrorKind::UnexpectedEof, other.to_string()),
        })
    }

    fn consume(&mut self, amount: usize) {
        self.0.take(amount);
    }
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
