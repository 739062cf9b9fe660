//! Compression of a spool into one gzip member, in blocks.
//!
//! Each block of [`BLOCK_BYTES`] is compressed by itself with the 32 KiB before it as dictionary, and ends at a byte boundary, so
//! blocks can be made by several threads and put together in order. Whoever has made the next block appends it; whoever comes
//! late with a block that another one has appended throws its own away. So the seal never waits for a slow thread.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use aws_lc_rs::digest;
use flate2::Crc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{
    block::{BLOCK_BYTES, BlockMaker},
    spool::Spool,
};

/// No extra fields, no date, no name, unknown system: the same log gives the same bytes everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The lowest priority: whatever the task leaves of the processors.
const FOLLOWER_NICE: i32 = 19;

/// When the disk is full at the seal, a result up to this size is made in memory instead.
const MEMORY_BYTES: u64 = 32 << 20;

/// One gzip member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

pub(super) struct Gzip {
    spool: Arc<Spool>,
    dir: PathBuf,
    out: Mutex<Out>,
    /// A block was appended, the spool has a full block more, or the follower has to end.
    turn: Condvar,
    /// The seal does the rest, or nobody does: the follower ends.
    taken_over: AtomicBool,
    /// The length of the spool that means work for the follower.
    block_at: AtomicU64,
    follower: Mutex<Option<JoinHandle<()>>>,
}

struct Out {
    file: Option<File>,
    bytes: u64,
    /// The block to append next.
    next: u64,
    crc: Crc,
    digest: digest::Context,
}

impl Gzip {
    pub(super) fn new(spool: Arc<Spool>, dir: PathBuf) -> Self {
        let digest = digest::Context::new(&digest::SHA256);
        let out = Out { file: None, bytes: 0, next: 0, crc: Crc::new(), digest };
        Self {
            spool,
            dir,
            out: Mutex::new(out),
            turn: Condvar::new(),
            taken_over: AtomicBool::new(false),
            block_at: AtomicU64::new(BLOCK_BYTES),
            follower: Mutex::new(None),
        }
    }

    /// Plain bytes that are not yet compressed.
    pub(super) fn rest_bytes(&self) -> u64 {
        self.spool.len().saturating_sub(self.lock().next * BLOCK_BYTES)
    }

    /// To be called after each write, by the writer. One comparison, except once per block.
    pub(super) fn grown(self: &Arc<Self>, len: u64) {
        if len < self.block_at.load(Ordering::Relaxed) || self.taken_over.load(Ordering::Relaxed) {
            return;
        }
        self.block_at.store((len / BLOCK_BYTES + 1) * BLOCK_BYTES, Ordering::Relaxed);
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        if follower.is_none() {
            let this = Arc::clone(self);
            // Without the thread, the seal has more to do.
            *follower = thread::Builder::new().name("log-gzip".into()).spawn(move || this.follow()).ok();
        } else {
            // The lock orders this after the follower's look at the length.
            drop(self.lock());
            self.turn.notify_all();
        }
    }

    /// Lets the follower end, without waiting for it: it yields to everything else, and so may take long.
    pub(super) fn take_over(&self) {
        let out = self.lock();
        self.taken_over.store(true, Ordering::SeqCst);
        drop(out);
        self.turn.notify_all();
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower
            && follower.is_finished()
            && follower.join().is_err()
        {
            tracing::warn!("the compressor of a task log panicked; the rest is compressed at the seal");
        }
    }

    /// Compresses full blocks as they come, until the seal takes over.
    fn follow(&self) {
        // On Linux this is about the calling thread. If it is refused, the compressor competes with the task as an equal.
        let _ = rustix::process::setpriority_process(None, FOLLOWER_NICE);
        let mut maker = BlockMaker::new();
        loop {
            let mut out = self.lock();
            while !self.taken_over.load(Ordering::SeqCst) && self.spool.len() < (out.next + 1) * BLOCK_BYTES {
                out = self.turn.wait(out).unwrap_or_else(PoisonError::into_inner);
            }
            if self.taken_over.load(Ordering::SeqCst) {
                return;
            }
            let index = out.next;
            drop(out);
            let Ok(()) = maker.make(&self.spool, index, BLOCK_BYTES, false) else { return };
            let mut out = self.lock();
            if self.taken_over.load(Ordering::SeqCst) {
                return;
            }
            // A full disk now may have room again at the seal.
            let Ok(()) = out.open(|| tempfile::tempfile_in(&self.dir)).and_then(|()| out.append(&maker)) else { return };
        }
    }

