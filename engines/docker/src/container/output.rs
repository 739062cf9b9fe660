//! What a container says, byte by byte.
//!
//! A container with a terminal sends its output as it is, without the frames that an engine puts around the output of one
//! without. So the stream is not read by a client that looks for frames: we take the connection over and copy what comes.
//! A thread does that, as the sink may block for as long as a disk does. The engine buffers a bounded amount for us and then
//! lets the task wait, so nothing here grows with the output.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use hyper::Method;
use tc_engine::Sink;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::connection::{BlockingStream, Connection, Failure, RawStream};

/// As much as is taken at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long the last write to the sink may take after the connection was closed under the thread.
const LAST_WRITE_BOUND: Duration = Duration::from_secs(30);

/// An open ear: the engine keeps what the container says until somebody listens.
#[derive(Debug)]
pub(crate) struct Ear {
    stream: RawStream,
    first: Bytes,
}

impl Ear {
    /// Attaches to a container that does not run yet, so that its first byte is heard.
    pub(crate) async fn attach(connection: &Connection, bound: Duration, container: &str) -> Result<Self, Failure> {
        let path = format!("/containers/{container}/attach?stream=1&stdout=1&stderr=1");
        let exchange = connection.exchange(bound, Method::POST, &path, true).await?;
        let taken = timeout(bound, exchange.into_stream()).await.unwrap_or(Err(Failure::TimedOut(bound)));
        let (stream, first) = taken?;
        Ok(Self { stream, first })
    }

    /// Begins to give everything to the sink.
    pub(crate) fn listen(self, run: &str, sink: Arc<dyn Sink>) -> io::Result<Listener> {
        let Self { stream, first } = self;
        let mut stream = stream.into_blocking()?;
        let handle = stream.try_clone()?;
        let heard = Arc::new(AtomicU64::new(0));
        let (done, ended) = oneshot::channel();
        let counter = Arc::clone(&heard);
        thread::Builder::new().name(format!("hear-{run}")).spawn(move || {
            let copied = copy(&mut stream, &first, &*sink, &counter);
            // Nobody waits for it any more when the run was dropped.
            drop(done.send(copied));
        })?;
        Ok(Listener { stream: handle, heard, ended: Some(ended) })
    }
}

fn copy(stream: &mut BlockingStream, first: &[u8], sink: &dyn Sink, heard: &AtomicU64) -> io::Result<()> {
    if !first.is_empty() {
        sink.write(first);
        heard.fetch_add(first.len() as u64, Ordering::Relaxed);
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                sink.write(&chunk[..read]);
                heard.fetch_add(read as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How listening came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The engine closed the stream: everything was heard.
    Everything,
    /// The engine did not close it in time. What the container said before it ended has most likely been heard.
    NoEnd,
    /// The connection broke.
    Broken,
    /// The thread that listened has failed.
    Failed,
}

/// Gives a container's output to the sink until the engine closes the stream, or until this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    stream: BlockingStream,
    heard: Arc<AtomicU64>,
    /// None once its answer was taken.
    ended: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Listener {
    /// Waits for the end of the stream: for as long as bytes keep coming at least every `silence`, but never longer than
    /// `bound`. After it the sink gets nothing more.
    pub(crate) async fn drain(&mut self, silence: Duration, bound: Duration) -> Heard {
        let Some(ended) = &mut self.ended else { return Heard::Everything };
        let deadline = Instant::now() + bound;
        loop {
            let before = self.heard.load(Ordering::Relaxed);
            match timeout(silence, &mut *ended).await {
                Ok(answer) => {
                    self.ended = None;
                    return match answer {
                        Ok(Ok(())) => Heard::Everything,
                        Ok(Err(_)) => Heard::Broken,
                        Err(_) => Heard::Failed,
                    };
                }
                Err(_) if Instant::now() < deadline && self.heard.load(Ordering::Relaxed) != before => {}
                Err(_) => break,
            }
        }
        self.stream.close();
        let last = timeout(LAST_WRITE_BOUND, ended).await;
        self.ended = None;
        if last.is_ok_and(|answer| answer.is_err()) { Heard::Failed } else { Heard::NoEnd }
    }
}

impl Listener {
    /// Whether the engine has closed the stream already.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.ended {
            None => true,
            Some(ended) => !ended.is_empty() || ended.is_terminated(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stream.close();
    }
}
