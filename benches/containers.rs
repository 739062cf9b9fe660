//! What a task in a container costs through the whole worker, beside the calls that have to be made by hand for the same.
//!
//! `cargo bench --profile ci --bench containers` prints a table for each engine that `TC_DOCKER_CLASSIC`, `TC_DOCKER_GRAPH` and
//! `TC_DOCKER_CONTAINERD` name. Where they lack `tc-test/busybox:latest`, it comes from the directory `TC_DOCKER_IMAGES`, or from the registry
//! `TC_DOCKER_REGISTRY` if that is named. Everything is in turns, so that whatever else the machine does hits both; medians count. With
//! `--calls` the calls of one task are printed with their times, too.
//!
//! *By hand* is what a careful person calls for a container like ours (a terminal, no log of the engine's own, its default
//! network), with bollard and its kept connections: create, attach, start, read to the end, wait, remove with volumes. A task of
//! ours is in the default network, too, so neither makes a network. Ours makes eight calls, each on a connection of its own, of
//! which those in one line are made at the same time; the three with `GET` nobody needs who only wants output and exit code:
//!
//! ```text
//! GET    /images/x/json           the image that the name means now, so that the container is made from its identifier
//! POST   /containers/create
//! POST   /containers/x/attach     POST /containers/x/wait
//! POST   /containers/x/start
//! GET    /containers/x/json       out of memory? nothing runs?    (while the rest of the output is read)
//! DELETE /containers/x
//! GET    /containers/x/json       it is not there any more
//! ```
//!
//! Both go through a relay before the engine, which sees when a container says its first byte and when no call is pending; the
//! worker's claims go through one before the queue. *No call pending* is the part of the time from a claim's answer to the first byte
//! that the worker itself takes, and by hand what the client takes from call to call.

