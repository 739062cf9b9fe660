//! Artifacts: their names, when they expire, and those of other tasks.

use std::collections::HashMap;

use serde_json::Value;
use tc_engine::leads_out;
use tc_payload::{Problem, docker::ImageForm, escape_pointer_segment};

use super::{
    Notes,
    payload::{Checked, has_proxy},
    rule::{self, Rule},
    task::Task,
};
use crate::{
    artifact::name::{self, Written},
    feature::artifacts::{Untimely, untimely},
    local::state::is_namespace,
};

/// Below this, artifacts can be read by everybody.
const PUBLIC: &str = "public/";

/// Looks at the artifacts of a payload.
pub(super) fn check(task: &Task<'_>, payload: &Checked, notes: &mut Notes<'_>) {
    let common = payload.common();
    logs(task, payload, notes);
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (index, spec) in common.artifacts.iter().enumerate() {
        let published = spec.published_name();
        let written = Written::of(spec, index, payload.container().is_some());
        let at = format!("{}{}", task.payload_at, written.at);
        let about_name = |message: String| written.about_name(message).below(task.payload_at);
        if let Some((rule, why)) = wrong(published) {
            notes.add(rule, about_name(why));
        }
        if payload.container().is_none() && leads_out(&spec.path) {
            let message = format!("{} is outside the task's directory, where nothing is read", Value::from(spec.path.as_str()));
            notes.add(&rule::ARTIFACT_PATH, Problem::new(format!("{at}/path"), message));
        }
        if let Some(first) = known.insert(published, index) {
            let message = format!("{} is the name of artifact {first}, too", Value::from(published));
            notes.add(&rule::ARTIFACT_DUPLICATE, about_name(message));
        }
        if let Some(log) = log(payload, published) {
            let message = format!("{} is the name of {log}, which takes its place", Value::from(published));
            notes.add(&rule::ARTIFACT_LOG, about_name(message));
        }
        expiry(task, spec.expires, &format!("{at}/expires"), notes);
    }
}

/// The rule that a name breaks, and how.
fn wrong(name: &str) -> Option<(&'static Rule, String)> {
    if let Some(why) = name::refused(name) {
        return Some((&rule::ARTIFACT_NAME, why));
    }
    let why = name::odd(name)?;
    Some((&rule::ARTIFACT_PLAIN, format!("{} {why}", Value::from(name))))
}

/// Looks at an image that is an artifact of another task.
pub(super) fn image(task: &Task<'_>, image: &ImageForm, notes: &mut Notes<'_>) {
    let (ImageForm::Indexed { path, .. } | ImageForm::Task { path, .. }) = image else { return };
    let at = |field: &str| format!("{}/image/{field}", task.payload_at);
    if let Some(why) = name::refused(path) {
        notes.add(&rule::IMAGE_ARTIFACT, Problem::new(at("path"), why));
    }
    if let ImageForm::Indexed { namespace, .. } = image
        && !is_namespace(namespace)
    {
        let message = format!("{} is no name in the index", Value::from(namespace.as_str()));
        notes.add(&rule::IMAGE_ARTIFACT, Problem::new(at("namespace"), message));
    }
}

/// Logs are artifacts, too.
fn logs(task: &Task<'_>, payload: &Checked, notes: &mut Notes<'_>) {
    let common = payload.common();
    let (features, logs) = (&common.features, &common.logs);
    let fields = match payload {
        Checked::Native(_) => {
            [("logs/live", features.live_log, &logs.live), ("logs/backing", features.backing_log, &logs.backing)]
        }
        // What a container payload names is the live log; the other one's name is made from it.
        Checked::Container(_) => [("log", features.live_log, &logs.live), ("log", false, &logs.backing)],
    };
    let at = |field: &str| format!("{}/{field}", task.payload_at);
    let written = |field: &str| task.payload.and_then(|payload| payload.pointer(&format!("/{field}"))).is_some();
    for (field, _, name) in fields.iter().filter(|(field, wanted, _)| *wanted && written(field)) {
        if let Some((rule, why)) = wrong(name) {
            notes.add(rule, Problem::new(at(field), why));
        }
    }
    if features.live_log && features.backing_log && logs.live == logs.backing {
        let field = fields.iter().rev().map(|(field, ..)| *field).find(|field| written(field)).unwrap_or_default();
        let message = format!("{} is the name of both logs", Value::from(logs.live.as_str()));
        notes.add(&rule::ARTIFACT_DUPLICATE, Problem::new(at(field), message));
    }
}

