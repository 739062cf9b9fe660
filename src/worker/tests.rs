//! The real loop and real runs, on a paused clock, with a scripted engine and a scripted queue.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tc_engine::{
    Engine, Exit, Room,
    fake::{FakeEngine, Step as Does},
};
use tokio::time::Instant;

use super::{Control, Ended, Parts, run, slots};
use crate::{
    api::{
        Secret,
        scripted::{Scripted, Step},
    },
    config::{Config, ExecValues, LiveLogMode},
    seam::{NoHostActions, SeededRandom, SystemDisk, TestClock},
};

const TASK: &str = "fN1SbArXTPSVFNUvaOlinQ";
const START: &str = "2026-11-24T12:00:00Z";

/// What the queue does with calls about the run, besides the usual.
type Odd = fn(&str) -> Option<Step>;

struct Played {
    ended: Ended,
    /// Ends of paths of all requests, and when they came.
    requests: Vec<(String, Duration)>,
    engine: Vec<String>,
    took: Duration,
}

impl Played {
    fn times(&self, part: &str) -> Vec<u64> {
        self.requests.iter().filter(|(path, _)| path.contains(part)).map(|(_, at)| at.as_secs()).collect()
    }

    fn reports(&self) -> Vec<&str> {
        let is_report =
            |path: &&str| ["/completed", "/failed"].iter().any(|end| path.ends_with(end)) || path.contains("/exception ");
        self.requests
            .iter()
            .map(|(path, _)| path.as_str())
            .filter(is_report)
            .map(|path| path.rsplit('/').next().unwrap_or(path))
            .collect()
    }
}

/// Gives the worker this task once, or as often as it asks, and plays on until it ends.
async fn play(engine: FakeEngine, payload: Value, tasks: u32, deadline_secs: i64, odd: Odd) -> Played {
    stage(engine, None, payload, tasks, deadline_secs, odd, None).await
}