use std::time::{Duration, Instant};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::{
        AttachContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use support::{
    Deployment,
    calls::{Call, Calls},
    engines, middle, millis, now_ns, percentile,
    relay::Relay,
    shell,
    worker::{Killed, worker},
};

#[expect(dead_code, reason = "each bench needs some of it")]
mod support;

/// As many containers are started at once.
const AT_ONCE: usize = 8;
const WORD: &str = "first";

/// Rounds of each row.
struct Sizes {
    alone: usize,
    at_once: usize,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let (smoke, show_calls) = (has("--smoke"), has("--calls"));
    let sizes = if smoke { Sizes { alone: 2, at_once: 1 } } else { Sizes { alone: 100, at_once: 15 } };
    let mut engines = engines();
    if smoke {
        // That it runs, not what it measures.
        engines.drain(..engines.len().saturating_sub(1));
    }
    if engines.is_empty() {
        return println!("NOT RUN: no variable names a Docker engine");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("| engine | row | measured | by hand in the same run | ratio |");
        println!("|---|---|---|---|---|");
        let mut shown = Vec::new();
        for (kind, host) in engines {
            let image = Image::bring(&host).await;
            let bench = Bench::start(kind, &host, &image.name).await;
            shown.push((kind, bench.alone(sizes.alone).await));
            bench.at_once(sizes.at_once).await;
            image.leave(&host).await;
        }
        println!("\nload: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
        for (kind, calls) in shown.iter().filter(|_| show_calls) {
            println!("\nThe calls of one task, {kind}; milliseconds after the answer to the claim:\n{calls}");
        }
    });
}

/// The image in which everything runs.
struct Image {
    name: String,
    /// This bench brought it.
    brought: bool,
}

impl Image {
    async fn bring(host: &str) -> Self {
        let registry = std::env::var("TC_DOCKER_REGISTRY").map_or_else(|_| String::new(), |registry| format!("{registry}/"));
        let name = format!("{registry}tc-test/busybox:latest");
        let brought = shell(format!("docker -H {host} image ls -q {name}")).await.is_empty();
        if brought && registry.is_empty() {
            let images = std::env::var("TC_DOCKER_IMAGES").expect("a directory with the archive of the image");
            shell(format!("docker -H {host} load -qi {images}/busybox.tar")).await;
        } else if brought {
            shell(format!("docker -H {host} pull -q {name}")).await;
        }
        Self { name, brought }
    }

    async fn leave(self, host: &str) {
        if self.brought {
            shell(format!("docker -H {host} rmi {}", self.name)).await;
        }
    }
}

struct Bench {
    kind: &'static str,
    deployment: Deployment,
    calls: Calls,
    docker: Docker,
    image: String,
}

impl Bench {
    async fn start(kind: &'static str, host: &str, image: &str) -> Self {
        let deployment = Deployment::start().await;
        let calls = Calls::start(host, deployment.dir.path());
        let docker = Docker::connect_with_unix(&calls.host(), 120, API_DEFAULT_VERSION).expect("a client");
        Self { kind, deployment, calls, docker, image: image.to_owned() }
    }

    fn payload(&self) -> Value {
        json!({ "image": self.image, "command": ["echo", WORD], "maxRunTime": 60 })
    }

    fn settings(&self, capacity: usize) -> Value {
        json!({
            "d2gConfig": { "enableD2G": true }, "capacity": capacity, "tcWorker": { "docker": { "host": self.calls.host() } },
        })
    }

    fn row(&self, name: &str, measured: &str, floor: &str, ratio: &str) {
        println!("| {} | {name} | {measured} | {floor} | {ratio} |", self.kind);
    }

    /// One task at a time. Returns what was called for the last one.
    async fn alone(&self, rounds: usize) -> String {
        let relay = Relay::start(&self.deployment, Duration::ZERO);
        let worker = Killed(worker(&self.deployment, &relay.root_url(), &self.settings(1)));
        let (mut ours, mut bare, mut last) = (Took::default(), Took::default(), String::new());
        // The first round is not counted: the worker compares the tag with the registry, and finds its files.
        for round in 0..=rounds {
            // Neither is done in the other's time: the worker has asked for work and waits.
            until(|| relay.passed().claims.len() > round).await;
            // Each comes first in half of the rounds: what an engine still cleans up after one is in the way of the other.
            let early = if round % 2 == 0 { Some(self.bare().await) } else { None };
            let before = self.calls.list().len();
            self.deployment.create(self.payload()).await;
            until(|| relay.passed().completed.len() > round).await;
            let calls = self.calls.list()[before..].to_vec();
            assert_eq!(relay.passed().answered.len(), round + 1, "one claim a task");
            let claimed = relay.passed().answered[round];
            let first = first_byte(&calls);
            until(|| relay.passed().claims.len() > round + 1).await;
            let by_hand = if let Some(early) = early { early } else { self.bare().await };
            if round > 0 {
                bare.add(by_hand);
                ours.add((between(claimed, first), unattended(&calls, claimed, first)));
            }
            last = listed(&calls, claimed, first);
        }
        end(worker, &relay).await;
        for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
            let ((mine, own), (floor, own_floor)) = (ours.at(share), bare.at(share));
            let name = format!("claim answered → first byte of output, {label}");
            self.row(&name, &format!("{mine:.0} ms"), &format!("{floor:.0} ms"), &format!("{:.2} ×", mine / floor));
            let name = format!("of that, no call of the run pending, {label}");
            self.row(&name, &format!("{own:.1} ms"), &format!("{own_floor:.1} ms"), &format!("+ {:.1} ms", own - own_floor));
        }
        last
    }

    /// How long a container by hand takes until its first byte, and how long of that no call is pending.
    async fn bare(&self) -> (f64, f64) {
        let before = self.calls.list().len();
        let began = now_ns();
        by_hand(&self.docker, &self.image).await;
        let calls = &self.calls.list()[before..];
        let first = first_byte(calls);
        (between(began, first), unattended(calls, began, first))
    }

    /// Eight at a time, ours first in half of the rounds.
    async fn at_once(&self, rounds: usize) {
        let (mut floor, mut removed, mut resolved) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let early = if round % 2 == 0 { Some(self.bare_at_once().await) } else { None };
            let ours = self.tasks_at_once().await;
            let bare = if let Some(early) = early { early } else { self.bare_at_once().await };
            if round > 0 {
                floor.push(bare);
                removed.push(ours.0);
                resolved.push(ours.1);
            }
        }
        let bare = middle(&floor);
        for (what, times) in [("removed", &removed), ("resolved", &resolved)] {
            let mine = middle(times);
            let name = format!("{AT_ONCE} tasks at once: claims answered → all {what}");
            self.row(&name, &format!("{mine:.2} s"), &format!("{bare:.2} s"), &format!("{:.2} ×", mine / bare));
        }
    }

    /// How long it takes by hand until all are removed.
    async fn bare_at_once(&self) -> Duration {
        let before = self.calls.list().len();
        let began = now_ns();
        futures_util::future::join_all((0..AT_ONCE).map(|_| by_hand(&self.docker, &self.image))).await;
        duration(began, last_removal(&self.calls.list()[before..]))
    }

    /// How long it takes from the answer to the claims until all are removed, and until all are resolved.
    async fn tasks_at_once(&self) -> (Duration, Duration) {
        let relay = Relay::start(&self.deployment, Duration::ZERO);
        // They wait before the worker is there, so that one call brings all of them. A worker of its own for each round makes it
        // slower, if anything: it does everything for the first time.
        for _ in 0..AT_ONCE {
            self.deployment.create(self.payload()).await;
        }
        let before = self.calls.list().len();
        let worker = Killed(worker(&self.deployment, &relay.root_url(), &self.settings(AT_ONCE)));
        until(|| relay.passed().completed.len() == AT_ONCE).await;
        end(worker, &relay).await;
        let passed = relay.passed();
        let (claimed, last) = (passed.answered[0], passed.completed[AT_ONCE - 1]);
        (duration(claimed, last_removal(&self.calls.list()[before..])), duration(claimed, last))
    }
}

