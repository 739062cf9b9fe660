//! An engine over a real socket that answers as a test wants.

use std::sync::{Arc, Mutex};

use tc_engine::{Kind, ReadError};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::{file, read};
use crate::{
    Connection,
    archive::{Archive, tar::writer::Writer},
};

/// An answer to a request for an archive.
#[derive(Debug, Clone)]
enum Say {
    /// This status and message.
    Status(u16, &'static str),
    /// An archive.
    Archive(Vec<u8>),
    /// So many bytes of an archive, and then the connection breaks.
    Cut(Vec<u8>, usize),
    /// So many bytes of an archive, and then nothing.
    Stall(Vec<u8>, usize),
    /// The connection breaks before anything.
    Nothing,
}

struct Engine {
    archive: Archive,
    seen: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

impl Engine {
    /// An engine whose n-th answer is given by `say`, which is told the request's first line.
    async fn start(say: impl Fn(usize, &str) -> Say + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (say, told) = (Arc::new(say), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&say), Arc::clone(&told)));
            }
        });
        let connection = Connection::open(&format!("unix://{}", socket.display())).await.expect("it answers");
        Self { archive: Archive::new(connection, "c", dir.path()), seen, dir }
    }

    /// Requests for archives so far.
    fn asked(&self) -> usize {
        self.seen.lock().expect("whole").len()
    }
}

async fn serve(
    mut stream: UnixStream,
    say: Arc<impl Fn(usize, &str) -> Say + Send + Sync + 'static>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let line = head.lines().next()?.to_owned();
        if line.contains("/version") {
            let body = "{\"ApiVersion\": \"1.41\"}";
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
            continue;
        }
        let number = {
            let mut seen = seen.lock().expect("whole");
            seen.push(line.clone());
            seen.len() - 1
        };
        let (body, left) = match say(number, &line) {
            Say::Nothing => return None,
            Say::Status(status, message) => {
                let body = serde_json::json!({ "message": message }).to_string();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
                continue;
            }
            Say::Archive(archive) => (archive, None),
            Say::Cut(archive, at) => (archive[..at].to_vec(), Some(false)),
            Say::Stall(archive, at) => (archive[..at].to_vec(), Some(true)),
        };
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-tar\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .ok()?;
        for piece in body.chunks(1000) {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.ok()?;
            stream.write_all(piece).await.ok()?;
            stream.write_all(b"\r\n").await.ok()?;
        }
        match left {
            None => stream.write_all(b"0\r\n\r\n").await.ok()?,
            Some(false) => return None,
            Some(true) => {
                // Until the other side has enough of it.
                drop(stream.read_u8().await);
                return None;
            }
        }
    }
}

/// A directory with files of these sizes, named by their numbers.
fn directory(sizes: &[usize]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.item(b'5', b"out/", b"", b"");
    for (number, size) in sizes.iter().enumerate() {
        writer.item(b'0', format!("out/{number}").as_bytes(), b"", &vec![b'0' + u8::try_from(number).expect("few"); *size]);
    }
    writer.end()
}

