//! Bodies of calls: how much of them is in memory at the same time, whoever sends them.
//!
//! ```text
//!              ┌─ small ─────────────────────────────────┐
//!  head ─▶ how long? ─ large ─▶ room for its text ─▶ read ─▶ how many values? ─ few ───────────────────────────▶ call
//!              └─ too large ─▶ refused                               ├─ many ─▶ room for what they become ─┘
//!                                                                    └─ too many ─▶ refused
//! ```
//! A body has at most 10 MiB, and 256 KiB if no valid credentials came with it. All connections together have room for 32 MiB of text (8 MiB
//! more for those without credentials) and for 128 MiB of what JSON becomes in memory, which may be a hundred times its text; a call keeps its
//! room until it is answered. Who finds none waits, and hears after 30 s that the server is busy. A body whose length is not known beforehand
//! counts like the longest.
//!
//! Not counted are texts of up to 16 KiB and values of up to 256 KiB, which nearly all calls have: there are as many as there are connections.
//! Uploads to signed URLs are none of this: they go to files piece by piece.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::fault::{Code, Fault};

/// Largest body of a call.
pub(crate) const MOST_BYTES: usize = 10 << 20;
/// Largest body without credentials: a thousand names of the index have room, the longest question that everybody may ask.
pub(crate) const MOST_UNSIGNED_BYTES: usize = 256 << 10;
/// Room for the texts of all large bodies.
const TEXT_ROOM: usize = 32 << 20;
/// The same for those without credentials, who are in nobody's way but their own.
const UNSIGNED_TEXT_ROOM: usize = 8 << 20;
/// Texts of up to this many bytes take no room.
const SMALL_TEXT: usize = 16 << 10;
/// Room for the values of all bodies that have many.
const VALUE_ROOM: usize = 128 << 20;
/// Values of up to this many bytes take no room.
const SMALL_VALUES: usize = 256 << 10;
/// How long a call waits for room.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(120);
/// How long a body that was refused is still taken off the connection, so that its sender gets to read why.
const REFUSED_PATIENCE: Duration = Duration::from_secs(5);

/// The room for the bodies of all calls.
pub(crate) struct Bodies {
    texts: Semaphore,
    unsigned_texts: Semaphore,
    values: Semaphore,
}

/// The text of a body, and its room.
pub(crate) struct Text<'a> {
    pub(crate) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        Self {
            texts: Semaphore::new(TEXT_ROOM),
            unsigned_texts: Semaphore::new(UNSIGNED_TEXT_ROOM),
            values: Semaphore::new(VALUE_ROOM),
        }
    }

    /// The whole body. A server that closes does not wait for it: its call has not begun.
    pub(crate) async fn receive(&self, mut body: Body, signed: bool, closing: &CancellationToken) -> Result<Text<'_>, Fault> {
        // The body first: what is all there is a call.
        let received = tokio::select! {
            biased;
            received = self.receive_open(&mut body, signed) => received,
            () = closing.cancelled() => return Err(Fault::new(Code::ServiceUnavailable, "the server is closing")),
        };
        if let Err(Fault { code: Code::InputTooLarge | Code::ServiceUnavailable, .. }) = &received {
            discard(body, closing).await;
        }
        received
    }

    async fn receive_open(&self, body: &mut Body, signed: bool) -> Result<Text<'_>, Fault> {
        let (most, texts) = if signed { (MOST_BYTES, &self.texts) } else { (MOST_UNSIGNED_BYTES, &self.unsigned_texts) };
        let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > most) {
            return Err(too_large(signed));
        }
        let expected = declared.unwrap_or(most);
        let room = if expected > SMALL_TEXT { Some(room(texts, expected).await?) } else { None };
        let mut bytes = BytesMut::with_capacity(declared.unwrap_or_default());
        let read = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| Fault::new(Code::MalformedPayload, "the request body ended early"))?;
                let Ok(piece) = frame.into_data() else { continue };
                if bytes.len() + piece.len() > most {
                    return Err(too_large(signed));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(())
        };
        let late = || format!("the request body did not arrive within {} s", BODY_PATIENCE.as_secs());
        let read = tokio::time::timeout(BODY_PATIENCE, read).await;
        read.map_err(|_| Fault::new(Code::RequestTimeout, late()))??;
        Ok(Text { bytes: bytes.freeze(), _room: room })
    }

    /// What the text says, and the room for that.
    pub(crate) async fn parse(&self, text: &[u8]) -> Result<(Value, Option<SemaphorePermit<'_>>), Fault> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok((Value::Null, None));
        }
        let weight = weight(text);
        if weight > VALUE_ROOM {
            let many = format!("the request body has so many values that they would take about {} MiB", weight >> 20);
            return Err(Fault::new(Code::InputTooLarge, many));
        }
        let room = if weight > SMALL_VALUES { Some(room(&self.values, weight).await?) } else { None };
        let value = serde_json::from_slice(text)
            .map_err(|error| Fault::new(Code::MalformedPayload, format!("the request body is not JSON: {error}")))?;
        Ok((value, room))
    }

    /// All the room there is for texts, and how much of it is free.
    #[cfg(test)]
    pub(crate) fn texts(&self) -> (&Semaphore, usize) {
        (&self.texts, TEXT_ROOM)
    }
}

