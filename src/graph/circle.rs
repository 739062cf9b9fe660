//! Tasks that wait for each other in a circle. Nothing here is recursive, since graphs may be ten thousand tasks deep.

use std::collections::{HashMap, VecDeque};

/// How many tasks of a circle are named.
const SHOWN: usize = 8;

/// Tasks that can all be reached from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knot {
    /// All of them, in their order.
    pub members: Vec<usize>,
    /// A shortest way from the first of them to itself, without the end; never empty.
    pub circle: Vec<usize>,
}

/// The knots of a graph, in the order of their first members. For each task there is a list of those that it waits for.
pub fn knots(edges: &[Vec<usize>]) -> Vec<Knot> {
    let numbers = numbers(edges);
    let mut by_number: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, number) in numbers.iter().enumerate() {
        by_number.entry(*number).or_default().push(at);
    }
    let is_knot = |members: &[usize]| members.len() > 1 || members.iter().any(|at| edges[*at].contains(at));
    let mut knots: Vec<Knot> = by_number
        .into_values()
        .filter(|members| is_knot(members))
        .map(|members| Knot { circle: circle(edges, &numbers, members[0]), members })
        .collect();
    knots.sort_unstable_by_key(|knot| knot.members[0]);
    knots
}

/// What is said of a circle of tasks with these names.
pub fn told(names: &[&str]) -> String {
    let mut path = names.to_vec();
    let more;
    if path.len() > SHOWN {
        more = format!("({} more)", path.len() - SHOWN + 1);
        path.splice(SHOWN / 2..=path.len() - SHOWN / 2, [more.as_str()]);
    }
    path.extend(names.first());
    // Terminals obey control characters.
    let path: String = path.join(" → ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("the task waits for itself: {path}")
}

/// A shortest way from a task through its knot to itself, without the end.
fn circle(edges: &[Vec<usize>], numbers: &[usize], from: usize) -> Vec<usize> {
    let mut came: HashMap<usize, usize> = HashMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(at) = open.pop_front() {
        for to in edges[at].iter().copied().filter(|to| numbers[*to] == numbers[from]) {
            if to == from {
                let mut way = vec![at];
                while let Some(before) = way.last().filter(|at| **at != from).and_then(|at| came.get(at)) {
                    way.push(*before);
                }
                way.reverse();
                return way;
            }
            if let std::collections::hash_map::Entry::Vacant(free) = came.entry(to) {
                free.insert(at);
                open.push_back(to);
            }
        }
    }
    vec![from]
}

/// For each task, the number of its knot: tasks that can be reached from each other have the same one (Tarjan).
fn numbers(edges: &[Vec<usize>]) -> Vec<usize> {
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
            if let Some(to) = edges[at].get(*followed).copied() {
                *followed += 1;
                if index[to] == NEW {
                    walk.push((to, 0));
                } else if knot[to] == NEW {
                    low[at] = low[at].min(index[to]);
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

    fn circles(of: &[&[usize]]) -> Vec<Vec<usize>> {
        let edges: Vec<Vec<usize>> = of.iter().map(|to| to.to_vec()).collect();
        knots(&edges).into_iter().map(|knot| knot.circle).collect()
    }

    #[test]
    fn each_knot_has_one_shortest_circle() {
        assert_eq!(circles(&[&[1], &[2], &[]]), [[0_usize; 0]; 0]);
        assert_eq!(circles(&[&[1], &[2, 3], &[3], &[1, 4], &[5], &[4, 0, 5]]), [vec![0, 1, 3, 4, 5]]);
        assert_eq!(circles(&[&[], &[2], &[1], &[4, 0], &[3, 1]]), [vec![1, 2], vec![3, 4]]);
        assert_eq!(circles(&[&[1], &[1]]), [vec![1]], "who waits for itself is a circle of its own");
    }

    #[test]
    fn who_only_waits_for_a_circle_is_not_in_it() {
        let knots = knots(&[vec![1], vec![2], vec![1], vec![0]]);
        assert_eq!(knots, [Knot { members: vec![1, 2], circle: vec![1, 2] }]);
    }

    #[test]
    fn depth_is_no_danger() {
        let count = 200_000;
        let ring: Vec<Vec<usize>> = (0..count).map(|at| vec![(at + 1) % count]).collect();
        assert_eq!(knots(&ring)[0].circle.len(), count);
    }

    #[test]
    fn long_circles_are_told_in_short() {
        assert_eq!(told(&["a", "b\n"]), "the task waits for itself: a → b  → a");
        let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(told(&names), "the task waits for itself: t0 → t1 → t2 → t3 → (13 more) → t17 → t18 → t19 → t0");
    }
}
