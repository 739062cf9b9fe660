//! `.taskcluster.yml`: a template becomes tasks, as Taskcluster-GitHub would make them for an event.
//!
//! ```text
//! document ─▶ context (event, tasks_for …) ─▶ kitchen: a process of its own ─▶ tasks, each with its place in the document
//!                                               │
//!                                               └─ or what is wrong, and where
//! ```
//!
//! JSON-e has no endless loops, but a few lines of it can ask for more memory than there is, and its parser calls itself for each
//! parenthesis. Hence the [kitchen], which may fail in any way without taking anything with it.
//!
//! What a template may use are the names of version 1: `tasks_for`, `event`, `now`, `taskcluster_root_url` and the function
//! `as_slugid`; and what `--parameter` adds. Policies are for services and do not count here.

pub mod kitchen;
mod locate;
mod render;
mod slugids;

use serde_json::{Map, Value, json};
use tc_payload::{Document, Problem, apply_places};

use self::render::{Failed, Request};
use crate::{
    graph::rendered::{Batch, Rendered},
    seam::{SystemRandom, slugid},
};

/// The scheduler that Taskcluster-GitHub is, for tasks that name none.
const SCHEDULER_ID: &str = "taskcluster-github";
/// Longest expression that a message shows, in characters.
const SHOWN: usize = 120;

/// What a template is rendered for.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// `tasks_for`
    pub tasks_for: String,
    /// `event`
    pub event: Value,
    /// Further names.
    pub parameters: Vec<(String, Value)>,
}

/// Whether a document is such a template, and not a task or a graph.
pub fn is_template(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|fields| fields.contains_key("tasks") && fields.contains_key("version") && !fields.contains_key("payload"))
}

/// The tasks that a template gives for an occasion. Blocks for as long as the [kitchen] may take.
pub fn tasks(document: &Document, occasion: &Occasion, root_url: &str) -> Result<Batch, Box<Problem>> {
    tasks_by(kitchen::cook, document, occasion, root_url)
}

/// The same without a kitchen, whose program tests are not.
#[cfg(test)]
pub fn tasks_here(document: &Document, occasion: &Occasion, root_url: &str) -> Result<Batch, Box<Problem>> {
    tasks_by(|request| render::render(request, &|| slugid(&SystemRandom)), document, occasion, root_url)
}

fn tasks_by(
    cook: impl Fn(&Request) -> Result<Batch, Failed>,
    document: &Document,
    occasion: &Occasion,
    root_url: &str,
) -> Result<Batch, Box<Problem>> {
    let template = document.value();
    let wrong = |pointer: &str, message: String| {
        let mut problems = [Problem::new(pointer, message)];
        apply_places(&mut problems, document, "");
        let [problem] = problems;
        Box::new(problem)
    };
    match template.get("version") {
        Some(version) if version == 1 => {}
        Some(version) if version == 0 => {
            let problem = wrong("/version", "version 0 is not rendered here, only version 1".to_owned());
            return Err(Box::new(
                problem.with_hint("Taskcluster's documentation says how a file of version 0 becomes one of version 1"),
            ));
        }
        _ => return Err(wrong("/version", "must be 1".to_owned())),
    }
    let request = Request { template: template.clone(), context: context(occasion, root_url) };
    match cook(&request) {
        Ok(mut batch) => {
            complete(&mut batch.tasks).map_err(|(pointer, why)| wrong(&pointer, why))?;
            Ok(batch)
        }
        Err(Failed { message, pointer }) => {
            let expression = template.pointer(&pointer).and_then(Value::as_str).map_or(String::new(), |text| {
                let cut = if text.chars().count() > SHOWN { "…" } else { "" };
                format!(" (in `{}{cut}`)", text.chars().take(SHOWN).collect::<String>())
            });
            Err(wrong(&pointer, format!("{message}{expression}")))
        }
    }
}

fn context(occasion: &Occasion, root_url: &str) -> Value {
    let mut context = Map::new();
    context.insert("tasks_for".to_owned(), json!(occasion.tasks_for));
    context.insert("event".to_owned(), occasion.event.clone());
    context.insert("taskcluster_root_url".to_owned(), json!(root_url));
    context.extend(occasion.parameters.iter().cloned());
    Value::Object(context)
}

/// Fills in what Taskcluster-GitHub does: ids, the group, the scheduler.
fn complete(rendered: &mut [Rendered]) -> Result<(), (String, String)> {
    let alone = rendered.len() == 1;
    let group = slugid(&SystemRandom);
    for Rendered { value, pointer } in rendered {
        let Some(task) = value.as_object_mut() else {
            return Err((pointer.clone(), "does not give a task, which is an object".to_owned()));
        };
        let named = |task: &Map<String, Value>, key: &str| task.get(key).filter(|value| value.is_string()).cloned();
        if !task.contains_key("taskId") {
            // One task alone is the decision task of its group, whichever of the two ids it has.
            let id = if alone { named(task, "taskGroupId") } else { None };
            task.insert("taskId".to_owned(), id.unwrap_or_else(|| json!(slugid(&SystemRandom))));
        }
        if !task.contains_key("taskGroupId") {
            let id = if alone { named(task, "taskId") } else { None };
            task.insert("taskGroupId".to_owned(), id.unwrap_or_else(|| json!(group)));
        }
        if !task.contains_key("schedulerId") {
            task.insert("schedulerId".to_owned(), json!(SCHEDULER_ID));
        }
        if !task.contains_key("payload") {
            return Err((pointer.clone(), "gives a task without a payload".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_filled_in_as_the_service_does() {
        let rendered = |value: Value| Rendered { value, pointer: "/tasks/0".to_owned() };
        let mut one = [rendered(json!({ "payload": {} }))];
        complete(&mut one).expect("complete");
        assert_eq!(one[0].value["taskId"], one[0].value["taskGroupId"], "a task alone is its group's decision task");
        let mut one = [rendered(json!({ "payload": {}, "taskGroupId": "G" }))];
        complete(&mut one).expect("complete");
        assert_eq!(one[0].value["taskId"], "G");
        let mut two = [rendered(json!({ "payload": {} })), rendered(json!({ "payload": {}, "schedulerId": "s" }))];
        complete(&mut two).expect("complete");
        assert_eq!(two[0].value["taskGroupId"], two[1].value["taskGroupId"]);
        assert_ne!(two[0].value["taskGroupId"], two[0].value["taskId"]);
        assert_eq!((&two[0].value["schedulerId"], &two[1].value["schedulerId"]), (&json!("taskcluster-github"), &json!("s")));
        assert!(complete(&mut [rendered(json!(5))]).is_err());
        assert!(complete(&mut [rendered(json!({}))]).is_err());
    }

    #[test]
    fn a_template_has_a_version_and_tasks() {
        assert!(is_template(&json!({ "version": 1, "tasks": [] })));
        for other in [json!({ "tasks": [] }), json!({ "version": 1, "tasks": [], "payload": {} }), json!([])] {
            assert!(!is_template(&other), "{other}");
        }
    }
}