    /// Compresses what is left of a sealed spool.
    pub(super) fn finish(&self) -> io::Result<Member> {
        self.take_over();
        let total = self.spool.len();
        let blocks = total / BLOCK_BYTES + 1;
        let mut out = self.lock();
        let next = out.next;
        // What fits into one block needs no room on a disk that may be full.
        if next == 0 && blocks == 1 {
            out.open(|| memory().or_else(|_| tempfile::tempfile_in(&self.dir)))?;
        } else {
            out.open(|| tempfile::tempfile_in(&self.dir).or_else(|_| memory()))?;
        }
        drop(out);

        let share = Share { total, blocks, claims: AtomicU64::new(next), failed: AtomicBool::new(false) };
        let outcome = if blocks - next == 1 {
            self.work(&share)
        } else {
            thread::scope(|scope| {
                let work = || self.work(&share);
                // Without a second thread, the first does everything.
                let second = thread::Builder::new().name("log-seal".into()).spawn_scoped(scope, work);
                let first = work();
                let second = second.map_or(Ok(()), |thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a compressor of the task log panicked")))
                });
                first.and(second)
            })
        };
        outcome.and_then(|()| self.lock().close(total))
    }

    /// Makes blocks as long as there are any, and appends each when its turn comes.
    fn work(&self, share: &Share) -> io::Result<()> {
        let failure = Failure { gzip: self, share, armed: true };
        let mut maker = BlockMaker::new();
        loop {
            let index = share.claims.fetch_add(1, Ordering::Relaxed);
            if index >= share.blocks {
                break;
            }
            let len = (share.total - index * BLOCK_BYTES).min(BLOCK_BYTES);
            maker.make(&self.spool, index, len, index + 1 == share.blocks)?;
            let mut out = self.lock();
            while out.next != index && !share.failed.load(Ordering::SeqCst) {
                out = self.turn.wait(out).unwrap_or_else(PoisonError::into_inner);
            }
            if share.failed.load(Ordering::SeqCst) {
                break;
            }
            if let Err(e) = out.append(&maker) {
                out.move_to_memory(e)?;
                out.append(&maker)?;
            }
            drop(out);
            self.turn.notify_all();
        }
        failure.disarm();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The blocks that the threads of a seal share.
struct Share {
    total: u64,
    blocks: u64,
    claims: AtomicU64,
    failed: AtomicBool,
}

/// Tells the other threads of a seal that the block they wait for will not come, be it for an error or a panic.
struct Failure<'a> {
    gzip: &'a Gzip,
    share: &'a Share,
    armed: bool,
}

impl Failure<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.share.failed.store(true, Ordering::SeqCst);
            // A thread that has just looked at the flag holds the lock until it waits.
            drop(self.gzip.lock());
            self.gzip.turn.notify_all();
        }
    }
}

impl Out {
    fn open(&mut self, make: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(make()?);
        }
        Ok(())
    }

    /// Appends the next block. After an error, nothing of it counts.
    fn append(&mut self, block: &BlockMaker) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::Error::other("the compressed log was not opened")) };
        let header: &[u8] = if self.next == 0 { &HEADER } else { &[] };
        file.write_all_at(header, self.bytes)?;
        file.write_all_at(block.deflated(), self.bytes + header.len() as u64)?;
        self.digest.update(header);
        self.digest.update(block.deflated());
        self.crc.combine(block.crc());
        self.bytes += (header.len() + block.deflated().len()) as u64;
        self.next += 1;
        Ok(())
    }

    /// Goes on in memory, if the disk is the problem and the result is not too large for that.
    fn move_to_memory(&mut self, problem: io::Error) -> io::Result<()> {
        let full = matches!(problem.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let Some(file) = self.file.as_ref().filter(|_| full && self.bytes < MEMORY_BYTES) else { return Err(problem) };
        let memory = memory()?;
        let mut buffer = vec![0; 1 << 16];
        let mut copied = 0;
        while copied < self.bytes {
            let wanted = usize::try_from(self.bytes - copied).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact_at(&mut buffer[..wanted], copied)?;
            memory.write_all_at(&buffer[..wanted], copied)?;
            copied += wanted as u64;
        }
        self.file = Some(memory);
        Ok(())
    }

    fn close(&mut self, total: u64) -> io::Result<Member> {
        let Some(file) = self.file.take() else { return Err(io::Error::other("the compressed log was not opened")) };
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.crc.sum().to_le_bytes());
        // The format says: modulo 2^32.
        trailer[4..].copy_from_slice(&total.to_le_bytes()[..4]);
        file.write_all_at(&trailer, self.bytes)?;
        self.digest.update(&trailer);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.digest.clone().finish().as_ref());
        Ok(Member { file, bytes: self.bytes + trailer.len() as u64, sha256 })
    }
}

