//! The part on the fake engine, with artifacts and index entries of a real queue, over real sockets.

use std::{path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tc_engine::{
    Fault,
    fake::{FakeEngine, Fate},
};
use tc_payload::{
    docker::{Capabilities, Container},
    native,
};

use super::*;
use crate::{
    api::{Body, Claim, Credentials, HttpTransport, NewArtifact, Queue, Request, Resolution, RetryPolicy, Secret},
    config::{Config, ExecValues},
    local::{Options, Server},
    log::LogOptions,
    run::{
        context::{Basics, Workshop},
        kill::KillSwitch,
    },
    seam::{SystemClock, SystemRandom, slugid},
};

const POOL: &str = "p/w";

/// A queue with its one client, and an engine.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) services: Services,
    pub(crate) root: Queue,
    pub(crate) engine: FakeEngine,
    pub(crate) dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::start(Options {
            any_queue: true,
            ..Options::new(dir.path().join("store"), ("root".into(), "hush".into()))
        })
        .await
        .expect("a queue");
        let transport = Arc::new(HttpTransport::new(None, true).expect("a transport"));
        let services = Services::new(&server.root_url(), transport, Arc::new(SystemClock), Arc::new(SystemRandom))
            .expect("services")
            .with_retry(RetryPolicy {
                first: Duration::from_millis(2),
                longest: Duration::from_millis(20),
                total: Duration::from_millis(200),
            });
        let credentials = Credentials { client_id: "root".into(), access_token: Secret::new("hush"), certificate: None };
        let root = services.queue(CredentialsCell::new(credentials));
        Self { server, services, root, engine: FakeEngine::new([]), dir }
    }

    /// A claimed task with these properties.
    pub(crate) async fn claimed(&self, properties: Value) -> Claim {
        let now = Timestamp::now();
        let at = |hours| format!("{:.3}", now + SignedDuration::from_hours(hours));
        let mut definition = json!({
            "taskQueueId": POOL, "created": at(0), "deadline": at(1), "expires": at(2), "payload": {},
            "metadata": { "name": "n", "description": "d", "owner": "o", "source": "https://example.com" },
        });
        for (key, value) in properties.as_object().expect("an object") {
            definition[key] = value.clone();
        }
        self.root.create_task(&slugid(&SystemRandom), &definition).await.expect("created");
        self.root.claim_work(POOL, "g", "w", 1).await.expect("an answer").pop().expect("a claim")
    }

    /// A completed task that has published this archive; its id.
    pub(crate) async fn published(&self, name: &str, archive: &[u8], properties: Value) -> String {
        let claim = self.claimed(properties).await;
        let queue = self.services.queue(CredentialsCell::new(claim.credentials.clone()));
        let (content_type, expires) = ("application/x-tar".to_owned(), claim.task.expires);
        let artifact = NewArtifact::S3 { content_type, content_length: archive.len() as u64, expires };
        let answer = queue.create_artifact(&claim.task_id, claim.run_id, name, &artifact).await.expect("created");
        let headers = [(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-tar"))];
        let upload = Request {
            method: http::Method::PUT,
            url: answer.put_url.expect("a URL").expose().to_owned(),
            headers: headers.into_iter().collect(),
            body: Body::Bytes(archive.to_vec().into()),
            timeout: Duration::from_secs(20),
            answer_bytes: 1000,
        };
        assert_eq!(self.services.transport().send(upload).await.expect("an answer").status, 200);
        queue.report(&claim.task_id, claim.run_id, Resolution::Completed).await.expect("resolved");
        claim.task_id
    }

    /// What all runs share.
    pub(crate) fn shop(&self, with_engine: bool) -> Arc<Workshop> {
        let config = Config::for_exec(ExecValues {
            root_url: self.server.root_url(),
            client_id: "root".to_owned(),
            access_token: Secret::new("hush"),
            dir: self.dir.path().to_owned(),
            capacity: 1,
            number_of_tasks_to_run: 1,
        });
        std::fs::create_dir_all(&config.own.state_dir).expect("made");
        let docker = with_engine.then(|| Arc::new(self.engine.clone()) as Arc<dyn Engine>);
        Arc::new(Workshop::for_test(config, self.services.clone(), docker, self.dir.path().join("spool")))
    }

    /// A run of a claimed task in this image.
    fn run(&self, claim: Claim, image: ImageForm, shop: Arc<Workshop>) -> RunContext {
        let credentials = CredentialsCell::new(claim.credentials);
        let log = LogOptions::new(self.dir.path().join("spool"), claim.task_id.clone(), Arc::new(SystemClock));
        let basics = Basics {
            queue: self.services.queue(credentials.clone()),
            run_id: claim.run_id,
            task: Arc::new(claim.task),
            shop,
            log: TaskLog::create(log).expect("a log"),
            task_id: claim.task_id,
            credentials,
            kill: KillSwitch::default(),
        };
        let payload = native::check(&json!({ "command": [["x"]], "maxRunTime": 60 })).expect("a payload");
        let container = Container {
            image,
            command: Vec::new(),
            caches: std::collections::BTreeMap::new(),
            volumes: Vec::new(),
            capabilities: Capabilities::default(),
        };
        RunContext::new(basics, payload, Some(container))
    }

    /// Runs the part for a task with these properties, and returns the context, too.
    async fn play(&self, image: ImageForm, properties: Value) -> (Result<(), RunError>, RunContext) {
        let claim = self.claimed(properties).await;
        let cx = self.run(claim, image, self.shop(true));
        Image.admit(&cx).expect("admitted");
        let result = timeout(Duration::from_secs(60), Image.start(&cx)).await.expect("an end");
        (result, cx)
    }
}

fn log(cx: &RunContext) -> String {
    let path: &Path = &cx.shop.spool_dir.join("as text");
    cx.log.keep_as(path).expect("kept");
    let text = std::fs::read_to_string(path).expect("text");
    std::fs::remove_file(path).expect("removed");
    text
}

fn archive() -> Vec<u8> {
    zstd::encode_all(&*vec![7; 100_000], 1).expect("into memory")
}

fn task(task_id: &str, path: &str) -> ImageForm {
    ImageForm::Task { task_id: task_id.to_owned(), path: path.to_owned() }
}

#[tokio::test]
async fn an_image_of_a_task_is_loaded_once_and_then_there() {
    let rig = Rig::start().await;
    let archive = archive();
    let builder = rig.published("public/image.tar.zst", &archive, json!({})).await;
    let (result, cx) = rig.play(task(&builder, "public/image.tar.zst"), json!({ "dependencies": [builder] })).await;
    result.expect("an image");
    let image = cx.image().expect("noted").clone();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &archive);
    assert_eq!(image.artifact_sha256.as_ref().map(|d| &d[..]), Some(digest.as_ref()), "of the archive as it was downloaded");
    let text = log(&cx);
    assert!(text.contains("] [d2g] Loading docker image\n"), "{text}");
    assert!(text.contains("] [d2g] 100000 bytes of image \"public/image.tar.zst\" of task"), "unpacked on the way: {text}");
    assert!(text.contains(&format!("] [d2g] Loaded docker image \"{}\"\n", image.id)), "{text}");
    assert_eq!(cx.shop.images.recent(), [task(&builder, "public/image.tar.zst")]);
    let (result, cx) = rig.play(task(&builder, "public/image.tar.zst"), json!({ "dependencies": [builder] })).await;
    result.expect("an image");
    let text = log(&cx);
    assert!(text.contains(&format!("] [d2g] Using cached docker image \"{}\"\n", image.id)), "{text}");
    assert!(!text.contains("Loading"), "{text}");
}

