//! A template is rendered: pure, but without any bound. Only the [kitchen](super::kitchen) calls this.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    locate::{self, locate},
    slugids::Slugids,
};
use crate::graph::rendered::{Batch, Rendered};

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The whole document.
    pub template: Value,
    /// What it may use.
    pub context: Value,
}

/// Why there are no tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// A fragment.
    pub message: String,
    /// The part of the template that it is about.
    pub pointer: String,
}

/// The tasks of a template.
pub fn render(request: &Request, fresh: &dyn Fn() -> String) -> Result<Batch, Failed> {
    let mut slugids = Slugids::new(fresh);
    let template = slugids.prepare(&request.template);
    // A library that fails on a part of a template can still tell on which.
    let cook = |template: &Value| match catch_unwind(AssertUnwindSafe(|| json_e::render(template, &request.context))) {
        Ok(rendered) => rendered.map_err(|error| message(&error.to_string())),
        Err(_) => Err("cannot be rendered: the JSON-e library fails on it".to_owned()),
    };
    let whole = cook(&template).map_err(|message| {
        let pointer = locate(&template, &message, |template| cook(template).err());
        Failed { message, pointer }
    })?;
    let wrong = |message: String| Failed { message, pointer: "/tasks".to_owned() };
    let tasks = match whole.get("tasks") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tasks)) => tasks.clone(),
        Some(_) => return Err(wrong("does not give a list of tasks".to_owned())),
    };
    let mut pointers = places(&template, |template| {
        cook(template).ok().and_then(|whole| Some(whole.get("tasks")?.as_array()?.len())).unwrap_or(0)
    });
    if pointers.len() != tasks.len() {
        pointers = vec!["/tasks".to_owned(); tasks.len()];
    }
    let finished = tasks.into_iter().zip(pointers).map(|(task, pointer)| match slugids.finish(task) {
        Ok(value) => Ok(Rendered { value, pointer }),
        Err(message) => Err(Failed { message, pointer }),
    });
    let tasks = finished.collect::<Result<_, _>>()?;
    Ok(Batch { tasks, ids: slugids.ids() })
}

/// For each task the entry that gives it, where the tasks come from a list that stands in the template: at `tasks` itself, inside
/// of a `$let`, or in a `$flatten`. An entry is tried alone, and gives one task, several, or none.
fn places(template: &Value, count: impl Fn(&Value) -> usize) -> Vec<String> {
    let mut list = "/tasks".to_owned();
    let entries = loop {
        match template.pointer(&list) {
            Some(Value::Array(entries)) => break entries,
            Some(Value::Object(fields)) if fields.contains_key("$let") && fields.contains_key("in") => list.push_str("/in"),
            Some(Value::Object(fields)) if fields.contains_key("$flatten") => list.push_str("/$flatten"),
            _ => return Vec::new(),
        }
    };
    let mut alone = template.clone();
    let mut places = Vec::new();
    let began = Instant::now();
    for (number, entry) in entries.iter().enumerate() {
        if began.elapsed() > locate::PATIENCE {
            return Vec::new();
        }
        if let Some(place) = alone.pointer_mut(&list) {
            *place = json!([entry]);
        }
        places.extend(std::iter::repeat_n(format!("{list}/{number}"), count(&alone)));
    }
    places
}

