//! The log of one task.
//!
//! ```text
//! engine ──Sink──▶ ┐                      ┌──▶ LogReader … (own position each; LiveServer is made of these)
//!                  ├─▶ writer ──▶ spool ──┤
//! worker ──lines─▶ ┘                      └──▶ gzip ──seal──▶ SealedLog, ready for the upload
//! ```
//!
//! This room owns the plain spool file, its order and its limits, the compressed form, and everybody who reads along. It does not
//! own the wording of features (only the lines that programs read, in [`mod@format`]), nor the upload.
//!
//! What holds here: every byte of the task is in the spool in the order in which it came, and never altered. The only bytes that
//! the worker adds are its own lines and, if the task is in the middle of a line, one newline before them. What a size limit or a
//! full disk took away is counted in the log itself. A reader never slows the writer.

mod block;
pub mod format;
mod gzip;
mod live;
mod loss;
mod reach;
mod reader;
mod spool;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{self, AT_FDCWD, AtFlags, OFlag},
    sys::stat::Mode,
    unistd::{self, UnlinkatFlags},
};

pub use live::{LiveServer, Published};
pub use reach::reachable_host;
pub use reader::LogReader;

use self::{
    format::Level,
    gzip::Gzip,
    loss::Loss,
    spool::Spool,
    writer::{Limit, Writer},
};
use crate::seam::Clock;

/// Logs up to this size, head and tail together, are kept whole.
const DEFAULT_HEAD_BYTES: u64 = 10 << 30;

/// What is kept of the end of a larger log. It is compressed after the task's end, so it costs about a second.
const DEFAULT_TAIL_BYTES: u64 = 64 << 20;

/// So little is compressed on the spot: that takes no longer than handing it to another thread.
const INLINE_BYTES: u64 = 16 << 10;

/// A seal that takes this long for nothing is stuck.
const SEAL_BASE: Duration = Duration::from_secs(60);

/// The slowest compression that is not stuck: a tenth of what one busy core does.
const SEAL_BYTES_PER_SEC: u64 = 2 << 20;

/// Where a log lives and how large it may get.
#[derive(Clone)]
pub struct LogOptions {
    /// Directory of the spool. Created if missing, and closed to all other users.
    pub dir: PathBuf,
    /// File name of the spool, unique among the logs that exist in `dir` at the same time.
    pub name: String,
    /// For the dates of the worker's lines.
    pub clock: Arc<dyn Clock>,
    /// How much of the begin of the log is kept.
    pub head_bytes: u64,
    /// How much of its end is kept if it is larger than `head_bytes`.
    pub tail_bytes: u64,
}

impl LogOptions {
    /// A log with the usual limits.
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self { dir: dir.into(), name: name.into(), clock, head_bytes: DEFAULT_HEAD_BYTES, tail_bytes: DEFAULT_TAIL_BYTES }
    }
}

/// The log of one run. The spool's name vanishes when this is dropped; readers that still run keep its bytes.
pub struct TaskLog {
    spool: Arc<Spool>,
    writer: Arc<Mutex<Writer>>,
    loss: Arc<Loss>,
    gzip: Arc<Gzip>,
    path: PathBuf,
}

/// A log that is complete and compressed.
#[derive(Debug)]
pub struct SealedLog {
    /// One gzip member, positioned at its first byte. The file has no name.
    pub gzip: File,
    /// Its size.
    pub gzip_bytes: u64,
    /// Its SHA-256.
    pub gzip_sha256: [u8; 32],
    /// The size of the log before compression.
    pub plain_bytes: u64,
    /// Bytes between head and tail that the size limit dropped.
    pub dropped_bytes: u64,
    /// Bytes that could not be stored; none of those that the limit dropped.
    pub lost_bytes: u64,
}

/// Why a log could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Only the first seal has an answer.
    #[error("the task log was sealed before")]
    Repeated,
    /// The compressed log could not be written.
    #[error("compress the task log")]
    Compress(#[source] io::Error),
    /// The compressor made no progress.
    #[error("compressing the task log took more than {} s", .0.as_secs())]
    Stuck(Duration),
}

