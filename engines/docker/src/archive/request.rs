//! Single requests to the archive API, and what their answers mean.

use std::{io, pin::Pin, time::Duration};

use bollard::{
    errors::Error,
    query_parameters::{ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tc_engine::{EntryFault, ReadError};

use super::{
    Archive, FIRST_WAIT, LOSSES, clean, join,
    tar::{Event, Item, Kind, Owner, Tar, TarError},
    turn::Turn,
};

/// The beginning of an answer may take this long: other programs' requests for the container come first, and slow disks
/// have to be mounted. A little more than the bound of an ordinary call, so that it is that one which speaks.
const BEGIN_BOUND: Duration = Duration::from_secs(130);
/// An answer of which nothing comes for this long is broken off.
const STALL_BOUND: Duration = Duration::from_secs(60);
/// How long the last bytes of an archive are waited for, so that the connection can be used again.
const REST_BOUND: Duration = Duration::from_secs(1);
/// Most symbolic links on the way to a file, as in the kernel. The engine follows several with one request and counts by itself.
const HOPS: u32 = 40;

/// So often is an engine asked again that refuses without a reason that would stay.
const TROUBLES: u32 = 4;
/// How engines say that there is nothing at a path.
const NO_FILE: [&str; 3] = ["could not find the file", "no such file", "not a directory"];

/// Go's bit for a socket in a file's mode.
const MODE_SOCKET: u32 = 1 << 24;

/// Why there is no file, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("no such file or directory")]
    Missing,
    #[error("too many levels of symbolic links")]
    Loop,
    /// The engine does not give it.
    #[error("the Docker engine says: {0}")]
    Refused(String),
    /// The archive stops in its middle although the answer is complete: the engine could not read on.
    #[error("the archive that the Docker engine made ends in its middle")]
    Ended,
    #[error("the archive that the Docker engine made is broken: {0}")]
    Archive(#[from] TarError),
    /// What the archive says makes no sense here.
    #[error("{0}")]
    Odd(String),
    /// The engine does not give it, and may have only a bad moment.
    #[error("the Docker engine says: {message}")]
    Trouble { status: u16, message: String },
    /// The container is not there, so nobody knows what was in it.
    #[error("the container is gone: {0}")]
    Gone(String),
    #[error("the connection to the Docker engine broke: {0}")]
    Lost(String),
}

impl Fault {
    fn of(error: Error) -> Self {
        match error {
            // A container that is missing is not a file that is missing.
            Error::DockerResponseServerError { status_code: 404, message } if says(&message, "no such container") => {
                Self::Gone(message)
            }
            Error::DockerResponseServerError { status_code: 404, message }
                if NO_FILE.iter().any(|text| says(&message, text)) =>
            {
                Self::Missing
            }
            Error::DockerResponseServerError { message, .. } if says(&message, "not a directory") => Self::Missing,
            Error::DockerResponseServerError { message, .. }
                if says(&message, "too many links") || says(&message, "too many levels of symbolic links") =>
            {
                Self::Loop
            }
            Error::DockerResponseServerError { status_code: 502..=504, message } => Self::Lost(message),
            Error::DockerResponseServerError { status_code: status_code @ (404 | 409 | 500..), message } => {
                Self::Trouble { status: status_code, message: shown(status_code, &message) }
            }
            Error::DockerResponseServerError { status_code, message } => Self::Refused(shown(status_code, &message)),
            error => Self::Lost(error.to_string()),
        }
    }

    /// Whether it may be different next time.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Ended | Self::Trouble { .. })
    }

    /// How often it is asked again.
    pub(super) fn attempts(&self) -> u32 {
        if let Self::Trouble { .. } = self { TROUBLES } else { LOSSES }
    }

    /// What it means for a file that was found before.
    pub(super) fn of_read(self, at: u64, bytes: u64) -> ReadError {
        if self.is_passing() {
            ReadError::Lost(format!("{self}; {at} of {bytes} bytes had come"))
        } else {
            ReadError::Broken(self.to_string())
        }
    }
}

/// An engine's sentence, or its status where it has none.
fn shown(status: u16, message: &str) -> String {
    if message.is_empty() { format!("HTTP status {status}") } else { message.chars().take(500).collect() }
}

fn says(message: &str, what: &str) -> bool {
    message.to_ascii_lowercase().contains(what)
}

impl From<Fault> for EntryFault {
    fn from(fault: Fault) -> Self {
        match fault {
            // What an engine without words for it says of a path.
            Fault::Missing | Fault::Trouble { status: 404, .. } => Self::Missing,
            Fault::Lost(_) | Fault::Gone(_) => Self::Lost(fault.to_string()),
            fault => Self::Unreadable(io::Error::other(fault.to_string())),
        }
    }
}

/// An archive that is being received.
pub(super) struct Answer {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
    tar: Tar,
    bound: Duration,
    /// Given back after the stream, so that the next request finds the container unlocked, or nearly.
    _turn: Turn,
}

impl Answer {
    /// What comes next in the archive.
    pub(super) async fn next(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(event) = self.tar.next()? {
                return Ok(event);
            }
            match tokio::time::timeout(self.bound, self.stream.next()).await {
                Ok(Some(Ok(bytes))) => self.tar.feed(bytes),
                Ok(Some(Err(error))) => return Err(Fault::of(error)),
                Ok(None) => return Err(Fault::Ended),
                Err(_) => return Err(Fault::Lost(format!("nothing came for {} s", self.bound.as_secs()))),
            }
            self.bound = STALL_BOUND;
        }
    }

    /// Whose the last entry is.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.tar.owner()
    }

    /// Passes over what is left of the current file.
    pub(super) async fn skip(&mut self) -> Result<(), Fault> {
        self.tar.skip();
        while self.next().await? != Event::Done {}
        Ok(())
    }

    /// Lets the answer come to its end after the last file, if it does so soon: the engine then has nothing to complain about.
    pub(super) async fn finish(mut self) {
        let rest =
            async { while self.stream.next().await.is_some_and(|piece| piece.is_ok_and(|piece| piece.len() <= 4096)) {} };
        drop(tokio::time::timeout(REST_BOUND, rest).await);
    }
}

