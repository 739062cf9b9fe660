//! From a file to a task definition that the embedded queue takes: what the file lacks is filled in, and what only makes sense
//! at a deployment is adapted, with a note.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tc_payload::docker;

use super::{
    depend::TASK_ID,
    settings::{PROVISIONER_ID, WORKER_TYPE},
};
use crate::{graph::label::LABEL, log::format::date, run::admit::scope};

/// How far `created` may be from now; the queue has this rule.
const DRIFT: SignedDuration = SignedDuration::from_mins(15);
/// How far away a deadline may be; the queue has this rule, too.
const LONGEST: SignedDuration = SignedDuration::from_hours(5 * 24);
/// The deadline, unless the task may run for longer.
const USUAL: SignedDuration = SignedDuration::from_hours(24);
/// What a deadline has to leave beside the longest run.
const SPARE: SignedDuration = SignedDuration::from_hours(1);
/// How long a task and its artifacts are said to exist. Nothing of it is left after `exec`, but payloads can name dates.
const KEPT: SignedDuration = SignedDuration::from_hours(365 * 24);

/// How many dependencies a note names.
const NAMED: usize = 3;

/// A definition, and what its author should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Defined {
    /// For the queue.
    pub definition: Value,
    /// One line each.
    pub notes: Vec<String>,
}

/// Makes a definition from the value of a file whose payload is valid. `dependencies` are the ids of the tasks of this session
/// that it waits for; `unknown` are entries that name none.
pub fn define(value: &Value, stem: &str, dependencies: &[&str], unknown: &[String], now: Timestamp) -> Defined {
    let mut notes = Vec::new();
    let mut task = match value.as_object() {
        Some(task) if task.contains_key("payload") => {
            let mut task = task.clone();
            // For us alone: a queue knows no such keys.
            task.shift_remove(LABEL);
            task.shift_remove(TASK_ID);
            task
        }
        _ => Map::from_iter([("payload".to_owned(), value.clone())]),
    };
    fill_pool(&mut task);
    fill_dates(&mut task, now, &mut notes);
    fill_scopes(&mut task);
    fill_metadata(&mut task, stem);
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
        let more = if unknown.len() > NAMED { format!(" and {} more", unknown.len() - NAMED) } else { String::new() };
        notes.push(format!("it does not wait for {}{more}: no file here is such a task", names.join(", ")));
    }
    // What is no list stays, and the queue says so.
    if task.get("dependencies").map_or(!dependencies.is_empty(), Value::is_array) {
        task.insert("dependencies".to_owned(), json!(dependencies));
    }
    Defined { definition: Value::Object(task), notes }
}

fn set_default(task: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    if !task.contains_key(key) {
        task.insert(key.to_owned(), value());
    }
}

fn fill_pool(task: &mut Map<String, Value>) {
    if !task.contains_key("taskQueueId") {
        set_default(task, "provisionerId", || json!(PROVISIONER_ID));
        set_default(task, "workerType", || json!(WORKER_TYPE));
    }
}

