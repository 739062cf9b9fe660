//! Services that are slow for a long time, on a paused clock.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tc_engine::{Content, OpenFile, Pieces, ReadError, Reopen};
use tokio::time::Instant;

use super::date;
use crate::{
    api::{
        Credentials, CredentialsCell, Secret, Services,
        scripted::{Scripted, Seen, Step},
    },
    artifact::{Body, Target, UploadError, publish},
    seam::{SeededRandom, TestClock},
};

/// A body of this size that is read from a file.
fn body(bytes: usize) -> Body {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![b'x'; bytes]).expect("written");
    Body::identity(Content::File(OpenFile { file, bytes: bytes as u64 }))
}

fn is_put(seen: &Seen) -> bool {
    seen.method == http::Method::PUT
}

/// Publishes to a store that does with its n-th upload what `fate` says. Returns the result, and how many artifacts were
/// created and uploads begun.
async fn published(
    body: Body,
    mut fate: impl FnMut(usize) -> Step + Send + 'static,
) -> (Result<[u8; 32], UploadError>, usize, usize, Duration) {
    let mut puts = 0;
    let transport = Arc::new(Scripted::new(move |seen| {
        if is_put(seen) {
            puts += 1;
            return fate(puts - 1);
        }
        Step::answer(200, json!({ "storageType": "s3", "putUrl": "https://s3/x", "contentType": "a/b" }).to_string())
    }));
    let clock = Arc::new(TestClock::starting_at(date("2026-11-24T12:00:00Z")));
    let services = Services::new("https://tc.example.com", Arc::clone(&transport) as _, clock, Arc::new(SeededRandom::new(1)))
        .expect("services");
    let credentials = Credentials { client_id: "c".to_owned(), access_token: Secret::new("t"), certificate: None };
    let queue = services.queue(CredentialsCell::new(credentials));
    let target = Target { queue, task_id: "fZ42HVdDQ-KFFycr9PxptA".to_owned(), run_id: 0, objects: false };
    let began = Instant::now();
    let result = publish(&target, "a", "a/b", date("2030-01-01T00:00:00Z"), &body).await;
    let seen = transport.seen();
    let puts = seen.iter().filter(|seen| is_put(seen)).count();
    (result, seen.len() - puts, puts, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_silent_or_fails_is_given_up_after_a_while() {
    for step in [Step::Silence, Step::cut(), Step::answer(503, "")] {
        let (result, created, puts, took) = published(body(1000), move |_| step.clone()).await;
        assert!(matches!(result, Err(UploadError::Service(_))), "{result:?}");
        assert!(took > Duration::from_secs(600) && took < Duration::from_secs(1800), "{took:?}");
        assert!(puts >= 3 && created == 1, "{puts}, {created}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_moves_may_take_longer_than_its_url_lives() {
    let fate = |put: usize| if put < 20 { Step::Silence } else { Step::answer(200, "") };
    let (result, created, puts, took) = published(body(2 << 20), fate).await;
    assert!(result.is_ok(), "{result:?}");
    assert!(took > Duration::from_secs(1800));
    assert_eq!(puts, 21);
    assert!(created >= 2, "an old URL is replaced before it is used");
}

/// A stream that nobody gives before a time has passed, or never.
#[derive(Debug)]
struct Slow {
    wait: Option<Duration>,
    opened: AtomicUsize,
}

#[async_trait]
impl Reopen for Slow {
    fn bytes(&self) -> u64 {
        3
    }

    async fn open(&self) -> Result<Box<dyn Pieces>, ReadError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let Some(wait) = self.wait else { return Err(ReadError::Lost("the engine is gone".to_owned())) };
        tokio::time::sleep(wait).await;
        Ok(Box::new(Once(Some(Bytes::from_static(b"123")))))
    }
}

struct Once(Option<Bytes>);

#[async_trait]
impl Pieces for Once {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.take())
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_gone_is_given_up_after_a_while() {
    let source = Arc::new(Slow { wait: None, opened: AtomicUsize::new(0) });
    let body = Body::identity(Content::Stream(source.clone()));
    let (result, created, puts, took) = published(body, |_| Step::answer(200, "")).await;
    assert!(matches!(&result, Err(UploadError::Service(why)) if why == "the engine is gone"), "{result:?}");
    assert_eq!((created, puts, source.opened.load(Ordering::SeqCst)), (1, 0, 9));
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_other_streams_is_no_failure_and_the_url_is_fresh_afterwards() {
    let source = Arc::new(Slow { wait: Some(Duration::from_secs(3600)), opened: AtomicUsize::new(0) });
    let body = Body::identity(Content::Stream(source.clone()));
    let (result, created, puts, _) = published(body, |_| Step::answer(200, "")).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((created, puts, source.opened.load(Ordering::SeqCst)), (2, 1, 1));
}
