//! Reading what a task left behind, once it cannot change any more.

use std::{fmt, fs::File, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{EngineError, Gone};

/// What the author said a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One regular file.
    File,
    /// A directory, read recursively; symbolic links in it are not descended into.
    Directory,
}

/// One thing found at or below a path.
#[derive(Debug)]
pub struct Entry {
    /// Path relative to what was asked for, with forward slashes; empty for the thing itself.
    pub relative: String,
    /// The absolute path as shown to people.
    pub shown: String,
    /// Its bytes, or why there are none.
    pub content: Result<Content, EntryFault>,
}

/// The bytes of a regular file, wherever they are. They can be read more than once.
#[derive(Debug)]
pub enum Content {
    /// A file on this machine.
    File(OpenFile),
    /// A small file, all of it.
    Memory(Bytes),
    /// A file that is somewhere else; its bytes come when they are wanted.
    Stream(Arc<dyn Reopen>),
}

impl Content {
    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.bytes,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Stream(stream) => stream.bytes(),
        }
    }
}

/// A regular file, opened in a way that neither follows a link out of the task's reach nor blocks.
#[derive(Debug)]
pub struct OpenFile {
    /// Positioned at its first byte. Read it with positioned reads, so that several attempts can share it.
    pub file: File,
    /// Its size in bytes when it was opened.
    pub bytes: u64,
}

/// A file whose bytes come from somewhere else, as often as they are wanted.
///
/// An engine may let one stream through at a time. So whoever has opened one reads it to its end or drops it, and waits for
/// nothing meanwhile that another open stream holds.
#[async_trait]
pub trait Reopen: fmt::Debug + Send + Sync + 'static {
    /// Its size in bytes, as it was when it was found.
    fn bytes(&self) -> u64;

    /// Begins at the first byte. May wait until other streams have ended.
    async fn open(&self) -> Result<Box<dyn Pieces>, ReadError>;
}

/// The bytes of one file on their way.
#[async_trait]
pub trait Pieces: Send {
    /// The next bytes, never an empty piece; none after the last of them. The engine ends a stream that stalls.
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError>;
}

/// Why a file that was found gives no more bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The way to the bytes broke. Opened again, it may hold.
    #[error("{0}")]
    Lost(String),
    /// They are not what they were, or cannot be read.
    #[error("{0}")]
    Broken(String),
}

/// Why a path gives no bytes.
#[derive(Debug, thiserror::Error)]
pub enum EntryFault {
    /// Nothing is there.
    #[error("no such file or directory")]
    Missing,
    /// A file was wanted and a directory is there.
    #[error("is a directory")]
    IsDirectory,
    /// A directory was wanted and something else is there.
    #[error("is not a directory")]
    NotDirectory,
    /// A FIFO, socket or device.
    #[error("is a {0}, which has no content to upload")]
    Special(&'static str),
    /// A symbolic link that leads out of the directory the task may publish from.
    #[error("is reached through a symbolic link that leads outside the task directory")]
    Outward,
    /// The path is relative, and its own `..` lead out of the task directory; see [`leads_out`].
    #[error("is outside the task directory, in which relative paths have to stay")]
    Above,
    /// The operating system or the engine refused.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// The engine went away, in spite of all attempts to reach it. Nothing is known about the path.
    #[error("{0}")]
    Lost(String),
}

/// Whether a path of a native task leaves the task directory by its own letters, wherever links lead. An absolute path does
/// not leave it: it never was in it, and who writes one down means that.
pub fn leads_out(path: &str) -> bool {
    let mut depth = 0_usize;
    !path.starts_with('/')
        && path.split('/').any(|part| match part {
            "" | "." => false,
            ".." if depth == 0 => true,
            ".." => {
                depth -= 1;
                false
            }
            _ => {
                depth += 1;
                false
            }
        })
}

/// A run whose every process is dead. This was verified, not assumed.
#[async_trait]
pub trait Quiet: Send + Sync {
    /// Everything at `path`, which is relative to the task directory or absolute, in lexical order as far as the
    /// engine can tell it. The receiver is bounded: entries are opened as they are taken, so few files are open at a time. A
    /// missing path is one entry with a fault.
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry>;

    /// Removes everything that the engine made for this run.
    ///
    /// With `keep_files` the task directory stays, for people who want to look into it.
    async fn destroy(self: Box<Self>, keep_files: bool) -> Result<Gone, EngineError>;
}

#[cfg(test)]
mod tests {
    use super::leads_out;

    #[test]
    fn a_path_leads_out_where_it_has_more_steps_up_than_down() {
        for path in ["..", "../x", "./../x", "a/../../x", "a//../../a/x", "../task/x"] {
            assert!(leads_out(path), "{path}");
        }
        for path in ["", ".", "a", "a/..", "a/../b", "/..", "/etc/../x", "..a", "a/b/../../c"] {
            assert!(!leads_out(path), "{path}");
        }
    }
}
