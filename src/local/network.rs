//! A network of a given quality between clients and the server, on the connection below TLS.
//!
//! Bytes arrive half a round trip after they were sent, in each direction, however many are on the way; what a new connection says first is
//! one more round trip late, as the handshake of TCP would have it. So a new connection and its first request cost two round trips, each
//! further request one, and requests that do not wait for answers share one. The rate is that of one link that all connections share, in
//! each direction for itself.

use std::{
    io,
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};

use super::desk::Desk;

/// Largest piece that travels as one.
const PIECE: usize = 64 * 1024;
/// Pieces on the way in one direction of a connection: a window of 4 MiB at most.
const WINDOW: usize = 64;
/// Bytes between the link and the server.
const BUFFER: usize = 64 * 1024;
/// How long the other side may take no bytes.
const STALL: Duration = Duration::from_secs(120);
/// How long bytes may be on their way when the server closes.
const GRACE: Duration = Duration::from_secs(5);

/// The quality of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    /// How long a byte and the answer to it are on their way together.
    pub rtt: Duration,
    /// What all connections together can carry in each direction, in bytes per second; everything if there is no such number.
    pub bytes_per_sec: Option<NonZeroU64>,
}

/// One direction of the link, as a clock: when the bytes have left that were sent so far.
#[derive(Debug, Clone, Copy)]
struct Lane {
    free: Instant,
}

impl Lane {
    /// When the last of these bytes has left.
    fn pass(&mut self, now: Instant, bytes: usize, rate: Option<NonZeroU64>) -> Instant {
        let Some(rate) = rate else { return now };
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.get()));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free = self.free.max(now) + takes.min(Duration::from_secs(24 * 3600));
        self.free
    }
}

/// The link between all clients and the server.
pub(crate) struct Link {
    network: Network,
    up: Mutex<Lane>,
    down: Mutex<Lane>,
    piece: usize,
}

impl Link {
    /// None if the network is perfect.
    pub(crate) fn new(network: Network) -> Option<Self> {
        if network == Network::default() {
            return None;
        }
        let lane = || Mutex::new(Lane { free: Instant::now() });
        // Pieces of about 20 ms, so that connections share the link evenly and nothing arrives in lumps.
        let piece = network.bytes_per_sec.map_or(PIECE, |rate| usize::try_from(rate.get() / 50).unwrap_or(PIECE));
        Some(Self { network, up: lane(), down: lane(), piece: piece.clamp(512, PIECE) })
    }

    fn arrival(&self, lane: &Mutex<Lane>, bytes: usize) -> Instant {
        let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        lane.pass(Instant::now(), bytes, self.network.bytes_per_sec) + self.network.rtt / 2
    }

    /// Carries bytes between a client and the server's end of this connection until one of them is done.
    pub(crate) async fn carry(&self, desk: &Desk, client: TcpStream, server: DuplexStream) {
        let not_before = Instant::now() + self.network.rtt + self.network.rtt / 2;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = tokio::io::split(server);
        let up = async {
            if self.direction(&self.up, not_before, from_client, to_server).await.is_ok() {
                // The client has said everything; the answer may still be on its way.
                std::future::pending::<()>().await;
            }
        };
        let down = self.direction(&self.down, not_before, from_server, to_client);
        let closing = async {
            desk.closing.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        // The server's word first; closing last, because it only ends what hangs.
        tokio::select! {
            biased;
            _ = down => {}
            () = up => {}
            () = closing => {}
        }
    }

    async fn direction(
        &self,
        lane: &Mutex<Lane>,
        not_before: Instant,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
        let take = async move {
            loop {
                let mut piece = Vec::with_capacity(self.piece);
                let read = (&mut from).take(self.piece as u64).read_buf(&mut piece).await?;
                let arrival = self.arrival(lane, read).max(not_before);
                if sender.send((arrival, piece)).await.is_err() || read == 0 {
                    return Ok(());
                }
            }
        };
        let give = async {
            while let Some((arrival, piece)) = receiver.recv().await {
                tokio::time::sleep_until(arrival).await;
                if piece.is_empty() {
                    return to.shutdown().await;
                }
                tokio::time::timeout(STALL, to.write_all(&piece)).await??;
            }
            Ok(())
        };
        tokio::try_join!(take, give).map(drop)
    }
}

/// A pair of the server's ends of a connection: one for the link, one for the server.
pub(crate) fn ends() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(BUFFER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_one_after_the_other_at_the_rate_of_the_link() {
        let start = Instant::now();
        let mut lane = Lane { free: start };
        let rate = NonZeroU64::new(1000);
        assert_eq!(lane.pass(start, 500, rate), start + Duration::from_millis(500));
        assert_eq!(lane.pass(start, 500, rate), start + Duration::from_secs(1), "two connections share it");
        let later = start + Duration::from_secs(10);
        assert_eq!(lane.pass(later, 1000, rate), later + Duration::from_secs(1), "what was not used is not saved up");
        assert_eq!(lane.pass(later, usize::MAX, None), later);
    }

    use crate::local::tests::Rig;

    const ROUND: Duration = Duration::from_millis(300);

    async fn ping(stream: &mut TcpStream, times: usize) {
        let request = "GET /api/queue/v1/ping HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(times);
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answers = Vec::new();
        while answers.iter().filter(|byte| **byte == b'}').count() < times {
            assert!(stream.read_buf(&mut answers).await.expect("an answer") > 0);
        }
    }

    #[tokio::test]
    async fn a_round_trip_is_what_a_connection_and_each_request_cost_unless_they_share_it() {
        let network = Network { rtt: ROUND, bytes_per_sec: None };
        let rig = Rig::with(|options| options.network = network).await;
        let start = Instant::now();
        let mut stream = TcpStream::connect(rig.server.address()).await.expect("a connection");
        ping(&mut stream, 1).await;
        let first = start.elapsed();
        assert!(first >= 2 * ROUND, "{first:?}");
        let start = Instant::now();
        ping(&mut stream, 1).await;
        let second = start.elapsed();
        assert!(second >= ROUND && second < first, "{second:?}");
        let start = Instant::now();
        ping(&mut stream, 8).await;
        let together = start.elapsed();
        assert!(together >= ROUND && together < 8 * ROUND, "{together:?}");
        let start = Instant::now();
        rig.server.shutdown().await;
        assert!(start.elapsed() < Duration::from_secs(9));
    }

    #[tokio::test]
    async fn all_connections_share_the_rate() {
        let rate = NonZeroU64::new(100_000);
        let rig = Rig::with(|options| options.network = Network { rtt: Duration::ZERO, bytes_per_sec: rate }).await;
        let start = Instant::now();
        let post = || rig.http.post(rig.url("/tasks")).body(vec![b' '; 20_000]).send();
        let (one, two) = tokio::join!(post(), post());
        assert!(one.is_ok() && two.is_ok());
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }
}
