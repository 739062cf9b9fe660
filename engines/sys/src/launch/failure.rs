//! Why a program was not started: at which stage, and what the operating system said. Also as bytes, since it is another process
//! that finds out.

use std::io;

use super::child::{EXEC, NOT_FOUND, report};

/// Length of a report in [`NotStarted::to_bytes`].
pub const REPORT_BYTES: usize = 12;

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Making the process.
    Clone,
    /// Moving it into its cgroup.
    Cgroup,
    /// Setting up session and standard streams.
    Streams,
    /// Giving it an ordinary `oom_score_adj`.
    OomScore,
    /// Entering the working directory.
    Directory,
    /// Executing the candidate at this position.
    Exec(usize),
    /// None of the candidates exists as a file that may be executed.
    NotFound,
}

impl Stage {
    /// From what the child counts.
    pub(super) fn of(number: u32, position: usize) -> Self {
        match number {
            0 => Stage::Clone,
            1 => Stage::Cgroup,
            2 => Stage::Streams,
            3 => Stage::OomScore,
            4 => Stage::Directory,
            NOT_FOUND => Stage::NotFound,
            _ => Stage::Exec(position),
        }
    }
}

/// Why a program was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotStarted {
    /// What could not be done.
    pub stage: Stage,
    /// What the operating system said.
    pub errno: i32,
}

impl NotStarted {
    /// What an error of the standard library means at this stage.
    pub fn at(stage: Stage, error: &io::Error) -> Self {
        Self { stage, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    /// As bytes, for telling another process.
    pub fn to_bytes(self) -> [u8; REPORT_BYTES] {
        let (stage, position) = match self.stage {
            Stage::Clone => (0, 0),
            Stage::Cgroup => (1, 0),
            Stage::Streams => (2, 0),
            Stage::OomScore => (3, 0),
            Stage::Directory => (4, 0),
            Stage::Exec(position) => (EXEC, position),
            Stage::NotFound => (NOT_FOUND, 0),
        };
        report(stage, position, self.errno)
    }

    /// From [`NotStarted::to_bytes`] of another process.
    pub fn from_bytes(report: [u8; REPORT_BYTES]) -> Self {
        let mut words = [[0_u8; 4]; 3];
        for (word, bytes) in words.iter_mut().zip(report.chunks_exact(4)) {
            word.copy_from_slice(bytes);
        }
        let [stage, position, errno] = words;
        let position = usize::try_from(u32::from_ne_bytes(position)).unwrap_or(usize::MAX);
        Self { stage: Stage::of(u32::from_ne_bytes(stage), position), errno: i32::from_ne_bytes(errno) }
    }
}
