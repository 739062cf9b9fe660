//! The engine's moods at each step of an image: the right fault, soon, and nothing left.

use std::{sync::Arc, time::Duration};

use tc_engine::{EngineError, Fault, Image, ImageWant};
use tc_engine_docker::{
    Connection,
    image::{Images, ImagesOptions, Patience},
};

use super::{
    archives::{Built, busybox, layer},
    support::{Archive, Bench, CleanUp, Lines, ROOM, bring, engines, own_name},
};
use crate::support::faulty::{Fault as Mood, Proxy, Rule};

/// No case takes this long.
const CASE_BOUND: Duration = Duration::from_secs(60);

type Faults = &'static [Option<Fault>];
const FINE: Option<Fault> = None;
const LOST: Option<Fault> = Some(Fault::Lost);
const WORKER: Option<Fault> = Some(Fault::Worker);
const TASK: Option<Fault> = Some(Fault::Task);
const RESOURCE: Option<Fault> = Some(Fault::Resource);

fn images(proxy: &Proxy, state: &std::path::Path) -> Images {
    let second = Duration::from_secs(1);
    let patience = Patience { call: second * 2, removal: second * 2, look: second };
    let connection = Connection::new(&proxy.host).unwrap();
    Images::new(ImagesOptions {
        patience,
        past_the_engine: false,
        first_wait: second / 20,
        pull_attempts: 2,
        ..ImagesOptions::new(connection, state.to_owned())
    })
}

