//! Reading what a task left behind, once it cannot change any more.

use std::{fs::File, io};

use async_trait::async_trait;
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
    /// The open file, or why there is none.
    pub content: Result<OpenFile, EntryFault>,
}

/// A regular file, opened in a way that neither follows a link out of the task's reach nor blocks.
#[derive(Debug)]
pub struct OpenFile {
    /// Positioned at its first byte. Read it with positioned reads, so that several attempts can share it.
    pub file: File,
    /// Its size in bytes when it was opened.
    pub bytes: u64,
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
    /// The operating system refused.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
}

/// A run whose every process is dead. This was verified, not assumed.
#[async_trait]
pub trait Quiet: Send + Sync {
    /// Everything at `path`, which is relative to the task directory or absolute, in lexical order. The receiver is
    /// bounded: entries are opened as they are taken, so few files are open at a time. A missing path is one entry with a fault.
    fn read(&self, path: &str, kind: Kind) -> mpsc::Receiver<Entry>;

    /// Removes everything that the engine made for this run.
    ///
    /// With `keep_files` the task directory stays, for people who want to look into it.
    async fn destroy(self: Box<Self>, keep_files: bool) -> Result<Gone, EngineError>;
}