fn fill_dates(task: &mut Map<String, Value>, now: Timestamp, notes: &mut Vec<String>) {
    // A date that is no date stays, and the queue says so.
    let read = |task: &Map<String, Value>, key: &str| match task.get(key) {
        None => Ok(None),
        Some(value) => value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Some).ok_or(()),
    };
    let after = |from: Timestamp, by| from.saturating_add(by).unwrap_or(Timestamp::MAX);
    let mut adapt = |task: &mut Map<String, Value>, key: &str, to: Timestamp, why: Option<&str>| {
        if let Some(why) = why {
            notes.push(format!("{key} {why}; {} counts", date(to)));
        }
        task.insert(key.to_owned(), json!(date(to)));
    };
    match read(task, "created") {
        Ok(Some(created)) if created.duration_since(now).abs() <= DRIFT => {}
        // A definition that was made for another time is what people have; when it was made matters to nobody here.
        Ok(_) => adapt(task, "created", now, None),
        Err(()) => {}
    }
    let longest_run = task.get("payload").and_then(|payload| payload.get("maxRunTime")).and_then(Value::as_u64).unwrap_or(0);
    let longest_run = SignedDuration::from_secs(i64::try_from(longest_run).unwrap_or(i64::MAX));
    let room = longest_run.saturating_add(SPARE);
    let artifacts = expiries(task);
    // What expires after a deadline that leaves enough room stays as it is: then the deadline is the one that fits.
    let named = artifacts.iter().copied().chain(read(task, "expires").ok().flatten());
    let earliest = named.filter(|date| *date >= after(now, room)).min().unwrap_or(Timestamp::MAX);
    let usual = after(now, room.clamp(USUAL, LONGEST)).min(earliest);
    let mut ours = true;
    match read(task, "deadline") {
        Ok(None) => adapt(task, "deadline", usual, None),
        Ok(Some(deadline)) if deadline <= now => adapt(task, "deadline", usual, Some("has passed")),
        Ok(Some(deadline)) if deadline.duration_since(now) > LONGEST => {
            adapt(task, "deadline", after(now, LONGEST), Some("is more than 5 days away"));
        }
        _ => ours = false,
    }
    let Ok(Some(deadline)) = read(task, "deadline") else { return };
    // Artifacts must not outlive their task.
    let last = after(deadline, KEPT).max(artifacts.into_iter().max().unwrap_or(Timestamp::MIN));
    match read(task, "expires") {
        Ok(None) => adapt(task, "expires", last, None),
        Ok(Some(expires)) if expires < deadline => adapt(task, "expires", last, Some("is before the deadline")),
        _ => {}
    }
    let to = read(task, "expires").ok().flatten().unwrap_or(last);
    move_artifacts(task, to, |date| date < deadline && (ours || date <= now), notes);
}

/// When artifacts expire, those that name a date.
fn expiries(task: &Map<String, Value>) -> Vec<Timestamp> {
    let artifacts = match task.get("payload").and_then(|payload| payload.get("artifacts")) {
        Some(Value::Array(list)) => list.iter().collect::<Vec<_>>(),
        // Of a container.
        Some(Value::Object(by_name)) => by_name.values().collect(),
        _ => Vec::new(),
    };
    artifacts.into_iter().filter_map(expiry).collect()
}

fn expiry(artifact: &Value) -> Option<Timestamp> {
    artifact.get("expires")?.as_str()?.parse().ok()
}

/// Lets artifacts with such dates expire at another one, which is not before the deadline: else their run would be
/// `malformed-payload`.
fn move_artifacts(task: &mut Map<String, Value>, to: Timestamp, is_off: impl Fn(Timestamp) -> bool, notes: &mut Vec<String>) {
    let mut moved: Vec<String> = Vec::new();
    let mut adapt = |name: Option<&str>, artifact: &mut Value| {
        if !expiry(artifact).is_some_and(&is_off) {
            return;
        }
        let text = |key: &str| artifact.get(key).and_then(Value::as_str);
        moved.push(name.or_else(|| text("name")).or_else(|| text("path")).unwrap_or_default().to_owned());
        artifact["expires"] = json!(date(to));
    };
    match task.get_mut("payload").and_then(|payload| payload.get_mut("artifacts")) {
        Some(Value::Array(list)) => list.iter_mut().for_each(|artifact| adapt(None, artifact)),
        Some(Value::Object(by_name)) => by_name.iter_mut().for_each(|(name, artifact)| adapt(Some(name.as_str()), artifact)),
        _ => {}
    }
    let whose = match moved.as_slice() {
        [] => return,
        [name] => format!("artifact {name:?}"),
        several => format!("{} artifacts", several.len()),
    };
    notes.push(format!("expires of {whose} has passed or is before the deadline; {} counts", date(to)));
}

/// The scopes that the payload asks for.
fn fill_scopes(task: &mut Map<String, Value>) {
    let queue = format!("{PROVISIONER_ID}/{WORKER_TYPE}");
    let payload = task.get("payload").unwrap_or(&Value::Null);
    let scopes: Vec<String> = if let Ok(payload) = docker::check(payload) {
        // Of each group, the first is the one that holds for all pools.
        scope::needed(&payload, &queue).into_iter().filter_map(|group| group.into_iter().next()).collect()
    } else {
        let groups = payload.get("osGroups").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        groups.map(|group| format!("generic-worker:os-group:{queue}/{group}")).collect()
    };
    set_default(task, "scopes", || json!(scopes));
}

