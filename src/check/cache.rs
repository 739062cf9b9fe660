//! Caches and mounts of one task, and caches that several tasks share.

use std::collections::HashMap;

use serde_json::Value;
use tc_payload::{Problem, docker, escape_pointer_segment};

use super::{
    Notes, artifact,
    card::{CacheUse, Card, Need},
    finding::Findings,
    payload::Checked,
    rule,
    task::Task,
};
use crate::local::check::SCOPE;

/// Looks at the caches and mounts of a payload, and remembers them.
pub(super) fn check(task: &Task<'_>, payload: &Checked, card: &mut Card, notes: &mut Notes<'_>) {
    match payload {
        Checked::Native(payload) => mounts(task, &payload.mounts, card, notes),
        Checked::Container(payload) => {
            let can = payload.container.capabilities;
            for (name, path) in &payload.container.caches {
                let pointer = format!("{}/cache/{}", task.payload_at, escape_pointer_segment(name));
                if let Some(why) = docker::kept_by_the_engine(path, can.privileged) {
                    notes
                        .add(&rule::CACHE_MOUNT_POINT, Problem::new(&pointer, format!("{} {why}", Value::from(path.as_str()))));
                }
                add(card, name, path, pointer, true);
            }
            volumes(task, can.privileged, notes);
            artifact::image(task, &payload.container.image, notes);
            if let docker::ImageForm::Task { task_id, .. } = &payload.container.image {
                let pointer = format!("{}/image/taskId", task.payload_at);
                card.needs.push(Need { pointer, task_id: task_id.as_str().into(), rule: &rule::DEPENDENCY_IMAGE });
            }
        }
    }
    names(card, notes);
    nested(card, notes);
}

/// Artifacts that are volumes are places, too. As written, since what is left of them are places without names.
fn volumes(task: &Task<'_>, privileged: bool, notes: &mut Notes<'_>) {
    let written = task.payload.and_then(|payload| payload.get("artifacts")?.as_object()).into_iter().flatten();
    for (name, artifact) in written {
        let text = |field: &str| artifact.get(field).and_then(Value::as_str);
        let (Some("volume"), Some(path)) = (text("type"), text("path")) else { continue };
        if let Some(why) = docker::kept_by_the_engine(path, privileged) {
            let pointer = format!("{}/artifacts/{}/path", task.payload_at, escape_pointer_segment(name));
            notes.add(&rule::ARTIFACT_PATH, Problem::new(pointer, format!("{} {why}", Value::from(path))));
        }
    }
}

fn add(card: &mut Card, name: &str, path: &str, pointer: String, container: bool) {
    card.caches.push(CacheUse { name: name.into(), path: path.into(), pointer, container });
}

/// The schema has seen them, so what is missing here is not there.
fn mounts(task: &Task<'_>, mounts: &[Value], card: &mut Card, notes: &mut Notes<'_>) {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut caches: HashMap<&str, usize> = HashMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{}/mounts/{index}", task.payload_at);
        let text = |name: &str| mount.get(name).and_then(Value::as_str);
        let named = ["directory", "file"].into_iter().find_map(|field| Some((field, text(field)?)));
        if let Some((field, path)) = named {
            let clean: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            if let Some(first) = places.insert(clean.join("/"), index) {
                let message = format!("{} is where mount {first} is, too", Value::from(path));
                notes.add(&rule::CACHE_MOUNT_POINT, Problem::new(format!("{at}/{field}"), message));
            }
            if let Some(name) = text("cacheName") {
                if let Some(first) = caches.insert(name, index) {
                    let message = format!("{} is the cache of mount {first}, too", Value::from(name));
                    notes.add(&rule::CACHE_TWICE, Problem::new(format!("{at}/cacheName"), message));
                }
                add(card, name, path, format!("{at}/cacheName"), false);
            }
        }
        if let Some(task_id) = mount.pointer("/content/taskId").and_then(Value::as_str) {
            let pointer = format!("{at}/content/taskId");
            card.needs.push(Need { pointer, task_id: task_id.into(), rule: &rule::DEPENDENCY_CONTENT });
        }
    }
}

/// Every use of a cache needs a scope that ends with its name.
fn names(card: &Card, notes: &mut Notes<'_>) {
    for cache in &card.caches {
        if cache.name.is_empty() || cache.name.ends_with('*') || SCOPE.problem(&cache.name).is_some() {
            let message = format!("{} is no name that a scope can end with", Value::from(&*cache.name));
            let problem = Problem::new(&cache.pointer, message).with_hint("use printable ASCII without a star at its end");
            notes.add(&rule::CACHE_NAME, if cache.container { problem.about_key() } else { problem });
        }
    }
}

fn nested(card: &Card, notes: &mut Notes<'_>) {
    let mut sorted: Vec<&CacheUse> = card.caches.iter().collect();
    // `/a/b` comes directly behind `/a` when slashes come before all else.
    sorted.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    let mut outer: Option<&CacheUse> = None;
    for inner in sorted {
        let Some(around) =
            outer.filter(|outer| inner.path.strip_prefix(&*outer.path).is_some_and(|rest| rest.starts_with('/')))
        else {
            outer = Some(inner);
            continue;
        };
        let message = format!(
            "is at {} within the cache {} at {}",
            Value::from(&*inner.path),
            Value::from(&*around.name),
            Value::from(&*around.path)
        );
        let problem = Problem::new(&inner.pointer, message);
        notes.add(&rule::CACHE_NESTED, problem.with_hint("when the outer one is kept, it keeps an empty directory there"));
    }
}

/// Looks at caches that several tasks of a queue use. `files` are the cards of each file, by its number; findings go to the
/// file's own.
pub(super) fn shared(files: &[Vec<Card>], findings: &mut [Findings]) {
    let mut first: HashMap<(Option<&str>, &str), (&Card, &CacheUse)> = HashMap::new();
    for (file, cards) in files.iter().enumerate() {
        for (number, card) in cards.iter().enumerate() {
            for cache in &card.caches {
                let key = (card.queue.as_deref(), &*cache.name);
                let (other, before) = *first.entry(key).or_insert((card, cache));
                let label = Value::from(other.called().unwrap_or("another task"));
                let name = Value::from(&*cache.name);
                if std::ptr::eq(other, card) {
                    // What is wrong within one task is another rule.
                    continue;
                }
                let (rule, message) = if before.container != cache.container {
                    let kind = if before.container { "a container" } else { "a native task" };
                    (&rule::CACHE_KINDS, format!("the cache {name} is one of {kind} in {label}; users differ between the two"))
                } else if before.path != cache.path {
                    let (here, there) = (Value::from(&*cache.path), Value::from(&*before.path));
                    (&rule::CACHE_PATHS, format!("the cache {name} is at {here} here, but at {there} in {label}"))
                } else {
                    continue;
                };
                findings[file].of_task(number, rule, Problem::new(&cache.pointer, message));
            }
        }
    }
}
