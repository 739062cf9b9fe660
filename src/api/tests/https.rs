//! https: whom the client trusts.

use std::{path::Path, sync::Arc, time::Duration};

use super::{TASK, credentials};
use crate::{
    api::{CredentialsCell, ErrorKind, HttpTransport, RetryPolicy, Services, TransportError},
    local::{Options, Server, TlsFiles},
    seam::{SystemClock, SystemRandom},
};

#[tokio::test]
async fn https_trusts_the_certificates_of_a_file_and_no_strangers() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/queue-tls");
    let store = tempfile::tempdir().expect("a directory");
    let server = Server::start(Options {
        tls: Some(TlsFiles { cert: fixtures.join("cert.pem"), key: fixtures.join("key.pem") }),
        ..Options::new(store.path().to_owned(), ("me".to_owned(), "one".to_owned()))
    })
    .await
    .expect("a queue");
    let url = server.root_url();
    assert!(url.starts_with("https://"), "{url}");
    let ask = async |ca_file: Option<&Path>| {
        let transport = Arc::new(HttpTransport::new(ca_file, true).expect("a transport"));
        let once = RetryPolicy { total: Duration::ZERO, ..RetryPolicy::default() };
        let services = Services::new(&url, transport, Arc::new(SystemClock), Arc::new(SystemRandom)).expect("services");
        let queue = services.with_retry(once).queue(CredentialsCell::new(credentials("one")));
        queue.cancel_task(TASK).await.expect_err("nobody has made this task")
    };
    let known = ask(Some(&fixtures.join("cert.pem"))).await;
    assert_eq!(known.status(), Some(404), "the queue itself answers: {known}");
    let stranger = ask(None).await;
    let is_refused =
        matches!(&stranger.kind, ErrorKind::Transport(TransportError::Connection(why)) if why.contains("certificate"));
    assert!(is_refused, "{stranger:?}");
    server.shutdown().await;
}
