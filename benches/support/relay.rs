//! A relay before the queue, which notes what passes and adds latency.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Deployment, now_ns};

/// When what was passed on, in nanoseconds since 1970.
#[derive(Debug, Default)]
pub struct Passed {
    /// Calls of `claimWork`.
    pub claims: Vec<u128>,
    /// Their answers that had a task.
    pub answered: Vec<u128>,
    /// Answers that say that a task is completed.
    pub completed: Vec<u128>,
    /// Connections that are open on either side.
    pub open: usize,
}

/// See the module.
pub struct Relay {
    address: SocketAddr,
    passed: Arc<Mutex<Passed>>,
}

impl Relay {
    /// Begins to relay to the queue of a deployment.
    pub fn start(bench: &Deployment, latency: Duration) -> Self {
        let upstream = bench.server.root_url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("bound");
        let passed = Arc::<Mutex<Passed>>::default();
        std::thread::spawn({
            let passed = Arc::clone(&passed);
            move || {
                for client in listener.incoming().flatten() {
                    let (upstream, passed) = (upstream.clone(), Arc::clone(&passed));
                    lock(&passed).open += 1;
                    std::thread::spawn(move || {
                        relay(client, &upstream, latency, &passed);
                        lock(&passed).open -= 1;
                    });
                }
            }
        });
        Self { address, passed }
    }

    /// Where a worker finds it.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has passed so far.
    pub fn passed(&self) -> MutexGuard<'_, Passed> {
        lock(&self.passed)
    }
}

fn lock(passed: &Mutex<Passed>) -> MutexGuard<'_, Passed> {
    passed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, both ways; requests on it come one after another.
fn relay(mut client: TcpStream, upstream: &str, latency: Duration, passed: &Arc<Mutex<Passed>>) {
    let Ok(mut server) = TcpStream::connect(upstream) else { return };
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn({
        let passed = Arc::clone(passed);
        move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = from_client.read(&mut buffer) {
                std::thread::sleep(latency / 2);
                if to_server.write_all(&buffer[..n]).is_err() {
                    break;
                }
                let first_line = String::from_utf8_lossy(&buffer[..n.min(200)]);
                if first_line.starts_with("POST ") && first_line.contains("/claim-work/") {
                    lock(&passed).claims.push(now_ns());
                }
            }
            drop(to_server.shutdown(std::net::Shutdown::Write));
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        std::thread::sleep(latency / 2);
        if client.write_all(&buffer[..n]).is_err() {
            break;
        }
        let now = now_ns();
        let text = String::from_utf8_lossy(&buffer[..n]);
        // Only answers to claims carry these three.
        if text.contains("\"takenUntil\"") && text.contains("\"credentials\"") && text.contains("\"payload\"") {
            lock(passed).answered.push(now);
        } else if text.contains("\"reasonResolved\":\"completed\"") {
            lock(passed).completed.push(now);
        }
    }
    drop(client.shutdown(std::net::Shutdown::Write));
}
