//! Connections that break, URLs that expire, servers that lie.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::content::{
    fetch::{Count, Fetch},
    parcel::Input,
};

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_broke() {
    let body = noise(2_000_000);
    let server = Server::start({
        let body = body.clone();
        move |number, request| match request.is_store() {
            true => {
                let reply = Reply::part(request, &body).with("etag: \"v1\"");
                if number < 4 { reply.cut_after(300_000) } else { reply }
            }
            false => request.locate(),
        }
    })
    .await;
    let (bytes, digest) = fetch(&server, Packing::Keep).await.expect("all bytes");
    assert!(bytes == body && digest == sha256(&body));
    let seen = server.seen();
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen[2].ends_with(" bytes=300000- \"v1\""), "{seen:?}");
    assert!(seen[5].ends_with(" bytes=1200000- \"v1\""), "{seen:?}");
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start_and_must_say_the_same() {
    let body = noise(900_000);
    for same in [true, false] {
        let server = Server::start({
            let body = body.clone();
            move |number, request| match (request.is_store(), number) {
                (true, 0) => Reply::new(200, body.clone()).cut_after(400_000),
                (true, _) => {
                    let mut body = body.clone();
                    body[399_999] ^= u8::from(!same);
                    Reply::new(200, body)
                }
                (false, _) => request.locate(),
            }
        })
        .await;
        let result = fetch(&server, Packing::Keep).await;
        if same {
            assert!(result == Ok((body.clone(), sha256(&body))));
        } else {
            let error = result.expect_err("another artifact");
            assert!(error.fault == Fault::Resource && error.message.contains("changed"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn another_version_does_not_count_before_it_has_shown_the_same_beginning() {
    let (first, second) = (noise(900_000), vec![7; 900_000]);
    let server = Server::start({
        let first = first.clone();
        move |number, request| match (request.is_store(), number) {
            (true, 0) => Reply::part(request, &first).with("etag: \"one\"").cut_after(400_000),
            // If-Range does not hold: the server begins anew, and breaks off before the old bytes have all come again.
            (true, 1) => Reply::new(200, second.clone()).with("etag: \"two\"").cut_after(100_000),
            (true, _) if request.header("if-range") == Some("\"two\"") => Reply::part(request, &second).with("etag: \"two\""),
            (true, _) => Reply::new(200, second.clone()).with("etag: \"two\""),
            (false, _) => request.locate(),
        }
    })
    .await;
    let error = fetch(&server, Packing::Keep).await.expect_err("a mixture");
    assert!(error.message.contains("changed"), "{error:?}");
}

#[tokio::test]
async fn parts_that_do_not_fit_are_not_joined() {
    let body = noise(600_000);
    for wrong in 0..3 {
        let server = Server::start({
            let body = body.clone();
            move |number, request| match (request.is_store(), number) {
                (true, 0) => Reply::part(request, &body).with("etag: W/\"weak\"").cut_after(200_000),
                (true, 1) => {
                    let part = Reply::new(206, body[100_000..].to_vec());
                    match wrong {
                        0 => part.with("content-range: bytes 100000-599999/600000"),
                        1 => Reply::new(206, body[200_000..].to_vec())
                            .with("content-range: bytes 200000-599999/600000")
                            .with("etag: W/\"other\""),
                        _ => Reply::new(416, Vec::new()).with("content-range: bytes */9"),
                    }
                }
                (true, _) => {
                    assert_eq!(request.from(), None, "no further part");
                    Reply::new(200, body.clone())
                }
                (false, _) => request.locate(),
            }
        })
        .await;
        assert!(fetch(&server, Packing::Keep).await == Ok((body.clone(), sha256(&body))), "{wrong}");
        assert!(server.seen()[2].ends_with("bytes=200000- -"), "a weak name is not sent: {:?}", server.seen());
    }
}

#[tokio::test]
async fn an_expired_url_is_replaced_and_one_that_is_always_refused_is_not_asked_for_ever() {
    let body = noise(500_000);
    let server = Server::start({
        let body = body.clone();
        move |number, request| match (request.is_store(), number) {
            (true, 0) => Reply::part(request, &body).cut_after(100_000),
            (true, 1) => Reply::new(403, b"<Code>AccessDenied</Code>".to_vec()),
            (true, _) => Reply::part(request, &body),
            (false, _) => request.locate(),
        }
    })
    .await;
    assert!(fetch(&server, Packing::Keep).await == Ok((body.clone(), sha256(&body))));
    assert_eq!(server.count("/artifact-content/"), 2, "a new URL was asked for");
    let server =
        Server::start(|_, request| if request.is_store() { Reply::new(403, Vec::new()) } else { request.locate() }).await;
    let error = fetch(&server, Packing::Keep).await.expect_err("refused");
    assert!(error.fault == Fault::Task && error.message.contains("403"), "{error:?}");
    assert_eq!(server.count("/store/"), 2);
}

#[tokio::test]
async fn a_store_that_is_down_is_tried_for_a_bounded_time() {
    let server = Server::start(|number, request| match request.is_store() {
        true if number < 2 => Reply::new(503, Vec::new()),
        true => Reply::new(200, b"there".to_vec()),
        false => request.locate(),
    })
    .await;
    assert_eq!(fetch(&server, Packing::Keep).await.map(|(bytes, _)| bytes), Ok(b"there".to_vec()));
    let server = Server::start(|_, request| match request.is_store() {
        true => Reply::new(200, noise(1000)).cut_after(500),
        false => request.locate(),
    })
    .await;
    let error = fetch(&server, Packing::Keep).await.expect_err("never whole");
    assert_eq!(error.fault, Fault::Resource);
    assert!(server.count("/store/") > 2);
}

#[tokio::test]
async fn lengths_that_are_not_kept_are_noticed() {
    // Says too much: what comes is short. Says nothing: what comes is all there is.
    let server = Server::start(|_, request| match request.is_store() {
        true => Reply::new(200, noise(1000)).claims(2000),
        false => request.locate(),
    })
    .await;
    assert_eq!(fetch(&server, Packing::Keep).await.expect_err("short").fault, Fault::Resource);
    let server = Server::start(|_, request| match request.is_store() {
        true => Reply::new(200, noise(1000)).unmeasured(),
        false => request.locate(),
    })
    .await;
    assert_eq!(fetch(&server, Packing::Keep).await.map(|(bytes, _)| bytes), Ok(noise(1000)));
}

#[tokio::test]
async fn a_resumed_download_in_gzip_is_decoded_as_one() {
    let plain = noise(600_000);
    let encoded = archives::gzip(&plain);
    let server = Server::start(move |number, request| match request.is_store() {
        true => {
            let reply = Reply::part(request, &encoded).with("content-encoding: gzip").with("etag: \"e\"");
            if number == 0 { reply.cut_after(250_000) } else { reply }
        }
        false => request.locate(),
    })
    .await;
    assert!(fetch(&server, Packing::Keep).await == Ok((plain.clone(), sha256(&plain))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_left() {
    // On the scripted transport, since a paused clock does not wait for sockets.
    use crate::{
        api::{
            CredentialsCell, Services,
            scripted::{Scripted, Step},
        },
        seam::{SeededRandom, TestClock},
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let transport = Arc::new(Scripted::new({
        let asked = Arc::clone(&asked);
        move |seen| {
            if seen.url.contains("/artifact-content/") {
                return Step::answer(200, r#"{"storageType": "s3", "url": "http://store.invalid/x"}"#);
            }
            match asked.fetch_add(1, Ordering::SeqCst) {
                0 => Step::Silence,
                _ => Step::answer(200, "content"),
            }
        }
    }));
    let clock = Arc::new(TestClock::starting_at(jiff::Timestamp::UNIX_EPOCH));
    let services = Services::new("http://queue.invalid", transport, clock, Arc::new(SeededRandom::new(1))).expect("services");
    let queue = services.queue(CredentialsCell::anonymous());
    let artifact =
        super::super::Artifact { queue, task_id: "fZ42HVdDQ-KFFycr9PxptA".into(), run_id: 0, name: "public/x".into() };
    let began = tokio::time::Instant::now();
    // Without the threads, whose waiting would hold the clock.
    let (to, mut from) = tokio::sync::mpsc::channel(8);
    Fetch::new(Arc::new(artifact), to, Arc::new(Count::new())).run().await;
    assert!(matches!(from.recv().await, Some(Input::Begin { gzip: false })));
    assert!(matches!(from.recv().await, Some(Input::Pieces(pieces)) if pieces.concat() == b"content"));
    assert!(matches!(from.recv().await, Some(Input::End { sha256: None })));
    assert!((60..120).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}
