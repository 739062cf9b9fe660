//! Payloads: their schema, and what a worker has against them.

use serde_json::Value;
use tc_engine::CommandSpec;
use tc_payload::{Problem, docker, docker::Container, is_container_payload, limit, native};

use super::{
    Notes,
    rule::{self, Rule},
    task::Task,
};
use crate::{
    config::Config,
    feature::later,
    run::admit::{not_taken, too_long, withhold},
};

/// Beginnings of task queues whose tasks no worker of this kind runs: the queue itself, and services with payloads of their own.
const FOREIGN: [&str; 2] = ["built-in/", "scriptworker"];
/// What taskgraph writes into the tag `worker-implementation` of tasks with payloads that are known here.
const OWN: [&str; 2] = ["docker-worker", "generic-worker"];
/// What it writes into the tag `os` of tasks whose payloads are those of generic-worker elsewhere.
const ELSEWHERE: [&str; 2] = ["windows", "macosx"];

/// A payload that its schema accepts, or what is left of one when everything is taken out that it refuses.
pub(super) enum Checked {
    Native(native::Payload),
    Container(docker::Payload),
}

impl Checked {
    /// What all payloads have.
    pub(super) fn common(&self) -> &native::Payload {
        match self {
            Self::Native(payload) => payload,
            Self::Container(payload) => &payload.common,
        }
    }

    /// What only containers have.
    pub(super) fn container(&self) -> Option<&Container> {
        match self {
            Self::Native(_) => None,
            Self::Container(payload) => Some(&payload.container),
        }
    }
}

/// Holds a payload against its schema and, if there is one, against the worker's configuration. Other rules look at what is returned:
/// at nothing in what is for other workers, and in a broken payload at all that is right.
pub(super) fn check(task: &Task<'_>, notes: &mut Notes<'_>) -> Option<Checked> {
    let raw = task.payload?;
    if is_foreign(task) {
        return None;
    }
    let worker = task.options.worker.filter(|_| task.is_for_worker());
    if let Some(message) = worker.and_then(|worker| not_taken(raw, worker)) {
        notes.add(&rule::WORKER_KIND, Problem::new(task.payload_at, message));
    }
    let checked = if is_container_payload(raw) {
        docker::check(raw).map(Checked::Container)
    } else {
        native::check(raw).map(Checked::Native)
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(problems) => {
            let left = left(raw, &problems);
            refused(task, raw, problems, notes);
            left?
        }
    };
    if matches!(checked, Checked::Native(_)) {
        for problem in limit::native(raw) {
            notes.add(&rule::PAYLOAD_LIMIT, problem.below(task.payload_at));
        }
        for problem in limit::native_names(raw) {
            notes.add(&rule::PAYLOAD_VARIABLE, problem.below(task.payload_at));
        }
    }
    programs(task, &checked, notes);
    offered(task, &checked, worker, notes);
    Some(checked)
}

/// Tells what is wrong by the schema and by the rules that come with it. Of these values enough is said then.
fn refused(task: &Task<'_>, raw: &Value, problems: Vec<Problem>, notes: &mut Notes<'_>) {
    let by_schema = if is_container_payload(raw) { docker::against_schema(raw).len() } else { problems.len() };
    let wrong = problems.iter().filter(|problem| !problem.pointer.is_empty());
    let muted: Vec<String> = wrong.map(|problem| format!("{}{}", task.payload_at, problem.pointer)).collect();
    for (number, problem) in problems.into_iter().enumerate() {
        let rule = if number < by_schema { &rule::PAYLOAD_SCHEMA } else { beyond_schema(&problem.pointer) };
        notes.add(rule, problem.below(task.payload_at));
    }
    notes.muted.extend(muted);
}

/// What the other rules can look at in a broken payload.
fn left(raw: &Value, problems: &[Problem]) -> Option<Checked> {
    let mut left = if is_container_payload(raw) {
        docker::mended(raw).map(Checked::Container)
    } else {
        native::mended(raw).map(Checked::Native)
    }?;
    let is_of_logs = |pointer: &str| {
        pointer.starts_with("/log") || pointer.ends_with("Log") || ["/features", "/features/artifacts"].contains(&pointer)
    };
    if problems.iter().any(|problem| is_of_logs(&problem.pointer)) {
        // What the logs are called is not known then, so that nothing can be in their way.
        let common = match &mut left {
            Checked::Native(payload) => payload,
            Checked::Container(payload) => &mut payload.common,
        };
        (common.features.live_log, common.features.backing_log) = (false, false);
    }
    Some(left)
}

