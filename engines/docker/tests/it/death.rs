//! Engines that are killed, told to go, or frozen while a container runs. These tests break an engine of their own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bollard::{body_full, query_parameters::ImportImageOptions};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tc_engine::{Engine, Fault, Owner, StopReason};
use tc_engine_docker::Connection;

use crate::support::{Rig, hosts, keep, not_run, sh, short_bounds};

/// What starts an engine; part of the suite around this crate.
const STARTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/docker/engine.py");

/// An engine that only this test uses.
struct Own {
    starter: PathBuf,
    kind: &'static str,
    dir: tempfile::TempDir,
    host: String,
}

impl Own {
    /// Starts one that has the image which `model` has.
    async fn start(test: &str, kind: &'static str, model: &str) -> Option<Self> {
        let starter = std::env::var_os("TC_DOCKER_STARTER").map_or_else(|| PathBuf::from(STARTER), PathBuf::from);
        if !starter.exists() {
            not_run(&format!("{test} ({kind})"), "there is nothing to start an engine with");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let host = format!("unix://{}/docker.sock", dir.path().display());
        let own = Self { starter, kind, dir, host };
        own.again();
        let docker = Connection::open(model).await.expect("the model").docker().clone();
        let chunks: Vec<Bytes> = docker.export_image("busybox:latest").try_collect().await.expect("an archive");
        let there = Connection::open(&own.host).await.expect("it answers");
        let loaded = there.docker().import_image(ImportImageOptions::default(), body_full(chunks.concat().into()), None);
        loaded.try_collect::<Vec<_>>().await.expect("it is loaded");
        Some(own)
    }

    /// Starts it, also after it was killed. Blocks.
    fn again(&self) {
        self.tell(&["start", self.kind]);
    }

    fn tell(&self, words: &[&str]) {
        let done = Command::new("python3").arg(&self.starter).args(words).arg(self.dir.path()).output().expect("python3");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("docker.pid")).expect("its process id");
        let done = Command::new("kill").args([signal, pid.trim()]).status().expect("kill");
        assert!(done.success());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A test that failed while the engine was frozen.
        drop(
            std::fs::read_to_string(self.dir.path().join("docker.pid"))
                .map(|pid| Command::new("kill").args(["-CONT", pid.trim()]).status()),
        );
        drop(Command::new("python3").arg(&self.starter).arg("stop").arg(self.dir.path()).status());
    }
}

