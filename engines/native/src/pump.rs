//! The way of a task's output: one pipe for all commands of a run, read by one thread.
//!
//! The thread waits for bytes without holding anything, and takes them under a lock. So whoever holds the lock knows that
//! every byte that was taken out of the pipe has been given to the sink, and can take the rest itself.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tc_engine::Sink;

/// Bytes taken at a time.
const PIECE: usize = 256 << 10;
/// Size of the pipe, where the kernel grants it: a task that writes in bursts does not wait for the disk.
const PIPE_BYTES: i32 = 1 << 20;
/// Longest wait for the end of the output once nothing of the task runs. Only a descriptor that was handed to a process
/// outside the task keeps it open longer.
const END_BOUND: Duration = Duration::from_secs(2);

struct Taker {
    pipe: PipeReader,
    buffer: Vec<u8>,
    sink: Arc<dyn Sink>,
}

impl Taker {
    /// Takes one piece. Returns how much, nothing if there is none now, and an error at the end of the output.
    fn take(&mut self) -> io::Result<usize> {
        match self.pipe.read(&mut self.buffer) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(n) => {
                self.sink.write(&self.buffer[..n]);
                Ok(n)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            Err(e) => Err(e),
        }
    }
}

/// The pump of one run.
pub struct Pump {
    taker: Arc<Mutex<Taker>>,
    /// What commands write to; closed when nothing of the task runs any more.
    writer: Option<PipeWriter>,
    stopped: Arc<AtomicBool>,
    /// Dropping it wakes the thread.
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts to take output for a sink.
    pub fn start(sink: Arc<dyn Sink>) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (woken, wake) = io::pipe()?;
        // A user may have used up what pipes may take; then this one keeps its usual size.
        let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let to_wait_on = reader.try_clone()?;
        let taker = Arc::new(Mutex::new(Taker { pipe: reader, buffer: vec![0; PIECE], sink }));
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("task-output".to_owned()).stack_size(128 << 10).spawn({
            let (taker, stopped) = (Arc::clone(&taker), Arc::clone(&stopped));
            move || pump(&taker, to_wait_on.as_fd(), woken.as_fd(), &stopped)
        })?;
        Ok(Self { taker, writer: Some(writer), stopped, wake: Some(wake), thread: Some(thread) })
    }

    /// Where commands write to.
    pub fn entrance(&self) -> Option<BorrowedFd<'_>> {
        self.writer.as_ref().map(|writer| writer.as_fd())
    }

    /// Returns when everything that is in the pipe now has been given to the sink. What background processes add meanwhile
    /// is not waited for.
    pub async fn catch_up(&self) {
        let done =
            self.taker.try_lock().is_ok_and(|taker| tc_sys::process::readable_bytes(taker.pipe.as_fd()).is_ok_and(|n| n == 0));
        if done {
            return;
        }
        let taker = Arc::clone(&self.taker);
        // Writing to the sink may block on the disk.
        let caught_up = tokio::task::spawn_blocking(move || {
            let mut taker = taker.lock().unwrap_or_else(PoisonError::into_inner);
            let mut left = tc_sys::process::readable_bytes(taker.pipe.as_fd()).unwrap_or(0);
            while left > 0 {
                match taker.take() {
                    Ok(n @ 1..) => left = left.saturating_sub(n),
                    _ => return,
                }
            }
        });
        // A sink that panics has lost the output; the run's own check of its log tells.
        drop(caught_up.await);
    }

    /// Closes our end and returns when the rest has been given to the sink.
    pub async fn finish(mut self) {
        self.writer = None;
        let Some(thread) = self.thread.take() else { return };
        let deadline = tokio::time::Instant::now() + END_BOUND;
        let mut pause = Duration::from_micros(200);
        while !thread.is_finished() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        self.stopped.store(true, Ordering::Release);
        self.wake = None;
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
    }
}

fn pump(taker: &Mutex<Taker>, pipe: BorrowedFd<'_>, woken: BorrowedFd<'_>, stopped: &AtomicBool) {
    loop {
        let mut waiting = [PollFd::new(pipe, PollFlags::POLLIN), PollFd::new(woken, PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
        if stopped.load(Ordering::Acquire) {
            return;
        }
        // The end of the output is an error of `take`.
        if taker.lock().unwrap_or_else(PoisonError::into_inner).take().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[derive(Default)]
    struct Collected(Mutex<Vec<u8>>);

    impl Sink for Collected {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        }
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_catching_up_and_the_rest_after_the_end() {
        let sink = Arc::<Collected>::default();
        let pump = Pump::start(sink.clone()).expect("started");
        let mut writer: std::fs::File = pump.entrance().expect("open").try_clone_to_owned().expect("cloned").into();
        for round in 1..=200 {
            writer.write_all(&[7; 1000]).expect("written");
            pump.catch_up().await;
            assert_eq!(sink.0.lock().expect("not poisoned").len(), round * 1000);
        }
        writer.write_all(b"end").expect("written");
        drop(writer);
        pump.finish().await;
        assert!(sink.0.lock().expect("not poisoned").ends_with(b"end"));
    }

    #[tokio::test]
    async fn a_descriptor_that_went_elsewhere_does_not_hold_the_end() {
        let sink = Arc::<Collected>::default();
        let pump = Pump::start(sink.clone()).expect("started");
        let elsewhere = pump.entrance().expect("open").try_clone_to_owned().expect("cloned");
        pump.finish().await;
        drop(elsewhere);
    }
}
