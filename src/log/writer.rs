//! The only writer of a log: puts the bytes of the task and the lines of the worker in one order.
//!
//! ```text
//!  head ──limit reached──▶ tail ──seal──▶ sealed
//!   └──────────────seal────────────────────▲
//! ```
//!
//! In `head`, bytes go to the spool. In `tail`, they go to a ring of which the seal appends what is left. When bytes of the task
//! find no room, that is a loss: none is stored after it, the run is told to end, and the lines of the worker use the reserve.

use std::{io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use super::{
    format::{self, Level},
    loss::Loss,
    room::{Author, Room},
    spool::Spool,
    tail::Tail,
};
use crate::seam::Clock;

/// Lines of the worker that found no room wait for the seal in memory, up to this size.
const HELD_BYTES: usize = 64 << 10;

const COPY_BYTES: usize = 256 << 10;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) head_bytes: u64,
    pub(super) tail_bytes: u64,
}

enum Stage {
    Head,
    Tail(Tail),
    Sealed,
}

pub(super) struct Writer {
    spool: Arc<Spool>,
    loss: Arc<Loss>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    limit: Limit,
    room: Room,
    stage: Stage,
    len: u64,
    /// The next byte begins a line.
    at_line_start: bool,
    held: Vec<u8>,
    losses_told: bool,
}

impl Writer {
    pub(super) fn new(spool: Arc<Spool>, loss: Arc<Loss>, clock: Arc<dyn Clock>, dir: PathBuf, limit: Limit) -> Self {
        let room = Room::new(&spool.file);
        Self {
            spool,
            loss,
            clock,
            dir,
            limit,
            room,
            stage: Stage::Head,
            len: 0,
            at_line_start: true,
            held: Vec::new(),
            losses_told: false,
        }
    }

