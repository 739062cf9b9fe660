//! A directory: one walk through its archive, then what the walk had to leave for later.
//!
//! ```text
//! the archive, once, with the turn held                        afterwards, one request each
//! ───────────────────────────────────────────────────────     ─────────────────────────────────────────────────
//! a file of ≤ 1 MiB     ─▶ its bytes, in memory
//! a file of ≤ 64 MiB    ─▶ spooled, in a file without a name
//! a larger file         ─▶ passed over, noted ───────────────▶ a stream, which asks when it is opened
//! a link, hard or not   ─▶ noted ────────────────────────────▶ asked for by its own path
//! a FIFO, a device      ─▶ a fault
//! ```
//!
//! A hard link is asked for by its own path and not by that of its target: the engine finds out by inode numbers alone which
//! files are the same, and files on different volumes may have the same one.
//!
//! What waits for its reader is bounded by the channel and by the number of uploads, so memory and spool are, too. While the
//! reader is busy the turn is held; if somebody else wants it then, the walk gives it up and later begins again where it was.

use std::{io, time::Duration};

use tc_engine::{Content, Entry, EntryFault};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    Archive, IN_MEMORY, join,
    request::{Answer, Fault, Found, wait},
    source,
    tar::{Event, Item, Kind},
};

/// Files up to this size are spooled, so that several of them can be uploaded at a time.
const SPOOLED: u64 = 64 << 20;
/// So many things are left for later at most; then they come first.
const NOTED: usize = 10_000;
/// How long a walk waits for its reader while others want the turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// The directory: its archive after the first entry, its path without links, its name in the archive.
pub(super) struct Top {
    pub(super) answer: Answer,
    pub(super) path: String,
    pub(super) name: Vec<u8>,
}

/// Something that is asked for after the walk.
enum Later {
    /// A link, to be looked at.
    Link(String),
    Large(String, u64),
}

/// Why a walk through the archive stops.
enum Stop {
    /// It is through.
    End,
    /// Others want the turn, while this entry waits for its reader.
    Yield(Option<Entry>),
    /// There is enough to do.
    Full,
    /// The receiver is gone.
    Unwanted,
    Fault(Fault),
}

/// Sends everything in a directory, whose archive has begun.
pub(super) async fn run(archive: &Archive, shown: &str, top: Top, send: &Sender<Entry>) {
    let Top { mut answer, path, name } = top;
    let mut walk = Walk { archive, shown, path, name, send, passed: 0, last: Vec::new(), later: Vec::new() };
    let mut losses = 0;
    loop {
        let passed = walk.passed;
        let mut stop = walk.through(answer).await;
        if let Stop::Yield(Some(entry)) = stop {
            stop = if send.send(entry).await.is_ok() { Stop::Yield(None) } else { Stop::Unwanted };
        }
        // What was noted is known to be there; also before an error.
        let fault = match stop {
            Stop::Unwanted => return,
            Stop::Yield(_) => None,
            Stop::Fault(fault) if fault.is_passing() && (losses < fault.attempts() || walk.passed > passed) => {
                losses = if walk.passed > passed { 1 } else { losses + 1 };
                wait(losses, &walk.path, &fault).await;
                None
            }
            stop => {
                if !walk.settle().await {
                    return;
                }
                match stop {
                    Stop::End => return,
                    Stop::Fault(fault) => Some(fault),
                    _ => None,
                }
            }
        };
        let again = match fault {
            Some(fault) => Err(fault),
            None => archive.find_patiently(&walk.path).await,
        };
        answer = match again {
            Ok(Found::Directory { answer, name, .. }) if name == walk.name => answer,
            Ok(_) => {
                walk.fail(Fault::Odd("it is not a directory any more".to_owned())).await;
                return;
            }
            Err(fault) => {
                walk.fail(fault).await;
                return;
            }
        };
    }
}

struct Walk<'a> {
    archive: &'a Archive,
    shown: &'a str,
    path: String,
    name: Vec<u8>,
    send: &'a Sender<Entry>,
    /// Entries of the archive that are dealt with, and the name of the last of them.
    passed: u64,
    last: Vec<u8>,
    later: Vec<Later>,
}