fn log(payload: &Checked, name: &str) -> Option<&'static str> {
    let common = payload.common();
    let (features, logs) = (&common.features, &common.logs);
    if features.live_log && logs.live == name {
        return Some("the live log");
    }
    (features.backing_log && logs.backing == name).then_some("the log")
}

fn expiry(task: &Task<'_>, expires: Option<jiff::Timestamp>, pointer: &str, notes: &mut Notes<'_>) {
    let Some(expires) = expires else { return };
    if expires < task.options.now {
        notes.add(&rule::EXPIRY_ARTIFACT_PASSED, Problem::new(pointer, format!("({expires}) has passed")));
    }
    // A date that the file does not say is chosen so that it fits.
    let deadline = task.deadline.unwrap_or(jiff::Timestamp::MIN);
    let end = task.expires.unwrap_or(jiff::Timestamp::MAX);
    let (deadline, end) = (deadline.max(earliest()), end.min(latest()));
    match untimely(expires, deadline, end) {
        Some(Untimely::BeforeDeadline) => {
            let message = format!("({expires}) is before the task's deadline ({deadline})");
            notes.add(&rule::EXPIRY_ARTIFACT_EARLY, Problem::new(pointer, message));
        }
        Some(Untimely::AfterTask) => {
            let message = format!("({expires}) is after the task expires ({end})");
            notes.add(&rule::EXPIRY_ARTIFACT_LATE, Problem::new(pointer, message));
        }
        None => {}
    }
}

/// Dates that leave room for a tolerance.
fn earliest() -> jiff::Timestamp {
    jiff::Timestamp::MIN.saturating_add(jiff::SignedDuration::from_hours(1)).unwrap_or(jiff::Timestamp::MIN)
}

fn latest() -> jiff::Timestamp {
    jiff::Timestamp::MAX.saturating_sub(jiff::SignedDuration::from_hours(1)).unwrap_or(jiff::Timestamp::MAX)
}

/// Looks for addresses of artifacts that cannot be fetched as they are.
pub(super) fn references(definition: &Value, pointer: &str, notes: &mut Notes<'_>) {
    if !has_proxy(definition.get("payload")) {
        walk(definition, pointer, notes);
    }
}

/// Values are at most 100 levels deep.
fn walk(value: &Value, pointer: &str, notes: &mut Notes<'_>) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| walk(item, &format!("{pointer}/{index}"), notes));
        }
        Value::Object(fields) => {
            if let (1, Some(text)) = (fields.len(), fields.get("artifact-reference").and_then(Value::as_str)) {
                return private(text, pointer, notes);
            }
            fields.iter().filter(|(_, field)| field.is_object() || field.is_array()).for_each(|(key, field)| {
                walk(field, &format!("{pointer}/{}", escape_pointer_segment(key)), notes);
            });
        }
        _ => {}
    }
}

fn private(text: &str, pointer: &str, notes: &mut Notes<'_>) {
    let inner = text.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(inner, _)| inner);
    for path in inner.filter_map(|inner| inner.split_once('/')).map(|(_, path)| path) {
        if !path.starts_with(PUBLIC) {
            let message = format!("the artifact {} is not public, so its address alone does not give it", Value::from(path));
            let problem = Problem::new(pointer, message);
            notes.add(
                &rule::ARTIFACT_PRIVATE,
                problem.with_hint("publish it below public/, or fetch it through features.taskclusterProxy with a scope"),
            );
        }
    }
}
