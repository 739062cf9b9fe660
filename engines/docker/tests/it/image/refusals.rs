//! A registry that answers nothing but one status, and what follows from it with and without a copy of the image.

use std::{sync::Arc, time::Duration};

use tc_engine::{Fault, ImageWant};
use tc_engine_docker::image::{Images, ImagesOptions};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::support::{CleanUp, Lines, engines};

/// It is ended when the test drops it.
struct Refusing {
    host: String,
    server: JoinHandle<()>,
}

impl Refusing {
    async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move { drop(answer(client, status).await) });
            }
        });
        Self { host, server }
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(client: TcpStream, status: &str) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    // An engine asks in TLS first, and takes this for the answer of one that speaks none.
    if client.fill_buf().await?.first() == Some(&0x16) {
        return client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
    }
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") && (&mut client).take(8192).read_line(&mut request).await? > 0 {}
    let is_question_for_the_api = request.contains(" /v2/ ");
    let (status, body) = if is_question_for_the_api { ("200 OK", "{}") } else { (status, "") };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_used_while_the_registry_is_short_of_something_and_not_when_it_has_no_such_image() {
    for engine in engines("a_copy_is_used_while_the_registry_is_short_of_something") {
        for (status, kept, absent) in [
            ("429 Too Many Requests", true, Fault::Resource),
            ("503 Service Unavailable", true, Fault::Resource),
            ("404 Not Found", false, Fault::Task),
            ("403 Forbidden", false, Fault::Task),
        ] {
            let (state, registry) = (tempfile::tempdir().unwrap(), Refusing::start(status).await);
            let options = engine.options(state.path()).await;
            let images = Images::new(ImagesOptions { pull_attempts: 2, first_wait: Duration::from_millis(20), ..options });
            // The day in the tag is none of the statuses.
            let name = format!("{}/tc-test/nightly:20240429", registry.host);
            let want = ImageWant::Registry { name: name.clone(), shown: name.clone(), as_it_is: false };
            let lines = Arc::new(Lines::default());
            let error = images.image(&want, None, lines.clone()).await.unwrap_err();
            assert_eq!(error.fault, absent, "{status} on {engine:?}: {error}");
            engine.docker(&["tag", "busybox:latest", &name]).unwrap();
            let _clean = CleanUp(&engine, vec![name.clone()]);
            let brought = images.image(&want, None, lines.clone()).await;
            assert_eq!(brought.is_ok(), kept, "{status} on {engine:?}: {brought:?}");
            let warned = lines.0.lock().unwrap().iter().any(|line| line.contains("the copy that is here is used"));
            assert_eq!(warned, kept, "{status} on {engine:?}");
        }
    }
}