/// The same with an engine for containers, and with somebody who ends the worker after a while.
async fn stage(
    engine: FakeEngine,
    docker: Option<FakeEngine>,
    payload: Value,
    tasks: u32,
    deadline_secs: i64,
    odd: Odd,
    abort_after: Option<Duration>,
) -> Played {
    let began = Instant::now();
    let start: jiff::Timestamp = START.parse().expect("a date");
    let date = move |secs: i64| (start + jiff::SignedDuration::from_secs(secs)).to_string();
    let given = Mutex::new(0);
    let script = move |seen: &crate::api::scripted::Seen| {
        let path = seen.url.split("/api/queue/v1").nth(1).unwrap_or(&seen.url).to_owned();
        if let Some(step) = odd(&path) {
            return step;
        }
        let now = i64::try_from(began.elapsed().as_secs()).expect("a test is short");
        let status = |state: &str| {
            json!({ "taskId": TASK, "state": state, "runs": [{
                "runId": 0, "state": state, "started": date(now), "takenUntil": date(now + 1200),
            }] })
        };
        let credentials = json!({ "clientId": "task", "accessToken": "hush", "certificate": "{}" });
        let definition = json!({
            "provisionerId": "p", "workerType": "t", "taskGroupId": TASK, "created": date(0),
            "deadline": date(deadline_secs), "expires": date(1_000_000), "payload": payload,
        });
        let claim = json!({
            "status": status("running"), "runId": 0, "workerGroup": "g", "workerId": "w", "takenUntil": date(now + 1200),
            "task": definition, "credentials": credentials,
        });
        let answer = if path.starts_with("/claim-work/") {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            *given += 1;
            if *given > tasks { json!({ "tasks": [] }) } else { json!({ "tasks": [claim] }) }
        } else if path.ends_with("/reclaim") {
            claim
        } else if path.contains("/artifacts/") {
            json!({ "storageType": "s3", "putUrl": "http://store.invalid/put", "contentType": "text/plain" })
        } else {
            json!({ "status": status("completed") })
        };
        Step::answer(200, answer.to_string())
    };
    let transport = Arc::new(Scripted::new(script));
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::for_exec(ExecValues {
        root_url: "http://queue.invalid".to_owned(),
        client_id: "me".to_owned(),
        access_token: Secret::new("hush"),
        dir: dir.path().to_owned(),
        capacity: 1,
        number_of_tasks_to_run: tasks,
    });
    config.own.live_log = LiveLogMode::OffSilently;
    config.own.cancel_poll_secs = 0;
    config.max_task_run_time = 86400;
    config.required_disk_space_megabytes = 1;
    let parts = Parts {
        config: Arc::new(config),
        clock: Arc::new(TestClock::starting_at(start)),
        random: Arc::new(SeededRandom::new(3)),
        disk: Arc::new(SystemDisk),
        host: Arc::new(NoHostActions),
        transport: transport.clone(),
        engine: Arc::new(engine.clone()),
        docker: docker.map(|docker| Arc::new(docker) as Arc<dyn Engine>),
        events: None,
        images_as_they_are: false,
        log_header_from_task: false,
        status_file: None,
    };
    let (control, input) = Control::new();
    let abort = async {
        match abort_after {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        control.abort();
    };
    let worker = run(parts, input);
    tokio::pin!(worker);
    let ended = tokio::select! {
        biased;
        ended = &mut worker => ended,
        () = abort => worker.await,
    };
    let requests = transport
        .seen()
        .into_iter()
        .map(|seen| {
            let path = seen.url.split("/api/queue/v1").nth(1).unwrap_or(&seen.url).to_owned();
            let reason =
                serde_json::from_slice::<Value>(&seen.body).ok().and_then(|body| Some(body["reason"].as_str()?.to_owned()));
            (reason.map_or(path.clone(), |reason| format!("{path} {reason}")), seen.at - began)
        })
        .collect();
    Played { ended, requests, engine: engine.journal(), took: began.elapsed() }
}

fn payload(max_run_time: u64) -> Value {
    json!({ "command": [["anything"]], "maxRunTime": max_run_time })
}

fn usual(_: &str) -> Option<Step> {
    None
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_through_its_phases_and_is_resolved_once() {
    let engine = FakeEngine::new([Does::prints("hello\n"), Does::exits(0)]);
    let played = play(engine, payload(60), 1, 3600, usual).await;
    assert_eq!(played.ended, Ended { code: slots::TASKS_COMPLETE, resolved: 1 });
    let steps: Vec<&str> = played.engine.iter().map(|step| step.rsplit_once(' ').map_or("", |(step, _)| step)).collect();
    assert_eq!(steps, ["reserve", "create", "start", "run 0", "quiet", "destroy"]);
    let paths: Vec<&str> = played.requests.iter().map(|(path, _)| path.rsplit('/').next().unwrap_or(path)).collect();
    assert_eq!(
        paths,
        ["p%2Ft".replace("p%2Ft", "local%2Fexec").as_str(), "public%2Flogs%2Flive_backing.log", "put", "completed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_task_is_renewed_three_minutes_before_each_end() {
    let engine = FakeEngine::new([Does::Take(Duration::from_secs(3000)), Does::exits(0)]);
    let played = play(engine, payload(7200), 1, 36000, usual).await;
    assert_eq!(played.times("/reclaim"), [1020, 2040]);
    assert_eq!(played.reports(), ["completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_renews_ends_the_task_without_a_report() {
    let engine = FakeEngine::new([Does::Hang]);
    let odd: Odd = |path| path.ends_with("/reclaim").then(|| Step::answer(500, "{}"));
    let played = play(engine, payload(7200), 1, 36000, odd).await;
    assert!(played.times("/reclaim").len() > 3, "it was tried again");
    assert_eq!(played.took.as_secs(), 1200);
    assert!(played.engine.iter().any(|step| step.starts_with("stop LeaseLost")), "{:?}", played.engine);
    assert_eq!(played.reports(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_queue_at_renewal_leaves_time_for_more_than_one_try() {
    let engine = FakeEngine::new([Does::Hang]);
    let odd: Odd = |path| path.ends_with("/reclaim").then_some(Step::Silence);
    let played = play(engine, payload(7200), 1, 36000, odd).await;
    assert!(played.times("/reclaim").len() >= 3, "{:?}", played.times("/reclaim"));
    assert_eq!(played.took.as_secs(), 1200);
}

#[tokio::test(start_paused = true)]
async fn run_time_and_deadline_end_a_task_on_the_second() {
    let played = play(FakeEngine::new([Does::Hang]), payload(60), 1, 3600, usual).await;
    assert_eq!((played.took.as_secs(), played.reports()), (60, vec!["failed"]));
    let played = play(FakeEngine::new([Does::Hang]), payload(7200), 1, 600, usual).await;
    assert_eq!((played.took.as_secs(), played.reports()), (600, Vec::new()), "the queue knows of deadlines by itself");
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_takes_after_the_end_is_not_run_time() {
    let lingers = |work| {
        let secs = Duration::from_secs;
        FakeEngine::new([Does::Take(secs(work)), Does::Linger(secs(30)), Does::exits(0)])
    };
    let played = play(lingers(50), payload(60), 1, 3600, usual).await;
    assert_eq!((played.took.as_secs(), played.reports()), (80, vec!["completed"]));
    let played = play(lingers(61), payload(60), 1, 3600, usual).await;
    assert_eq!((played.took.as_secs(), played.reports()), (60, vec!["failed"]), "the command itself took too long");
    let played = play(lingers(50), payload(60), 1, 70, usual).await;
    assert_eq!(played.reports(), Vec::<String>::new(), "the deadline is another matter");
}

#[tokio::test(start_paused = true)]
async fn a_failing_engine_is_an_internal_error() {
    let engine = FakeEngine::new([Does::Fail("out of order".to_owned())]);
    assert_eq!(play(engine, payload(60), 1, 3600, usual).await.reports(), ["exception internal-error"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_is_an_internal_error_and_the_next_one_runs() {
    let played = play(FakeEngine::new([Does::Panic]), payload(60), 2, 3600, usual).await;
    assert_eq!(played.ended, Ended { code: slots::TASKS_COMPLETE, resolved: 2 });
    assert_eq!(played.reports(), ["exception internal-error"; 2]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_no_resolution() {
    // Somebody between us and the queue says 200 to everything, for a while.
    static SAID: Mutex<u32> = Mutex::new(0);
    let odd: Odd = |path| {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        *said += u32::from(path.ends_with("/completed"));
        let still_running = r#"{"status": {"taskId": "x", "state": "running", "runs": [{"runId": 0, "state": "running"}]}}"#;
        let odd = ["<html>Please log in</html>", "{}", still_running].get(*said as usize - usize::from(*said > 0)).copied();
        odd.filter(|_| path.ends_with("/completed")).map(|body| Step::answer(200, body))
    };
    let engine = FakeEngine::new([Does::exits(0)]);
    let played = play(engine, payload(60), 1, 3600, odd).await;
    assert_eq!(played.reports(), ["completed"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_refuses_a_report_for_good_does_not_hold_the_slot() {
    let engine = FakeEngine::new([Does::exits(0)]);
    let odd: Odd = |path| path.ends_with("/completed").then(|| Step::answer(403, "{}"));
    let played = play(engine, payload(60), 1, 360_000, odd).await;
    assert!(played.took < Duration::from_secs(1200), "{:?}", played.took);
    assert_eq!(played.ended.resolved, 1);
}

#[tokio::test(start_paused = true)]
async fn a_death_by_signal_just_before_the_worker_is_told_to_go_is_not_the_tasks_failure() {
    let dies = || FakeEngine::new([Does::Take(Duration::from_secs(10)), Does::End(Exit::Signal(15))]);
    let told = |after| stage(dies(), None, payload(60), 1, 3600, usual, Some(Duration::from_secs(after)));
    assert_eq!(told(12).await.reports(), ["exception worker-shutdown"]);
    assert_eq!(told(14).await.reports(), ["failed"], "nobody said anything for three seconds");
    let fails = FakeEngine::new([Does::Take(Duration::from_secs(10)), Does::exits(15)]);
    let played = stage(fails, None, payload(60), 1, 3600, usual, Some(Duration::from_secs(12))).await;
    assert_eq!(played.reports(), ["failed"], "it ended by itself");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_broken_off_at_an_abort_and_what_it_has_brought_goes_back() {
    fn brought(after_millis: u64) -> Step {
        let date =
            |secs: i64| (START.parse::<jiff::Timestamp>().expect("a date") + jiff::SignedDuration::from_secs(secs)).to_string();
        let claim = json!({
            "status": { "taskId": TASK, "state": "running", "runs": [{ "runId": 0, "state": "running" }] },
            "runId": 0, "workerGroup": "g", "workerId": "w", "takenUntil": date(1200),
            "credentials": { "clientId": "task", "accessToken": "hush", "certificate": "{}" },
            "task": { "provisionerId": "p", "workerType": "t", "taskGroupId": TASK, "created": date(0),
                "deadline": date(3600), "expires": date(1_000_000), "payload": payload(60) },
        });
        let Step::Answer(response) = Step::answer(200, json!({ "tasks": [claim] }).to_string()) else { unreachable!() };
        Step::Late(Duration::from_millis(after_millis), response)
    }
    let in_time: Odd = |path| path.starts_with("/claim-work/").then(|| brought(5_050));
    let too_late: Odd = |path| path.starts_with("/claim-work/").then(|| brought(9_000));
    for (odd, reports) in [(in_time, &["exception worker-shutdown"][..]), (too_late, &[])] {
        let told = Some(Duration::from_secs(5));
        let played = stage(FakeEngine::new([]), None, payload(60), 1, 3600, odd, told).await;
        assert_eq!((played.ended.code, played.reports().as_slice()), (slots::WORKER_SHUTDOWN, reports));
        assert!(played.took < Duration::from_secs(6), "{:?}", played.took);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_container_engine_stays_down_claims_nothing_and_ends_with_a_report() {
    let docker = FakeEngine::new([]);
    docker.set_unhealthy(Some("the Docker engine is not running"));
    let played = stage(FakeEngine::new([Does::exits(0)]), Some(docker), payload(60), 1, 3600, usual, None).await;
    assert_eq!(played.ended, Ended { code: slots::INTERNAL_ERROR, resolved: 0 });
    assert_eq!(played.times("/claim-work/"), [0_u64; 0]);
    assert_eq!(played.times("/worker-pool-errors/").len(), 1);
    assert!((900..1000).contains(&played.took.as_secs()), "{:?}", played.took);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_container_engine_has_no_room_claims_nothing_and_ends_with_a_report() {
    let docker = FakeEngine::new([]);
    docker.set_room(Some(Room { free_bytes: 1000, size_bytes: 1 << 40 }));
    let played = stage(FakeEngine::new([Does::exits(0)]), Some(docker.clone()), payload(60), 1, 3600, usual, None).await;
    assert_eq!(played.ended, Ended { code: slots::INTERNAL_ERROR, resolved: 0 });
    assert_eq!(played.times("/claim-work/"), [0_u64; 0]);
    assert_eq!(played.times("/worker-pool-errors/").len(), 1);
    assert!(docker.journal().contains(&format!("make room {}", (1 << 20) - 1000)), "{:?}", docker.journal());
    // A little room is enough to go on with, and more is made meanwhile.
    let docker = FakeEngine::new([]);
    docker.set_room(Some(Room { free_bytes: 1000, size_bytes: 5000 }));
    let played = stage(FakeEngine::new([Does::exits(0)]), Some(docker), payload(60), 1, 3600, usual, None).await;
    assert_eq!(played.ended, Ended { code: slots::TASKS_COMPLETE, resolved: 1 });
}

#[tokio::test(start_paused = true)]
async fn claims_go_on_when_the_container_engine_is_back() {
    let docker = FakeEngine::new([]);
    docker.set_unhealthy(Some("the Docker engine is not running"));
    let later = docker.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        later.set_unhealthy(None);
    });
    let played = stage(FakeEngine::new([Does::exits(0)]), Some(docker), payload(60), 1, 3600, usual, None).await;
    assert_eq!(played.ended, Ended { code: slots::TASKS_COMPLETE, resolved: 1 });
    assert!(played.times("/claim-work/")[0] >= 600);
}
