//! Roles: scopes that stand for other scopes.
//!
//! `assume:<roleId>` stands for the scopes of the role. A role whose id ends in a star stands for all roles that begin so, and `<..>` in its
//! scopes is what followed in the scope that assumed it. Expanding is a walk to a fixed point: every scope is looked at once, so roles that
//! assume each other are no trouble. Roles that would make up longer and longer scopes are stopped by a bound.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::scope::without_covered;

/// The scopes that a role is assumed by begin so.
const ASSUME: &str = "assume:";
/// What a role with a star puts in the place of this is what the star stood for.
const PARAMETER: &str = "<..>";
/// The role that everybody has.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// More scopes than this come from roles that never end.
const MOST_SCOPES: usize = 20_000;
/// So do longer ones.
const MOST_BYTES: usize = 4096;

/// A role as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Role {
    pub(crate) scopes: Vec<String>,
    pub(crate) description: String,
    pub(crate) created: Timestamp,
    pub(crate) last_modified: Timestamp,
}

/// Expanding these scopes would not end, or not be worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the roles expand these scopes without end: more than {MOST_SCOPES} scopes, or one of more than {MOST_BYTES} characters"
)]
pub(crate) struct Endless;

/// All roles by their ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles(pub(crate) BTreeMap<String, Role>);

impl Roles {
    /// The set with all that its scopes stand for, in its shortest form.
    pub(crate) fn expand(&self, scopes: &[String]) -> Result<Vec<String>, Endless> {
        // Who has everything has all roles, too.
        let nothing_more = scopes.iter().any(|scope| scope == "*") || !scopes.iter().any(|scope| assumed(scope).is_some());
        if nothing_more {
            return Ok(without_covered(scopes));
        }
        let mut seen: HashSet<String> = scopes.iter().cloned().collect();
        let mut open: Vec<String> = scopes.to_vec();
        while let Some(scope) = open.pop() {
            let Some(assumed) = assumed(&scope) else { continue };
            for (role_id, role) in &self.0 {
                let Some(parameter) = parameter(role_id, assumed) else { continue };
                for new in role.scopes.iter().map(|scope| with_parameter(scope, parameter)) {
                    if new.len() > MOST_BYTES || seen.len() >= MOST_SCOPES {
                        return Err(Endless);
                    }
                    if !seen.contains(&new) {
                        seen.insert(new.clone());
                        open.push(new);
                    }
                }
            }
        }
        let all: Vec<String> = seen.into_iter().collect();
        Ok(without_covered(&all))
    }

    /// Whether assuming this role, with anything for its star, would never end.
    pub(crate) fn endless(&self, role_id: &str) -> Option<Endless> {
        let assumed = match role_id.strip_suffix('*') {
            Some(prefix) => format!("{ASSUME}{prefix}x"),
            None => format!("{ASSUME}{role_id}"),
        };
        self.expand(&[assumed]).err()
    }
}

/// What the scope assumes, perhaps with a star at the end; nothing if it assumes nothing.
fn assumed(scope: &str) -> Option<&str> {
    match scope.strip_prefix(ASSUME) {
        Some(role) => Some(role),
        // `*`, `ass*` and `assume:*` stand for all roles.
        None => scope.strip_suffix('*').is_some_and(|prefix| ASSUME.starts_with(prefix)).then_some("*"),
    }
}

/// What stands in the place of the role's star when `assumed` assumes it; nothing if it does not.
fn parameter<'a>(role_id: &str, assumed: &'a str) -> Option<&'a str> {
    let Some(prefix) = role_id.strip_suffix('*') else {
        let covered = assumed == role_id || assumed.strip_suffix('*').is_some_and(|begin| role_id.starts_with(begin));
        return covered.then_some("");
    };
    match assumed.strip_prefix(prefix) {
        Some(parameter) => Some(parameter),
        // A star that begins before the role's own stands for everything that could follow.
        None => assumed.strip_suffix('*').is_some_and(|begin| prefix.starts_with(begin)).then_some("*"),
    }
}

