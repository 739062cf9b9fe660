//! Task ids.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A task's id: a slugid, which is a version 4 UUID in 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId([u8; Self::LENGTH]);

impl TaskId {
    /// Characters in an id.
    pub const LENGTH: usize = 22;

    /// The id in this text, if it has the shape that the services ask for.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; Self::LENGTH] = text.as_bytes().try_into().ok()?;
        let shaped = bytes.iter().enumerate().all(|(at, byte)| match at {
            8 => (b'Q'..=b'T').contains(byte),
            10 => b"CGKOSWaeimquy26-".contains(byte),
            21 => b"AQgw".contains(byte),
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        });
        shaped.then_some(Self(bytes))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // `parse` lets only ASCII in.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format_args!("`{text}` is no task id")))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::{SeededRandom, slugid};

    #[test]
    fn made_ids_are_accepted_and_near_misses_are_not() {
        let random = SeededRandom::new(1);
        for _ in 0..100 {
            let id = slugid(&random);
            assert_eq!(TaskId::parse(&id).map(|t| t.to_string()), Some(id));
        }
        for wrong in [
            "",
            "fN1SbArXTPSVFNUvaOlinQQ",
            "fN1SbArXTPSVFNUvaOlin",
            "fN1SbArXXPSVFNUvaOlinQ",
            "fN1SbArX/PSVFNUvaOlinQ",
            "ÄN1SbArXTPSVFNUvaOliQ",
        ] {
            assert_eq!(TaskId::parse(wrong), None, "{wrong}");
        }
    }
}
