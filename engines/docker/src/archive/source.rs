//! Files of a container as content for an artifact.

use std::{fs::File, io::Write as _, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tc_engine::{Content, EntryFault, OpenFile, Pieces, ReadError, Reopen};

use super::{
    Archive, LOSSES,
    request::{Answer, Fault, wait},
    tar::{Event, Item, Kind},
};

/// Written to a file at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A file that is asked for whenever it is wanted.
#[derive(Debug)]
struct Remote {
    archive: Archive,
    /// Without symbolic links.
    path: String,
    bytes: u64,
}

/// A file that is too large to be kept.
pub(super) fn large(archive: &Archive, path: String, bytes: u64) -> Content {
    Content::Stream(Arc::new(Remote { archive: archive.clone(), path, bytes }))
}

/// A small file, whose answer has begun. Asked for again if that answer breaks off.
pub(super) async fn small(archive: &Archive, answer: Answer, path: String, bytes: u64) -> Result<Content, EntryFault> {
    let remote = Remote { archive: archive.clone(), path, bytes };
    let mut came = whole(remote.receive(answer)).await;
    for losses in 1..=LOSSES {
        match came {
            Ok(content) => return Ok(Content::Memory(content)),
            Err(ReadError::Broken(why)) => return Err(EntryFault::Unreadable(std::io::Error::other(why))),
            Err(ReadError::Lost(why)) => wait(losses, &remote.path, &Fault::Lost(why)).await,
        }
        came = match remote.begin().await {
            Ok(stream) => whole(stream).await,
            Err(error) => Err(error),
        };
    }
    came.map(Content::Memory).map_err(|error| EntryFault::Lost(error.to_string()))
}

async fn whole(mut stream: Receiving) -> Result<Bytes, ReadError> {
    let mut content = BytesMut::new();
    while let Some(piece) = stream.next().await? {
        content.extend_from_slice(&piece);
    }
    Ok(content.freeze())
}

impl Remote {
    async fn begin(&self) -> Result<Receiving, ReadError> {
        let (answer, item) = self.archive.get(&self.path).await.map_err(|fault| fault.of_read(0, self.bytes))?;
        match item {
            Some(Item { kind: Kind::File(bytes), .. }) if bytes == self.bytes => Ok(self.receive(answer)),
            Some(Item { kind: Kind::File(bytes), .. }) => {
                Err(ReadError::Broken(format!("it had {} bytes and now has {bytes}", self.bytes)))
            }
            _ => Err(ReadError::Broken("it is not a file any more".to_owned())),
        }
    }

    fn receive(&self, answer: Answer) -> Receiving {
        Receiving { answer: Some(answer), at: 0, bytes: self.bytes }
    }
}

#[async_trait]
impl Reopen for Remote {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn open(&self) -> Result<Box<dyn Pieces>, ReadError> {
        Ok(Box::new(self.begin().await?))
    }
}

/// A file on its way.
struct Receiving {
    /// Gone when the file is complete.
    answer: Option<Answer>,
    at: u64,
    bytes: u64,
}

#[async_trait]
impl Pieces for Receiving {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(answer) = &mut self.answer else { return Ok(None) };
        match answer.next().await {
            Ok(Event::Data(piece)) => {
                self.at += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(_) => {
                if let Some(answer) = self.answer.take() {
                    answer.finish().await;
                }
                Ok(None)
            }
            Err(fault) => Err(fault.of_read(self.at, self.bytes)),
        }
    }
}

/// Reads the current file of a walk into memory.
pub(super) async fn keep(answer: &mut Answer) -> Result<Content, Fault> {
    let mut content = BytesMut::new();
    while let Event::Data(piece) = answer.next().await? {
        content.extend_from_slice(&piece);
    }
    Ok(Content::Memory(content.freeze()))
}

/// Reads the current file of a walk into a file without a name. The answer is at the end of the file in any case; there is
/// no content if it could not be stored.
pub(super) async fn spool(archive: &Archive, answer: &mut Answer, bytes: u64) -> Result<Option<Content>, Fault> {
    let directory = archive.spool_dir().to_owned();
    let mut file = blocking(move || tempfile::tempfile_in(directory)).await;
    let mut gathered = BytesMut::new();
    loop {
        let event = answer.next().await?;
        if let Event::Data(piece) = &event {
            gathered.extend_from_slice(piece);
            if gathered.len() < WRITE_BYTES {
                continue;
            }
        }
        match file {
            Ok(open) => {
                let piece = gathered.split();
                file = blocking(move || write(open, &piece)).await;
            }
            Err(error) => {
                tracing::info!("A file of a container is not kept in the spool directory: {error}");
                if event != Event::Done {
                    answer.skip().await?;
                }
                return Ok(None);
            }
        }
        if event == Event::Done {
            return Ok(file.ok().map(|file| Content::File(OpenFile { file, bytes })));
        }
    }
}

fn write(mut file: File, piece: &[u8]) -> std::io::Result<File> {
    file.write_all(piece)?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
