//! The client against other clients' signatures, scripted services on a paused clock, and servers over real sockets.

mod calls;
mod claims;
mod https;
mod signatures;
mod sockets;

use std::sync::Arc;

use super::{Credentials, CredentialsCell, Queue, Secret, Services, scripted::Scripted};
use crate::seam::{SeededRandom, TestClock};

const DATE: &str = "2026-11-24T12:00:00Z";
const TASK: &str = "fZ42HVdDQ-KFFycr9PxptA";

fn credentials(token: &str) -> Credentials {
    Credentials { client_id: "me".to_owned(), access_token: Secret::new(token), certificate: None }
}

/// A queue behind this transport, whose wall clock shows [`DATE`] at the beginning, and the cell with its credentials.
fn queue(transport: &Arc<Scripted>) -> (Queue, CredentialsCell) {
    let cell = CredentialsCell::new(credentials("one"));
    let clock = Arc::new(TestClock::starting_at(DATE.parse().expect("a date")));
    let services = Services::new("https://tc.example.com/", Arc::clone(transport) as _, clock, Arc::new(SeededRandom::new(1)))
        .expect("a root URL");
    (services.queue(cell.clone()), cell)
}
