//! Which tasks wait for which: names that lead nowhere, circles, and tasks that are used without being waited for.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use tc_payload::{Problem, nearest};

use super::{
    card::{At, Card, Name},
    finding::Findings,
    rule,
    task::stand_in,
};
use crate::{
    graph::{
        circle::{self, Knot},
        node,
    },
    local::{definition::MOST_DEPENDENCIES, state::TaskId},
};

/// One task among all: its file, and its number there.
type Place = (usize, usize);

/// An edge that leads to a task of these files.
struct Edge {
    to: usize,
    /// The position in the card's list of names.
    name: usize,
}

/// All tasks of all files, counted through.
struct Whole<'a> {
    cards: Vec<(Place, &'a Card)>,
    edges: Vec<Vec<Edge>>,
    names: &'a [&'a str],
    stems: &'a [&'a str],
}

/// Looks at what tasks wait for. `is_graph` says of each file whether it is one, `stems` are names for tasks without a label.
pub(super) fn check(files: &[Vec<Card>], is_graph: &[bool], (names, stems): (&[&str], &[&str]), findings: &mut [Findings]) {
    let cards: Vec<(Place, &Card)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, cards)| cards.iter().enumerate().map(move |(number, card)| ((file, number), card)))
        .collect();
    let mut whole = Whole { cards, edges: Vec::new(), names, stems };
    whole.resolve(is_graph, findings);
    let edges: Vec<Vec<usize>> = whole.edges.iter().map(|edges| edges.iter().map(|edge| edge.to).collect()).collect();
    for Knot { circle, .. } in circle::knots(&edges) {
        whole.tell(circle[0], &circle, findings);
    }
    whole.expiries(findings);
}

impl Whole<'_> {
    /// Follows all names. What leads nowhere is told.
    fn resolve(&mut self, is_graph: &[bool], findings: &mut [Findings]) {
        let all = || self.cards.iter().enumerate();
        let keys: HashMap<(usize, &str), usize> =
            all().filter_map(|(at, ((file, _), card))| Some(((*file, card.key.as_deref()?), at))).collect();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (at, ((file, _), card)) in all() {
            known.entry(card.called().unwrap_or(self.stems[*file])).or_insert(at);
        }
        let ids: HashMap<TaskId, usize> = all().filter_map(|(at, (_, card))| Some((card.id?, at))).collect();
        let find = |file: usize, name: &str| {
            let id = || TaskId::parse(name).and_then(|id| ids.get(&id));
            keys.get(&(file, name)).or_else(id).or_else(|| known.get(name)).copied()
        };
        let mut edges = Vec::with_capacity(self.cards.len());
        for (at, ((file, number), card)) in all() {
            let findings = &mut findings[*file];
            let (mut own, mut complete) = (Vec::with_capacity(card.waits_for.len()), true);
            for (name, Name { text, .. }) in card.waits_for.iter().enumerate() {
                match find(*file, text) {
                    Some(to) if to == at => {
                        let problem = Problem::new(pointer(card, name, is_graph[*file]), "is the task itself");
                        findings.of_task(*number, &rule::DEPENDENCY_SELF, problem);
                    }
                    Some(to) => own.push(Edge { to, name }),
                    // It is a task elsewhere, as those are that taskgraph finds in an index.
                    None if TaskId::parse(text).is_some() => {}
                    None => {
                        complete = false;
                        let at = pointer(card, name, is_graph[*file]);
                        let (rule, message) = if is_graph[*file] {
                            (&rule::DEPENDENCY_DANGLING, node::dangling(text))
                        } else {
                            let shown = Value::from(text.chars().take(80).collect::<String>());
                            (&rule::DEPENDENCY_NOT_GIVEN, format!("no task of these files is {shown}"))
                        };
                        let mut problem = Problem::new(at, message);
                        // A look at all names for each of many that are wrong would take for ever.
                        if self.cards.len() * findings.errors() < MOST_COMPARED
                            && let Some(meant) = nearest(text, known.keys().copied())
                        {
                            problem = problem.with_hint(format!("did you mean {}?", Value::from(meant)));
                        }
                        findings.of_task(*number, rule, problem);
                    }
                }
            }
            if card.waits_for.len() > MOST_DEPENDENCIES && is_graph[*file] {
                let message = format!("has {} entries; {MOST_DEPENDENCIES} are allowed", card.waits_for.len());
                findings.of_task(*number, &rule::DEPENDENCY_TOO_MANY, Problem::new("/dependencies", message));
            }
            if complete && !card.needs.is_empty() {
                self.needs(card, &own, *number, findings);
            }
            edges.push(own);
        }
        self.edges = edges;
    }

    /// Tasks that are used have to be waited for.
    fn needs(&self, card: &Card, edges: &[Edge], number: usize, findings: &mut Findings) {
        let ids = edges.iter().filter_map(|edge| self.cards[edge.to].1.id.map(|id| id.to_string()));
        let names = card.waits_for.iter().map(|name| stand_in(&name.text));
        let ids: HashSet<String> = ids.chain(names).collect();
        for need in card.needs.iter().filter(|need| !ids.contains(&*need.task_id)) {
            let shown = Value::from(&*need.task_id);
            let problem = Problem::new(&need.pointer, format!("{shown} is used, but not among the task's dependencies"));
            findings.of_task(number, need.rule, problem.with_hint("add it to `dependencies`"));
        }
    }

    fn called(&self, at: usize) -> &str {
        let ((file, _), card) = self.cards[at];
        card.called().unwrap_or(self.names[file])
    }

    /// Tells of a circle, at the edge of its first task that leads into it.
    fn tell(&self, at: usize, circle: &[usize], findings: &mut [Findings]) {
        let ((file, number), card) = self.cards[at];
        let next = circle.get(1).copied().unwrap_or(at);
        let edge = self.edges[at].iter().find(|edge| edge.to == next).map_or(0, |edge| edge.name);
        let path: Vec<&str> = circle.iter().map(|at| self.called(*at)).collect();
        let is_graph = matches!(card.waits_for.get(edge).map(|name| &name.at), Some(At::Edge(_))) || card.key.is_some();
        let problem = Problem::new(pointer(card, edge, is_graph), circle::told(&path));
        findings[file].of_task(number, &rule::DEPENDENCY_CYCLE, problem.with_hint("none of these tasks would ever be run"));
    }

    /// What is waited for should be there until the end.
    fn expiries(&self, findings: &mut [Findings]) {
        for (at, ((file, number), card)) in self.cards.iter().enumerate() {
            let Some(deadline) = card.deadline else { continue };
            for edge in &self.edges[at] {
                let Some(expires) = self.cards[edge.to].1.expires.filter(|expires| *expires < deadline) else { continue };
                let on = Value::from(self.called(edge.to));
                let message =
                    format!("{on} expires ({expires:.3}) before the deadline of the task that waits for it ({deadline:.3})");
                let problem = Problem::new(pointer(card, edge.name, card.key.is_some()), message);
                findings[*file].of_task(*number, &rule::EXPIRY_DEPENDENCY, problem);
            }
        }
    }
}

/// How many names are compared to find the ones that were meant.
const MOST_COMPARED: usize = 200_000;

/// Where a dependency is named.
fn pointer(card: &Card, name: usize, is_graph: bool) -> String {
    match card.waits_for.get(name).map(|name| &name.at) {
        Some(At::Edge(name)) => node::edge(name),
        Some(At::Entry(entry)) if is_graph => format!("/task/dependencies/{entry}"),
        Some(At::Entry(entry)) => format!("/dependencies/{entry}"),
        None => String::new(),
    }
}