    /// Bytes in the spool.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Stores what the task wrote.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if matches!(self.stage, Stage::Sealed) || bytes.is_empty() {
            return;
        }
        if self.loss.reason().is_some() {
            self.loss.add(bytes.len() as u64, String::new);
            return;
        }
        let mut rest = bytes;
        if matches!(self.stage, Stage::Head) {
            let left = usize::try_from(self.limit.head_bytes.saturating_sub(self.len)).unwrap_or(usize::MAX);
            let (head, later) = bytes.split_at(bytes.len().min(left));
            if let Err((stored, e)) = self.store(head, Author::Task) {
                return self.lose(bytes.len() - stored, &e);
            }
            rest = later;
            if !rest.is_empty()
                && let Err(e) = self.turn_to_tail()
            {
                return self.lose(rest.len(), &e);
            }
        }
        if let Stage::Tail(tail) = &mut self.stage
            && !rest.is_empty()
        {
            match tail.write(rest) {
                Ok(()) => self.at_line_start = rest.ends_with(b"\n"),
                Err(e) => self.lose(rest.len(), &e),
            }
        }
    }

    /// Stores a message of the worker, on lines of its own.
    pub(super) fn tell(&mut self, level: Level, message: &str) {
        if matches!(self.stage, Stage::Sealed) {
            return;
        }
        let mut text = format::lines(level, self.clock.wall(), message);
        // The task may be in the middle of a line, and readers look for the prefix at the begin of one.
        if !self.at_line_start {
            text.insert(0, '\n');
        }
        let lost = self.loss.reason().is_some();
        let left = self.limit.head_bytes.saturating_sub(self.len);
        if matches!(self.stage, Stage::Head) && !lost && left < text.len() as u64 && self.turn_to_tail().is_ok() {
            return self.tell(level, message);
        }
        match &mut self.stage {
            // A ring that cannot be written: the line follows after what it kept.
            Stage::Tail(tail) => match tail.write(text.as_bytes()) {
                Ok(()) => {}
                Err(_) => self.hold(text.as_bytes()),
            },
            _ => self.store_or_hold(text.as_bytes()),
        }
        self.at_line_start = true;
    }

    /// Says once how much was lost, if something was.
    pub(super) fn tell_losses(&mut self) {
        if let Some(reason) = self.loss.reason()
            && !self.losses_told
        {
            self.losses_told = true;
            let text = format!("{} bytes that the task wrote are missing from this log: {reason}", self.loss.bytes());
            self.tell(Level::Warn, &text);
        }
    }

    /// Ends the log: nothing is accepted after this. What the tail keeps still has to be appended; see [`Writer::append_tail`].
    /// `None` if it was sealed before.
    pub(super) fn seal(&mut self) -> Option<Sealing> {
        if matches!(self.stage, Stage::Sealed) {
            return None;
        }
        self.tell_losses();
        match std::mem::replace(&mut self.stage, Stage::Sealed) {
            Stage::Tail(tail) => Some(Sealing { tail: Some(tail) }),
            _ => Some(Sealing { tail: None }),
        }
    }

    /// Appends what the ring kept, and gives unused room back. May take as long as it takes to copy a file of that size.
    pub(super) fn append_tail(&mut self, sealing: &Sealing) {
        if let Some(tail) = &sealing.tail
            && let Err(e) = self.copy_tail(tail)
        {
            self.loss.add(0, || e.to_string());
        }
        self.store_or_hold(&[]);
        if !self.held.is_empty() {
            self.loss.add(self.held.len() as u64, || "no room for the lines of the worker".to_owned());
        }
        if self.room.spare_bytes(self.len) > (1 << 20) {
            // Best effort: the room comes back with the file anyway.
            let _ = self.spool.file.set_len(self.len);
        }
        self.spool.seal();
    }

    fn copy_tail(&mut self, tail: &Tail) -> io::Result<()> {
        let mut offset = tail.start()?;
        if offset > 0 {
            let text = format!("{offset} bytes of the log were dropped here; what follows is its end.");
            let text = format::lines(Level::Warn, self.clock.wall(), &text);
            self.store(text.as_bytes(), Author::Worker).map_err(|(_, e)| e)?;
        }
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let filled = tail.read_at(offset, &mut buffer)?;
            if filled == 0 {
                return Ok(());
            }
            if let Err((stored, e)) = self.store(&buffer[..filled], Author::Worker) {
                self.loss.add((filled - stored) as u64, || e.to_string());
                return Err(e);
            }
            offset += filled as u64;
        }
    }

    fn turn_to_tail(&mut self) -> io::Result<()> {
        let tail = Tail::new(&self.dir, self.limit.tail_bytes)?;
        // The seal copies the ring into this room; so that cannot fail either.
        self.room.extend(&self.spool.file, self.len + self.limit.tail_bytes + (1 << 20))?;
        let text = format!(
            "The log has reached its limit of {} bytes. From here on only its last {} bytes are kept; they follow when the task ends.",
            self.limit.head_bytes, self.limit.tail_bytes
        );
        let mut text = format::lines(Level::Warn, self.clock.wall(), &text);
        if !self.at_line_start {
            text.insert(0, '\n');
        }
        self.store(text.as_bytes(), Author::Worker).map_err(|(_, e)| e)?;
        self.stage = Stage::Tail(tail);
        Ok(())
    }

    fn lose(&mut self, bytes: usize, why: &io::Error) {
        if self.loss.add(bytes as u64, || why.to_string()) {
            let text = format!("The log cannot be stored any longer: {why}. What the task writes from here on is missing.");
            self.tell(Level::Warn, &text);
        }
    }

    /// Stores lines of the worker, after those that wait; what finds no room waits.
    fn store_or_hold(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        if let Err((stored, _)) = self.store(&all, Author::Worker) {
            self.hold(&all[stored..]);
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let (kept, excess) = bytes.split_at(bytes.len().min(HELD_BYTES.saturating_sub(self.held.len())));
        self.held.extend_from_slice(kept);
        if !excess.is_empty() {
            self.loss.add(excess.len() as u64, || "no room for the lines of the worker".to_owned());
        }
    }

    /// Appends to the spool and lets readers see it. On an error, the number says how many bytes were stored all the same.
    fn store(&mut self, bytes: &[u8], author: Author) -> Result<(), (usize, io::Error)> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (granted, refusal) = self.room.take(&self.spool.file, self.len, bytes.len() as u64, author);
        let mut left = &bytes[..usize::try_from(granted).unwrap_or(bytes.len()).min(bytes.len())];
        let mut outcome = refusal.map_or(Ok(()), Err);
        let begin = self.len;
        while !left.is_empty() {
            match self.spool.file.write_at(left, self.len) {
                Ok(0) => {
                    outcome = Err(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(n) => {
                    self.len += n as u64;
                    left = &left[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    outcome = Err(e);
                    break;
                }
            }
        }
        // Not more than `bytes.len()`.
        let stored = usize::try_from(self.len - begin).unwrap_or(bytes.len());
        if stored > 0 {
            self.at_line_start = bytes[stored - 1] == b'\n';
            self.spool.publish(self.len);
        }
        outcome.map_err(|e| (stored, e))
    }
}

/// What a log was when it was sealed.
pub(super) struct Sealing {
    tail: Option<Tail>,
}

impl Sealing {
    pub(super) fn has_tail(&self) -> bool {
        self.tail.is_some()
    }
}