/// The role's scope with its parameter. Behind a star nothing can follow: the rest is cut off.
fn with_parameter(scope: &str, parameter: &str) -> String {
    let Some((before, after)) = scope.split_once(PARAMETER) else { return scope.to_owned() };
    if parameter.ends_with('*') { format!("{before}{parameter}") } else { format!("{before}{parameter}{after}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(list: &[(&str, &[&str])]) -> Roles {
        let role = |scopes: &[&str]| Role {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            description: String::new(),
            created: Timestamp::UNIX_EPOCH,
            last_modified: Timestamp::UNIX_EPOCH,
        };
        Roles(list.iter().map(|(id, scopes)| ((*id).to_owned(), role(scopes))).collect())
    }

    fn expanded(roles: &Roles, scopes: &[&str]) -> Vec<String> {
        let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        roles.expand(&scopes).expect("an end")
    }

    #[test]
    fn a_role_gives_its_scopes_and_those_of_the_roles_it_assumes() {
        let roles = roles(&[("a", &["x", "assume:b"]), ("b", &["y", "assume:a"]), ("c", &["z"])]);
        assert_eq!(expanded(&roles, &["assume:a"]), ["assume:a", "assume:b", "x", "y"]);
        assert_eq!(expanded(&roles, &["own"]), ["own"]);
        assert_eq!(expanded(&roles, &["assume:unknown"]), ["assume:unknown"]);
        assert_eq!(expanded(&roles, &["assume:*"]), ["assume:*", "x", "y", "z"]);
        assert_eq!(expanded(&roles, &["ass*"]), ["ass*", "x", "y", "z"]);
        assert_eq!(expanded(&roles, &["*"]), ["*"]);
    }

    #[test]
    fn a_star_in_the_role_is_filled_in() {
        let roles = roles(&[
            ("repo:*", &["queue:route:index.<..>.x", "plain", "assume:group:<..>"]),
            ("repo:github.com/a/*", &["special:<..>"]),
            ("group:me/one", &["of:one"]),
        ]);
        assert_eq!(
            expanded(&roles, &["assume:repo:me/one"]),
            ["assume:group:me/one", "assume:repo:me/one", "of:one", "plain", "queue:route:index.me/one.x"]
        );
        let nested = expanded(&roles, &["assume:repo:github.com/a/b"]);
        assert!(nested.contains(&"special:b".to_owned()), "{nested:?}");
        // What follows a star is cut off.
        assert_eq!(
            expanded(&roles, &["assume:repo:me/*"]),
            ["assume:group:me/*", "assume:repo:me/*", "of:one", "plain", "queue:route:index.me/*"]
        );
        let all = expanded(&roles, &["assume:re*"]);
        assert!(["assume:group:*", "of:one", "special:*"].iter().all(|scope| all.contains(&(*scope).to_owned())), "{all:?}");
        assert_eq!(expanded(&roles, &["assume:repo:"]).len(), 4, "a star may stand for nothing");
        assert_eq!(expanded(&roles, &["assume:repo"]), ["assume:repo"]);
        // A star anywhere else is a star.
        assert_eq!(expanded(&roles, &["assume:re*o:x"]), ["assume:re*o:x"]);
        assert_eq!(expanded(&roles, &["assume:repo:a*b"]).len(), 4);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let growing = roles(&[("a*", &["assume:a<..>x"])]);
        assert_eq!(growing.expand(&["assume:ab".into()]), Err(Endless));
        assert_eq!(expanded(&growing, &["assume:a*"]), ["assume:a*"]);
        let doubling = roles(&[("a*", &["assume:a0<..>", "assume:a1<..>"])]);
        assert_eq!(doubling.expand(&["assume:a".into()]), Err(Endless));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;
        use crate::local::auth::covers;

        fn word() -> impl Strategy<Value = String> {
            "[ab]{0,3}"
        }

        fn role_id() -> impl Strategy<Value = String> {
            ("[ab]{1,3}", any::<bool>()).prop_map(|(word, star)| if star { format!("{word}*") } else { word })
        }

        fn scope() -> impl Strategy<Value = String> {
            let shape = prop::sample::select(vec![
                "s:W",
                "s:W<..>",
                "s:W<..>:t",
                "assume:W",
                "assume:W*",
                "assume:W<..>",
                "assume:W<..>b",
            ]);
            (shape, word()).prop_map(|(shape, word)| shape.replace('W', &word))
        }

        fn all_roles() -> impl Strategy<Value = Roles> {
            prop::collection::btree_map(role_id(), prop::collection::vec(scope(), 0..4), 0..6).prop_map(|roles| {
                let list: Vec<(&str, Vec<&str>)> =
                    roles.iter().map(|(id, scopes)| (id.as_str(), scopes.iter().map(String::as_str).collect())).collect();
                let list: Vec<(&str, &[&str])> = list.iter().map(|(id, scopes)| (*id, scopes.as_slice())).collect();
                super::roles(&list)
            })
        }

        proptest! {
            #[test]
            fn a_star_has_all_that_anything_in_its_place_has(roles in all_roles(), begin in word(), rest in word()) {
                let assume = |text: &str| roles.expand(&[format!("assume:{begin}{text}")]);
                if let (Ok(star), Ok(one)) = (assume("*"), assume(&rest)) {
                    for scope in &one {
                        prop_assert!(star.iter().any(|have| covers(have, scope)), "{scope} of {begin}{rest} is not in {star:?}: {roles:?}");
                    }
                }
            }

            #[test]
            fn what_is_expanded_stands_for_nothing_more(roles in all_roles(), begin in word()) {
                if let Ok(once) = roles.expand(&[format!("assume:{begin}")]) {
                    prop_assert_eq!(roles.expand(&once), Ok(once));
                }
            }
        }
    }
}
