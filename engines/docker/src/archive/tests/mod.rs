//! Containers of real engines, and an engine that has a bad day.

mod bad_day;
mod containers;
mod engines;

use std::{io::Read as _, time::Duration};

use tc_engine::{Content, Entry, EntryFault, Kind};

use super::Archive;

/// More than any of this takes.
const LONG: Duration = Duration::from_secs(600);

/// One entry as a line: its way, and its text or what is wrong with it. Long texts are told by their length.
async fn told(entry: Entry) -> String {
    let text = match entry.content {
        Ok(content) => {
            let said = content.bytes();
            let kind = match content {
                Content::File(_) => "file",
                Content::Memory(_) => "memory",
                Content::Stream(_) => "stream",
            };
            let bytes = bytes(content).await;
            assert_eq!(bytes.len() as u64, said);
            if bytes.len() > 100 { format!("{kind} of {}", bytes.len()) } else { String::from_utf8_lossy(&bytes).into_owned() }
        }
        Err(EntryFault::Missing) => "!missing".to_owned(),
        Err(EntryFault::IsDirectory) => "!directory".to_owned(),
        Err(EntryFault::NotDirectory) => "!no directory".to_owned(),
        Err(EntryFault::Lost(why)) => format!("!lost: {why}"),
        Err(other) => format!("!{other}"),
    };
    format!("{}={text}", entry.relative)
}

async fn bytes(content: Content) -> Vec<u8> {
    match content {
        Content::Memory(bytes) => bytes.to_vec(),
        Content::File(mut open) => {
            let mut bytes = Vec::new();
            open.file.read_to_end(&mut bytes).expect("read");
            // Written from its beginning to its end, so that is where its cursor is.
            assert!(bytes.is_empty(), "read at positions");
            let mut bytes = vec![0; usize::try_from(open.bytes).expect("small")];
            std::os::unix::fs::FileExt::read_exact_at(&open.file, &mut bytes, 0).expect("read");
            bytes
        }
        Content::Stream(stream) => {
            let mut pieces = stream.open().await.expect("opened");
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await.expect("read") {
                assert!(!piece.is_empty());
                bytes.extend_from_slice(&piece);
            }
            bytes
        }
    }
}

async fn read(archive: &Archive, path: &str, kind: Kind) -> Vec<String> {
    let mut entries = archive.read(path, kind);
    let mut lines = Vec::new();
    while let Some(entry) = tokio::time::timeout(LONG, entries.recv()).await.expect("no hang") {
        lines.push(told(entry).await);
    }
    lines
}

async fn file(archive: &Archive, path: &str) -> String {
    let lines = read(archive, path, Kind::File).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].strip_prefix('=').expect("a file has no way").to_owned()
}