#[tokio::test]
async fn a_private_image_needs_the_scope_each_time_also_when_it_is_there() {
    let rig = Rig::start().await;
    let builder = rig.published("private/image.tar", b"archive", json!({})).await;
    let image = || task(&builder, "private/image.tar");
    let scope = "queue:get-artifact:private/*";
    let (result, cx) = rig.play(image(), json!({ "dependencies": [builder], "scopes": [scope] })).await;
    result.expect("an image");
    assert!(cx.shop.images.recent().is_empty(), "it is not brought before somebody may have it");
    let (result, cx) = rig.play(image(), json!({ "dependencies": [builder] })).await;
    let error = result.expect_err("no right to it");
    assert!(error.blame == Blame::Task && error.message.contains("403"), "{error:?}");
    assert!(cx.image().is_none());
    assert_eq!(rig.engine.journal().iter().filter(|line| line.starts_with("want")).count(), 1, "the engine was not even asked");
}

#[tokio::test]
async fn an_indexed_image_is_that_of_the_task_which_has_the_name_now() {
    let rig = Rig::start().await;
    let indexed = || ImageForm::Indexed { namespace: "images.build".into(), path: "public/image.tar".into() };
    let (result, _) = rig.play(indexed(), json!({})).await;
    let error = result.expect_err("nothing there");
    assert!(error.blame == Blame::Task && error.message.contains("\"images.build\""), "{error:?}");
    let mut ids = Vec::new();
    for content in [&b"one"[..], b"two"] {
        let builder = rig.published("public/image.tar", content, json!({ "routes": ["index.images.build"] })).await;
        let (result, cx) = rig.play(indexed(), json!({})).await;
        result.expect("an image");
        assert_eq!(cx.shop.images.recent(), [indexed()]);
        assert!(rig.engine.journal().iter().any(|line| line.contains(&builder)), "{:?}", rig.engine.journal());
        ids.push(cx.image().expect("noted").id.clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_image_from_a_registry_is_the_engines_affair() {
    let rig = Rig::start().await;
    let name = || ImageForm::Registry("debian:12".to_owned());
    let (result, cx) = rig.play(name(), json!({})).await;
    result.expect("an image");
    assert!(log(&cx).contains("] [d2g] Loaded docker image \"debian:12\"\n"), "{}", log(&cx));
    for (fault, blame) in [
        (Fault::Task, Blame::Task),
        (Fault::Resource, Blame::Service),
        (Fault::Lost, Blame::Shutdown),
        (Fault::Payload, Blame::Payload),
    ] {
        rig.engine.set_images(Fate::Fails(fault, "no".to_owned()));
        let (result, cx) = rig.play(name(), json!({})).await;
        assert_eq!(result, Err(RunError::new(blame, "no")));
        assert!(cx.image().is_none());
    }
}

#[tokio::test]
async fn an_engine_that_is_restarted_is_waited_for() {
    let rig = Rig::start().await;
    rig.engine.set_images(Fate::Fails(Fault::Lost, "nobody answers".to_owned()));
    rig.engine.set_unhealthy(Some("nobody answers"));
    let restarted = async {
        while !rig.engine.journal().iter().any(|line| line.starts_with("want")) {
            tokio::task::yield_now().await;
        }
        rig.engine.set_images(Fate::Brought);
        rig.engine.set_unhealthy(None);
    };
    let ((result, cx), ()) = tokio::join!(rig.play(ImageForm::Registry("debian:12".to_owned()), json!({})), restarted);
    result.expect("an image");
    assert!(log(&cx).contains("] [d2g] Waiting for the Docker engine to come back: nobody answers\n"), "{}", log(&cx));
}

#[tokio::test]
async fn what_is_wrong_is_said_with_whose_fault_it_is() {
    let rig = Rig::start().await;
    let builder = rig.published("public/other", b"archive", json!({})).await;
    let (result, _) = rig.play(task(&builder, "public/image.tar"), json!({ "dependencies": [builder] })).await;
    assert_eq!(result.expect_err("no such artifact").blame, Blame::Task);
    // An archive that is cut.
    let cut = &archive()[..20];
    let builder = rig.published("public/image.tar.zst", cut, json!({})).await;
    let (result, _) = rig.play(task(&builder, "public/image.tar.zst"), json!({ "dependencies": [builder] })).await;
    let error = result.expect_err("cut");
    assert!(error.blame == Blame::Task && error.message.contains("truncated"), "{error:?}");
    // An artifact that says why it is none.
    let claim = rig.claimed(json!({})).await;
    let queue = rig.services.queue(CredentialsCell::new(claim.credentials.clone()));
    let (message, expires) = ("Could not read file".to_owned(), claim.task.expires);
    let none = NewArtifact::Error { reason: "file-missing-on-worker", message, expires };
    queue.create_artifact(&claim.task_id, 0, "public/image.tar", &none).await.expect("created");
    queue.report(&claim.task_id, 0, Resolution::Completed).await.expect("resolved");
    let builder = claim.task_id;
    let (result, _) = rig.play(task(&builder, "public/image.tar"), json!({ "dependencies": [builder] })).await;
    let error = result.expect_err("none");
    let text = "Could not read file: file-missing-on-worker";
    assert!(error.blame == Blame::Task && error.message.contains(text), "{error:?}");
    // A queue that is gone.
    let claim = rig.claimed(json!({ "dependencies": [builder] })).await;
    let cx = rig.run(claim, task(&builder, "public/image.tar"), rig.shop(true));
    rig.server.shutdown().await;
    assert_eq!(Image.start(&cx).await.expect_err("no queue").blame, Blame::Service);
}

#[tokio::test]
async fn what_can_never_run_is_not_admitted() {
    let rig = Rig::start().await;
    let builder = rig.published("public/image.tar", b"archive", json!({})).await;
    let cx = rig.run(rig.claimed(json!({})).await, task(&builder, "public/image.tar"), rig.shop(true));
    let error = Image.admit(&cx).expect_err("not a dependency");
    assert!(error.blame == Blame::Payload && error.message.contains(&builder), "{error:?}");
    let cx = rig.run(rig.claimed(json!({})).await, ImageForm::Registry("a".into()), rig.shop(false));
    assert_eq!(Image.admit(&cx).expect_err("no engine").blame, Blame::Payload);
}
