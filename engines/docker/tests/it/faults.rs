//! The engine's moods, one at a time and at each step: the right outcome, and nothing left.

use std::{sync::Arc, time::Duration};

use tc_engine::{Engine, EntryFault, Exit, Fault, Kind, Owner, StopReason};
use tokio::task::JoinSet;

use crate::support::{
    Collected, Rig,
    faulty::{Fault as Mood, Proxy, Rule},
    hosts, keep, short_bounds,
};

/// As many cases go on at once; more would measure the machine.
const AT_ONCE: usize = 6;
/// No case takes this long.
const CASE_BOUND: Duration = Duration::from_secs(150);
const FOR_EVER: u32 = u32::MAX;

/// How a run came out.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    NotCreated(Fault),
    Exit(i32),
    Error(Fault),
}
use Outcome::{Error, Exit as Exited, NotCreated};

#[derive(Debug, Clone)]
struct Case {
    rule: Rule,
    expected: &'static [Outcome],
}

fn case(method: &'static str, path: &'static str, times: u32, fault: Mood, expected: &'static [Outcome]) -> Case {
    Case { rule: Rule { method, path, times, fault }, expected }
}

/// Performs a run whose command prints and exits with 3, with one thing spoiled. What is left afterwards is an error.
async fn go(host: &str, rule: Rule) -> Result<Outcome, String> {
    let proxy = Proxy::new(host, vec![rule.clone()]);
    let rig = Rig::through(host, &proxy.host, short_bounds()).await;
    let plan = rig.plan(&["/bin/sh", "-c", "echo said; exit 3"]);
    let (outcome, quiet) = match rig.reserve().await.create(plan).await {
        Err((error, quiet)) => (NotCreated(error.fault), quiet),
        Ok(sandbox) => {
            let sink = Arc::new(Collected::default());
            let mut handle = sandbox.start(sink.clone());
            let outcome = match handle.run(0).await {
                Ok(end) => match end.exit {
                    Exit::Code(3) if sink.text() != "said\r\n" => return Err(format!("it said {:?}", sink.text())),
                    Exit::Code(code) => {
                        println!("{rule:?}: {:?}", sink.text());
                        Exited(code)
                    }
                    other => return Err(format!("{other:?}")),
                },
                Err(error) => {
                    println!("{rule:?}: {error}");
                    Error(error.fault)
                }
            };
            (outcome, handle.quiesce().await.map_err(|error| error.to_string())?)
        }
    };
    quiet.destroy(false).await.map_err(|error| error.to_string())?;
    let unused = proxy.unused();
    if unused.iter().any(|rule| rule.times != FOR_EVER) {
        return Err(format!("this fault did not happen: {unused:?}"));
    }
    let left = rig.left().await;
    if left.is_empty() { Ok(outcome) } else { Err(format!("{outcome:?}, and left are {left:?}")) }
}

