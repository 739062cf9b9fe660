//! Tasks reach the queue: one after the other, each after those that it waits for, while the first of them run already.

use std::collections::HashSet;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::{ApiError, Queue};

/// How many answers may wait to be heard.
const ANSWERS: usize = 64;

/// One task for the queue.
pub struct Order {
    /// Its place on the board.
    pub at: usize,
    /// Its id.
    pub id: String,
    /// The places of those that it waits for.
    pub waits_for: Vec<usize>,
    /// What the queue gets.
    pub definition: Value,
}

/// A task's place on the board, and what the queue says.
pub type Created = (usize, Result<(), ApiError>);

/// Begins to create these tasks. Ends when all are there, or when nobody hears the answers any more.
pub fn begin(queue: Queue, orders: Vec<Order>) -> mpsc::Receiver<Created> {
    let (tell, answers) = mpsc::channel(ANSWERS);
    tokio::spawn(async move {
        let mut refused = HashSet::new();
        for Order { at, id, waits_for, definition } in orders {
            // Whoever hears of the first refusal knows about these.
            if waits_for.iter().any(|on| refused.contains(on)) {
                refused.insert(at);
                continue;
            }
            let answer = queue.create_task(&id, &definition).await;
            if answer.is_err() {
                refused.insert(at);
            }
            if tell.send((at, answer)).await.is_err() {
                return;
            }
        }
    });
    answers
}
