//! The verdict over a run's caches, and the part itself over a real store.

use serde_json::json;
use tc_engine::{Engine, Names};
use tc_payload::docker::{Capabilities, Container, ImageForm};

use super::*;
use crate::{
    api::{
        CredentialsCell, Secret, Services, Task,
        scripted::{Scripted, Step},
    },
    config::{Config, ExecValues},
    log::{LogOptions, TaskLog},
    run::{
        context::{Basics, Workshop},
        kill::KillSwitch,
    },
    seam::{SystemClock, SystemDisk, SystemRandom, slugid},
};

#[test]
fn only_a_task_that_ended_by_itself_leaves_its_caches_to_others() {
    use CommandsState::{Ended, NotStarted, Unfinished};
    let of = |state, quiet| verdict(state, &[72, 0], quiet).0;
    assert_eq!(of(Ended(Some(1)), true), Verdict::Keep, "failed, and kept all the same");
    assert_eq!(of(Ended(Some(72)), true), Verdict::Discard);
    assert_eq!(of(Ended(Some(0)), true), Verdict::Discard, "also a success, if it is listed");
    assert_eq!(of(Ended(None), true), Verdict::Keep);
    assert_eq!(of(Unfinished, true), Verdict::Discard);
    assert_eq!(of(NotStarted, true), Verdict::Unused);
    for state in [NotStarted, Unfinished, Ended(Some(1))] {
        assert_eq!(of(state, false), Verdict::Discard, "{state:?}");
    }
}

#[test]
fn log_readers_find_why_caches_go() {
    let why = |state| verdict(state, &[72], true).1;
    let aborted = "Purging caches since the task was aborted and may have left them in an inconsistent state";
    assert_eq!(why(CommandsState::Unfinished).as_deref(), Some(aborted));
    let listed =
        "Purging caches since last command had exit code 72 which is listed in task.Payload.OnExitStatus.PurgeCaches array";
    assert_eq!(why(CommandsState::Ended(Some(72))).as_deref(), Some(listed));
    assert_eq!(why(CommandsState::Ended(Some(1))), None);
}

#[test]
fn caches_that_arrive_after_the_end_go_back_unused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CacheStore::open(crate::cache::Options {
        dir: dir.path().join("caches"),
        import: Vec::new(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        disk: Arc::new(SystemDisk),
        powers: None,
    });
    let one = || store.lease(&["a"]).expect("a cache");
    for lease in one() {
        lease.give_back(Verdict::Keep).expect("kept");
    }
    let held = Mutex::new(Held::default());
    put_away(&held, one());
    assert!(held.lock().expect("unlocked").leases[0].was_there());
    let closed = Mutex::new(Held { closed: true, ..Held::default() });
    held.lock().expect("unlocked").leases.pop().expect("one").give_back(Verdict::Unused).expect("kept");
    put_away(&closed, one());
    assert!(closed.lock().expect("unlocked").leases.is_empty());
    assert!(one()[0].was_there(), "it was given back and not discarded");
}

/// One run of a container task with the caches `a` and `b`, over a store of its own and a purge-cache service that answers this.
struct Rig {
    cx: RunContext,
    _home: tempfile::TempDir,
}