/// What the library says, as a fragment.
fn message(said: &str) -> String {
    let said = said.trim_start_matches("TemplateError: ").trim_start_matches("Interpreter Error: ");
    let line = said.lines().next().unwrap_or_default().trim();
    if line.is_empty() { "cannot be rendered".to_owned() } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn rendered(template: Value) -> Result<Vec<Rendered>, Failed> {
        let count = Cell::new(0);
        let fresh = || {
            count.set(count.get() + 1);
            format!("id{}", count.get() - 1)
        };
        let context = json!({ "tasks_for": "github-push", "event": { "ref": "refs/heads/main", "commits": ["x", "y"] } });
        render(&Request { template, context }, &fresh).map(|batch| batch.tasks)
    }

    fn pointer_of(template: Value) -> String {
        let failed = rendered(template).expect_err("it fails");
        format!("{} {}", failed.pointer, failed.message)
    }

    #[test]
    fn tasks_come_with_their_places() {
        let template = json!({ "version": 1, "tasks": [
            { "$if": "tasks_for == 'cron'", "then": { "a": 1 } },
            { "$if": "tasks_for == 'github-push'", "then": { "taskId": "${as_slugid('x')}", "n": { "$eval": "60 * 60" } } },
            { "dependencies": { "$map": { "$eval": "event.commits" }, "each(c)": "${as_slugid(c)}" } },
        ] });
        let tasks = rendered(template).expect("rendered");
        assert_eq!(
            tasks,
            [
                Rendered { value: json!({ "taskId": "id1", "n": 3600 }), pointer: "/tasks/1".to_owned() },
                Rendered { value: json!({ "dependencies": ["id1", "id2"] }), pointer: "/tasks/2".to_owned() },
            ]
        );
    }

    #[test]
    fn a_list_that_is_made_as_a_whole_is_one_place() {
        let template = json!({ "version": 1, "tasks": {
            "$map": { "$eval": "event.commits" }, "each(c)": { "name": "${c}" },
        } });
        let tasks = rendered(template).expect("rendered");
        assert_eq!(tasks.iter().map(|task| task.pointer.as_str()).collect::<Vec<_>>(), ["/tasks", "/tasks"]);
        let template = json!({ "version": 1, "tasks": { "$let": { "x": 1 }, "in": { "$flatten": [
            { "$if": "x == 2", "then": {} },
            [{ "n": { "$eval": "x" } }, { "n": 2 }],
            { "n": 3 },
        ] } } });
        let tasks = rendered(template).expect("rendered");
        let places: Vec<_> = tasks.iter().map(|task| (task.value["n"].as_u64(), task.pointer.as_str())).collect();
        let at = |number| format!("/tasks/in/$flatten/{number}");
        assert_eq!(places, [(Some(1), at(1).as_str()), (Some(2), &at(1)), (Some(3), &at(2))]);
        assert_eq!(rendered(json!({ "version": 1 })), Ok(vec![]));
        assert_eq!(rendered(json!({ "tasks": { "$if": "false", "then": [] } })), Ok(vec![]));
        assert!(rendered(json!({ "tasks": 5 })).is_err());
    }

    #[test]
    fn an_error_names_the_smallest_part_that_has_it() {
        let tasks = |task: Value| json!({ "version": 1, "tasks": [{ "fine": "${tasks_for}" }, task, { "$eval": "'fine'" }] });
        let unknown = "unknown context value nobody";
        for (task, place) in [
            (json!({ "a": { "$eval": "nobody" } }), "/tasks/1/a/$eval"),
            (json!({ "a": [1, "x ${nobody} y"], "b": 2 }), "/tasks/1/a/1"),
            (json!({ "$let": { "x": 1, "y": { "$eval": "nobody" } }, "in": { "$eval": "x" } }), "/tasks/1/$let/y/$eval"),
            (json!({ "$let": { "x": 1 }, "in": { "a": { "$eval": "x + nobody" } } }), "/tasks/1/in/a/$eval"),
            (json!({ "$if": "nobody", "then": 1 }), "/tasks/1/$if"),
            (json!({ "$if": "true", "then": { "$eval": "nobody" }, "else": 1 }), "/tasks/1/then/$eval"),
            (json!({ "$merge": [{ "a": 1 }, { "b": "${nobody}" }] }), "/tasks/1/$merge/1/b"),
            (json!({ "$map": [1, 2], "each(x)": { "a": { "$eval": "nobody" } } }), "/tasks/1/each(x)/a/$eval"),
        ] {
            assert_eq!(pointer_of(tasks(task)), format!("{place} {unknown}"));
        }
        let far = json!({ "a": { "$fromNow": "900000 years" } });
        assert_eq!(pointer_of(tasks(far)), "/tasks/1/a/$fromNow cannot be rendered: the JSON-e library fails on it");
        assert!(pointer_of(tasks(json!({ "a": { "$eval": "1 +" } }))).starts_with("/tasks/1/a/$eval "));
    }
}
