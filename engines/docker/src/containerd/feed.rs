//! The archive as it arrives: chunks from the stream, read as one sequence of bytes without copying them.
//!
//! What passes by can be copied to a second thread, which computes its SHA-256 and may write it to a file. So the thread that
//! reads the archive and creates files and the thread that digests work at the same time.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// One step of the stream.
#[derive(Debug)]
pub(super) enum Piece {
    /// More of it.
    Bytes(Bytes),
    /// Its end, after everything was verified. A stream that stops without it broke.
    End,
}

/// Pieces that may wait to be read; their size is up to the stream.
pub(super) const PIECES: usize = 8;
/// Slices that may wait to be digested.
const SLICES: usize = 8;

/// The archive as a reader. Ends before [`Piece::End`] are errors.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: mpsc::Receiver<Piece>,
    chunk: Bytes,
    position: usize,
    ended: bool,
    copier: Copier,
    /// From where in the chunk the copier has to get what was read.
    copied: Option<usize>,
}

/// What became of a part of the archive that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digested {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many there were.
    pub bytes: u64,
}

impl Feed {
    /// Reads what is sent through the channel.
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> io::Result<Self> {
        Ok(Self { pieces, chunk: Bytes::new(), position: 0, ended: false, copier: Copier::start()?, copied: None })
    }

    /// The next bytes, at least `least` of them if there are as many. Not while copying.
    pub(super) fn look(&mut self, least: usize) -> io::Result<&[u8]> {
        while self.chunk.len() - self.position < least && !self.ended {
            let rest = self.chunk.slice(self.position..);
            self.position = self.chunk.len();
            if self.fill_buf()?.is_empty() {
                self.chunk = rest;
                self.position = 0;
            } else if !rest.is_empty() {
                let mut both = BytesMut::with_capacity(rest.len() + self.chunk.len());
                both.extend_from_slice(&rest);
                both.extend_from_slice(&self.chunk);
                self.chunk = both.freeze();
            }
        }
        Ok(&self.chunk[self.position..])
    }

    /// From here on everything that is read is digested, and written to a file if there is one.
    pub(super) fn copy_to(&mut self, file: Option<File>) -> io::Result<()> {
        self.copied = Some(self.position);
        self.copier.order(Order::Begin(file))
    }

    /// Ends the copy.
    pub(super) fn copied(&mut self) -> io::Result<Digested> {
        self.hand_over()?;
        self.copied = None;
        let (answer, done) = sync_channel(1);
        self.copier.order(Order::End(answer))?;
        done.recv().map_err(|_| copier_died())?
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if let Some(from) = self.copied
            && from < self.position
        {
            self.copier.order(Order::Slice(self.chunk.slice(from..self.position)))?;
            self.copied = Some(self.position);
        }
        Ok(())
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.chunk.len() && !self.ended {
            self.hand_over()?;
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(chunk)) => {
                    self.chunk = chunk;
                    self.position = 0;
                    self.copied = self.copied.map(|_| 0);
                }
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the archive's stream broke")),
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position = (self.position + amount).min(self.chunk.len());
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}

/// Reads what a buffered reader has at hand.
pub(super) fn read_buffered(reader: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let available = reader.fill_buf()?;
    let amount = available.len().min(buffer.len());
    buffer[..amount].copy_from_slice(&available[..amount]);
    reader.consume(amount);
    Ok(amount)
}

#[derive(Debug)]
enum Order {
    Begin(Option<File>),
    Slice(Bytes),
    End(SyncSender<io::Result<Digested>>),
}

/// The second thread. It ends with its owner.
#[derive(Debug)]
struct Copier {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    fn start() -> io::Result<Self> {
        let (orders, received) = sync_channel(SLICES);
        let thread = std::thread::Builder::new().name("layer-digest".to_owned()).spawn(move || copy(&received))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    fn order(&self, order: Order) -> io::Result<()> {
        let orders = self.orders.as_ref().ok_or_else(copier_died)?;
        orders.send(order).map_err(|_| copier_died())
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Nothing is lost with a panic here: what it would have answered is an error already.
            let _ = thread.join();
        }
    }
}

fn copier_died() -> io::Error {
    io::Error::other("the thread that digests layers ended")
}

fn copy(orders: &Receiver<Order>) {
    let (mut digest, mut bytes) = (Context::new(&SHA256), 0);
    let mut file: io::Result<Option<File>> = Ok(None);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Begin(to) => {
                digest = Context::new(&SHA256);
                bytes = 0;
                file = Ok(to);
            }
            Order::Slice(slice) => {
                digest.update(&slice);
                bytes += slice.len() as u64;
                if let Ok(Some(open)) = &mut file
                    && let Err(error) = open.write_all(&slice)
                {
                    file = Err(error);
                }
            }
            Order::End(answer) => {
                let done = std::mem::replace(&mut file, Ok(None)).map(|_| Digested { sha256: finish(digest), bytes });
                digest = Context::new(&SHA256);
                // Nobody waits any more if the reading thread gave up.
                let _ = answer.send(done);
            }
        }
    }
}

/// The digest of everything that was given to the context.
pub(super) fn finish(context: Context) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    sha256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(pieces: &[&[u8]], end: bool) -> Feed {
        let (sender, receiver) = mpsc::channel(pieces.len() + 1);
        for piece in pieces {
            sender.try_send(Piece::Bytes(Bytes::copy_from_slice(piece))).expect("room");
        }
        if end {
            sender.try_send(Piece::End).expect("room");
        }
        Feed::new(receiver).expect("a thread")
    }

    #[test]
    fn what_is_copied_is_what_was_read_meanwhile() {
        let mut feed = feed(&[b"abc", b"", b"defg", b"hij"], true);
        assert_eq!(feed.look(1).expect("a byte"), b"abc");
        feed.consume(1);
        let mut copy = tempfile::tempfile().expect("a file");
        feed.copy_to(Some(copy.try_clone().expect("a handle"))).expect("begun");
        let mut read = [0; 7];
        feed.read_exact(&mut read).expect("read");
        let digested = feed.copied().expect("copied");
        assert_eq!(&read, b"bcdefgh");
        assert_eq!(digested.bytes, 7);
        assert_eq!(digested.sha256.as_slice(), aws_lc_rs::digest::digest(&SHA256, b"bcdefgh").as_ref());
        let mut written = String::new();
        io::Seek::rewind(&mut copy).expect("rewound");
        copy.read_to_string(&mut written).expect("read");
        assert_eq!(written, "bcdefgh");
        assert_eq!(feed.look(10).expect("the rest"), b"ij");
    }

    #[test]
    fn looking_further_than_one_chunk_joins_them() {
        let mut feed = feed(&[b"a", b"b", b"c"], true);
        assert_eq!(feed.look(2).expect("two"), b"ab");
        assert_eq!(feed.look(9).expect("all"), b"abc");
        let mut all = String::new();
        feed.read_to_string(&mut all).expect("read");
        assert_eq!(all, "abc");
    }

    #[test]
    fn a_stream_that_breaks_is_not_an_end() {
        let mut feed = feed(&[b"abc"], false);
        let error = io::copy(&mut feed, &mut io::sink()).expect_err("broken");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
