//! What reaches the terminal or the pipe, written by a thread of its own so that a stalled reader stalls nothing else.
//!
//! ```text
//! followers ─┐
//! session ───┼─▶ channel (bounded) ─▶ one thread ─▶ standard output, and beside a live table standard error
//! warnings ──┘
//! ```

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{picture::Picture, screen::Screen};
use crate::cli::problems::say;

/// Pieces on their way.
const PIECES: usize = 16;

/// Something to write.
pub enum Piece {
    /// For standard output, as it is. Beside a live table it appears with the next picture, above it.
    Bytes(Vec<u8>),
    /// For standard error, whatever stands on the screen.
    Note(String),
    /// What a live table shows now.
    Picture(Picture),
    /// There is no live table any more.
    Clear,
    /// Everything before this is written: whoever waits for that may go on.
    Reached(oneshot::Sender<()>),
}

/// Where pieces go.
pub type Writer = mpsc::Sender<Piece>;

/// Standard output.
pub struct Output {
    pieces: Writer,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Starts the thread.
    pub fn start(colours: bool) -> io::Result<Self> {
        let (pieces, mut queue) = mpsc::channel::<Piece>(PIECES);
        let (tell, done) = oneshot::channel();
        std::thread::Builder::new().name("standard output".to_owned()).spawn(move || {
            let mut screen = Screen::new(colours, io::stderr().is_terminal());
            let mut written = Ok(());
            while let Some(piece) = queue.blocking_recv() {
                match piece {
                    Piece::Note(text) if written.is_err() => say(&text),
                    piece if written.is_ok() => written = screen.write(&mut io::stdout().lock(), piece),
                    _ => {}
                }
            }
            // A reader that has gone away (`| head`) has seen what it wanted.
            let told = written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) });
            // Nobody waits any more when the time for it is over.
            drop(tell.send(told));
        })?;
        Ok(Self { pieces, done })
    }

    /// For one who writes.
    pub fn writer(&self) -> Writer {
        self.pieces.clone()
    }

    /// Waits for a place for one piece; none if the thread has failed. Cancel safe.
    pub async fn room(&self) -> Option<mpsc::Permit<'_, Piece>> {
        self.pieces.reserve().await.ok()
    }

    /// Waits until everything is written, these pieces last.
    pub async fn close(self, last: impl IntoIterator<Item = Piece>) -> io::Result<()> {
        for piece in last {
            if self.pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(self.pieces);
        self.done.await.unwrap_or_else(|_| Err(io::Error::other("its thread has failed")))
    }
}

/// Standard error for the worker's own log: beside a live table it goes the table's way.
#[derive(Clone, Default)]
pub struct Beside(Arc<Mutex<Option<mpsc::WeakSender<Piece>>>>);

impl Beside {
    /// From now on there is a live table, until this output is closed.
    pub fn table(&self, output: &Output) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(output.pieces.downgrade());
    }
}

impl Write for Beside {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let output = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(mpsc::WeakSender::upgrade);
        let note = Piece::Note(String::from_utf8_lossy(text).into_owned());
        match output.map(|output| output.try_send(note)) {
            Some(Ok(())) => Ok(text.len()),
            // A line across a table is better than none.
            Some(Err(_)) | None => io::stderr().write_all(text).map(|()| text.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
