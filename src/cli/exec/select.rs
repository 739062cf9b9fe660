//! Which tasks of the files are run: all, or those whose labels match, alone or with everything that they wait for.

use std::collections::BTreeSet;

use regex::Regex;

use super::depend::Placed;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Tasks whose labels match.
    pub only: Option<&'a Regex>,
    /// Tasks whose labels match, and those that they wait for, directly or through others.
    pub with_deps: Option<&'a Regex>,
}

/// The numbers of the tasks to run. `labels` and `placed` are in the same order.
pub fn select(labels: &[&str], placed: &[Placed], wanted: Wanted<'_>) -> BTreeSet<usize> {
    if wanted.only.is_none() && wanted.with_deps.is_none() {
        return (0..labels.len()).collect();
    }
    let matching = |pattern: Option<&Regex>| -> Vec<usize> {
        let Some(pattern) = pattern else { return Vec::new() };
        labels.iter().enumerate().filter(|(_, label)| pattern.is_match(label)).map(|(number, _)| number).collect()
    };
    let mut selected: BTreeSet<usize> = BTreeSet::new();
    let mut open = matching(wanted.with_deps);
    while let Some(number) = open.pop() {
        if selected.insert(number) {
            open.extend(&placed[number].waits_for);
        }
    }
    selected.extend(matching(wanted.only));
    selected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_matched_and_dependencies_come_along_when_wanted() {
        let placed = |waits_for: &[usize]| Placed {
            id: String::new(),
            waits_for: waits_for.to_vec(),
            edges: Vec::new(),
            unknown: Vec::new(),
        };
        let placed = [placed(&[]), placed(&[0]), placed(&[1, 2]), placed(&[])];
        let labels = ["toolchain", "build", "test-build", "lint"];
        let run = |only: Option<&str>, with_deps: Option<&str>| {
            let regex = |text: &str| Regex::new(text).expect("a pattern");
            let (only, with_deps) = (only.map(regex), with_deps.map(regex));
            let wanted = Wanted { only: only.as_ref(), with_deps: with_deps.as_ref() };
            select(&labels, &placed, wanted).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(run(None, None), [0, 1, 2, 3]);
        assert_eq!(run(Some("build"), None), [1, 2], "anywhere in the label");
        assert_eq!(run(Some("^build$"), None), [1]);
        assert_eq!(run(None, Some("test")), [0, 1, 2], "also if a task waits for itself");
        assert_eq!(run(Some("lint"), Some("^build")), [0, 1, 3]);
        assert_eq!(run(Some("nothing"), None), [0_usize; 0]);
    }
}