impl TaskLog {
    /// Starts an empty log. A file of that name is left over from a worker that died, and is replaced.
    pub fn create(options: LogOptions) -> io::Result<Arc<Self>> {
        let LogOptions { dir, name, clock, head_bytes, tail_bytes } = options;
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("log name {name:?} is no plain file name")));
        }
        secure_dir(&dir)?;
        let path = dir.join(name);
        let create = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = match create() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&path).and_then(|()| create()),
            other => other,
        };
        let file = file.map_err(|e| io::Error::new(e.kind(), format!("create task log {}: {e}", path.display())))?;
        let spool = Arc::new(Spool::new(file));
        let loss = Arc::new(Loss::default());
        let gzip = Arc::new(Gzip::new(Arc::clone(&spool), dir.clone()));
        let limit = Limit { head_bytes, tail_bytes: tail_bytes.max(1) };
        let writer = Writer::new(Arc::clone(&spool), Arc::clone(&loss), clock, dir, limit);
        let writer = Arc::new(Mutex::new(writer));
        Ok(Arc::new(Self { spool, writer, loss, gzip, path }))
    }

    /// Adds a message: `[taskcluster <date>] …` on each of its lines.
    pub fn info(&self, message: &str) {
        self.tell(Level::Info, message);
    }

    /// Adds a warning: `[taskcluster:warn <date>] …`.
    pub fn warn(&self, message: &str) {
        self.tell(Level::Warn, message);
    }

    /// Adds an error: `[taskcluster:error] …`. Only for what makes the task fail, because programs mark these lines.
    pub fn error(&self, message: &str) {
        self.tell(Level::Error, message);
    }

    /// Adds a message of the given level.
    pub fn tell(&self, level: Level, message: &str) {
        let mut writer = self.writer();
        writer.tell(level, message);
        self.gzip.grown(writer.len());
    }

    /// A new reader, at the first byte.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.spool))
    }

    /// How many bytes readers can see now.
    pub fn len(&self) -> u64 {
        self.spool.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves with the reason when bytes could not be stored; never, if all is well. The run is to be ended then, with
    /// `StopReason::LogLost`.
    pub async fn lost(&self) -> String {
        self.loss.wait().await
    }

    /// How many bytes could not be stored so far.
    pub fn lost_bytes(&self) -> u64 {
        self.loss.bytes()
    }

    /// Adds the line that counts what was lost, if something was, once. To be called after Quiet, before the line with the error
    /// that ends the log; else the seal adds it.
    pub fn tell_losses(&self) {
        self.writer().tell_losses();
    }

    /// Ends the log: later writes are ignored, readers get the rest and then end, and the compressed form is completed under a
    /// bound that grows with what is left to compress. After a log was lost to a full disk, the task's directory should be gone
    /// before this, so that the last lines find room.
    pub async fn seal(&self) -> Result<SealedLog, SealError> {
        let sealing = self.writer().seal().ok_or(SealError::Repeated)?;
        let rest = self.gzip.rest_bytes();
        let (writer, spool, gzip) = (Arc::clone(&self.writer), Arc::clone(&self.spool), Arc::clone(&self.gzip));
        let tail_bytes = sealing.tail_bytes();
        let complete = move || {
            let dropped_bytes = writer.lock().unwrap_or_else(PoisonError::into_inner).append_tail(&sealing);
            gzip.finish().map(|member| (member, spool.len(), dropped_bytes))
        };
        let done = if rest <= INLINE_BYTES && tail_bytes == 0 {
            complete()
        } else {
            let bound = SEAL_BASE + Duration::from_secs((rest + tail_bytes) / SEAL_BYTES_PER_SEC);
            match tokio::time::timeout(bound, tokio::task::spawn_blocking(complete)).await {
                Ok(Ok(done)) => done,
                Ok(Err(panic)) => Err(io::Error::other(panic)),
                Err(_) => return Err(SealError::Stuck(bound)),
            }
        };
        let (member, plain_bytes, dropped_bytes) = done.map_err(SealError::Compress)?;
        Ok(SealedLog {
            gzip: member.file,
            gzip_bytes: member.bytes,
            gzip_sha256: member.sha256,
            plain_bytes,
            dropped_bytes,
            lost_bytes: self.loss.bytes(),
        })
    }

    /// Gives the plain log a second name, or copies it where it cannot have one. A copy has only what is in the log now; a name
    /// follows it to the seal. An existing file is replaced, and the directory of `path` must not be a symlink.
    pub fn keep_as(&self, path: &Path) -> io::Result<()> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file name", path.display())));
        };
        // The directory may be one that the task could have replaced; from here on it is this one.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = fcntl::open(dir, flags, Mode::empty())?;
        match unistd::unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(e.into()),
        }
        match unistd::linkat(AT_FDCWD, &self.path, &dir, name, AtFlags::empty()) {
            Err(Errno::EXDEV | Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK) => {}
            done => return Ok(done?),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut copy = File::from(fcntl::openat(&dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        // Opened anew, for a position of its own.
        let plain = File::open(&self.path)?;
        io::copy(&mut plain.take(self.len()), &mut copy)?;
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tc_engine::Sink for TaskLog {
    fn write(&self, bytes: &[u8]) {
        let mut writer = self.writer();
        writer.write(bytes);
        self.gzip.grown(writer.len());
    }
}

impl fmt::Debug for TaskLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLog").field("path", &self.path).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for TaskLog {
    fn drop(&mut self) {
        self.gzip.take_over();
        // Readers that still run must not wait for a seal that never comes.
        self.spool.seal();
        let _ = fs::remove_file(&self.path);
    }
}

/// A directory for this user alone.
fn secure_dir(dir: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("log directory {}: {e}", dir.display()));
    match fs::metadata(dir) {
        Ok(found) if found.permissions().mode() & 0o777 == 0o700 => Ok(()),
        Ok(_) => fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(named),
        Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(named),
    }
}
