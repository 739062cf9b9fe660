//! One task alone: what it is made of, and the order in which the rules look at it.

use jiff::Timestamp;
use serde_json::Value;
use tc_payload::Problem;

use super::{
    Notes, Options, ROOT_URL, artifact, cache,
    card::{At, Card, Name},
    date, definition,
    finding::Findings,
    name, payload, rule, scope,
};
use crate::{
    graph::{
        node,
        reference::{self, Known},
    },
    local::{definition::task_queue_id, state::TaskId},
};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// A payload without a task around it.
    Payload,
    /// A task definition in a file of its own.
    Task,
    /// A task of a graph.
    Node {
        /// Its key there.
        key: &'a str,
        /// It may have references in it.
        may_refer: bool,
    },
    /// A task that a template has made, for a deployment.
    Rendered,
}

/// A task, for the rules.
pub(super) struct Task<'a> {
    pub(super) role: Role<'a>,
    /// The definition; none of a bare payload.
    pub(super) definition: Option<&'a Value>,
    /// Where that is.
    pub(super) at: &'static str,
    pub(super) payload: Option<&'a Value>,
    /// Where that is.
    pub(super) payload_at: &'static str,
    /// The task queue, if the task names one.
    pub(super) queue: Option<String>,
    pub(super) created: Option<Timestamp>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) expires: Option<Timestamp>,
    pub(super) options: &'a Options<'a>,
}

impl Task<'_> {
    /// Whether the given worker would run it.
    pub(super) fn is_for_worker(&self) -> bool {
        let worker = self.options.worker.map(crate::config::Config::task_queue_id);
        worker.is_some_and(|worker| self.queue.as_ref().is_none_or(|queue| *queue == worker))
    }
}

/// Looks at a task. `number` is its own among those of its file.
pub(super) fn check(value: &Value, role: Role<'_>, number: usize, options: &Options<'_>, findings: &mut Findings) -> Card {
    let mut notes = Notes { findings, task: number, muted: Vec::new() };
    let mut card = match role {
        Role::Node { key, .. } => Card::of_key(key),
        Role::Task | Role::Payload | Role::Rendered => Card::default(),
    };
    let resolved;
    let (definition, at, payload_at) = match role {
        Role::Payload => (None, "", ""),
        Role::Task | Role::Rendered => (Some(value), "", "/payload"),
        Role::Node { may_refer, .. } => {
            edges(value, &mut card, &mut notes);
            let Some(task) = value.get("task").filter(|task| task.is_object()) else {
                let problem = Problem::new("", node::NO_TASK);
                notes.add(&rule::GRAPH_NODE, problem);
                return card;
            };
            if may_refer {
                artifact::references(task, "/task", &mut notes);
                resolved = resolve(task, &card, options, &mut notes);
                (Some(&resolved), "/task", "/task/payload")
            } else {
                (Some(task), "/task", "/task/payload")
            }
        }
    };
    let payload = definition.map_or(Some(value), |definition| definition.get("payload"));
    let date = |name: &str| definition.and_then(|definition| definition.get(name)?.as_str()?.parse::<Timestamp>().ok());
    let task = Task {
        role,
        definition,
        at,
        payload,
        payload_at,
        queue: definition.and_then(task_queue_id),
        created: date("created"),
        deadline: date("deadline"),
        expires: date("expires"),
        options,
    };
    name::of_task(value, &task, &mut card, &mut notes);
    entries(&task, value.pointer(at), &mut card);
    definition::check(&task, &mut notes);
    date::check(&task, &mut notes);
    if let Some(payload) = payload::check(&task, &mut notes) {
        scope::check(&task, &payload, &mut notes);
        artifact::check(&task, &payload, &mut notes);
        cache::check(&task, &payload, &mut card, &mut notes);
    }
    card.deadline = task.deadline;
    card.expires = task.expires;
    card.queue = task.queue.map(Into::into);
    card
}

