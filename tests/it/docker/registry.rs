//! Images that a registry has, pulled by name.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::bench::{Bench, busybox, not_run, published, script, with};
use crate::support::until;

/// `worker` may pull; the password is `correct horse`.
const LOGINS: &str = "worker:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n";

fn named(name: &str) -> Value {
    with(script("cat /srv/notes.txt"), "image", Value::from(name))
}

on_all!(an_image_that_is_not_there_is_pulled);
async fn an_image_that_is_not_there_is_pulled(bench: Bench) {
    let Some(published) = published() else { return bench.close() };
    let name = published.replace("busybox:latest", "pulled:once");
    bench.engine.docker(&["tag", &busybox(), &name]);
    bench.engine.docker(&["push", &name]);
    let digests = bench.engine.docker(&["image", "inspect", "--format", "{{range .RepoDigests}}{{.}}\n{{end}}", &name]);
    let digest = digests.lines().find_map(|line| line.split_once("/pulled@")).expect("a digest").1.to_owned();
    let pinned = name.replace(":once", &format!("@{digest}"));
    bench.engine.docker(&["rmi", &name]);
    let done = bench.run_all(vec![named(&name), named(&pinned), named(&name)], &json!({})).await;
    for done in done {
        done.expect("completed/completed").says("of the second layer");
    }
    bench.close();
}

on_all!(a_name_that_the_registry_does_not_know_fails_the_task);
async fn a_name_that_the_registry_does_not_know_fails_the_task(bench: Bench) {
    let Some(published) = published() else { return bench.close() };
    let unknown = published.replace("busybox:latest", "nowhere:latest");
    let done = bench.run(named(&unknown)).await.expect("failed/failed");
    assert!(done.log.lines().last().is_some_and(|line| line.contains("nowhere")), "{}", done.log);
    bench.close();
}

on_newest!(a_registry_that_is_gone_does_not_matter_when_the_image_is_there);
async fn a_registry_that_is_gone_does_not_matter_when_the_image_is_there(bench: Bench) {
    // Nothing listens on this port.
    let name = "127.0.0.1:1/tc-test/orphan:latest";
    bench.engine.docker(&["tag", &busybox(), name]);
    let done = bench.run(named(name)).await.expect("completed/completed").says("of the second layer");
    assert!(done.log.contains("cannot be asked"), "{}", done.log);
    bench.close();
}

/// Debian's `docker-registry` with a password; it is ended when the test drops it.
struct Guarded {
    process: Child,
    dir: tempfile::TempDir,
    host: String,
}

impl Guarded {
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let host = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
        let logins = dir.path().join("logins");
        std::fs::write(&logins, LOGINS).expect("written");
        let config = json!({
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") } },
            "http": { "addr": host },
            "auth": { "htpasswd": { "realm": "test", "path": logins } },
        });
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config.to_string()).expect("written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            not_run("the program docker-registry is not there");
            return None;
        };
        let registry = Self { process, dir, host };
        until("the registry listens", async || TcpStream::connect(&registry.host).is_ok()).await;
        Some(registry)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

on_newest!(a_password_from_a_file_opens_a_registry);
async fn a_password_from_a_file_opens_a_registry(bench: Bench) {
    let Some(registry) = Guarded::start().await else { return bench.close() };
    let name = format!("{}/tc-test/guarded:latest", registry.host);
    let login = registry.dir.path().join("login");
    let login = login.to_str().expect("UTF-8");
    bench.engine.docker(&["tag", &busybox(), &name]);
    // The command keeps the password where it is told to; the worker does not look there.
    for words in [&["login", "--username", "worker", "--password", "correct horse", &registry.host][..], &["push", &name]] {
        let output = Command::new("docker").args(["--config", login, "--host", &bench.engine.host]).args(words).output();
        assert!(output.expect("the docker command").status.success(), "docker {words:?}");
    }
    let password = registry.dir.path().join("password");
    for (text, resolution) in [("wrong horse\n", "failed/failed"), ("correct horse\n", "completed/completed")] {
        bench.engine.docker(&["rmi", &name]);
        std::fs::write(&password, text).expect("written");
        let registries = json!({ &registry.host: { "username": "worker", "passwordFile": password } });
        let settings = json!({ "tcWorker": { "docker": { "registries": registries } } });
        let done = bench.run_all(vec![named(&name)], &settings).await.remove(0).expect(resolution);
        assert!(!done.log.contains(text.trim()), "the password is in the log");
        // The first time nothing was brought.
        bench.engine.docker(&["tag", &busybox(), &name]);
    }
    bench.close();
}
