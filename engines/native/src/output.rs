//! The way of a task's output: one pipe for all commands of a run, and one thread that empties it into the sink.
//!
//! ```text
//! commands and their background processes ──▶ pipe ──▶ thread "task-output" ──▶ Sink::write
//! ```
//!
//! A command never gets the log file itself: a background process of it could write into a log that is already sealed.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tc_engine::Sink;
use tc_sys::fd;
use tokio::sync::Notify;

/// Room for output that the worker has not taken yet. A task that writes faster waits.
const PIPE_BYTES: usize = 1 << 20;
/// The most that the sink gets at once.
const BUFFER_BYTES: usize = 256 << 10;
/// How long the sink may take for a pipe full of output. Longer means that the disk below it is dead.
const DELIVERY_BOUND: Duration = Duration::from_secs(120);
/// How long the pipe may stay open after everything in the task's group or tree is dead. Longer means that something got out.
const END_BOUND: Duration = Duration::from_secs(2);

/// Both ends of the pipe, before anything reads it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: File,
    write: OwnedFd,
    stop: OwnedFd,
}

impl Pipe {
    /// Makes the pipe.
    pub(crate) fn new() -> io::Result<Self> {
        let (read, write) = fd::pipe()?;
        fd::set_nonblocking(read.as_fd())?;
        // Users without privileges have a budget for large pipes; a small one works as well, only slower.
        drop(fd::set_pipe_bytes(write.as_fd(), PIPE_BYTES));
        Ok(Self { read: File::from(read), write, stop: fd::event()? })
    }

    /// Starts the thread. Must be called inside a runtime.
    pub(crate) fn open(self, run: &str, sink: Arc<dyn Sink>) -> io::Result<Output> {
        let flow = Arc::new(Flow { read: self.read, stop: self.stop, counts: Mutex::default(), changed: Notify::new() });
        let thread_flow = Arc::clone(&flow);
        thread::Builder::new().name(format!("out-{run}")).spawn(move || {
            // Tells those who wait, whether the thread comes to its end or panics in the sink.
            let ending = Ending(&thread_flow);
            ending.0.carry(&*sink);
        })?;
        Ok(Output { flow, write: Some(Arc::new(self.write)) })
    }
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes taken out of the pipe.
    taken: u64,
    /// Bytes that the sink has got.
    delivered: u64,
    /// After this many bytes the thread ends even if the pipe is still open.
    limit: Option<u64>,
    /// The pipe came to its end, or the limit was reached.
    complete: bool,
    /// There is no thread any more.
    ended: bool,
}

struct Flow {
    read: File,
    stop: OwnedFd,
    counts: Mutex<Counts>,
    changed: Notify,
}

struct Ending<'a>(&'a Flow);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.counts().ended = true;
        self.0.changed.notify_waiters();
    }
}

impl Flow {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's whole life.
    fn carry(&self, sink: &dyn Sink) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let taken = self.take(&mut buffer);
            match taken {
                Ok(0) => break,
                Ok(bytes) => {
                    sink.write(&buffer[..bytes]);
                    let mut counts = self.counts();
                    counts.delivered += bytes as u64;
                    if counts.limit.is_some_and(|limit| counts.delivered >= limit) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Somebody who waits for delivery has it now: the pipe was empty after the last one.
                    self.changed.notify_waiters();
                    if self.counts().limit.is_some() {
                        break;
                    }
                    if fd::wait_any([self.read.as_fd(), self.stop.as_fd()], None).is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Reading from a pipe of ours cannot fail. If it does, those who wait learn that the thread is gone.
                Err(_) => return,
            }
            self.changed.notify_waiters();
        }
        self.counts().complete = true;
    }

    /// Takes bytes and counts them in one step, so that nobody can see the pipe empty and the bytes not counted.
    fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut counts = self.counts();
        let bytes = (&self.read).read(buffer)?;
        counts.taken += bytes as u64;
        Ok(bytes)
    }

    /// The count of delivered bytes at which everything written until now has arrived.
    fn target(&self) -> io::Result<u64> {
        let counts = self.counts();
        Ok(counts.taken + fd::waiting_bytes(self.read.as_fd())?)
    }

    async fn wait_until(&self, reached: impl Fn(&Counts) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no notification is missed.
            changed.as_mut().enable();
            {
                let counts = self.counts();
                if reached(&counts) {
                    return true;
                }
                if counts.ended {
                    return false;
                }
            }
            changed.await;
        }
    }
}