fn too_large(signed: bool) -> Fault {
    let message = if signed {
        format!("the request body is larger than {MOST_BYTES} bytes")
    } else {
        format!("the request body is larger than {MOST_UNSIGNED_BYTES} bytes, and there are no credentials with it")
    };
    Fault::new(Code::InputTooLarge, message)
}

async fn room(all: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, Fault> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match tokio::time::timeout(ROOM_PATIENCE, all.acquire_many(bytes)).await {
        Ok(Ok(room)) => Ok(room),
        // Nobody closes it; too many large bodies at a time is the only way to get here.
        Ok(Err(_)) | Err(_) => Err(Fault::new(
            Code::ServiceUnavailable,
            format!("the server is busy with the large bodies of other requests, for {} s by now", ROOM_PATIENCE.as_secs()),
        )),
    }
}

/// Takes the rest of a body off its connection, as far as it is no longer than bodies are, and keeps nothing of it.
async fn discard(mut body: Body, closing: &CancellationToken) {
    let drained = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MOST_BYTES {
                return;
            }
        }
    };
    // Closing first: it waits for nobody whose call was refused.
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        _ = tokio::time::timeout(REFUSED_PATIENCE, drained) => {}
    }
}

/// About how many bytes this JSON takes once it is parsed: strings their length, and every value and every entry of an object a place that
/// grows by doubling. Text that is no JSON has some number, too.
fn weight(text: &[u8]) -> usize {
    const VALUE: usize = size_of::<Value>();
    const ENTRY: usize = VALUE + size_of::<(String, u64)>();
    let (mut weight, mut in_string, mut escaped) = (text.len(), false, false);
    for byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        weight += match byte {
            b'"' => {
                in_string = true;
                16
            }
            // The places of the first entries, and the table that finds them.
            b'{' => 3 * ENTRY + 64,
            b'[' => 4 * VALUE,
            b':' => 2 * ENTRY,
            b',' => 3 * VALUE / 2,
            _ => 0,
        };
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_weigh_far_more_than_their_text_and_strings_do_not() {
        let many = |piece: &str| weight(format!("[{}0]", piece.repeat(1000)).as_bytes()) / (piece.len() * 1000);
        assert!(many("{\"\":0},") > 50);
        assert!(many("0,") > 20);
        let text = format!("[\"{}\"]", "\\\"[{,:".repeat(1000));
        assert!(weight(text.as_bytes()) < 2 * text.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_hears_that_the_server_is_busy() {
        let (bodies, closing) = (Bodies::new(), CancellationToken::new());
        let large = || Body::from(vec![b' '; MOST_BYTES]);
        let mut kept = Vec::new();
        for _ in 0..TEXT_ROOM / MOST_BYTES {
            kept.push(bodies.receive(large(), true, &closing).await.map_err(|fault| fault.message).expect("room"));
        }
        let refused = bodies.receive(large(), true, &closing).await.err().expect("no room");
        assert_eq!(refused.code, Code::ServiceUnavailable, "{}", refused.message);
        let small = Body::from(vec![b' '; SMALL_TEXT]);
        assert!(bodies.receive(small, true, &closing).await.is_ok(), "small ones need none");
        // One of unknown length may become as long as any.
        let unknown = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]));
        assert!(bodies.receive(unknown, true, &closing).await.is_err());
        kept.pop();
        let waits = bodies.receive(large(), true, &closing);
        assert!(waits.await.is_ok(), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn values_need_room_beside_their_text() {
        let bodies = Bodies::new();
        let array = |values: usize| format!("[{}0]", "0,".repeat(values));
        let most = VALUE_ROOM / weight(b"0,0,0,0,") * 4;
        let half = array(most * 3 / 4);
        let (_, kept) = bodies.parse(half.as_bytes()).await.map_err(|fault| fault.message).expect("room");
        let refused = bodies.parse(half.as_bytes()).await.expect_err("no room");
        assert_eq!(refused.code, Code::ServiceUnavailable, "{}", refused.message);
        drop(kept);
        assert!(bodies.parse(half.as_bytes()).await.is_ok());
        let never = bodies.parse(array(2 * most).as_bytes()).await.expect_err("never any room");
        assert_eq!(never.code, Code::InputTooLarge, "{}", never.message);
    }
}
