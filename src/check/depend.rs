//! Which tasks wait for which: names that lead nowhere, circles, and tasks that are used without being waited for.

use std::collections::{HashMap, HashSet, VecDeque};

use serde_json::Value;
use tc_payload::{Problem, escape_pointer_segment, nearest};

use super::{
    card::{At, Card, Name},
    finding::Findings,
    rule,
    task::stand_in,
};
use crate::local::{definition::MOST_DEPENDENCIES, state::TaskId};

/// How many tasks of a circle are named.
const SHOWN: usize = 8;

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
}

/// Looks at what tasks wait for. `is_graph` says of each file whether it is one.
pub(super) fn check(files: &[Vec<Card>], is_graph: &[bool], names: &[&str], findings: &mut [Findings]) {
    let cards: Vec<(Place, &Card)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, cards)| cards.iter().enumerate().map(move |(number, card)| ((file, number), card)))
        .collect();
    let mut whole = Whole { cards, edges: Vec::new(), names };
    whole.resolve(is_graph, findings);
    for (at, circle) in circles(&whole.edges) {
        whole.tell(at, &circle, findings);
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
            known.entry(card.called().unwrap_or_else(|| stem(self.names[*file]))).or_insert(at);
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
                        let shown = Value::from(text.chars().take(80).collect::<String>());
                        let at = pointer(card, name, is_graph[*file]);
                        let (rule, message) = if is_graph[*file] {
                            (&rule::DEPENDENCY_DANGLING, format!("no task of this graph is {shown}"))
                        } else {
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
        let mut path: Vec<&str> = circle.iter().map(|at| self.called(*at)).collect();
        let more;
        if path.len() > SHOWN {
            more = format!("({} more)", path.len() - SHOWN + 1);
            path.splice(SHOWN / 2..=path.len() - SHOWN / 2, [more.as_str()]);
        }
        path.push(self.called(at));
        let path: String = path.join(" → ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let is_graph = matches!(card.waits_for.get(edge).map(|name| &name.at), Some(At::Edge(_))) || card.key.is_some();
        let problem = Problem::new(pointer(card, edge, is_graph), format!("the task waits for itself: {path}"));
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
        Some(At::Edge(name)) => format!("/dependencies/{}", escape_pointer_segment(name)),
        Some(At::Entry(entry)) if is_graph => format!("/task/dependencies/{entry}"),
        Some(At::Entry(entry)) => format!("/dependencies/{entry}"),
        None => String::new(),
    }
}

/// The name of a file without folders and extension, by which others may name its task.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty()).unwrap_or(file)
}

/// Of each knot of tasks that wait for each other: its first task, and a shortest circle through that. Nothing here is recursive,
/// since graphs may be ten thousand tasks deep.
fn circles(edges: &[Vec<Edge>]) -> Vec<(usize, Vec<usize>)> {
    let knots = knots(edges);
    let mut of_knot: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, knot) in knots.iter().enumerate() {
        of_knot.entry(*knot).or_default().push(at);
    }
    let mut circles: Vec<(usize, Vec<usize>)> = of_knot
        .into_values()
        .filter(|members| members.len() > 1)
        .map(|members| (members[0], circle(edges, &knots, members[0])))
        .collect();
    circles.sort_unstable();
    circles
}

/// A shortest way from a task through its knot to itself, without the end.
fn circle(edges: &[Vec<Edge>], knots: &[usize], from: usize) -> Vec<usize> {
    let mut came: HashMap<usize, usize> = HashMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(at) = open.pop_front() {
        for edge in edges[at].iter().filter(|edge| knots[edge.to] == knots[from]) {
            if edge.to == from {
                let mut way = vec![at];
                while let Some(before) = way.last().filter(|at| **at != from).and_then(|at| came.get(at)) {
                    way.push(*before);
                }
                way.reverse();
                return way;
            }
            if let std::collections::hash_map::Entry::Vacant(free) = came.entry(edge.to) {
                free.insert(at);
                open.push_back(edge.to);
            }
        }
    }
    vec![from]
}

/// For each task, the number of its knot: tasks that can be reached from each other have the same one (Tarjan).
fn knots(edges: &[Vec<Edge>]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let count = edges.len();
    let (mut index, mut low, mut knot) = (vec![NEW; count], vec![0; count], vec![NEW; count]);
    let (mut stack, mut next, mut next_knot) = (Vec::new(), 0, 0);
    for root in 0..count {
        if index[root] != NEW {
            continue;
        }
        // Each entry: a task, and how many of its edges were followed.
        let mut walk = vec![(root, 0)];
        while let Some((at, followed)) = walk.last_mut() {
            let at = *at;
            if *followed == 0 {
                (index[at], low[at]) = (next, next);
                next += 1;
                stack.push(at);
            }
            if let Some(edge) = edges[at].get(*followed) {
                *followed += 1;
                if index[edge.to] == NEW {
                    walk.push((edge.to, 0));
                } else if knot[edge.to] == NEW {
                    low[at] = low[at].min(index[edge.to]);
                }
                continue;
            }
            walk.pop();
            if let Some((before, _)) = walk.last() {
                low[*before] = low[*before].min(low[at]);
            }
            if low[at] == index[at] {
                while let Some(member) = stack.pop() {
                    knot[member] = next_knot;
                    if member == at {
                        break;
                    }
                }
                next_knot += 1;
            }
        }
    }
    knot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(of: &[&[usize]]) -> Vec<Vec<Edge>> {
        of.iter().map(|to| to.iter().map(|to| Edge { to: *to, name: 0 }).collect()).collect()
    }

    #[test]
    fn each_knot_has_one_shortest_circle() {
        assert_eq!(circles(&edges(&[&[1], &[2], &[]])), []);
        let found = circles(&edges(&[&[1], &[2, 3], &[3], &[1, 4], &[5], &[4, 0, 5]]));
        assert_eq!(found, [(0, vec![0, 1, 3, 4, 5])]);
        let found = circles(&edges(&[&[], &[2], &[1], &[4, 0], &[3, 1]]));
        assert_eq!(found, [(1, vec![1, 2]), (3, vec![3, 4])]);
    }

    #[test]
    fn depth_is_no_danger() {
        let count = 200_000;
        let ring: Vec<Vec<Edge>> = (0..count).map(|at| vec![Edge { to: (at + 1) % count, name: 0 }]).collect();
        assert_eq!(circles(&ring)[0].1.len(), count);
    }

    #[test]
    fn files_are_called_by_their_stems() {
        assert_eq!(
            (stem("a/b.c.yml"), stem(".taskcluster.yml"), stem(".x"), stem("<stdin>")),
            ("b.c", ".taskcluster", ".x", "<stdin>")
        );
    }
}
