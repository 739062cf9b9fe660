//! What worker and reaper say to each other. Both are the same program, so nothing needs a version.

use std::{
    ffi::{CStr, CString},
    io,
    time::Duration,
};

use tc_sys::{
    launch::{self, NotStarted, Program},
    process::Exit,
};

/// Start a program. Comes with two files: the encoded program, and where its output goes.
pub(super) const START: u8 = b'S';
/// Ask everything to end.
pub(super) const TERMINATE: u8 = b'T';
/// Kill everything, and start nothing any more.
pub(super) const KILL: u8 = b'K';

/// What the reaper says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// It is ready.
    Ready,
    /// The program runs.
    Started,
    /// The program was not started.
    Refused(NotStarted),
    /// The program has ended.
    Ended { exit: Exit, user: Duration, kernel: Duration },
    /// Nothing is left.
    Empty,
    /// Something could not be killed.
    NotEmpty,
}

/// Length of an encoded report.
pub(super) const REPORT_BYTES: usize = 32;

impl Report {
    pub(super) fn encode(self) -> [u8; REPORT_BYTES] {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (tag, detail, number, user, kernel) = match self {
            Self::Ready => (b'r', 0, 0, 0, 0),
            Self::Started => (b's', 0, 0, 0, 0),
            Self::Refused(_) => (b'n', 0, 0, 0, 0),
            Self::Ended { exit: Exit::Code(code), user, kernel } => (b'e', 0, i64::from(code), nanos(user), nanos(kernel)),
            Self::Ended { exit: Exit::Signal(signal), user, kernel } => {
                (b'e', 1, i64::from(signal), nanos(user), nanos(kernel))
            }
            Self::Empty => (b'q', 0, 0, 0, 0),
            Self::NotEmpty => (b'f', 0, 0, 0, 0),
        };
        let mut bytes = [0; REPORT_BYTES];
        bytes[0] = tag;
        bytes[1] = detail;
        bytes[8..16].copy_from_slice(&number.to_ne_bytes());
        bytes[16..24].copy_from_slice(&user.to_ne_bytes());
        bytes[24..32].copy_from_slice(&kernel.to_ne_bytes());
        if let Self::Refused(failed) = self {
            bytes[8..8 + launch::REPORT_BYTES].copy_from_slice(&failed.to_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let bytes: &[u8; REPORT_BYTES] = bytes.try_into().map_err(|_| nonsense())?;
        let eight = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            number
        };
        if bytes[0] == b'n' {
            let mut failed = [0; launch::REPORT_BYTES];
            failed.copy_from_slice(&bytes[8..8 + launch::REPORT_BYTES]);
            return Ok(Self::Refused(NotStarted::from_bytes(failed)));
        }
        let number = i32::try_from(i64::from_ne_bytes(eight(8))).map_err(|_| nonsense())?;
        let (user, kernel) = (u64::from_ne_bytes(eight(16)), u64::from_ne_bytes(eight(24)));
        Ok(match bytes[0] {
            b'r' => Self::Ready,
            b's' => Self::Started,
            b'e' => Self::Ended {
                exit: if bytes[1] == 0 { Exit::Code(number) } else { Exit::Signal(number) },
                user: Duration::from_nanos(user),
                kernel: Duration::from_nanos(kernel),
            },
            b'q' => Self::Empty,
            b'f' => Self::NotEmpty,
            _ => return Err(nonsense()),
        })
    }
}

fn nonsense() -> io::Error {
    io::Error::other("a reaper and its worker do not understand each other")
}

/// A program as bytes: whether it is searched for, then four lists, each a count and strings that end with NUL.
pub(crate) fn encode_program(program: &Program) -> Vec<u8> {
    let mut bytes = vec![u8::from(program.searched)];
    let directory = std::slice::from_ref(&program.directory);
    for list in [directory, &program.candidates, &program.argv, &program.env] {
        bytes.extend_from_slice(&(list.len() as u64).to_ne_bytes());
        for string in list {
            bytes.extend_from_slice(string.as_bytes_with_nul());
        }
    }
    bytes
}

pub(crate) fn decode_program(bytes: &[u8]) -> io::Result<Program> {
    let (searched, mut rest) = bytes.split_first().ok_or_else(nonsense)?;
    let mut list = || -> io::Result<Vec<CString>> {
        let (count, strings) = rest.split_first_chunk::<8>().ok_or_else(nonsense)?;
        rest = strings;
        (0..u64::from_ne_bytes(*count))
            .map(|_| {
                let string = CStr::from_bytes_until_nul(rest).map_err(|_| nonsense())?;
                rest = &rest[string.to_bytes_with_nul().len()..];
                Ok(string.to_owned())
            })
            .collect()
    };
    let directory = list()?.pop().ok_or_else(nonsense)?;
    Ok(Program { directory, candidates: list()?, argv: list()?, env: list()?, searched: *searched != 0 })
}

#[cfg(test)]
mod tests {
    use tc_sys::launch::Stage;

    use super::*;

    #[test]
    fn reports_survive_the_way() {
        let reports = [
            Report::Ready,
            Report::Started,
            Report::Refused(NotStarted { stage: Stage::Exec(7), errno: 13 }),
            Report::Refused(NotStarted { stage: Stage::NotFound, errno: 2 }),
            Report::Ended { exit: Exit::Code(255), user: Duration::from_micros(5), kernel: Duration::from_secs(9) },
            Report::Ended { exit: Exit::Signal(9), user: Duration::ZERO, kernel: Duration::ZERO },
            Report::Empty,
            Report::NotEmpty,
        ];
        for report in reports {
            assert_eq!(Report::decode(&report.encode()).expect("decoded"), report);
        }
        assert!(Report::decode(&[0; REPORT_BYTES]).is_err());
        assert!(Report::decode(b"r").is_err());
    }

    #[test]
    fn programs_survive_the_way() {
        let program = Program {
            candidates: vec![c"/a/x".into(), c"/b/x".into()],
            searched: true,
            argv: vec![c"x".into(), c"".into(), c"\xff".into()],
            env: Vec::new(),
            directory: c"/t".into(),
        };
        let decoded = decode_program(&encode_program(&program)).expect("decoded");
        assert_eq!(format!("{decoded:?}"), format!("{program:?}"));
        let bytes = encode_program(&program);
        assert!(decode_program(&bytes[..bytes.len() - 9]).is_err());
    }
}
