//! YAML, read by `serde-saphyr` in the sense of YAML 1.2: `yes` and `on` are strings, and so is `1_000`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, MessageFormatter, Options, Spanned, UserMessageFormatter};

use super::merging::Merging;
use super::wanted::Wanted;
use super::{MAX_DEPTH, MAX_DOCUMENT_BYTES, Repeats, too_deep};
use crate::{Place, Problem};

/// Stack of the thread on which the reader works. It is recursive with large frames: in a debug build, [`MAX_DEPTH`] levels take some
/// megabytes, more than the threads have on which documents are usually read. Only pages that are used cost memory.
const STACK_BYTES: usize = 64 << 20;

pub(super) fn parse(text: &str, repeats: Repeats) -> Result<Value, Problem> {
    let read = || match repeats {
        Repeats::Refuse => serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error)),
        Repeats::Merge => {
            serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::PassThrough)).map(|Merging(value)| value)
        }
    };
    match on_deep_stack(|| read().map_err(|error| problem_of(&error))) {
        Some(outcome) => outcome,
        None => Err(Problem::new("", "cannot be read as YAML")),
    }
}

pub(super) fn locate(text: &str, wanted: &mut Wanted) {
    // The text was accepted before; if it is not now, the problems simply have no places.
    on_deep_stack(|| {
        let options = options(DuplicateKeyPolicy::PassThrough);
        if let Ok(root) = serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
            wanted.value = place_of(root.referenced);
            root.value.fill(wanted);
        }
    });
}

/// Runs something on a thread of its own and waits for it. `None` if no thread can be had, or if it panicked: the reader is a large
/// program, and no document may bring the worker down.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("yaml".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.ok()?.join().ok()
    })
}

/// The reader's bounds. The size of the text is bounded already, and every event but an alias comes from at least one byte of it, so
/// the counts of events and nodes are set where they cannot be the first bound to be met. What aliases add has a bound of its own.
fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: 2 * MAX_DOCUMENT_BYTES,
            max_events: 3 * MAX_DOCUMENT_BYTES,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    }
}

fn problem_of(error: &Error) -> Problem {
    let problem = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Problem::new("", format!("the key {} stands twice in the same mapping", Value::from(key.as_str())))
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::Budget { .. } => Problem::new("", "is too large or too complex"),
        Error::MultipleDocuments { .. } => Problem::new("", "holds more than one YAML document"),
        other => {
            let message = UserMessageFormatter.format_message(other);
            let first_line = message.lines().next().unwrap_or_default();
            if first_line.contains("recursion limit") {
                too_deep()
            } else {
                Problem::new("", format!("invalid YAML: {first_line}"))
            }
        }
    };
    match error.location().and_then(place_of) {
        Some(place) => problem.at(place),
        None => problem,
    }
}

fn place_of(location: Location) -> Option<Place> {
    let line = u32::try_from(location.line()).ok().filter(|line| *line > 0)?;
    Some(Place { line, column: u32::try_from(location.column()).unwrap_or(u32::MAX).max(1) })
}

/// The shape of a document: where things stand, not what they are. It lives only while places are looked up.
enum Node {
    Leaf,
    List(Vec<(Option<Place>, Node)>),
    Mapping(Vec<Entry>),
}

struct Entry {
    key: Box<str>,
    key_place: Option<Place>,
    value_place: Option<Place>,
    value: Node,
}

impl Node {
    fn fill(&self, wanted: &mut Wanted) {
        if wanted.is_leaf() {
            return;
        }
        match self {
            Node::Leaf => {}
            Node::List(items) => {
                for (index, (place, item)) in items.iter().enumerate() {
                    if let Some(child) = wanted.child(&index.to_string()) {
                        child.value = *place;
                        item.fill(child);
                    }
                }
            }
            Node::Mapping(entries) => {
                for entry in entries {
                    if let Some(child) = wanted.child(&entry.key) {
                        child.key = entry.key_place;
                        child.value = entry.value_place;
                        entry.value.fill(child);
                    }
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            list.push((place_of(item.referenced), item.value));
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut mapping = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Node>>()? {
            mapping.push(Entry {
                key: key.value.into_boxed_str(),
                key_place: place_of(key.referenced),
                value_place: place_of(value.referenced),
                value: value.value,
            });
        }
        Ok(Node::Mapping(mapping))
    }
}
