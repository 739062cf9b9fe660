//! Connections: accepted, wrapped in TLS when asked for, served until they end or the server closes.

use std::{
    future::poll_fn,
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::Router;
use futures_util::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::{
    desk::Desk,
    faults::breach::{self, Breakable},
    network,
    owed::Owed,
};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may rest between two requests: longer than clients keep idle connections, so that they close first.
const REST: Duration = Duration::from_secs(300);
/// How long calls may go on when the server closes. Long polls end at once, and so do calls whose body is still on its way; this is for uploads.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be accepted, for example because the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A certificate chain and its key, both in PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl TlsFiles {
    pub(crate) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let wrong = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{what} \"{}\": {error}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong("read TLS certificate", &self.cert, &error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong("read TLS key", &self.key, &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong("use TLS certificate", &self.cert, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Accepts connections until the server closes.
pub(crate) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, desk: Arc<Desk>) {
    loop {
        // Closing first, so that a stream of connections does not keep the server open.
        let accepted = tokio::select! {
            biased;
            () = desk.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, router, desk_of_task) = (tls.clone(), router.clone(), desk.clone());
        desk.tasks.spawn(async move {
            let served = AssertUnwindSafe(connection(stream, tls, router, &desk_of_task)).catch_unwind().await;
            if served.is_err() {
                tracing::error!(%peer, "a request to the embedded queue panicked; its connection is closed");
            }
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, desk: &Desk) {
    // Answers are small and awaited; without this they wait for each other's acknowledgements.
    let _ = stream.set_nodelay(true);
    let Some(link) = &desk.link else { return secured(stream, tls, router, desk).await };
    let (outer, inner) = network::ends();
    tokio::join!(link.carry(desk, stream, outer), secured(inner, tls, router, desk));
}

async fn secured<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    tls: Option<TlsAcceptor>,
    router: Router,
    desk: &Desk,
) {
    match tls {
        None => serve(stream, router, desk).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
            // Closing first; a client that never finishes its handshake is dropped either way.
            let stream = tokio::select! {
                biased;
                () = desk.closing.cancelled() => return,
                stream = handshake => stream,
            };
            if let Ok(Ok(stream)) = stream {
                serve(stream, router, desk).await;
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S, router: Router, desk: &Desk) {
    let (service, broken) = Breakable::new(router);
    let owed = Owed::default();
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REST)
        .serve_connection(TokioIo::new(owed.watched(stream)), owed.counted(service));
    // The connection first: an answer that is ready goes out even when the server closes. Its end and its errors are the client's affair.
    let closing = tokio::select! {
        biased;
        _ = &mut connection => false,
        () = desk.closing.cancelled() => true,
    };
    if closing {
        Pin::new(&mut connection).graceful_shutdown();
        // Who is still saying what it wants is not waited for.
        let settled = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if owed.any() => Poll::Pending,
            Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
        });
        let _ = tokio::time::timeout(GRACE, settled).await;
    }
    let rest = breach::finish(&broken, connection.into_parts().io.into_inner().into_inner());
    let closed = async {
        desk.closing.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // The answer first; a client that does not take it does not keep the server open.
    tokio::select! {
        biased;
        () = rest => {}
        () = closed => {}
    }
}
