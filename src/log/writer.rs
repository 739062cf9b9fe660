//! The only writer of a log: puts the bytes of the task and the lines of the worker in one order.
//!
//! ```text
//!  head ──limit reached──▶ tail ──seal──▶ sealed
//!   └──────────────seal────────────────────▲
//! ```
//!
//! In `head`, bytes go to the spool. In `tail`, they go to a ring of which the seal appends what is left. When bytes of the task
//! find no room, that is a loss: none is stored after it, the run is told to end, and the lines of the worker are kept in memory.

use std::{io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use super::{
    format::{self, Level},
    loss::Loss,
    spool::Spool,
    tail::{Tail, take_room},
};
use crate::seam::Clock;

/// After a loss, this much of the worker's lines is kept in memory. A run that is being ended has no more to say.
const APPENDIX_BYTES: usize = 256 << 10;

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
    stage: Stage,
    len: u64,
    /// Why the file takes no more: what follows goes to memory.
    full: Option<String>,
    /// How much did.
    appendix_bytes: usize,
    /// The next byte begins a line.
    at_line_start: bool,
    losses_told: bool,
}

impl Writer {
    pub(super) fn new(spool: Arc<Spool>, loss: Arc<Loss>, clock: Arc<dyn Clock>, dir: PathBuf, limit: Limit) -> Self {
        Self {
            spool,
            loss,
            clock,
            dir,
            limit,
            stage: Stage::Head,
            len: 0,
            full: None,
            appendix_bytes: 0,
            at_line_start: true,
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
        if let Some(why) = self.full.clone() {
            return self.lose(bytes.len(), &why);
        }
        let mut rest = bytes;
        if matches!(self.stage, Stage::Head) {
            let left = usize::try_from(self.limit.head_bytes.saturating_sub(self.len)).unwrap_or(usize::MAX);
            let (head, later) = bytes.split_at(bytes.len().min(left));
            if let Err((stored, e)) = self.store(head) {
                return self.lose(bytes.len() - stored, &e.to_string());
            }
            rest = later;
            if !rest.is_empty()
                && let Err(e) = self.turn_to_tail()
            {
                return self.lose(rest.len(), &e.to_string());
            }
        }
        if let Stage::Tail(tail) = &mut self.stage
            && !rest.is_empty()
        {
            match tail.write(rest) {
                Ok(()) => self.at_line_start = rest.ends_with(b"\n"),
                Err(e) => self.lose(rest.len(), &e.to_string()),
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
            Stage::Tail(tail) => {
                if let Err(e) = tail.write(text.as_bytes()) {
                    self.loss.add(text.len() as u64, || e.to_string());
                }
            }
            _ => self.store_anyhow(text.as_bytes()),
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
    ///
    /// Returns how many bytes the limit dropped.
    pub(super) fn append_tail(&mut self, sealing: &Sealing) -> u64 {
        let dropped = sealing.tail.as_ref().map_or(Ok(0), |tail| self.copy_tail(tail)).unwrap_or_else(|e| {
            self.loss.add(0, || e.to_string());
            0
        });
        // Both are best effort: nobody here needs them.
        let _ = self.spool.store_appendix();
        if sealing.tail.is_some() {
            let _ = self.spool.file.set_len(self.len);
        }
        self.spool.seal();
        dropped
    }

    fn copy_tail(&mut self, tail: &Tail) -> io::Result<u64> {
        let dropped = tail.start()?;
        let mut offset = dropped;
        if dropped > 0 {
            let text = format!("{dropped} bytes of the log were dropped here; what follows is its end.");
            let text = format::lines(Level::Warn, self.clock.wall(), &text);
            self.store(text.as_bytes()).map_err(|(_, e)| e)?;
        }
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let filled = tail.read_at(offset, &mut buffer)?;
            if filled == 0 {
                return Ok(dropped);
            }
            if let Err((stored, e)) = self.store(&buffer[..filled]) {
                self.keep_end(tail, offset + stored as u64, &e)?;
                return Ok(dropped);
            }
            offset += filled as u64;
        }
    }

    /// Keeps at least the very end of the tail, in memory, when the disk took only what is before `offset`.
    fn keep_end(&mut self, tail: &Tail, offset: u64, why: &io::Error) -> io::Result<()> {
        let begin = tail.end().saturating_sub(APPENDIX_BYTES as u64 / 2).max(offset);
        self.loss.add(begin - offset, || why.to_string());
        let mut at = begin;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let filled = tail.read_at(at, &mut buffer)?;
            if filled == 0 {
                return Ok(());
            }
            self.append_in_memory(&buffer[..filled]);
            at += filled as u64;
        }
    }

    fn turn_to_tail(&mut self) -> io::Result<()> {
        let tail = Tail::new(&self.dir, self.limit.tail_bytes)?;
        // The seal copies the ring into this room; so that cannot fail either.
        take_room(&self.spool.file, self.len, self.limit.tail_bytes + (1 << 20))?;
        let text = format!(
            "The log has reached its limit of {} bytes. From here on only its last {} bytes are kept; they follow when the task ends.",
            self.limit.head_bytes, self.limit.tail_bytes
        );
        let mut text = format::lines(Level::Warn, self.clock.wall(), &text);
        if !self.at_line_start {
            text.insert(0, '\n');
        }
        self.store(text.as_bytes()).map_err(|(_, e)| e)?;
        self.stage = Stage::Tail(tail);
        Ok(())
    }

    fn lose(&mut self, bytes: usize, why: &str) {
        if self.loss.add(bytes as u64, || why.to_owned()) {
            let text = format!("The log cannot be stored any longer: {why}. What the task writes from here on is missing.");
            self.tell(Level::Warn, &text);
        }
    }

    /// Stores lines of the worker, in memory if the disk takes no more.
    fn store_anyhow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.full.is_none() {
            match self.store(bytes) {
                Ok(()) => return,
                Err((stored, e)) => {
                    // Nothing is lost yet; only what the task writes after this will be.
                    self.full = Some(e.to_string());
                    rest = &bytes[stored..];
                }
            }
        }
        self.append_in_memory(rest);
    }

    fn append_in_memory(&mut self, bytes: &[u8]) {
        let (kept, excess) = bytes.split_at(bytes.len().min(APPENDIX_BYTES - self.appendix_bytes));
        if !excess.is_empty() {
            self.loss.add(excess.len() as u64, || "too many lines for a full disk".to_owned());
        }
        self.appendix_bytes += kept.len();
        self.spool.append_in_memory(kept);
        self.len += kept.len() as u64;
        self.spool.publish(self.len);
    }

    /// Appends to the file and lets readers see it. On an error, the number says how many bytes were stored all the same.
    fn store(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut stored = 0;
        let mut outcome = Ok(());
        while stored < bytes.len() {
            match self.spool.file.write_at(&bytes[stored..], self.len + stored as u64) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => stored += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => outcome = Err(e),
            }
            if outcome.is_err() {
                break;
            }
        }
        if stored > 0 {
            self.at_line_start = bytes[stored - 1] == b'\n';
            self.len += stored as u64;
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
    /// The most that is still to be appended.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail.as_ref().map_or(0, Tail::kept_bytes)
    }
}