/// What a task of a graph waits for, by its own names.
fn edges(node: &Value, card: &mut Card, notes: &mut Notes<'_>) {
    let Some(named) = node.get("dependencies") else { return };
    let Value::Object(named) = named else {
        return notes.add(&rule::GRAPH_NODE, Problem::wrong_type("/dependencies", "object", named));
    };
    for (name, key) in named {
        if let Some(key) = key.as_str() {
            card.waits_for.push(Name { text: key.into(), at: At::Edge(name.as_str().into()) });
        } else {
            notes.add(&rule::GRAPH_NODE, Problem::wrong_type(node::edge(name), "string", key));
        }
    }
}

/// What the definition itself waits for. `written` is the definition without anything filled in.
fn entries(task: &Task<'_>, written: Option<&Value>, card: &mut Card) {
    let entries = task.definition.and_then(|definition| definition.get("dependencies")?.as_array());
    let entries = entries.into_iter().flatten().enumerate();
    let key = card.key.clone();
    let names = entries.filter_map(|(position, name)| {
        let reference = written.and_then(|written| written.get("dependencies")?.get(position)?.get("task-reference")?.as_str());
        let text = match reference {
            Some("<self>") => key.clone()?,
            // What else it names, the task waits for by that name, which is looked at where it stands. Nobody has decided here.
            Some(reference) if is_one_name(reference) => return None,
            _ => name.as_str()?.into(),
        };
        Some(Name { text, at: At::Entry(position) })
    });
    let names: Vec<Name> = names.collect();
    let names = names.into_iter();
    // In a deployment nothing but ids counts, and what is none was told.
    let counts = |name: &Name| task.role != Role::Rendered || TaskId::parse(&name.text).is_some();
    card.waits_for.extend(names.filter(counts));
}

/// Whether a reference is a name in angle brackets and nothing else.
fn is_one_name(reference: &str) -> bool {
    let inner = reference.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    inner.is_some_and(|name| !name.is_empty() && !name.contains(['<', '>']))
}

/// The definition with all references filled in.
fn resolve(task: &Value, card: &Card, options: &Options<'_>, notes: &mut Notes<'_>) -> Value {
    let known = |name: &str| {
        let is_it = |edge: &&Name| matches!(&edge.at, At::Edge(edge) if **edge == *name);
        card.waits_for.iter().find(is_it).map(|edge| stand_in(&edge.text))
    };
    let own_id = stand_in(card.key.as_deref().unwrap_or_default());
    let known = Known { task: &known, own_id: &own_id, root_url: ROOT_URL, now: options.now };
    let mut problems = Vec::new();
    let resolved = reference::resolve(task, "/task", &known, &mut problems);
    for problem in problems {
        let muted = problem.pointer.clone();
        notes.add(&rule::DEPENDENCY_REFERENCE, problem);
        // What could not be resolved is an object where a text is wanted; that is no second problem.
        notes.muted.push(muted);
    }
    resolved
}

/// The id of a task of a graph: its key if that is one, else one that stands for it, the same each time.
pub(super) fn stand_in(key: &str) -> String {
    if TaskId::parse(key).is_some() {
        return key.to_owned();
    }
    // FNV-1a. Two keys with the same id would let one missing dependency pass; nobody gains from that.
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let digit = |position: u32| char::from(b"abcdefghijklmnop"[usize::try_from(hash >> (4 * position) & 15).unwrap_or(0)]);
    let digits: String = (0..16).map(digit).collect();
    let (first, second) = digits.split_at(8);
    format!("{first}QaC{second}aaA")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_ids_of_their_own() {
        for key in ["", "a", "build-linux64/opt", "ä"] {
            assert!(TaskId::parse(&stand_in(key)).is_some(), "{}", stand_in(key));
            assert_eq!(stand_in(key), stand_in(key));
        }
        assert_ne!(stand_in("a"), stand_in("b"));
        assert_eq!(stand_in("fN1SbArXTPSVFNUvaOlinQ"), "fN1SbArXTPSVFNUvaOlinQ");
    }
}
