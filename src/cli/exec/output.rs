//! What reaches the terminal or the pipe, written by a thread of its own so that a stalled reader stalls nothing else.
//!
//! ```text
//! followers ─┐
//! session ───┼─▶ channel (bounded) ─▶ one thread ─▶ standard output, and beside a live table standard error
//! warnings ──┘
//! ```

use std::io::{self, Write as _};

use tokio::sync::{mpsc, oneshot};

/// Pieces on their way.
const PIECES: usize = 16;

/// Something to write.
pub enum Piece {
    /// For standard output, as it is.
    Bytes(Vec<u8>),
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
    pub fn start() -> io::Result<Self> {
        let (pieces, mut queue) = mpsc::channel::<Piece>(PIECES);
        let (tell, done) = oneshot::channel();
        std::thread::Builder::new().name("standard output".to_owned()).spawn(move || {
            let mut written = Ok(());
            while let Some(piece) = queue.blocking_recv() {
                if written.is_ok() {
                    written = write(&piece);
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

fn write(piece: &Piece) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match piece {
        Piece::Bytes(bytes) => out.write_all(bytes).and_then(|()| out.flush()),
    }
}