async fn all(test: &str, cases: Vec<Case>) {
    let mut waiting: Vec<_> = hosts(test)
        .into_iter()
        .flat_map(|(name, host)| cases.iter().cloned().map(move |case| (name, host.clone(), case)))
        .collect();
    let (mut going, mut wrong) = (JoinSet::new(), Vec::new());
    while !waiting.is_empty() || !going.is_empty() {
        while going.len() < AT_ONCE
            && let Some((name, host, case)) = waiting.pop()
        {
            going.spawn(async move {
                let came = tokio::time::timeout(CASE_BOUND, go(&host, case.rule.clone())).await;
                let came = came.unwrap_or_else(|_| Err("it did not end".to_owned()));
                let right = came.as_ref().is_ok_and(|outcome| case.expected.contains(outcome));
                (!right).then(|| format!("{name}: {case:?} came to {came:?}"))
            });
        }
        if let Some(done) = going.join_next().await {
            wrong.extend(done.unwrap_or_else(|error| Some(error.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn creating() {
    let path = "/containers/create";
    let refused = &[Exited(125)];
    let lost = &[NotCreated(Fault::Lost)];
    all(
        "faults::creating",
        vec![
            case("POST", path, 1, Mood::Answer(400, "bad parameter"), refused),
            case("POST", path, 1, Mood::Answer(409, "conflict of some kind"), refused),
            case("POST", path, 1, Mood::Answer(500, "no space left on device"), refused),
            case("POST", path, 1, Mood::Answer(404, "no such thing"), refused),
            case("POST", path, 1, Mood::Answer(404, "No such image: x"), &[NotCreated(Fault::Resource)]),
            case("POST", path, 1, Mood::Answer(400, "client version 1.51 is too old"), &[Exited(3)]),
            case("POST", path, 1, Mood::DropBefore, &[Exited(3)]),
            case("POST", path, 1, Mood::DropAfter, &[Exited(3)]),
            case("POST", path, 1, Mood::Noise, &[Exited(3)]),
            case("POST", path, 1, Mood::Nonsense, &[Exited(3)]),
            case("POST", path, 1, Mood::CutAnswer, &[Exited(3)]),
            case("POST", path, FOR_EVER, Mood::DropAfter, lost),
            case("POST", path, 1, Mood::Hang, lost),
            case("POST", path, 1, Mood::HangAfter, lost),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_and_watching() {
    let mut cases = Vec::new();
    for path in ["/attach", "/wait"] {
        for status in [404, 409, 500] {
            cases.push(case("POST", path, 1, Mood::Answer(status, "mood"), &[Exited(125)]));
        }
        for mood in [Mood::DropBefore, Mood::Noise, Mood::Hang, Mood::HangAfter] {
            cases.push(case("POST", path, 1, mood, &[NotCreated(Fault::Lost)]));
        }
    }
    // An answer that does not leave HTTP is no stream.
    cases.push(case("POST", "/attach", 1, Mood::Nonsense, &[NotCreated(Fault::Lost)]));
    // The watch breaks while the engine is there.
    cases.push(case("POST", "/wait", 1, Mood::CutAnswer, &[Exited(3), Error(Fault::Lost)]));
    // What comes is no exit code.
    cases.push(case("POST", "/wait", 1, Mood::Nonsense, &[Exited(3), Error(Fault::Lost)]));
    all("faults::attaching_and_watching", cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starting() {
    let path = "/start";
    all(
        "faults::starting",
        vec![
            case("POST", path, 1, Mood::Answer(400, "mood"), &[Exited(125)]),
            case("POST", path, 1, Mood::Answer(404, "exec: no such file or directory"), &[Exited(127)]),
            case("POST", path, 1, Mood::Answer(500, "exec: permission denied"), &[Exited(126)]),
            case("POST", path, 1, Mood::DropBefore, &[Exited(3)]),
            case("POST", path, 1, Mood::DropAfter, &[Exited(3)]),
            case("POST", path, 2, Mood::Noise, &[Exited(3)]),
            case("POST", path, 1, Mood::Hang, &[Exited(3)]),
            case("POST", path, 1, Mood::HangAfter, &[Exited(3)]),
            case("POST", path, FOR_EVER, Mood::DropBefore, &[Error(Fault::Lost)]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_and_removing() {
    let mut cases = Vec::new();
    for (method, path) in [("GET", "/containers/*/json"), ("DELETE", "/containers/*")] {
        for mood in [
            Mood::Answer(404, "mood"),
            Mood::Answer(409, "removal of container is already in progress"),
            Mood::Answer(500, "mood"),
            Mood::DropBefore,
            Mood::DropAfter,
            Mood::Noise,
            Mood::Nonsense,
            Mood::HangAfter,
        ] {
            cases.push(case(method, path, 1, mood, &[Exited(3)]));
        }
        cases.push(case(method, path, 5, Mood::Answer(500, "mood"), &[Exited(3)]));
        cases.push(case(method, path, 2, Mood::Hang, &[Exited(3)]));
    }
    // Of an image it does not know yet, the engine asks what volumes it has.
    for mood in [Mood::DropBefore, Mood::Noise, Mood::Hang] {
        cases.push(case("GET", "/images/*/json", 2, mood, &[Exited(3)]));
    }
    all("faults::looking_and_removing", cases).await;
}

/// A container that does not end by itself is stopped with one thing spoiled.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_and_killing() {
    let hosts = hosts("faults::stopping_and_killing");
    let mut going = JoinSet::new();
    for (name, host) in hosts {
        // Whoever believes a lie twice has to see with his own eyes in the end.
        for (path, times) in [("/stop", 1), ("/kill", 2)] {
            for mood in [
                Mood::Answer(304, ""),
                Mood::Answer(404, "mood"),
                Mood::Answer(409, "is not running"),
                Mood::Answer(500, "mood"),
                Mood::Noise,
                Mood::DropBefore,
                Mood::DropAfter,
                Mood::HangAfter,
            ] {
                let host = host.clone();
                going.spawn(async move {
                    let what = format!("{name}: {path} {mood:?}");
                    let proxy = Proxy::new(&host, vec![Rule { method: "POST", path, times, fault: mood }]);
                    let rig = Rig::through(&host, &proxy.host, short_bounds()).await;
                    let plan = rig.plan(&["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
                    let (mut handle, sink) = rig.start(plan).await;
                    tokio::select! {
                        biased; // It does not end by itself.
                        end = handle.run(0) => panic!("{what}: {end:?}"),
                        () = sink.shows("ready") => {}
                    }
                    let grace = Duration::from_secs(u64::from(path == "/stop"));
                    handle.stop(StopReason::Canceled, grace).await;
                    let quiet = handle.quiesce().await.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(!rig.runs().await, "{what}: quiet, and it runs");
                    quiet.destroy(false).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(proxy.unused().is_empty(), "{what}: did not happen");
                    assert_eq!(rig.left().await, Vec::<String>::new(), "{what}");
                });
                if going.len() >= AT_ONCE {
                    going.join_next().await.expect("one").expect("it holds");
                }
            }
        }
    }
    while let Some(done) = going.join_next().await {
        done.expect("it holds");
    }
}

/// The order to start is under way when the run is given up: it must not come true afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_late_does_not_come_after_quiet() {
    for (name, host) in hosts("faults::a_start_that_comes_late_does_not_come_after_quiet") {
        let proxy = Proxy::new(&host, vec![Rule { method: "POST", path: "/start", times: 1, fault: Mood::Late(700) }]);
        let rig = Rig::through(&host, &proxy.host, short_bounds()).await;
        let (mut handle, _) = rig.start(rig.plan(&["sleep", "600"])).await;
        drop(tokio::time::timeout(Duration::from_millis(200), handle.run(0)).await);
        handle.stop(StopReason::Canceled, Duration::ZERO).await;
        let quiet = handle.quiesce().await.expect("quiet");
        // The engine has been told by then.
        let told = tokio::time::Instant::now() + Duration::from_secs(2);
        while tokio::time::Instant::now() < told {
            assert!(!rig.runs().await, "{name}: quiet, and it runs");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        quiet.destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

/// The same for an order of which nothing is heard for longer than a run that ends waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_start_that_hangs_starts_nothing_once_the_run_is_given_up() {
    let bounds = tc_engine_docker::Bounds { start: Duration::from_secs(4), ..short_bounds() };
    for (name, host) in hosts("faults::an_order_to_start_that_hangs_starts_nothing_once_the_run_is_given_up") {
        // It never arrives, or after everything else.
        for fault in [Mood::Hang, Mood::Late(5000)] {
            let what = format!("{name}: {fault:?}");
            let start = |fault| Rule { method: "POST", path: "/start", times: 1, fault };
            let proxy = Proxy::new(&host, vec![start(fault), start(Mood::Answer(500, "there was a second order"))]);
            let rig = Rig::through(&host, &proxy.host, bounds.clone()).await;
            let (mut handle, sink) = rig.start(rig.plan(&["/bin/sh", "-c", "echo ran; sleep 600"])).await;
            drop(tokio::time::timeout(Duration::from_millis(200), handle.run(0)).await);
            let began = tokio::time::Instant::now();
            handle.stop(StopReason::MaxRunTime, Duration::from_millis(500)).await;
            let quiet = handle.quiesce().await.expect("quiet");
            assert!(began.elapsed() < bounds.start, "{what}: it did not wait for the order, {:?}", began.elapsed());
            let entry = quiet.read("/etc/passwd", Kind::File).recv().await.expect("an entry");
            assert!(
                matches!(entry.content, Err(EntryFault::Missing)),
                "{what}: no command ran, so nothing was left: {entry:?}"
            );
            // Both the order and the bound of its call are over by then.
            let told = began + bounds.start * 2;
            while tokio::time::Instant::now() < told {
                assert!(!rig.runs().await, "{what}: quiet, and it runs");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert_eq!(sink.text(), "", "{what}");
            assert_eq!(proxy.unused().len(), 1, "{what}: it was told to start once");
            quiet.destroy(false).await.expect("gone");
            rig.assert_clean().await;
        }
    }
}

/// The end of the command is known when the engine has told it, however long it takes over the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_over_before_the_engine_has_said_everything_about_it() {
    for (name, host) in hosts("faults::a_command_is_over_before_the_engine_has_said_everything_about_it") {
        let proxy = Proxy::new(&host, vec![]);
        let rig = Rig::through(&host, &proxy.host, short_bounds()).await;
        let (mut handle, sink) = rig.start(rig.plan(&["/bin/sh", "-c", "echo ready; sleep 1; exit 3"])).await;
        let over = handle.over();
        let began = tokio::time::Instant::now();
        let spoil = async {
            sink.shows("ready").await;
            proxy.spoil(Rule { method: "GET", path: "/json", times: 1, fault: Mood::Hang });
        };
        let (end, ()) = tokio::join!(handle.run(0), spoil);
        let end = end.expect("an end");
        assert_eq!(end.exit, Exit::Code(3), "{name}");
        let ended = over.at().expect("it is over") - began;
        assert!(began.elapsed() >= ended + short_bounds().call, "{name}: the engine took its time, not the command: {ended:?}");
        assert!(end.wall <= ended, "{name}: {end:?}");
        assert!(proxy.unused().is_empty(), "{name}");
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
        rig.assert_clean().await;
    }
}

/// An engine that refuses for ever is an error in bounded time, and what is left is found by a sweep.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_said_and_swept_later() {
    for (name, host) in hosts("faults::what_cannot_be_removed_is_said_and_swept_later") {
        let rules = vec![Rule { method: "DELETE", path: "/containers/*", times: FOR_EVER, fault: Mood::Answer(500, "mood") }];
        let proxy = Proxy::new(&host, rules);
        let bounds = tc_engine_docker::Bounds { removal: Duration::from_secs(3), ..short_bounds() };
        let rig = Rig::through(&host, &proxy.host, bounds).await;
        let (mut handle, _) = rig.start(rig.plan(&["true"])).await;
        handle.run(0).await.expect("an end");
        let error = handle.quiesce().await.expect("quiet").destroy(false).await.expect_err("it cannot be removed");
        assert!(error.fault == Fault::Worker && error.message.contains("mood"), "{name}: {error}");
        assert_eq!(rig.left().await.len(), 1, "{name}");
        let healthy = tc_engine_docker::DockerEngine::new(tc_engine_docker::DockerOptions {
            connection: rig.straight.clone(),
            owner: tc_engine_docker::OwnerIdentity::new(&rig.worker),
            images: rig.images(),
            bounds: short_bounds(),
        });
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        assert_eq!(healthy.sweep(&owner, keep(&[])).await.removed.len(), 1, "{name}");
        rig.assert_clean().await;
    }
}