/// What is at a path, symbolic links followed.
pub(super) enum Found {
    /// A file: its archive, just before its bytes.
    File {
        answer: Answer,
        /// Without links.
        path: String,
        bytes: u64,
    },
    /// A directory: its archive, after its own entry.
    Directory {
        answer: Answer,
        path: String,
        /// As it is called in the archive.
        name: Vec<u8>,
    },
    Special(&'static str),
}

impl Archive {
    /// Asks for the archive of a path, the last component of which is not followed, and reads up to its first entry; none if
    /// there is no entry.
    pub(super) async fn get(&self, path: &str) -> Result<(Answer, Option<Item>), Fault> {
        let turn = self.inner.turns.take().await;
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let docker = self.inner.connection.docker().clone();
        let stream = Box::pin(docker.download_from_container(&self.inner.container_id, Some(options)));
        let mut answer = Answer { stream, tar: Tar::new(), bound: BEGIN_BOUND, _turn: turn };
        match answer.next().await? {
            Event::Entry(item) => Ok((answer, Some(item))),
            _ => Ok((answer, None)),
        }
    }

    async fn stat(&self, path: &str) -> Result<bollard::container::PathStatResponse, Fault> {
        let _turn = self.inner.turns.take().await;
        let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
        let docker = self.inner.connection.docker();
        docker.get_container_archive_info(&self.inner.container_id, Some(options)).await.map_err(Fault::of)
    }

    /// What is at an absolute path.
    pub(super) async fn find(&self, path: &str) -> Result<Found, Fault> {
        let mut path = path.to_owned();
        for _ in 0..=HOPS {
            let (answer, item) = self.get(&path).await?;
            let Some(Item { name, target, kind }) = item else {
                drop(answer);
                // Archives cannot hold sockets.
                return match self.stat(&path).await? {
                    stat if stat.file_mode & MODE_SOCKET != 0 => Ok(Found::Special("socket")),
                    _ => Err(Fault::Odd("the archive that the Docker engine made is empty".to_owned())),
                };
            };
            match kind {
                Kind::File(bytes) => return Ok(Found::File { answer, path, bytes }),
                Kind::Directory => return Ok(Found::Directory { answer, path, name }),
                Kind::Special(what) => return Ok(Found::Special(what)),
                Kind::HardLink => {
                    return Err(Fault::Odd("the archive that the Docker engine made begins with a link".to_owned()));
                }
                Kind::Link => {
                    drop(answer);
                    let told = self.stat(&path).await?.link_target;
                    // The engine knows where the whole way leads. One that does not say it leaves the letters.
                    path = if told.is_empty() {
                        beside(&path, &target)?
                    } else {
                        let told = clean(&told);
                        self.walk_to(&told, &path, &target).await?;
                        told
                    };
                }
            }
        }
        Err(Fault::Loop)
    }

    /// Goes from link to link by their letters to where the engine says that they lead, since it goes further than a kernel.
    /// Where the letters lead astray, as they do behind a directory that is a link, its word is taken.
    async fn walk_to(&self, end: &str, link: &str, target: &[u8]) -> Result<(), Fault> {
        let Ok(mut path) = beside(link, target) else { return Ok(()) };
        for _ in 1..HOPS {
            if path == end {
                return Ok(());
            }
            match self.get(&path).await {
                Ok((_, Some(Item { kind: Kind::Link, target, .. }))) => match beside(&path, &target) {
                    Ok(next) => path = next,
                    Err(_) => return Ok(()),
                },
                Ok(_) | Err(Fault::Missing) => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
        if path == end { Ok(()) } else { Err(Fault::Loop) }
    }

    /// As [`Archive::find`], and asks an engine that went away again for a while.
    pub(super) async fn find_patiently(&self, path: &str) -> Result<Found, Fault> {
        let mut losses = 0;
        loop {
            match self.find(path).await {
                Err(fault) if fault.is_passing() && losses < fault.attempts() => {
                    losses += 1;
                    wait(losses, path, &fault).await;
                }
                found => return found,
            }
        }
    }
}

/// Waits before the n-th further attempt.
pub(super) async fn wait(losses: u32, path: &str, fault: &Fault) {
    tracing::info!("Reading {path} from the container did not succeed, will try again: {fault}");
    tokio::time::sleep(FIRST_WAIT.mul_f64(1.5_f64.powi(losses.cast_signed() - 1))).await;
}

/// Where a link leads, by its letters.
fn beside(path: &str, target: &[u8]) -> Result<String, Fault> {
    let target = str::from_utf8(target).map_err(|_| Fault::Missing)?;
    let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
    Ok(if target.starts_with('/') { clean(target) } else { clean(&join(directory, target)) })
}