impl Walk<'_> {
    /// Goes through the archive from where an earlier walk stopped.
    async fn through(&mut self, mut answer: Answer) -> Stop {
        let mut at = 0;
        loop {
            let item = match answer.next().await {
                Ok(Event::Entry(item)) => item,
                Ok(Event::End) if at < self.passed => return Stop::Fault(changed()),
                Ok(Event::End) => {
                    answer.finish().await;
                    return Stop::End;
                }
                // Files are read to their end below.
                Ok(Event::Data(_) | Event::Done) => continue,
                Err(fault) => return Stop::Fault(fault),
            };
            at += 1;
            if at <= self.passed {
                if at == self.passed && item.name != self.last {
                    return Stop::Fault(changed());
                }
                if let Kind::File(_) = item.kind
                    && let Err(fault) = answer.skip().await
                {
                    return Stop::Fault(fault);
                }
                continue;
            }
            let entry = match self.entry(&item, &mut answer).await {
                Ok(entry) => entry,
                Err(fault) => return Stop::Fault(fault),
            };
            (self.passed, self.last) = (at, item.name);
            if let Some(entry) = entry
                && let Some(stop) = self.give(entry).await
            {
                return stop;
            }
            if self.later.len() >= NOTED {
                return Stop::Full;
            }
        }
    }

    /// What to say about one thing in the archive; nothing for a directory and for what comes later. Its bytes are read.
    async fn entry(&mut self, item: &Item, answer: &mut Answer) -> Result<Option<Entry>, Fault> {
        let relative = self.relative(&item.name)?;
        let Ok(relative) = str::from_utf8(relative) else {
            if let Kind::File(_) = item.kind {
                answer.skip().await?;
            }
            let error = io::Error::new(io::ErrorKind::InvalidFilename, "its name is not valid UTF-8");
            let content = Err(EntryFault::Unreadable(error));
            let is_directory = item.kind == Kind::Directory;
            return Ok((!is_directory).then(|| self.about(&String::from_utf8_lossy(relative), content)));
        };
        let content = match item.kind {
            Kind::Directory => return Ok(None),
            Kind::HardLink | Kind::Link => {
                self.later.push(Later::Link(relative.to_owned()));
                return Ok(None);
            }
            Kind::Special(what) => Err(EntryFault::Special(what)),
            Kind::File(bytes) if bytes <= IN_MEMORY => Ok(source::keep(answer).await?),
            Kind::File(bytes) => {
                let spooled = if bytes <= SPOOLED {
                    source::spool(self.archive, answer, bytes).await?
                } else {
                    answer.skip().await?;
                    None
                };
                let Some(content) = spooled else {
                    self.later.push(Later::Large(relative.to_owned(), bytes));
                    return Ok(None);
                };
                Ok(content)
            }
        };
        Ok(Some(self.about(relative, content)))
    }

    /// The way from the directory to something in it.
    fn relative<'n>(&self, name: &'n [u8]) -> Result<&'n [u8], Fault> {
        let top = self.name.strip_suffix(b"/").unwrap_or(&self.name);
        let below = name.strip_prefix(top).and_then(|rest| rest.strip_prefix(b"/"));
        let below = below.map(|rest| rest.strip_suffix(b"/").unwrap_or(rest));
        let is_plain = |way: &&[u8]| way.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        below.filter(is_plain).ok_or_else(|| {
            Fault::Odd(format!("the archive that the Docker engine made holds {:?}", String::from_utf8_lossy(name)))
        })
    }

    fn about(&self, relative: &str, content: Result<Content, EntryFault>) -> Entry {
        Entry { relative: relative.to_owned(), shown: join(self.shown, relative), content }
    }

    /// Sends an entry, while the turn is held. Returns why the walk has to stop, if it has to.
    async fn give(&self, entry: Entry) -> Option<Stop> {
        let entry = match self.send.try_send(entry) {
            Ok(()) => return None,
            Err(TrySendError::Closed(_)) => return Some(Stop::Unwanted),
            Err(TrySendError::Full(entry)) => entry,
        };
        loop {
            match tokio::time::timeout(PATIENCE, self.send.reserve()).await {
                Ok(Ok(permit)) => {
                    permit.send(entry);
                    return None;
                }
                Ok(Err(_)) => return Some(Stop::Unwanted),
                Err(_) if self.archive.inner.turns.is_wanted() => return Some(Stop::Yield(Some(entry))),
                Err(_) => {}
            }
        }
    }

    /// Sends what was left for later. Returns whether anybody still wants entries.
    async fn settle(&mut self) -> bool {
        for later in std::mem::take(&mut self.later) {
            let (relative, content) = match later {
                Later::Large(relative, bytes) => {
                    let content = source::large(self.archive, join(&self.path, &relative), bytes);
                    (relative, Ok(content))
                }
                Later::Link(relative) => {
                    let found = self.archive.find_patiently(&join(&self.path, &relative)).await;
                    let content = self.archive.content(found).await;
                    (relative, content)
                }
            };
            if self.send.send(self.about(&relative, content)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The rest of the directory cannot be read.
    async fn fail(&self, fault: Fault) {
        // Nobody may want it any more.
        drop(self.send.send(Entry { relative: String::new(), shown: self.shown.to_owned(), content: Err(fault.into()) }).await);
    }
}

fn changed() -> Fault {
    Fault::Odd("the directory changed while it was read".to_owned())
}
