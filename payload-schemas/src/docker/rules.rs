//! What must hold of a container payload beyond its schema, so that its author hears of it before anything is brought or made.
//!
//! The values may be of any type; what the schema has to say about them is said elsewhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::{mount_point, readable};
use crate::limit;
use crate::problem::{escape_pointer_segment, pointer_segments};
use crate::{Problem, Reference};

/// Most that it hands over in all: a quarter of the usual stack of 8 MiB.
const MAX_ALL_BYTES: usize = 2 * 1024 * 1024;
/// What a string costs beside its own bytes: its NUL and a pointer to it.
const PER_STRING_BYTES: usize = 9;
/// How many problems are described. A hostile payload of 10 MB has millions.
const MAX_PROBLEMS: usize = 500;

/// Everything that breaks these rules.
pub(super) fn problems(payload: &Value) -> Vec<Problem> {
    let mut rules = Rules { problems: Vec::new(), uncounted: 0 };
    if let Some(problem) = payload.get("image").and_then(image_problem) {
        rules.report(problem.below("/image"));
    }
    let texts = payload.get("command").and_then(Value::as_array).into_iter().flatten().map(Value::as_str).enumerate();
    let command: Vec<(usize, &str)> = texts.filter_map(|(index, text)| Some((index, text?))).collect();
    let env: Vec<(&str, &str)> = limit::variables(payload).collect();
    rules.command(&command);
    rules.env(&env);
    rules.all_strings(&command, &env);
    rules.paths(payload);
    if payload.get("log").and_then(Value::as_str) == Some("") {
        rules.report(Problem::new("/log", "is empty; an artifact needs a name"));
    }
    if rules.uncounted > 0 {
        rules.problems.push(Problem::new("", format!("and {} more problems", rules.uncounted)));
    }
    rules.problems
}

/// Takes the member out about which something was said: of the payload, or of an object in it.
pub(super) fn take_out(payload: &mut Value, pointer: &str) {
    let mut segments = pointer_segments(pointer);
    let (Some(field), name) = (segments.next(), segments.next()) else { return };
    match (payload.get_mut(&field), name) {
        (Some(Value::Object(members)), Some(name)) if field != "image" => drop(members.remove(&name)),
        _ => drop(payload.as_object_mut().and_then(|members| members.remove(&field))),
    }
}

/// Whether the name of an image is none. The pointer is relative to the image.
pub(super) fn image_problem(image: &Value) -> Option<Problem> {
    let (pointer, name) = match image {
        Value::String(name) => ("", name.as_str()),
        Value::Object(form) if form.get("type").and_then(Value::as_str) == Some("docker-image") => {
            ("/name", form.get("name")?.as_str()?)
        }
        _ => return None,
    };
    let why = Reference::parse(name).err()?;
    let shown: String = name.chars().take(80).collect();
    let problem = Problem::new(pointer, format!("is not the name of an image: {} {why}", Value::from(shown)));
    Some(problem.with_hint("such a name is debian:12, quay.io/owner/name:tag, or one with @sha256: and a digest"))
}

struct Rules {
    problems: Vec<Problem>,
    uncounted: usize,
}

impl Rules {
    fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.uncounted += 1;
        }
    }

    fn command(&mut self, command: &[(usize, &str)]) {
        for (index, text) in command {
            let hint = "put a long script into the image, or into an artifact that the task downloads";
            for problem in limit::string(&format!("/command/{index}"), text, hint) {
                self.report(problem);
            }
        }
    }

    fn env(&mut self, env: &[(&str, &str)]) {
        for (name, value) in env {
            for problem in limit::variable_of_container(name, value) {
                self.report(problem);
            }
        }
    }

    /// A program that is given too much is not started at all, and all that its author would see is `argument list too long`.
    fn all_strings(&mut self, command: &[(usize, &str)], env: &[(&str, &str)]) {
        let command: usize = command.iter().map(|(_, text)| text.len() + PER_STRING_BYTES).sum();
        let env: usize = env.iter().map(|(name, value)| name.len() + 1 + value.len() + PER_STRING_BYTES).sum();
        if command + env > MAX_ALL_BYTES {
            let message = format!(
                "command and environment have {} bytes together; Linux hands at most {MAX_ALL_BYTES} bytes to a program (ARG_MAX)",
                command + env
            );
            self.report(Problem::new(if command > env { "/command" } else { "/env" }, message));
        }
    }

    fn paths(&mut self, payload: &Value) {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for (name, path) in strings(payload, "cache") {
            let pointer = format!("/cache/{}", escape_pointer_segment(name));
            match mount_point(path) {
                Err(why) => self.report(at_path(pointer, path, why)),
                Ok(clean) => match taken.get(&clean) {
                    Some(other) => {
                        let message = format!("is where cache {} is, too: {}", Value::from(other.as_str()), Value::from(clean));
                        self.report(Problem::new(pointer, message));
                    }
                    None => drop(taken.insert(clean, name.to_owned())),
                },
            }
        }
        let artifacts = payload.get("artifacts").and_then(Value::as_object).into_iter().flat_map(Map::iter);
        for (name, artifact) in artifacts {
            let Some(path) = artifact.get("path").and_then(Value::as_str) else { continue };
            let pointer = format!("/artifacts/{}/path", escape_pointer_segment(name));
            if artifact.get("type").and_then(Value::as_str) != Some("volume") {
                if let Err(why) = readable(path) {
                    self.report(at_path(pointer, path, why));
                }
                continue;
            }
            match mount_point(path) {
                Err(why) => self.report(at_path(pointer, path, why)),
                Ok(clean) => {
                    if let Some(other) = taken.get(&clean) {
                        let message =
                            format!("is where cache {} is; a volume needs a place of its own", Value::from(other.as_str()));
                        self.report(Problem::new(pointer, message));
                    }
                }
            }
        }
    }
}

/// The members of an object in the payload that are strings.
fn strings<'p>(payload: &'p Value, name: &str) -> impl Iterator<Item = (&'p str, &'p str)> {
    let members = payload.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

fn at_path(pointer: String, path: &str, why: &str) -> Problem {
    let shown: String = path.chars().take(80).collect();
    Problem::new(pointer, format!("{why}: {}", Value::from(shown)))
}