fn fill_metadata(task: &mut Map<String, Value>, stem: &str) {
    set_default(task, "metadata", || json!({}));
    // What is no object stays, and the queue says so.
    if let Some(metadata) = task.get_mut("metadata").and_then(Value::as_object_mut) {
        let name: String = stem.chars().take(255).collect();
        set_default(metadata, "name", || json!(name));
        set_default(metadata, "description", || json!("run with tc-worker exec"));
        set_default(metadata, "owner", || json!("nobody@localhost"));
        set_default(metadata, "source", || json!("https://localhost/"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a date")
    }

    #[test]
    fn a_bare_payload_becomes_a_whole_task() {
        let payload = json!({ "command": [["a"]], "maxRunTime": 60, "osGroups": ["video"] });
        let defined = define(&payload, "hello", &[], &[], now());
        assert_eq!(defined.definition["payload"], payload);
        assert_eq!(defined.definition["created"], "2026-01-01T00:00:00.000Z");
        assert_eq!(defined.definition["deadline"], "2026-01-02T00:00:00.000Z");
        assert_eq!(defined.definition["expires"], "2027-01-02T00:00:00.000Z");
        assert_eq!(defined.definition["scopes"], json!(["generic-worker:os-group:local/exec/video"]));
        assert_eq!(defined.definition["provisionerId"], "local");
        assert_eq!(defined.definition["metadata"]["name"], "hello");
        assert_eq!(defined.notes, Vec::<String>::new());
    }

    #[test]
    fn a_bare_payload_gets_the_scopes_that_it_asks_for() {
        let payload = json!({
            "image": "i", "maxRunTime": 1, "cache": { "a b": "/c" }, "features": { "allowPtrace": true, "interactive": true },
            "capabilities": { "privileged": true, "disableSeccomp": false, "devices": { "kvm": true, "loopbackAudio": false } },
        });
        let scopes = &define(&payload, "x", &[], &[], now()).definition["scopes"];
        let expected = [
            "docker-worker:capability:privileged",
            "docker-worker:capability:device:kvm",
            "docker-worker:feature:allowPtrace",
            "docker-worker:cache:a b",
        ];
        assert_eq!(*scopes, json!(expected));
    }

    #[test]
    fn what_a_definition_says_stays() {
        let task = json!({
            "taskQueueId": "a/b", "created": "2026-01-01T00:05:00Z", "deadline": "2026-01-03T00:00:00Z",
            "expires": "2026-01-04T00:00:00Z", "scopes": ["x"], "tags": { "label": "build/x" },
            "metadata": { "name": "n", "description": "d", "owner": "o", "source": "https://s/" }, "payload": { "maxRunTime": 1 },
        });
        let defined = define(&task, "file", &[], &[], now());
        assert_eq!((defined.definition, defined.notes), (task.clone(), vec![]));
        let mut labelled = task.clone();
        labelled["label"] = json!("x");
        assert_eq!(define(&labelled, "file", &[], &[], now()).definition, task, "the label is not for the queue");
    }

    #[test]
    fn a_definition_from_another_time_is_run_now() {
        let task = json!({
            "created": "2020-01-01T00:00:00Z", "deadline": "2020-01-02T00:00:00Z", "expires": "2020-01-03T00:00:00Z",
            "dependencies": ["a", "b"], "payload": { "maxRunTime": 200_000 },
        });
        let defined = define(&task, "file", &["fN1SbArXTPSVFNUvaOlinQ"], &["b".to_owned()], now());
        assert_eq!(defined.definition["created"], "2026-01-01T00:00:00.000Z");
        assert_eq!(defined.definition["deadline"], "2026-01-03T08:33:20.000Z", "maxRunTime and an hour");
        assert_eq!(defined.definition["expires"], "2027-01-03T08:33:20.000Z");
        assert_eq!(defined.definition["dependencies"], json!(["fN1SbArXTPSVFNUvaOlinQ"]));
        assert_eq!(defined.notes.len(), 3, "{:?}", defined.notes);
    }

    #[test]
    fn a_task_of_a_graph_gets_its_dependencies() {
        let defined = define(&json!({ "payload": {} }), "x", &["fN1SbArXTPSVFNUvaOlinQ"], &[], now());
        assert_eq!(defined.definition["dependencies"], json!(["fN1SbArXTPSVFNUvaOlinQ"]));
    }

    #[test]
    fn artifacts_do_not_outlive_a_task_whose_dates_are_filled_in() {
        let payload = json!({ "maxRunTime": 1, "artifacts": [{ "expires": "2099-01-01T00:00:00.000Z" }, {}] });
        assert_eq!(define(&payload, "file", &[], &[], now()).definition["expires"], "2099-01-01T00:00:00.000Z");
        let far = define(&json!({ "maxRunTime": u64::MAX }), "file", &[], &[], now());
        assert_eq!(far.definition["deadline"], "2026-01-06T00:00:00.000Z");
    }

    #[test]
    fn artifacts_that_expired_or_would_before_the_deadline_filled_in_are_moved_with_one_note() {
        let task = json!({
            "created": "2025-11-01T00:00:00Z", "deadline": "2025-11-02T00:00:00Z", "expires": "2026-11-01T00:00:00Z",
            "payload": { "maxRunTime": 60, "artifacts": [
                { "name": "public/o", "expires": "2025-11-20T00:00:00Z" }, { "path": "p", "expires": "2026-01-01T00:30:00Z" },
                { "name": "public/late", "expires": "2026-10-01T00:00:00Z" },
            ] },
        });
        let defined = define(&task, "file", &[], &[], now());
        let artifacts = &defined.definition["payload"]["artifacts"];
        assert_eq!(artifacts[0]["expires"], "2026-11-01T00:00:00.000Z", "{:?}", defined.notes);
        assert_eq!(
            (&artifacts[1]["expires"], &artifacts[2]["expires"]),
            (&artifacts[0]["expires"], &json!("2026-10-01T00:00:00Z"))
        );
        assert_eq!(defined.definition["expires"], "2026-11-01T00:00:00Z");
        let about: Vec<&String> = defined.notes.iter().filter(|note| note.contains("2 artifacts")).collect();
        assert_eq!((about.len(), defined.notes.len()), (1, 2), "{:?}", defined.notes);
        let container = json!({ "deadline": "2026-01-01T09:00:00Z", "payload": { "maxRunTime": 60, "artifacts": {
            "public/a": { "expires": "2025-01-01T00:00:00Z" }, "public/b": { "expires": "2026-01-01T05:00:00Z" },
        } } });
        let defined = define(&container, "file", &[], &[], now());
        let artifacts = &defined.definition["payload"]["artifacts"];
        assert_eq!(artifacts["public/a"]["expires"], defined.definition["expires"]);
        assert!(defined.notes[0].contains("\"public/a\""), "{:?}", defined.notes);
        assert_eq!(artifacts["public/b"]["expires"], "2026-01-01T05:00:00Z", "before a deadline that is the author's own");
    }

    #[test]
    fn a_deadline_that_is_filled_in_fits_what_expires_soon() {
        let payload = json!({ "maxRunTime": 60, "artifacts": [{ "expires": "2026-01-01T05:00:00.000Z" }] });
        let defined = define(&payload, "file", &[], &[], now());
        assert_eq!((&defined.definition["payload"], defined.notes.len()), (&payload, 0));
        assert_eq!(defined.definition["deadline"], "2026-01-01T05:00:00.000Z");
        let task = json!({ "expires": "2026-01-01T07:00:00Z", "payload": { "maxRunTime": 60 } });
        let defined = define(&task, "file", &[], &[], now());
        assert_eq!(defined.definition["deadline"], "2026-01-01T07:00:00.000Z", "{:?}", defined.notes);
    }

    #[test]
    fn what_makes_no_sense_is_left_to_the_queue() {
        let task = json!({ "created": 5, "deadline": "soon", "metadata": [], "payload": {} });
        let defined = define(&task, "file", &[], &[], now());
        assert_eq!(defined.definition["created"], 5);
        assert_eq!(defined.definition["deadline"], "soon");
        assert_eq!(defined.definition["metadata"], json!([]));
    }
}
