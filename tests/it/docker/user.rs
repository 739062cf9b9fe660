//! Somebody who may talk to the engine and has no other rights over what containers make.

use std::{os::unix::fs::chown, path::Path, process::Command};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixStream};

use super::bench::{Bench, script, with};
use crate::support::BINARY;

/// A user and a group that own nothing.
const NOBODY: u32 = 65_534;

/// Another way to an engine, for those who may not open its socket. It is open as long as the test's runtime is.
async fn door(host: &str) -> String {
    let Some(socket) = host.strip_prefix("unix://").map(str::to_owned) else { return host.to_owned() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut engine = UnixStream::connect(socket).await.expect("the engine listens");
                // Either side may end it at any time.
                drop(tokio::io::copy_bidirectional(&mut caller, &mut engine).await);
            });
        }
    });
    format!("tcp://{address}")
}

/// Runs a payload with `exec` as that user, and returns the exit code and what it says.
async fn exec(home: &Path, host: &str, payload: &Value, options: &[&str]) -> (Option<i32>, String) {
    std::fs::write(home.join("task.json"), payload.to_string()).expect("written");
    let program = home.join("tc-worker");
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("exec").args(options).arg("task.json").current_dir(home);
    command.env("DOCKER_HOST", host).env("HOME", home).env("TMPDIR", home).env_remove("XDG_CACHE_HOME");
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

on_all!(caches_with_files_of_root_go_when_they_have_to);
async fn caches_with_files_of_root_go_when_they_have_to(bench: Bench) {
    let host = door(&bench.engine.host).await;
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path();
    // The program may be where that user cannot go.
    std::fs::hard_link(BINARY, home.join("tc-worker"))
        .or_else(|_| std::fs::copy(BINARY, home.join("tc-worker")).map(drop))
        .expect("it");
    if nix::unistd::geteuid().is_root() {
        chown(home, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let cached = |text: &str| with(script(text), "cache", json!({ "it-user": "/cache" }));
    let fill = "mkdir -p /cache/d && echo x > /cache/d/f && chmod 700 /cache/d && chown 0:0 /cache /cache/d";
    // Kept caches are given on, whoever owns them.
    let (code, said) = exec(home, &host, &cached(fill), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = exec(home, &host, &cached("cat /cache/d/f"), &[]).await;
    assert!(code == Some(0) && said.contains("\nx\r\n"), "{said}");
    // Those that nobody uses again are gone at the end, with everything around them.
    let (code, said) = exec(home, &host, &cached(fill), &["--no-cache"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("panicked") && !said.contains("could be deleted"), "{said}");
    let left: Vec<_> = std::fs::read_dir(home).expect("there").flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("tc-worker-exec-")), "{left:?}");
    // A purge while a task runs that takes longer than the deletion.
    let purging = with(cached("exit 72"), "onExitStatus", json!({ "purgeCaches": [72] }));
    let (code, said) = exec(home, &host, &purging, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    let is_trash = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("trash-");
    let trash = || std::fs::read_dir(home.join(".cache/tc-worker/caches")).expect("there").flatten().any(|e| is_trash(&e));
    for _attempt in 0..20 {
        if !trash() {
            break;
        }
        let (code, said) = exec(home, &host, &script("sleep 2"), &[]).await;
        assert!(code == Some(0) && !said.contains("panicked"), "{said}");
    }
    assert!(!trash(), "the purged cache is still there");
    bench.close();
}
