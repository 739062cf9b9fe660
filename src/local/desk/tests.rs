//! When claims are handed out.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::{
    local::{
        definition::define,
        state::TaskId,
        tests::{POOL, Rig, definition},
    },
    seam::{SystemRandom, slugid},
};

/// A worker in line that looks at the ledger in the very moment in which it gets a claim.
struct Hasty {
    desk: Arc<Desk>,
    /// Whether the claim was in the file if everything that was noted by then was.
    seen: Mutex<Option<oneshot::Sender<bool>>>,
}

impl Hasty {
    /// Whether the file of records has a run that is running.
    fn is_kept(&self) -> bool {
        let mut running = false;
        let read = self.desk.ledger.each("task", |_, bytes| {
            running |= String::from_utf8_lossy(bytes).contains(r#""state":"running""#);
        });
        read.is_ok() && running
    }
}

impl Wake for Hasty {
    fn wake(self: Arc<Self>) {
        let mut settled = std::pin::pin!(self.desk.ledger.settled());
        // What it would wait for is decided when it begins to wait.
        let fine = match settled.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => true,
            Poll::Ready(result) => result.is_ok() && self.is_kept(),
        };
        if let Some(seen) = self.seen.lock().expect("nobody panics").take() {
            seen.send(fine).expect("somebody wants to know");
        }
    }
}

#[tokio::test]
async fn a_claim_is_noted_before_its_worker_hears_of_it() {
    let data = tempfile::tempdir().expect("a directory");
    let rig = Rig::with(|options| options.data_dir = Some(data.path().to_owned())).await;
    let desk = rig.server.desk.clone();
    let worker = Arc::new(Worker { group: "g".into(), id: "w".into() });
    let mut seat = desk.claim_or_wait(&POOL.into(), &worker, 1).expect_err("a seat");
    let (sender, seen) = oneshot::channel();
    let hasty = Arc::new(Hasty { desk: desk.clone(), seen: Mutex::new(Some(sender)) });
    let waker = Waker::from(hasty.clone());
    assert!(std::pin::pin!(&mut seat.receiver).poll(&mut Context::from_waker(&waker)).is_pending());

    // Without the run itself being noted, whose record would hide that of the claim.
    let id = TaskId::parse(&slugid(&SystemRandom)).expect("an id");
    let mut body = definition(desk.now());
    body["dependencies"] = json!([id.as_str()]);
    let waiting = define(id, &body, desk.now()).map_err(|_| ()).expect("a definition");
    desk.books(|state, now| state.create(now, id, Arc::new(waiting))).expect("created");
    desk.ledger.settled().await.expect("written");
    assert!(!hasty.is_kept());
    desk.books(|state, now| state.schedule(now, id)).expect("scheduled");

    assert!(seen.await.expect("woken"), "the worker heard of its claim before that was noted");
    assert_eq!(seat.receiver.try_recv().map(|claims| claims.len()), Ok(1));
    desk.ledger.settled().await.expect("written");
    assert!(hasty.is_kept());
}