/// Whether each command names a program. In a container the image may have one already, which gets the words.
fn programs(task: &Task<'_>, checked: &Checked, notes: &mut Notes<'_>) {
    let at = |command: &str| format!("{}/command{command}/0", task.payload_at);
    match checked {
        Checked::Native(payload) => {
            let nameless = payload.command.iter().enumerate().filter(|(_, argv)| !CommandSpec::names_a_program(argv));
            for (number, _) in nameless {
                let message = "is empty, where the name of a program has to be";
                notes.add(&rule::PAYLOAD_PROGRAM, Problem::new(at(&format!("/{number}")), message));
            }
        }
        Checked::Container(payload) => {
            let argv = &payload.container.command;
            if !argv.is_empty() && !CommandSpec::names_a_program(argv) {
                let message = "is empty, which is no program for an image without an entry point";
                notes.add(&rule::PAYLOAD_EMPTY, Problem::new(at(""), message));
            }
        }
    }
}

/// Whether the payload is one for programs of another kind.
fn is_foreign(task: &Task<'_>) -> bool {
    let tag = |name: &str| task.definition.and_then(|definition| definition.get("tags")?.get(name)?.as_str());
    task.queue.as_ref().is_some_and(|queue| FOREIGN.iter().any(|foreign| queue.starts_with(foreign)))
        || tag("worker-implementation").is_some_and(|implementation| !OWN.contains(&implementation))
        || tag("os").is_some_and(|os| ELSEWHERE.contains(&os))
}

/// The rule that a container payload breaks beyond its schema.
fn beyond_schema(pointer: &str) -> &'static Rule {
    let about = |field: &str| pointer.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if about("/image") {
        &rule::IMAGE_NAME
    } else if about("/cache") {
        &rule::CACHE_MOUNT_POINT
    } else if about("/artifacts") {
        &rule::ARTIFACT_PATH
    } else if about("/log") {
        &rule::ARTIFACT_NAME
    } else {
        &rule::PAYLOAD_LIMIT
    }
}

/// What the payload asks for in vain.
fn offered(task: &Task<'_>, checked: &Checked, worker: Option<&Config>, notes: &mut Notes<'_>) {
    let at = |field: &str| format!("{}/{}", task.payload_at, field.replace('.', "/"));
    let mut left;
    let mut common = checked.common();
    if let (Some(worker), Checked::Container(payload)) = (worker, checked) {
        left = payload.clone();
        for (what, setting) in withhold(&mut left, &worker.d2g) {
            let message = format!("has no effect: the worker's configuration does not allow it (d2gConfig.{setting})");
            notes.add(&rule::FEATURE_WITHHELD, Problem::new(at(what), message));
        }
        common = &left.common;
        let can = left.container.capabilities;
        if worker.capacity > 1 && (can.loopback_audio || can.loopback_video) {
            let what = if can.loopback_video { "loopbackVideo" } else { "loopbackAudio" };
            let message = format!("is one device for the {} tasks that the worker runs at a time (capacity)", worker.capacity);
            notes.add(&rule::WORKER_DEVICE, Problem::new(at(&format!("capabilities.devices.{what}")), message));
        }
    }
    for field in later::asked(common) {
        let message = "comes with a later version of this worker, which cannot run this task";
        notes.add(&rule::FEATURE_NOT_OFFERED, Problem::new(at(field), message));
    }
    let longest = common.max_run_time_secs > u64::from(u32::MAX);
    let Some(worker) = worker else {
        if longest {
            let message = format!("is longer than any worker allows: at most {} seconds", u32::MAX);
            notes.add(&rule::WORKER_RUN_TIME, Problem::new(at("maxRunTime"), message));
        }
        return;
    };
    let mut off = |field: &str, setting: &str| {
        let message = format!("is not enabled on this worker ({setting} is false)");
        notes.add(&rule::FEATURE_SWITCHED_OFF, Problem::new(at(field), message));
    };
    if !worker.enable_os_groups && !common.os_groups.is_empty() {
        off("osGroups", "enableOSGroups");
    }
    if !worker.enable_mounts && checked.container().is_some_and(|container| !container.caches.is_empty()) {
        off("cache", "enableMounts");
    }
    if let Some(message) = too_long(common, worker) {
        notes.add(&rule::WORKER_RUN_TIME, Problem::new(at("maxRunTime"), message));
    }
}

/// Whether a payload asks for the proxy, through which it can read what is not public.
pub(super) fn has_proxy(payload: Option<&Value>) -> bool {
    payload.and_then(|payload| payload.pointer("/features/taskclusterProxy")) == Some(&Value::Bool(true))
}