/// The open way of a run's output.
pub(crate) struct Output {
    flow: Arc<Flow>,
    write: Option<Arc<OwnedFd>>,
}

impl Output {
    /// The end that commands write to.
    pub(crate) fn write_end(&self) -> Option<Arc<OwnedFd>> {
        self.write.clone()
    }

    /// Waits until the sink has got everything that was in the pipe when this was called.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let target = self.flow.target().map_err(|error| format!("measure the task's output: {error}"))?;
        let arrived = self.flow.wait_until(|counts| counts.delivered >= target);
        match tokio::time::timeout(DELIVERY_BOUND, arrived).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the thread that takes the task's output has failed".into()),
            Err(_) => Err(format!("the task's output could not be stored within {} s", DELIVERY_BOUND.as_secs())),
        }
    }

    /// Closes the pipe after the last process, and waits until the sink has got everything. Nothing reaches it afterwards.
    pub(crate) async fn finish(mut self) -> Result<(), String> {
        self.write = None;
        let ended = self.flow.wait_until(|counts| counts.ended);
        if tokio::time::timeout(END_BOUND, ended).await.is_err() {
            // A process that got out of the task's group holds the pipe, or the sink is slow. What counts is what is in the pipe.
            let target = self.flow.target().map_err(|error| format!("measure the task's output: {error}"))?;
            self.flow.counts().limit = Some(target);
            fd::raise(self.flow.stop.as_fd()).map_err(|error| format!("wake the output thread: {error}"))?;
            if tokio::time::timeout(DELIVERY_BOUND, self.flow.wait_until(|counts| counts.ended)).await.is_err() {
                return Err(format!("the task's output could not be stored within {} s", DELIVERY_BOUND.as_secs()));
            }
        }
        if self.flow.counts().complete { Ok(()) } else { Err("the thread that takes the task's output has failed".into()) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Whoever drops this without finishing has given up on the output; the thread must not wait for a process that lives.
        let mut counts = self.flow.counts();
        counts.limit.get_or_insert(0);
        drop(counts);
        drop(fd::raise(self.flow.stop.as_fd()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Collected(Mutex<Vec<u8>>);
    impl Sink for Collected {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        }
    }

    struct Broken;
    impl Sink for Broken {
        fn write(&self, _bytes: &[u8]) {
            panic!("as a test wants it");
        }
    }

    #[tokio::test]
    async fn settling_means_delivered() {
        let sink = Arc::new(Collected(Mutex::default()));
        let output = Pipe::new().expect("a pipe").open("t", sink.clone()).expect("open");
        for round in 1..200_usize {
            let end = output.write_end().expect("still open");
            let mut file = File::from(end.try_clone().expect("cloned"));
            file.write_all(&[b'x'; 100]).expect("written");
            output.settle().await.expect("settled");
            assert_eq!(sink.0.lock().expect("not poisoned").len(), 100 * round);
        }
        output.finish().await.expect("finished");
    }

    #[tokio::test]
    async fn a_pipe_that_somebody_holds_ends_with_what_is_in_it() {
        let sink = Arc::new(Collected(Mutex::default()));
        let output = Pipe::new().expect("a pipe").open("t", sink.clone()).expect("open");
        let held = output.write_end().expect("open").try_clone().expect("cloned");
        File::from(held.try_clone().expect("cloned")).write_all(b"before").expect("written");
        output.finish().await.expect("finished");
        assert_eq!(*sink.0.lock().expect("not poisoned"), b"before");
        drop(held);
    }

    #[tokio::test]
    async fn a_sink_that_panics_is_noticed() {
        let output = Pipe::new().expect("a pipe").open("t", Arc::new(Broken)).expect("open");
        let end = output.write_end().expect("open");
        File::from(end.try_clone().expect("cloned")).write_all(b"x").expect("written");
        assert!(output.settle().await.is_err());
        drop(end);
        assert!(output.finish().await.is_err());
    }
}
