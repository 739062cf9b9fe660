//! Images from a registry on this machine.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tc_engine::{EngineError, Fault, Image, ImageWant};
use tc_engine_docker::image::{Images, Login, RegistryAccess, Username};
use tokio::net::TcpStream;

use super::{
    archives::{Built, busybox, layer},
    support::{Bench, CleanUp, Later, Lines, engines, not_run},
};

const PROGRAM: &str = "/usr/bin/docker-registry";
const PASSWORD: &str = "?>~?>~pass \u{fc}\u{ff}";
/// Of the password above, with bcrypt.
const LOGIN: &str = "worker:$2y$05$abcdefghijklmnopqrstuusAZB/zuIxKrgMKomfiHabHM9ALzekj2";

/// A registry, and what it was asked.
struct Registry {
    child: Child,
    host: String,
    log: PathBuf,
    config: PathBuf,
}

impl Registry {
    async fn start(directory: &Path, name: &str, login: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let (config, log) = (directory.join(format!("{name}.yml")), directory.join(format!("{name}.log")));
        let auth = if login {
            let path = directory.join("htpasswd");
            fs::write(&path, LOGIN).unwrap();
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display())
        } else {
            String::new()
        };
        let storage = directory.join(name);
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n{auth}",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut registry = Self { child: serve(&config, &log), host, log, config };
        registry.wait().await;
        registry
    }

    async fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&self.host).await.is_err() {
            assert!(Instant::now() < until && self.child.try_wait().unwrap().is_none(), "the registry does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.child = serve(&self.config, &self.log);
        self.wait().await;
    }

    /// Requests for manifests since the last call, as method and status.
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap();
        fs::write(&self.log, "").unwrap();
        let requests = text.lines().filter(|line| line.contains("/manifests/") && line.contains("HTTP/1.1\" "));
        requests
            .map(|line| line.split('"').nth(1).unwrap_or_default().split(' ').next().unwrap_or_default().to_owned())
            .collect()
    }

    /// Puts an image there under a name, by way of an engine that keeps nothing of it.
    fn publish(&self, engine: &Bench, name: &str, content: &str, login: bool) -> String {
        let full = format!("{}/{name}", self.host);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), Built::new(vec![busybox("pulls"), layer("which", content)], &[&full]).kaniko()).unwrap();
        engine.docker(&["load", "-i", file.path().to_str().unwrap()]).unwrap();
        let config = tempfile::tempdir().unwrap();
        let auth = if login { basic(PASSWORD) } else { String::new() };
        let text = serde_json::json!({ "auths": { self.host.clone(): { "auth": auth } } }).to_string();
        fs::write(config.path().join("config.json"), text).unwrap();
        engine.docker(&["--config", config.path().to_str().unwrap(), "push", "-q", &full]).unwrap();
        let digests = engine.docker(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &full]).unwrap();
        engine.docker(&["rmi", "-f", &full]).unwrap();
        digests
    }
}

fn basic(password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("worker:{password}"))
}