/// An engine of each kind whose model is there.
async fn engines(test: &str) -> Vec<Own> {
    let mut own = Vec::new();
    for (name, model) in hosts(test) {
        let kind = match name {
            "TC_DOCKER_CLASSIC" => "classic",
            "TC_DOCKER_GRAPH" => "graph",
            // The life of containers is the same with either store.
            _ => continue,
        };
        if kind != "classic" && std::env::var_os("TC_DOCKER_TREE").is_none_or(|tree| !Path::new(&tree).exists()) {
            not_run(&format!("{test} ({kind})"), "TC_DOCKER_TREE names no programs");
            continue;
        }
        own.extend(Own::start(test, kind, &model).await);
    }
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_takes_the_run_with_it_and_nothing_stays_when_it_is_back() {
    for own in engines("an_engine_that_dies").await {
        for signal in ["-KILL", "-TERM"] {
            let what = format!("{} {signal}", own.kind);
            let bounds = tc_engine_docker::Bounds { kill: Duration::from_secs(40), ..short_bounds() };
            let rig = Rig::through(&own.host, &own.host, bounds).await;
            let (mut handle, sink) = rig.start(sh(&rig, "trap '' TERM; echo ready; while :; do sleep 0.1; done")).await;
            let (error, took) = {
                let mut running = handle.run(0);
                tokio::select! {
                    biased; // It does not end by itself.
                    end = &mut running => panic!("{what}: {end:?}"),
                    () = sink.shows("ready") => {}
                }
                let began = Instant::now();
                own.signal(signal);
                let end = tokio::time::timeout(Duration::from_secs(20), running).await;
                (end.expect("a bounded time").expect_err("the task is not done"), began.elapsed())
            };
            assert_eq!(error.fault, Fault::Lost, "{what}: {error}");
            println!("{what}: {error} after {took:?}");
            assert!(rig.engine.health().await.is_err() || signal == "-TERM", "{what}");
            // It comes back while the run is being cleaned up.
            let quiet = tokio::join!(handle.quiesce(), async { tokio::task::block_in_place(|| own.again()) }).0;
            quiet.unwrap_or_else(|error| panic!("{what}: {error}")).destroy(false).await.expect("gone");
            assert_eq!(rig.engine.health().await, Ok(()), "{what}");
            rig.assert_clean().await;
        }
    }
}

/// It does not come back while anybody waits: that is soon said, and the rest is left for a sweep.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_and_stays_dead_holds_a_run_up_for_no_longer_than_a_restart() {
    for own in engines("an_engine_that_stays_dead").await {
        let absent = Duration::from_secs(5);
        let rig = Rig::through(&own.host, &own.host, tc_engine_docker::Bounds { absent, ..Default::default() }).await;
        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; sleep 600")).await;
        let (error, began) = {
            let mut running = handle.run(0);
            tokio::select! {
                biased; // It does not end by itself.
                end = &mut running => panic!("{}: {end:?}", own.kind),
                () = sink.shows("ready") => {}
            }
            own.signal("-KILL");
            let began = Instant::now();
            (running.await.expect_err("the task is not done"), began)
        };
        assert_eq!(error.fault, Fault::Lost, "{}: {error}", own.kind);
        assert!(began.elapsed() < absent, "{}: known at once, not after {:?}", own.kind, began.elapsed());
        let error = handle.quiesce().await.err().expect("nobody can say what runs");
        assert!(began.elapsed() >= absent, "{}: a restart is waited for, {error}", own.kind);
        assert!(began.elapsed() < absent * 3, "{}: {:?}, {error}", own.kind, began.elapsed());
        tokio::task::block_in_place(|| own.again());
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        rig.engine.sweep(&owner, keep(&[])).await;
        assert_eq!(rig.left().await, Vec::<String>::new(), "{}", own.kind);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_frozen_holds_nothing_up_for_ever() {
    for own in engines("an_engine_that_is_frozen").await {
        // All of these run out, one after the other, and nothing that is only slow depends on them.
        let (call, kill, health) = (Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(3));
        let bounds = tc_engine_docker::Bounds { call, kill, health, ..short_bounds() };
        let rig = Rig::through(&own.host, &own.host, bounds).await;
        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; sleep 600")).await;
        tokio::select! {
            biased; // It does not end by itself.
            end = handle.run(0) => panic!("{}: {end:?}", own.kind),
            () = sink.shows("ready") => {}
        }
        own.signal("-STOP");
        let began = Instant::now();
        handle.stop(StopReason::MaxRunTime, Duration::from_secs(1)).await;
        let stopped = began.elapsed();
        let error = handle.quiesce().await.err().expect("nothing can be verified");
        println!("{}: stopped after {stopped:?}, given up after {:?}: {error}", own.kind, began.elapsed());
        assert_eq!(error.fault, Fault::Worker, "{}: {error}", own.kind);
        assert!(began.elapsed() < Duration::from_secs(40), "{}", own.kind);
        assert!(rig.engine.health().await.is_err(), "{}", own.kind);
        own.signal("-CONT");
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !rig.left().await.is_empty() {
            assert!(Instant::now() < deadline, "{}", own.kind);
            rig.engine.sweep(&owner, keep(&[])).await;
        }
    }
}

/// Nobody stops the run here; the engine's silence does.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_an_engine_that_is_frozen_is_lost_in_time() {
    for own in engines("a_run_on_an_engine_that_is_frozen").await {
        let (look, frozen) = (Duration::from_secs(1), Duration::from_secs(8));
        let (call, kill) = (Duration::from_secs(3), Duration::from_secs(5));
        let rig =
            Rig::through(&own.host, &own.host, tc_engine_docker::Bounds { look, frozen, call, kill, ..short_bounds() }).await;
        // A pause that is shorter loses nothing, as often as it may come.
        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; until [ -e /tmp/go ]; do sleep 0.1; done; exit 4")).await;
        let pauses = async {
            sink.shows("ready").await;
            for _ in 0..2 {
                own.signal("-STOP");
                // Not a wait for something: the pause is what is tested.
                tokio::time::sleep(frozen / 2).await;
                own.signal("-CONT");
                // Nor this: it is answered in between.
                tokio::time::sleep(look * 5).await;
            }
            let name = rig.left().await.remove(0);
            let cmd = ["touch", "/tmp/go"].map(str::to_owned).to_vec();
            let exec = bollard::models::ExecConfig { cmd: Some(cmd), ..bollard::models::ExecConfig::default() };
            let docker = rig.straight.docker();
            let exec = docker.create_exec(name.trim_start_matches('/'), exec).await.expect("a command").id;
            docker.start_exec(&exec, None).await.expect("it runs");
        };
        let (end, ()) = tokio::join!(handle.run(0), pauses);
        assert_eq!(end.expect("an end").exit, tc_engine::Exit::Code(4), "{}", own.kind);
        handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");

        let (mut handle, sink) = rig.start(sh(&rig, "echo ready; sleep 600")).await;
        let freeze = async {
            sink.shows("ready").await;
            while !rig.runs().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Now it is known to run, and the answer to the order to start is on its way.
            tokio::time::sleep(look).await;
            own.signal("-STOP");
        };
        let run = tokio::time::timeout(Duration::from_secs(60), handle.run(0));
        let (end, ()) = tokio::join!(run, freeze);
        let error = end.unwrap_or_else(|_| panic!("{}: nobody noticed", own.kind)).expect_err("it cannot have ended");
        assert_eq!(error.fault, Fault::Lost, "{}: {error}", own.kind);
        // The silence began with the last answer, some time before the engine was frozen.
        assert!(error.message.contains("has not answered for 8 s"), "{}: {error}", own.kind);
        assert!(handle.quiesce().await.is_err(), "{}: nothing can be verified", own.kind);
        own.signal("-CONT");
        let owner = Owner { worker: rig.worker.clone(), tasks_dir: rig.task_dir("") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !rig.left().await.is_empty() {
            assert!(Instant::now() < deadline, "{}", own.kind);
            rig.engine.sweep(&owner, keep(&[])).await;
        }
    }
}