/// Spoils one thing and acquires an image. Returns what is wrong with what comes of it.
async fn spoiled(
    engine: &Bench,
    (method, path, mood): (&'static str, &'static str, Mood),
    expected: Faults,
    acquire: impl AsyncFn(&Images) -> Result<Image, EngineError>,
) -> Option<String> {
    let state = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(&engine.host, vec![Rule { method, path, times: 1, fault: mood.clone() }]);
    let images = images(&proxy, state.path());
    let case = format!("{engine:?}: {method} {path} {mood:?}");
    let ended = tokio::time::timeout(CASE_BOUND, acquire(&images)).await;
    let fault = match &ended {
        Err(_) => return Some(format!("{case}: it did not end")),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.fault),
    };
    if !proxy.unused().is_empty() {
        return Some(format!("{case}: the fault did not happen"));
    }
    (!expected.contains(&fault)).then(|| format!("{case}: {ended:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_load_may_fail_or_hang() {
    let _turn = ROOM.lock().await;
    let mut wrong = Vec::new();
    for engine in engines("each_step_of_a_load_may_fail_or_hang") {
        let archive = Archive::new(Built::new(vec![busybox("faults"), layer("which", "faults")], &[]).saved(true));
        let mut cases: Vec<((&str, &str, Mood), Faults)> = Vec::new();
        for path in ["/info", "/images/json"] {
            cases.push((("GET", path, Mood::Answer(500, "mood")), &[FINE]));
            cases.push((("GET", path, Mood::Answer(409, "mood")), &[FINE]));
            cases.push((("GET", path, Mood::Hang), &[LOST]));
            cases.push((("GET", path, Mood::DropBefore), &[FINE]));
            cases.push((("GET", path, Mood::Noise), &[FINE]));
            cases.push((("GET", path, Mood::Nonsense), &[WORKER]));
        }
        // The name that the load gave is looked for at its end.
        let key = "test:faults/load";
        let inspect: &'static str = format!("{}/json", own_name(key).rsplit_once('/').unwrap().1).leak();
        cases.push((("GET", inspect, Mood::Answer(500, "mood")), &[FINE]));
        cases.push((("GET", inspect, Mood::Answer(404, "mood")), &[TASK, FINE]));
        cases.push((("GET", inspect, Mood::Hang), &[LOST]));
        // An answer that comes before the archive was sent may be lost together with the connection. Where layers were left
        // out, it is tried once more with all of them.
        let load = "/images/load";
        cases.push((("POST", load, Mood::Answer(500, "mood")), &[TASK, LOST, FINE]));
        cases.push((("POST", load, Mood::Answer(500, "write /x: no space left on device")), &[RESOURCE, LOST]));
        cases.push((("POST", load, Mood::DropBefore), &[LOST]));
        cases.push((("POST", load, Mood::Noise), &[LOST, WORKER]));
        for (step, expected) in cases {
            let acquire = async |images: &Images| bring(images, key, &archive).await;
            wrong.extend(spoiled(&engine, step, expected, acquire).await);
            let left = engine.id(&own_name(key));
            let _clean = CleanUp(&engine, left.into_iter().collect());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_pull_may_fail_or_hang() {
    let mut wrong = Vec::new();
    for engine in engines("each_step_of_a_pull_may_fail_or_hang") {
        let create = "/images/create";
        // Nothing is there, and nobody listens at this registry: what the engine says itself would be the registry's fault.
        let name = "127.0.0.1:1/tc-test/nowhere:1";
        let want = ImageWant::Registry { name: name.to_owned(), shown: name.to_owned(), as_it_is: false };
        let inspect = "nowhere:1/json";
        let cases: Vec<((&'static str, &'static str, Mood), Faults)> = vec![
            // Then it is the registry that is not there.
            (("GET", inspect, Mood::Answer(500, "mood")), &[RESOURCE]),
            (("GET", inspect, Mood::Hang), &[LOST]),
            (("GET", inspect, Mood::DropBefore), &[RESOURCE]),
            (("POST", create, Mood::Answer(404, "manifest unknown")), &[TASK]),
            (("POST", create, Mood::Answer(500, "mood")), &[RESOURCE]),
            (("POST", create, Mood::Answer(429, "mood")), &[RESOURCE]),
            (("POST", create, Mood::DropBefore), &[LOST]),
        ];
        for (step, expected) in cases {
            let acquire = async |images: &Images| images.image(&want, None, Arc::new(Lines::default())).await;
            wrong.extend(spoiled(&engine, step, expected, acquire).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Trouble of the engine passes, or is told as what it is. It is not this worker's defect.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_the_engine_is_believed_only_when_it_stays() {
    for engine in engines("trouble_of_the_engine_is_believed_only_when_it_stays") {
        let name = "busybox:latest";
        let want = ImageWant::Registry { name: name.to_owned(), shown: name.to_owned(), as_it_is: true };
        for status in [500, 409] {
            for (times, expected) in [(1, None), (3, None), (u32::MAX, RESOURCE)] {
                let state = tempfile::tempdir().unwrap();
                let mood = Mood::Answer(status, "mood");
                let proxy = Proxy::new(&engine.host, vec![Rule { method: "GET", path: "latest/json", times, fault: mood }]);
                let images = images(&proxy, state.path());
                let ended = tokio::time::timeout(CASE_BOUND, images.image(&want, None, Arc::new(Lines::default()))).await;
                let ended = ended.expect("it ends");
                assert_eq!(ended.as_ref().err().map(|error| error.fault), expected, "{engine:?} {status} {times}: {ended:?}");
                assert_eq!(proxy.unused().is_empty(), times != u32::MAX, "{engine:?} {status}");
            }
        }
    }
}

/// An engine that has stopped answering altogether, with a load or a pull in its hands.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_answers_nothing_any_more_is_lost() {
    let _turn = ROOM.lock().await;
    for engine in engines("an_engine_that_answers_nothing_any_more_is_lost") {
        let deaf = |path| {
            let rule = |method, path| Rule { method, path, times: u32::MAX, fault: Mood::Hang };
            Proxy::new(&engine.host, vec![rule("GET", "/version"), rule("POST", path)])
        };
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(Built::new(vec![layer("which", "deaf")], &[]).saved(true));
        let proxy = deaf("/images/load");
        let images_there = images(&proxy, state.path());
        let loaded = tokio::time::timeout(CASE_BOUND, bring(&images_there, "test:faults/deaf", &archive)).await;
        let error = loaded.expect("it ends").unwrap_err();
        assert_eq!(error.fault, Fault::Lost, "{engine:?}: {error}");

        let proxy = deaf("/images/create");
        let images_there = images(&proxy, state.path());
        let name = "127.0.0.1:1/tc-test/nowhere:1".to_owned();
        let want = ImageWant::Registry { name: name.clone(), shown: name, as_it_is: false };
        let pulled = tokio::time::timeout(CASE_BOUND, images_there.image(&want, None, Arc::new(Lines::default()))).await;
        let error = pulled.expect("it ends").unwrap_err();
        assert_eq!(error.fault, Fault::Lost, "{engine:?}: {error}");

        // One that is only slow with it is waited for.
        let slow = Rule { method: "POST", path: "/images/load", times: 1, fault: Mood::Late(6000) };
        let proxy = Proxy::new(&engine.host, vec![slow]);
        let images_there = images(&proxy, state.path());
        let archive = Archive::new(Built::new(vec![busybox("faults"), layer("which", "slow")], &[]).saved(true));
        let image = bring(&images_there, "test:faults/slow", &archive).await.unwrap();
        let _clean = CleanUp(&engine, vec![image.id.clone()]);
        assert!(proxy.unused().is_empty());
    }
}