fn single(content: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.item(b'0', b"out", b"", content);
    writer.end()
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again_for_a_while() {
    for at in [0, 100, 512, 700, 2000] {
        let engine = Engine::start(move |number, _| match number {
            0 => Say::Nothing,
            1 | 2 => Say::Cut(single(&[b'x'; 50].repeat(100)), at),
            3 => Say::Status(503, "starting"),
            _ => Say::Archive(single(&[b'x'; 50].repeat(100))),
        })
        .await;
        assert_eq!(file(&engine.archive, "out").await, "memory of 5000", "cut at {at}");
        let dead = Engine::start(move |_, _| Say::Cut(single(&[b'x'; 5000]), at)).await;
        let told = file(&dead.archive, "out").await;
        assert!(told.starts_with("!lost: the connection to the Docker engine broke"), "{told}");
        assert_eq!(dead.asked(), 9);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_answer_is_ended() {
    let began = tokio::time::Instant::now();
    let engine = Engine::start(|number, _| match number {
        0 => Say::Stall(single(&[b'x'; 5000]), 0),
        1 => Say::Stall(single(&[b'x'; 5000]), 2000),
        _ => Say::Archive(single(&[b'x'; 5000])),
    })
    .await;
    assert_eq!(file(&engine.archive, "out").await, "memory of 5000");
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
    assert_eq!(engine.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_walk_goes_on_where_it_was_cut() {
    let sizes = [3, 2_000_000, 5000, 0, 1_100_000, 600, 7];
    let archive = directory(&sizes);
    let expected: Vec<String> = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| match size {
            0..=100 => format!("{number}={}", number.to_string().repeat(*size)),
            101..=1_048_576 => format!("{number}=memory of {size}"),
            _ => format!("{number}=file of {size}"),
        })
        .collect();
    // One cut after the other, everywhere.
    let engine = Engine::start(move |number, _| match number {
        0 => Say::Cut(archive.clone(), 512),
        1..=8 => Say::Cut(archive.clone(), archive.len() / 9 * number),
        9 => Say::Cut(archive.clone(), archive.len() - 1024),
        _ => Say::Archive(archive.clone()),
    })
    .await;
    assert_eq!(read(&engine.archive, "out", Kind::Directory).await, expected);
    assert_eq!(engine.asked(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_ends_too_early_or_changes_or_lies_is_no_complete_one() {
    let whole = directory(&[3, 3, 3]);
    let short = whole[..whole.len() - 1024].to_vec();
    let engine = Engine::start(move |_, _| Say::Archive(short.clone())).await;
    let lines = read(&engine.archive, "out", Kind::Directory).await;
    assert_eq!(lines[..3], ["0=000", "1=111", "2=222"]);
    assert_eq!(lines[3..], ["=!the archive that the Docker engine made ends in its middle"]);

    let engine = Engine::start(
        move |number, _| if number == 0 { Say::Cut(directory(&[3, 3, 3]), 2500) } else { Say::Archive(single(b"x")) },
    )
    .await;
    let lines = read(&engine.archive, "out", Kind::Directory).await;
    assert_eq!(lines.last().map(String::as_str), Some("=!it is not a directory any more"), "{lines:?}");

    let mut other = Writer::default();
    other.item(b'5', b"out/", b"", b"");
    other.item(b'0', b"out/else", b"", b"");
    let (whole, other) = (directory(&[3, 3, 3]), other.end());
    let engine =
        Engine::start(move |number, _| if number == 0 { Say::Cut(whole.clone(), 1600) } else { Say::Archive(other.clone()) })
            .await;
    let lines = read(&engine.archive, "out", Kind::Directory).await;
    assert_eq!(lines, ["0=000", "=!the directory changed while it was read"]);

    for name in ["out/../x", "else/x", "/out/x", "outer", "out//x", "out/./x", "out", "out/"] {
        let mut writer = Writer::default();
        writer.item(b'5', b"out", b"", b"");
        writer.item(b'0', name.as_bytes(), b"", b"x");
        let archive = writer.end();
        let engine = Engine::start(move |_, _| Say::Archive(archive.clone())).await;
        let lines = read(&engine.archive, "out", Kind::Directory).await;
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("=!the archive that the Docker engine made holds"), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_says_is_told_apart() {
    for (status, message, expected, asked) in [
        (404, "Could not find the file /x in container c", "!missing", 1),
        (404, "No such container: c", "!lost: the container is gone: No such container: c", 1),
        (404, "what?", "!missing", 5),
        (500, "lstat /x/y: not a directory", "!missing", 1),
        (500, "evalSymlinksInScope: too many links in /x", "!too many levels of symbolic links", 1),
        (500, "open /x: input/output error", "!the Docker engine says: open /x: input/output error", 5),
        (400, "", "!the Docker engine says: HTTP status 400", 1),
        (409, "busy", "!the Docker engine says: busy", 5),
    ] {
        let engine = Engine::start(move |_, _| Say::Status(status, message)).await;
        assert_eq!(file(&engine.archive, "x").await, expected);
        assert_eq!(engine.asked(), asked, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_moment_of_the_engine_costs_no_file() {
    for (status, message) in [(500, "mood"), (404, "mood"), (409, "busy"), (503, "")] {
        let moody =
            move |number, archive: Vec<u8>| if number == 0 { Say::Status(status, message) } else { Say::Archive(archive) };
        let engine = Engine::start(move |number, _| moody(number, single(b"x"))).await;
        assert_eq!(file(&engine.archive, "out").await, "x", "{status}");
        let engine = Engine::start(move |number, _| moody(number, directory(&[1]))).await;
        assert_eq!(read(&engine.archive, "out", Kind::Directory).await, ["0=0"], "{status}");
        // A large one that is opened only later.
        let engine = Engine::start(move |number, _| match number {
            1 => Say::Status(status, message),
            _ => Say::Archive(single(&vec![b'x'; 2_000_000])),
        })
        .await;
        let entry = engine.archive.read("out", Kind::File).recv().await.expect("an entry");
        let Ok(tc_engine::Content::Stream(stream)) = entry.content else { panic!("it is large") };
        assert!(matches!(stream.open().await.err(), Some(ReadError::Lost(_))), "{status}: it may be opened again");
        assert_eq!(super::bytes(tc_engine::Content::Stream(stream)).await.len(), 2_000_000);
    }
}

#[tokio::test]
async fn rubbish_is_an_error_and_hard_links_have_requests_of_their_own() {
    let engine = Engine::start(|_, _| Say::Archive(vec![b'x'; 4096])).await;
    let told = file(&engine.archive, "x").await;
    assert!(told.starts_with("!the archive that the Docker engine made is broken"), "{told}");
    assert_eq!(engine.asked(), 1);

    let engine = Engine::start(|_, line| {
        if line.contains("path=%2Fout%2F") {
            return Say::Archive(single(
                line.split("%2F").last().unwrap_or_default().split(' ').next().unwrap_or_default().as_bytes(),
            ));
        }
        let mut writer = Writer::default();
        writer.item(b'5', b"out/", b"", b"");
        writer.item(b'1', b"out/one", b"out/zero", b"");
        writer.item(b'1', b"out/two", b"elsewhere", b"");
        writer.item(b'0', b"out/zero", b"", b"z");
        Say::Archive(writer.end())
    })
    .await;
    assert_eq!(read(&engine.archive, "out", Kind::Directory).await, ["zero=z", "one=one", "two=two"]);
}

#[tokio::test]
async fn a_stream_that_breaks_says_how_far_it_came() {
    let whole = single(&vec![b'x'; 2_000_000]);
    let engine = Engine::start(move |number, _| match number {
        1 => Say::Cut(whole.clone(), 100_512),
        _ => Say::Archive(whole.clone()),
    })
    .await;
    let entry = engine.archive.read("out", Kind::File).recv().await.expect("an entry");
    let Ok(tc_engine::Content::Stream(stream)) = entry.content else { panic!("it is large") };
    let mut pieces = stream.open().await.expect("opened");
    let error = loop {
        match pieces.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended"),
            Err(error) => break error,
        }
    };
    let ReadError::Lost(why) = error else { panic!("{error:?}") };
    assert!(
        why.starts_with("the connection to the Docker engine broke") && why.ends_with("100000 of 2000000 bytes had come"),
        "{why}"
    );
    drop(pieces);
    assert_eq!(super::bytes(tc_engine::Content::Stream(stream)).await.len(), 2_000_000);
}

#[tokio::test]
async fn a_spool_without_room_leaves_a_file_for_later() {
    let archive = directory(&[2_000_000, 3]);
    let engine = Engine::start(move |_, line| {
        if line.contains("%2F0") { Say::Archive(single(&vec![b'0'; 2_000_000])) } else { Say::Archive(archive.clone()) }
    })
    .await;
    let archive = Archive::new(engine.archive.inner.connection.clone(), "c", engine.dir.path().join("nothing"));
    assert_eq!(read(&archive, "out", Kind::Directory).await, ["1=111", "0=stream of 2000000"]);
}