/// A file without a place on any disk.
fn memory() -> io::Result<File> {
    Ok(File::from(memfd_create(c"log.gz", MFdFlags::MFD_CLOEXEC)?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use flate2::read::GzDecoder;

    use super::*;
    use crate::seam::{Random as _, SeededRandom};

    const BLOCK: usize = 1 << 20;

    fn gzip(content: &[u8]) -> (tempfile::TempDir, Arc<Gzip>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(content, 0).expect("write");
        let spool = Arc::new(Spool::new(file));
        let gzip = Arc::new(Gzip::new(Arc::clone(&spool), dir.path().to_owned()));
        spool.publish(content.len() as u64);
        (dir, gzip)
    }

    fn plain(mut member: Member) -> Vec<u8> {
        let mut plain = Vec::new();
        assert_eq!(member.file.metadata().expect("stat").len(), member.bytes);
        member.file.rewind().expect("rewind");
        GzDecoder::new(&member.file).read_to_end(&mut plain).expect("gzip");
        plain
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        SeededRandom::new(len as u64).fill(&mut bytes);
        bytes
    }

    #[test]
    fn sizes_at_and_around_blocks_come_back() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 17] {
            let noise = noise(len);
            let (_dir, gzip) = gzip(&noise);
            assert!(plain(gzip.finish().expect("finish")) == noise, "{len} bytes of noise");
        }
        let zeros = vec![0; 3 * BLOCK];
        let (_dir, gzip) = gzip(&zeros);
        assert!(plain(gzip.finish().expect("finish")) == zeros);
    }

    #[test]
    fn a_small_log_needs_no_thread() {
        let (_dir, gzip) = gzip(&noise(BLOCK - 1));
        gzip.grown(BLOCK_BYTES - 1);
        assert!(gzip.follower.lock().expect("not poisoned").is_none());
        gzip.finish().expect("finish");
    }

    #[test]
    fn the_follower_and_the_seal_make_one_member() {
        let content = noise(4 * BLOCK + 5);
        let (_dir, gzip) = gzip(&content);
        gzip.grown(content.len() as u64);
        let mut out = gzip.lock();
        // Only the follower moves it on.
        while out.next < 3 {
            out = gzip.turn.wait_timeout(out, std::time::Duration::from_millis(1)).expect("not poisoned").0;
        }
        drop(out);
        assert!(plain(gzip.finish().expect("finish")) == content);
    }

    #[test]
    fn a_full_disk_moves_the_result_to_memory() {
        let content = noise(3 * BLOCK);
        let (_dir, gzip) = gzip(&content);
        let mut maker = BlockMaker::new();
        maker.make(&gzip.spool, 0, BLOCK_BYTES, false).expect("a block");
        let mut out = gzip.lock();
        out.open(tempfile::tempfile).expect("opened");
        out.append(&maker).expect("appended");
        let other = io::ErrorKind::PermissionDenied;
        assert_eq!(out.move_to_memory(other.into()).expect_err("no remedy").kind(), other);
        out.move_to_memory(io::ErrorKind::StorageFull.into()).expect("moved");
        drop(out);
        assert!(plain(gzip.finish().expect("finish")) == content);
    }

    #[test]
    fn a_spool_that_cannot_be_read_is_an_error_and_no_hang() {
        let (_dir, gzip) = gzip(&noise(2 * BLOCK));
        // More than there is.
        gzip.spool.publish(8 * BLOCK_BYTES);
        assert!(gzip.finish().is_err());
    }
}
