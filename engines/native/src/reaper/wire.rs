//! What worker and reaper say to each other: JSON behind its length.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Largest message, in bytes: an environment and arguments as large as the kernel takes them, written as numbers.
const LARGEST: usize = 64 << 20;

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Start a command.
    Start {
        /// The program.
        path: Vec<u8>,
        /// Its arguments.
        argv: Vec<Vec<u8>>,
        /// Its environment.
        envp: Vec<Vec<u8>>,
        /// Its working directory.
        cwd: Vec<u8>,
    },
    /// Kill everything.
    Kill,
    /// Kill everything, wait until it is dead, and end.
    Quiet,
}

/// From the reaper.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum Tell {
    /// The command runs.
    Started,
    /// The command could not be started: step (1 chdir, 2 exec, else setup) and error number.
    NotStarted(i32, i32),
    /// The command ended.
    Ended {
        /// Its exit code, or the signal that ended it.
        code: Result<i32, i32>,
        /// Microseconds in user mode.
        user: u64,
        /// Microseconds in kernel mode.
        kernel: u64,
    },
    /// Nothing of the tree is left.
    Quiet,
    /// Something of the tree does not die.
    Undead,
}

/// A message as bytes.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= LARGEST);
    let length = length.ok_or_else(|| io::Error::other("a message to the reaper is too large"))?;
    Ok([&length.to_ne_bytes()[..], &json].concat())
}

/// Takes the first whole message out of `buffer`, if there is one.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_ne_bytes(*length) as usize;
    if length > LARGEST {
        return Err(io::Error::other("a message of the reaper is too large"));
    }
    let Some(json) = rest.get(..length) else { return Ok(None) };
    let message = serde_json::from_slice(json)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_byte_by_byte_and_together() {
        let told = [Tell::Started, Tell::NotStarted(2, 13), Tell::Ended { code: Err(9), user: 5, kernel: 6 }, Tell::Quiet];
        let bytes: Vec<u8> = told.iter().flat_map(|t| encode(t).expect("small")).collect();
        let (mut buffer, mut heard) = (Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(byte);
            while let Some(message) = decode::<Tell>(&mut buffer).expect("well-formed") {
                heard.push(message);
            }
        }
        assert_eq!(heard, told);
        assert!(decode::<Tell>(&mut vec![0xff; 8]).is_err(), "a length out of all bounds");
    }
}
