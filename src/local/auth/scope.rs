//! Scopes, and what a call needs of them.

use serde_json::{Value, json};

/// Whether `text` is a scope at all.
pub(crate) fn is_scope(text: &str) -> bool {
    text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Whether somebody who has `have` has `want`. A trailing star in `have` stands for everything that follows.
pub(crate) fn covers(have: &str, want: &str) -> bool {
    have == want || have.strip_suffix('*').is_some_and(|prefix| want.starts_with(prefix))
}

/// The same set of scopes in order, without those that others of them cover.
pub(crate) fn without_covered(scopes: &[String]) -> Vec<String> {
    // What begins like a scope with a star follows it directly in this order.
    let mut sorted: Vec<(&str, bool)> =
        scopes.iter().map(|scope| scope.strip_suffix('*').map_or((scope.as_str(), true), |prefix| (prefix, false))).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut covering: Option<&str> = None;
    let mut kept = Vec::new();
    for (text, plain) in sorted {
        if covering.is_some_and(|prefix| text.starts_with(prefix)) {
            continue;
        }
        if plain {
            kept.push(text.to_owned());
        } else {
            covering = Some(text);
            kept.push(format!("{text}*"));
        }
    }
    kept.sort_unstable();
    kept
}

/// What a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// This scope.
    Scope(String),
    /// All of these.
    All(Vec<Need>),
    /// At least one of these.
    Any(Vec<Need>),
}

impl Need {
    /// One scope.
    pub(crate) fn scope(text: impl Into<String>) -> Self {
        Self::Scope(text.into())
    }

    /// All of these scopes.
    pub(crate) fn all<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::All(scopes.into_iter().map(Self::scope).collect())
    }

    /// One of these scopes.
    pub(crate) fn any<S: Into<String>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::Any(scopes.into_iter().map(Self::scope).collect())
    }

    /// What is missing of it, or nothing if it is satisfied.
    pub(crate) fn missing(&self, has: &impl Fn(&str) -> bool) -> Option<Self> {
        match self {
            Self::Scope(scope) => (!has(scope)).then(|| self.clone()),
            Self::All(needs) => {
                let missing: Vec<_> = needs.iter().filter_map(|need| need.missing(has)).collect();
                (!missing.is_empty()).then_some(Self::All(missing))
            }
            Self::Any(needs) => {
                let missing: Vec<_> = needs.iter().map_while(|need| need.missing(has)).collect();
                (missing.len() == needs.len()).then_some(Self::Any(missing))
            }
        }
    }

    /// The need as the services write it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Scope(scope) => json!(scope),
            Self::All(needs) | Self::Any(needs) if needs.len() == 1 => needs[0].to_json(),
            Self::All(needs) => json!({ "AllOf": needs.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::Any(needs) => json!({ "AnyOf": needs.iter().map(Self::to_json).collect::<Vec<_>>() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trailing_star_stands_for_more() {
        for (have, want, covered) in [
            ("a:b", "a:b", true),
            ("a:*", "a:b", true),
            ("a:*", "a:", true),
            ("a:*", "a", false),
            ("*", "anything", true),
            ("a:*:c", "a:b:c", false),
            ("a:*:c", "a:*:c", true),
            ("a:b", "a:*", false),
            ("a:b*", "a:*", false),
            ("a:*", "a:b*", true),
        ] {
            assert_eq!(covers(have, want), covered, "{have} {want}");
        }
    }

    #[test]
    fn what_is_covered_is_left_out() {
        let kept = |scopes: &[&str]| without_covered(&scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(kept(&["b", "a:x", "a:*", "b", "a:x*", "a", "c:*:d"]), ["a", "a:*", "b", "c:*:d"]);
        assert_eq!(kept(&["a*", "a", "a**"]), ["a*"]);
        assert_eq!(kept(&["*", "anything", ""]), ["*"]);
        assert_eq!(kept(&[]), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let has = |scope: &str| scope == "a";
        assert_eq!(Need::all(["a"]).missing(&has), None);
        assert_eq!(Need::all(["a", "b"]).missing(&has), Some(Need::all(["b"])));
        assert_eq!(Need::any(["a", "b"]).missing(&has), None);
        assert_eq!(Need::any(["b", "c"]).missing(&has).map(|n| n.to_json()), Some(json!({ "AnyOf": ["b", "c"] })));
        assert_eq!(Need::all(Vec::<String>::new()).missing(&has), None);
    }
}
