//! The live log over real sockets.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tc_engine::Sink as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::new_log;
use crate::{
    log::{LiveServer, Published},
    seam::SystemRandom,
};

async fn server() -> LiveServer {
    LiveServer::bind((Ipv4Addr::LOCALHOST, 0).into(), Arc::new(SystemRandom)).await.expect("a port")
}

/// A client that has sent a request with this first line.
async fn client(server: &LiveServer, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // So that a client that does not read is felt soon.
    socket.set_recv_buffer_size(16 << 10).expect("a small buffer");
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, server.port()).into()).await.expect("connect");
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("send");
    stream
}

async fn reader(server: &LiveServer, published: &Published) -> TcpStream {
    client(server, &format!("GET {}", published.path())).await
}

async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        seen.push(stream.read_u8().await.expect("more"));
    }
    String::from_utf8(seen).expect("ASCII")
}

/// The next chunk; empty at the end.
async fn chunk(stream: &mut TcpStream) -> Vec<u8> {
    let len = until(stream, "\r\n").await;
    let mut chunk = vec![0; usize::from_str_radix(len.trim(), 16).expect("a length")];
    stream.read_exact(&mut chunk).await.expect("a whole chunk");
    until(stream, "\r\n").await;
    chunk
}

async fn body(stream: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let chunk = chunk(stream).await;
        if chunk.is_empty() {
            return body;
        }
        body.extend(chunk);
    }
}

async fn whole(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text.to_ascii_lowercase()
}

#[tokio::test]
async fn a_reader_sees_the_begin_follows_and_ends_with_the_seal() {
    let (_dir, log) = new_log();
    let server = server().await;
    let published = server.publish(&log);
    log.write(b"begin\n");
    let mut stream = reader(&server, &published).await;
    let head = until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for line in ["content-type: text/plain; charset=utf-8", "access-control-allow-origin: *", "transfer-encoding: chunked"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    assert_eq!(chunk(&mut stream).await, b"begin\n");
    log.write(b"more");
    assert_eq!(chunk(&mut stream).await, b"more");
    // Taken back while it is read: that reader gets the rest all the same.
    let path = published.path().to_owned();
    drop(published);
    assert!(whole(client(&server, &format!("GET {path}")).await).await.starts_with("http/1.1 401 "));
    log.write(b"\nend\n");
    log.seal().await.expect("seal");
    assert_eq!(body(&mut stream).await, b"\nend\n");
    assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
}

#[tokio::test]
async fn a_sealed_log_can_be_read_while_it_is_published() {
    let (_dir, log) = new_log();
    let server = server().await;
    let published = server.publish(&log);
    log.write(&vec![b'x'; 1 << 20]);
    log.seal().await.expect("seal");
    drop(log);
    let mut stream = reader(&server, &published).await;
    until(&mut stream, "\r\n\r\n").await;
    assert_eq!(body(&mut stream).await.len(), 1 << 20);
}

#[tokio::test]
async fn secrets_are_long_new_and_needed() {
    let (_dir, log) = new_log();
    let server = server().await;
    let (one, two) = (server.publish(&log), server.publish(&log));
    assert_ne!(one.path(), two.path());
    assert_eq!(one.path().len(), "/log/".len() + 43);
    for (request, status) in [
        ("GET /log/", "401"),
        ("GET /log/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "401"),
        (&*format!("GET {}x", one.path()), "401"),
        (&*format!("GET {}", &one.path()[..20]), "401"),
        ("GET /", "404"),
        ("GET /log", "404"),
        (&*format!("POST {}", one.path()), "405"),
    ] {
        let answer = whole(client(&server, request).await).await;
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("\r\naccess-control-allow-origin: *\r\n"), "{answer}");
    }
    let head = whole(client(&server, &format!("HEAD {}", one.path())).await).await;
    assert!(head.starts_with("http/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_the_others_nothing() {
    let (_dir, log) = new_log();
    let server = server().await;
    let published = server.publish(&log);
    let mut stalled = reader(&server, &published).await;
    let mut live = reader(&server, &published).await;
    let reading = tokio::spawn(async move {
        until(&mut live, "\r\n\r\n").await;
        body(&mut live).await.len()
    });
    let writing = tokio::task::spawn_blocking(move || {
        for _ in 0..(32 << 4) {
            log.write(&vec![b'y'; 64 << 10]);
        }
        log
    });
    let log = writing.await.expect("written");
    log.seal().await.expect("seal");
    assert_eq!(reading.await.expect("read"), 32 << 20);
    // It was not dropped for being slow.
    until(&mut stalled, "\r\n\r\n").await;
    assert_eq!(body(&mut stalled).await.len(), 32 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_too_much_is_sent_away() {
    let server = server().await;
    let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).await.expect("connect");
    silent.write_all(b"GET /log").await.expect("send");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("closed");
    let mut chatty = client(&server, "GET /").await;
    let endless = format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(1 << 20));
    let mut chatter = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).await.expect("connect");
    // Refused before all of it was taken.
    let _ = chatter.write_all(endless.as_bytes()).await;
    let _ = chatter.read_to_end(&mut rest).await;
    // And the others are served.
    assert!(until(&mut chatty, "\r\n").await.contains("404"));
}

#[tokio::test(start_paused = true)]
async fn after_the_seal_a_client_has_to_make_progress() {
    let (_dir, log) = new_log();
    let server = server().await;
    let published = server.publish(&log);
    let mut stream = reader(&server, &published).await;
    until(&mut stream, "\r\n\r\n").await;
    log.write(&vec![b'x'; 32 << 20]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!chunk(&mut stream).await.is_empty(), "an hour of rest while the task runs is fine");
    log.seal().await.expect("seal");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let mut rest = Vec::new();
    // Cut off, so with or without an error.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 16 << 20, "was served on: {}", rest.len());
}

#[tokio::test]
async fn closing_waits_for_readers_up_to_its_bound() {
    let (_dir, log) = new_log();
    let server = server().await;
    let published = server.publish(&log);
    log.write(b"all");
    let mut stream = reader(&server, &published).await;
    until(&mut stream, "\r\n\r\n").await;
    log.seal().await.expect("seal");
    server.close(Duration::from_secs(60)).await;
    assert_eq!(body(&mut stream).await, b"all");
}

#[tokio::test]
async fn all_addresses_include_ipv4_and_secrets_are_not_shown() {
    let (_dir, log) = new_log();
    let server = LiveServer::bind_all(0, Arc::new(SystemRandom)).await.expect("a port");
    let published = server.publish(&log);
    let secret = published.path().trim_start_matches("/log/");
    assert!(!format!("{published:?}{server:?}").contains(secret));
    log.write(b"x");
    log.seal().await.expect("seal");
    assert!(whole(reader(&server, &published).await).await.starts_with("http/1.1 200 "));
}