/// Milliseconds until the first byte, and those of them in which no call was pending.
#[derive(Default)]
struct Took(Vec<f64>, Vec<f64>);

impl Took {
    fn add(&mut self, (all, own): (f64, f64)) {
        self.0.push(all);
        self.1.push(own);
    }

    /// The values that this share of the rounds does not exceed.
    fn at(&mut self, share: f64) -> (f64, f64) {
        let of = |list: &mut Vec<f64>| {
            list.sort_by(f64::total_cmp);
            percentile(list, share)
        };
        (of(&mut self.0), of(&mut self.1))
    }
}

/// Ends a worker, and waits until the queue has noticed: its open call must not get a task of the next one.
async fn end(worker: Killed, relay: &Relay) {
    drop(worker);
    until(|| relay.passed().open == 0).await;
}

/// A container by the bare calls, from its creation to its removal.
async fn by_hand(docker: &Docker, image: &str) {
    let host_config = HostConfig {
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        memory_swap: Some(-1),
        extra_hosts: Some(vec!["localhost.localdomain:127.0.0.1".into()]),
        ..HostConfig::default()
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["echo".into(), WORD.into()]),
        tty: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(None, body).await.expect("created").id;
    let options = AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await.expect("attached");
    docker.start_container(&id, None::<StartContainerOptions>).await.expect("started");
    while attached.output.next().await.is_some() {}
    docker.wait_container(&id, None::<WaitContainerOptions>).next().await.expect("an end").expect("exit code 0");
    let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
    docker.remove_container(&id, Some(options)).await.expect("removed");
}

/// Waits for something that the relays see.
async fn until(mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !come() {
        assert!(Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn first_byte(calls: &[Call]) -> u128 {
    calls.iter().map(|call| call.output).find(|&output| output > 0).expect("output")
}

fn last_removal(calls: &[Call]) -> u128 {
    let removals: Vec<u128> = calls.iter().filter(|call| call.name.starts_with("DELETE ")).map(|call| call.ended).collect();
    assert_eq!(removals.len(), AT_ONCE, "each container is removed once");
    removals.into_iter().max().unwrap_or_default()
}

#[expect(clippy::cast_possible_wrap, reason = "nanoseconds of this century")]
fn between(from: u128, to: u128) -> f64 {
    millis(to as i128 - from as i128)
}

fn duration(from: u128, to: u128) -> Duration {
    Duration::from_secs_f64(between(from, to) / 1e3)
}

/// How long of this time no call was pending, in milliseconds.
fn unattended(calls: &[Call], from: u128, to: u128) -> f64 {
    let mut pending: Vec<(u128, u128)> = calls.iter().map(Call::pending).collect();
    pending.sort_unstable();
    let (mut free, mut at) = (0, from);
    for (begin, end) in pending {
        free += begin.min(to).saturating_sub(at);
        at = at.max(end);
    }
    between(0, free + to.saturating_sub(at))
}

/// The calls, one a line.
fn listed(calls: &[Call], from: u128, first: u128) -> String {
    let line = |call: &Call| {
        let (began, end) = call.pending();
        format!("  {:8.1} … {:8.1}  {}\n", between(from, began), between(from, end.min(now_ns())), call.name)
    };
    let lines: String = calls.iter().map(line).collect();
    format!("{lines}  {:8.1}             first byte", between(from, first))
}