fn serve(config: &Path, log: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ready(test: &str) -> Vec<Bench> {
    if Path::new(PROGRAM).exists() {
        return engines(test);
    }
    not_run(test, "needs Debian's docker-registry");
    Vec::new()
}

async fn pull(images: &Images, name: &str, as_it_is: bool) -> (Result<Image, EngineError>, Vec<String>) {
    let want = ImageWant::Registry { name: name.to_owned(), shown: name.to_owned(), as_it_is };
    wanted(images, &want).await
}

async fn wanted(images: &Images, want: &ImageWant) -> (Result<Image, EngineError>, Vec<String>) {
    let lines = Arc::new(Lines::default());
    let image = images.image(want, None, lines.clone()).await;
    let said = lines.0.lock().unwrap().clone();
    (image, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_compared_from_time_to_time_and_digests_never() {
    for engine in ready("tags_are_compared_from_time_to_time_and_digests_never") {
        let state = tempfile::tempdir().unwrap();
        let mut registry = Registry::start(state.path(), "registry", false).await;
        let later = Later::default();
        let mut options = engine.options(state.path()).await;
        (options.now, options.first_wait, options.pull_attempts) = (later.now(), Duration::from_millis(50), 3);
        let images = Images::new(options);
        let digest = registry.publish(&engine, "a/b:1", "first", false);
        let name = format!("{}/a/b:1", registry.host);
        let mut clean = CleanUp(&engine, vec![name.clone()]);
        registry.asked();

        let first = pull(&images, &name, false).await.0.unwrap();
        assert!(!first.was_there);
        assert_eq!(engine.read(&first.id, "/which"), "first");
        let cold = registry.asked();
        assert!(!cold.is_empty());

        let again = pull(&images, &name, false).await.0.unwrap();
        assert!(again.was_there && again.id == first.id);
        assert_eq!(registry.asked(), [""; 0], "within the time to live");

        later.by(Duration::from_secs(3601));
        let again = pull(&images, &name, false).await.0.unwrap();
        assert!(again.was_there && again.id == first.id);
        let compared = registry.asked();
        println!("{engine:?}: pull {cold:?}, compare {compared:?}");
        assert!(!compared.is_empty() && compared.len() <= 2, "{engine:?}: {compared:?}");

        // Another image under the same tag.
        registry.publish(&engine, "a/b:1", "second", false);
        registry.asked();
        let old = pull(&images, &name, false).await.0;
        assert!(old.is_ok_and(|image| image.id == first.id || !image.was_there), "still trusted, or removed by the push");
        later.by(Duration::from_secs(3601));
        let second = pull(&images, &name, false).await.0.unwrap();
        clean.1.push(second.id.clone());
        assert_ne!(second.id, first.id);
        assert_eq!(engine.read(&second.id, "/which"), "second");

        // A name that was given to another image since is not believed.
        engine.docker(&["tag", "busybox:latest", &name]).unwrap();
        let back = pull(&images, &name, false).await.0.unwrap();
        assert_eq!(back.id, second.id, "{engine:?}");

        let pinned = pull(&images, &digest, false).await.0.unwrap();
        clean.1.extend([pinned.id.clone(), digest.clone()]);
        assert_eq!(engine.read(&pinned.id, "/which"), "first");
        registry.asked();
        later.by(Duration::from_secs(1_000_000));
        assert!(pull(&images, &digest, false).await.0.unwrap().was_there);
        assert!(pull(&images, &name, true).await.0.unwrap().was_there, "as it is");
        assert_eq!(registry.asked(), [""; 0]);

        // Nobody answers: the copy that is here, with a warning, and not asked again for a while.
        registry.stop();
        let (kept, said) = pull(&images, &name, false).await;
        assert_eq!(kept.unwrap().id, second.id);
        assert!(said.len() == 1 && said[0].contains("the copy that is here is used"), "{said:?}");
        let (kept, said) = pull(&images, &name, false).await;
        assert_eq!((kept.unwrap().id, said), (second.id.clone(), vec![]));
        // Nothing is here: tried, then the registry's fault.
        let absent = format!("{}/absent:1", registry.host);
        let error = pull(&images, &absent, false).await.0.unwrap_err();
        assert_eq!(error.fault, Fault::Resource, "{engine:?}: {error}");
        registry.restart().await;
        registry.asked();
        let error = pull(&images, &absent, false).await.0.unwrap_err();
        assert_eq!(error.fault, Fault::Task, "{engine:?}: {error}");
        assert!(error.message.contains("absent"), "{error}");
        assert!(registry.asked().len() <= 2, "asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_two_names_is_asked_for_once_and_each_is_told_of_its_own() {
    for engine in ready("an_image_with_two_names_is_asked_for_once_and_each_is_told_of_its_own") {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::start(state.path(), "registry", false).await;
        let images = Images::new(engine.options(state.path()).await);
        registry.publish(&engine, "a/b:latest", "twice", false);
        let want = |image: &str, shown: &str| ImageWant::Registry {
            name: format!("{}/{image}:latest", registry.host),
            shown: shown.to_owned(),
            as_it_is: false,
        };
        registry.asked();
        let mut asked = Vec::new();
        for image in ["absent", "a/b"] {
            let (short, full) = (want(image, image), want(image, &format!("{image}:latest")));
            let both = tokio::join!(wanted(&images, &short), wanted(&images, &full));
            asked.push(registry.asked());
            match (both.0.0, both.1.0) {
                (Ok(one), Ok(two)) => {
                    let _clean = CleanUp(&engine, vec![format!("{}/a/b:latest", registry.host)]);
                    assert_eq!((&one.id, one.name, two.name), (&two.id, Some("a/b".to_owned()), Some("a/b:latest".to_owned())));
                    assert!(!one.was_there && !two.was_there, "{engine:?}: one acquisition for both");
                    assert!(wanted(&images, &full).await.0.unwrap().was_there);
                }
                (Err(one), Err(two)) => {
                    assert!(one.message.starts_with("image \"absent\": ") && one.fault == Fault::Task, "{one}");
                    assert!(two.message.starts_with("image \"absent:latest\": "), "{two}");
                }
                other => panic!("{engine:?}: {other:?}"),
            }
        }
        assert!(asked[0].len() <= 2, "{engine:?}: asked once: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_read_each_time_and_never_shown() {
    for engine in ready("passwords_are_read_each_time_and_never_shown") {
        let state = tempfile::tempdir().unwrap();
        let registry = Registry::start(state.path(), "private", true).await;
        registry.publish(&engine, "secret:1", "private", true);
        let name = format!("{}/secret:1", registry.host);
        let without = Images::new(engine.options(&state.path().join("without")).await);
        let error = pull(&without, &name, false).await.0.unwrap_err();
        assert_eq!(error.fault, Fault::Task, "{engine:?}: {error}");

        let file = state.path().join("password");
        fs::write(&file, "wrong").unwrap();
        let access = RegistryAccess {
            login: Some(Login::Password { username: Username::Given("worker".to_owned()), password_file: file.clone() }),
            mirrors: Vec::new(),
        };
        assert!(!format!("{access:?}").contains("worker"));
        let mut options = engine.options(&state.path().join("with")).await;
        options.registries.insert(registry.host.clone(), access);
        let images = Images::new(options);
        let error = pull(&images, &name, false).await.0.unwrap_err();
        assert_eq!(error.fault, Fault::Task, "{engine:?}: {error}");
        fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        let image = pull(&images, &name, false).await.0.unwrap();
        let _clean = CleanUp(&engine, vec![name.clone()]);
        assert_eq!(engine.read(&image.id, "/which"), "private");
        fs::remove_file(&file).unwrap();
        engine.docker(&["rmi", "-f", &name]).unwrap();
        let error = pull(&images, &name, false).await.0.unwrap_err();
        assert_eq!(error.fault, Fault::Worker, "{error}");
        assert!(error.message.contains("password") && !error.message.contains("~pass"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_the_name_stays() {
    for engine in ready("mirrors_are_asked_first_and_the_name_stays") {
        let state = tempfile::tempdir().unwrap();
        let mirror = Registry::start(state.path(), "mirror", false).await;
        let origin = Registry::start(state.path(), "origin", false).await;
        let digest = mirror.publish(&engine, "hub/a/b:1", "mirrored", false);
        origin.publish(&engine, "a/only:1", "original", false);
        let mut options = engine.options(state.path()).await;
        options.first_wait = Duration::from_millis(50);
        let access = RegistryAccess { login: None, mirrors: vec![format!("{}/hub", mirror.host), "127.0.0.1:1".to_owned()] };
        options.registries.insert(origin.host.clone(), access);
        let images = Images::new(options);
        origin.asked();

        let name = format!("{}/a/b:1", origin.host);
        let image = pull(&images, &name, false).await.0.unwrap();
        let mut clean = CleanUp(&engine, vec![name.clone(), image.id.clone()]);
        assert_eq!(engine.read(&image.id, "/which"), "mirrored");
        assert_eq!(engine.names(&image.id), [name.as_str()], "{engine:?}");
        assert_eq!(origin.asked(), [""; 0]);
        assert!(pull(&images, &name, false).await.0.unwrap().was_there);

        let pinned = format!("{}/a/b@{}", origin.host, digest.split_once('@').unwrap().1);
        let image = pull(&images, &pinned, false).await.0.unwrap();
        clean.1.push(image.id.clone());
        assert_eq!(engine.read(&image.id, "/which"), "mirrored");
        assert!(pull(&images, &pinned, false).await.0.unwrap().was_there);

        let other = format!("{}/a/only:1", origin.host);
        let image = pull(&images, &other, false).await.0.unwrap();
        clean.1.push(other);
        assert_eq!(engine.read(&image.id, "/which"), "original");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_artifacts_and_identifiers_are_no_names_of_registries() {
    for engine in ready("names_of_artifacts_and_identifiers_are_no_names_of_registries") {
        let state = tempfile::tempdir().unwrap();
        let mut options = engine.options(state.path()).await;
        options.pull_attempts = 1;
        let images = Images::new(options);
        let id = engine.id("busybox:latest").unwrap();
        let short = id.strip_prefix("sha256:").unwrap()[..12].to_owned();
        for name in [id, short, "tc-worker.invalid/artifact:abc".to_owned(), "--privileged".to_owned()] {
            let (image, _) = pull(&images, &name, true).await;
            assert!(image.is_err(), "{name} on {engine:?}: {image:?}");
        }
    }
}