fn rig(home: tempfile::TempDir, scopes: &[&str], answer: (u16, &'static str)) -> Rig {
    let dir = home.path();
    let transport = Scripted::new(move |_| Step::answer(answer.0, answer.1));
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let services = Services::new("http://tc.invalid", Arc::new(transport), clock.clone(), random).expect("services");
    let mut config = Config::for_exec(ExecValues {
        root_url: "http://tc.invalid".to_owned(),
        client_id: "me".to_owned(),
        access_token: Secret::new("hush"),
        dir: dir.to_owned(),
        capacity: 1,
        number_of_tasks_to_run: 0,
    });
    config.caches_dir = dir.join("caches");
    let shop = Arc::new(Workshop::for_test(config, services.clone(), None, dir.join("spool")));
    let definition = json!({ "scopes": scopes, "deadline": "2030-01-01T00:00:00Z", "expires": "2030-01-01T00:00:00Z" });
    let basics = Basics {
        task_id: "fN1SbArXTPSVFNUvaOlinQ".to_owned(),
        run_id: 0,
        task: Arc::new(Task::read(definition, &json!({}), shop.clock.wall())),
        log: TaskLog::create(LogOptions::new(dir.join("spool"), slugid(&SystemRandom), clock)).expect("a log"),
        queue: services.queue(CredentialsCell::anonymous()),
        credentials: CredentialsCell::anonymous(),
        kill: KillSwitch::default(),
        shop,
    };
    let payload = json!({ "command": [["x"]], "maxRunTime": 1, "onExitStatus": { "purgeCaches": [72] } });
    let container = Container {
        image: ImageForm::Registry("x".to_owned()),
        command: Vec::new(),
        caches: [("a", "/builds/a"), ("b", "/b:ro,z")].map(|(name, path)| (name.to_owned(), path.to_owned())).into(),
        volumes: Vec::new(),
        capabilities: Capabilities::default(),
    };
    let payload = tc_payload::native::check(&payload).expect("a payload");
    Rig { cx: RunContext::new(basics, payload, Some(container)), _home: home }
}

const SCOPES: [&str; 2] = ["docker-worker:cache:a", "generic-worker:cache:b"];
const NOTHING: (u16, &str) = (200, r#"{"requests": []}"#);

impl Rig {
    /// A run that finds this in cache `a`, leaves `leaves` there, and ends like this.
    async fn run(&self, leaves: &str, end: CommandsState) -> Option<String> {
        let part = Caches::default();
        part.admit(&self.cx).expect("admitted");
        part.start(&self.cx).await.expect("started");
        let binds = self.cx.binds();
        let [.., a, b] = binds.as_slice() else { panic!("two mounts, not {binds:?}") };
        assert_eq!((a.target.as_str(), b.target.as_str()), ("/builds/a", "/b:ro,z"), "taken literally");
        let file = a.source.join("file");
        let found = std::fs::read_to_string(&file).ok();
        std::fs::write(&file, leaves).expect("written");
        self.cx.note_commands(end);
        let quiet = quiet(self.cx.shop.engine.as_ref()).await;
        assert_eq!(part.stop(&self.cx, Some(quiet.as_ref())).await, []);
        found
    }

    async fn log(&self) -> String {
        let sealed = self.cx.log.seal().await.expect("sealed");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(sealed.gzip), &mut text).expect("a log");
        text
    }
}

async fn quiet(engine: &dyn Engine) -> Box<dyn Quiet> {
    let names = Names { run: "r".to_owned(), task_dir: "/t".into(), network: false };
    engine.reserve(names).await.expect("reserved").quiesce().await
}

#[tokio::test]
async fn a_cache_goes_from_run_to_run_until_one_spoils_it() {
    let rig = rig(tempfile::tempdir().expect("a directory"), &SCOPES, NOTHING);
    let ended = |code| CommandsState::Ended(Some(code));
    assert_eq!(rig.run("1", ended(0)).await, None);
    assert_eq!(rig.run("2", ended(1)).await.as_deref(), Some("1"), "kept after a success");
    assert_eq!(rig.run("3", ended(72)).await.as_deref(), Some("2"), "kept after a failure");
    assert_eq!(rig.run("4", ended(0)).await, None, "purged for the exit code");
    assert_eq!(rig.run("5", CommandsState::Unfinished).await.as_deref(), Some("4"));
    assert_eq!(rig.run("6", ended(0)).await, None, "purged for the abort");
    // Processes that may live on.
    let part = Caches::default();
    part.start(&rig.cx).await.expect("started");
    assert_eq!(part.stop(&rig.cx, None).await, []);
    assert_eq!(rig.run("7", ended(0)).await, None);
    // Somebody deletes everything while it is in use: a miss, and no error of the task.
    part_while_deleted(&rig).await;
    assert_eq!(rig.run("8", ended(0)).await, None);
    let log = rig.log().await;
    assert!(log.contains("[mounts] Purging caches since the task was aborted"), "{log}");
    assert!(log.contains("[mounts] Purging caches since last command had exit code 72"), "{log}");
    assert!(!log.contains("error"), "{log}");
}

async fn part_while_deleted(rig: &Rig) {
    let part = Caches::default();
    part.start(&rig.cx).await.expect("started");
    while std::fs::remove_dir_all(&rig.cx.shop.config.caches_dir).is_err() {}
    rig.cx.note_commands(CommandsState::Ended(Some(0)));
    let quiet = quiet(rig.cx.shop.engine.as_ref()).await;
    assert_eq!(part.stop(&rig.cx, Some(quiet.as_ref())).await, []);
}

#[tokio::test]
async fn purge_requests_come_before_the_caches_and_a_service_that_refuses_is_a_warning() {
    let home = tempfile::tempdir().expect("a directory");
    let requests = r#"{"requests": [{"cacheName": "a", "before": "2100-01-01T00:00:00Z"}]}"#;
    let rig = rig(home, &SCOPES, (200, requests));
    assert_eq!(rig.run("1", CommandsState::Ended(Some(0))).await, None);
    assert_eq!(rig.run("2", CommandsState::Ended(Some(0))).await, None, "purged before it was used again");
    assert!(rig.log().await.contains("[mounts] Discarded cache \"a\""));

    let rig = self::rig(tempfile::tempdir().expect("a directory"), &SCOPES, (403, "{}"));
    assert_eq!(rig.run("1", CommandsState::Ended(Some(0))).await, None);
    assert_eq!(rig.run("2", CommandsState::Ended(Some(0))).await.as_deref(), Some("1"));
    let log = rig.log().await;
    assert!(log.contains("[mounts] Could not reach purgecache service to see if caches need purging:"), "{log}");
    assert!(log.contains("[taskcluster:warn ") && !log.contains("[taskcluster:error"), "{log}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_the_workers_error() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("caches"), "a file").expect("written");
    let rig = rig(home, &SCOPES, NOTHING);
    let part = Caches::default();
    let error = part.start(&rig.cx).await.expect_err("no place");
    assert_eq!(error.blame, Blame::Worker);
    assert!(error.message.starts_with("[mounts] make a cache in "), "{error}");
    let quiet = quiet(rig.cx.shop.engine.as_ref()).await;
    assert_eq!(part.stop(&rig.cx, Some(quiet.as_ref())).await, []);
}
