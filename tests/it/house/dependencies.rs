//! The rules of `deny.toml`, held against the packages that this workspace is built from.
//!
//! `cargo metadata` says for each package where it comes from and under which licence. It also lists optional packages that no
//! enabled feature asks for, which does no harm there; the bans are held against `cargo tree`, which lists exactly what is
//! compiled. Both work offline, since whoever runs this test has just built the same packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::deny::{Ban, Rules, satisfied};

fn rules() -> Rules {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    Rules::parse(&std::fs::read_to_string(path).unwrap())
}

/// What cargo prints for `arguments`, in this workspace and without the network.
fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages for the platform that this test was built for, which is the one whose packages are certainly here.
fn packages(rules: &Rules) -> Vec<Value> {
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    assert!(rules.list("graph.targets").contains(&here), "deny.toml does not name {here}, on which this test runs");
    let text = cargo(&["metadata", "--format-version=1", "--filter-platform", &here]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 50, "cargo metadata lists only {} packages", packages.len());
    packages
}

#[test]
fn licences_are_allowed() {
    let rules = rules();
    let allowed = rules.list("licenses.allow");
    let refused: Vec<String> = packages(&rules)
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| satisfied(licence, allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n{}", refused.join("\n"));
}

#[test]
fn sources_are_the_default_registry_or_this_repository() {
    let rules = rules();
    for rule in ["sources.unknown-registry", "sources.unknown-git"] {
        assert_eq!(rules.list(rule), ["deny"], "this test knows only `deny` for {rule}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for package in packages(&rules) {
        let name = &package["name"];
        match package["source"].as_str() {
            Some(source) => {
                assert!(source.starts_with("registry+") && source.ends_with("/crates.io-index"), "{name} comes from {source}");
            }
            None => assert!(Path::new(package["manifest_path"].as_str().unwrap()).starts_with(root), "{name} is outside"),
        }
    }
}

#[test]
fn dependencies_name_the_versions_that_they_need() {
    let rules = rules();
    assert_eq!(rules.list("bans.wildcards"), ["deny"], "this test knows only `deny`");
    for package in packages(&rules).iter().filter(|package| package["source"].is_null()) {
        for dependency in package["dependencies"].as_array().unwrap() {
            let by_path = dependency["path"].is_string();
            assert!(by_path || dependency["req"] != "*", "{} takes any version of {}", package["name"], dependency["name"]);
        }
    }
}

#[test]
fn banned_packages_are_absent() {
    let rules = rules();
    let tree = cargo(&["tree", "--workspace", "--edges=normal,build,dev", "--prefix=none", "--format={p}"]);
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(built.contains("tc-worker") && built.contains("tokio"), "cargo tree does not list this workspace:\n{tree}");
    let allowed = |ban: &Ban<'_>| {
        let users = cargo(&[
            "tree",
            "--workspace",
            "--edges=normal,build,dev",
            "--prefix=depth",
            "--format= {p}",
            "--invert",
            ban.name,
        ]);
        let direct = users.lines().filter_map(|line| line.strip_prefix("1 ")?.split(' ').next());
        !ban.wrappers.is_empty() && direct.into_iter().all(|user| ban.wrappers.contains(&user))
    };
    let bans = rules.bans();
    assert!(bans.len() > 5, "deny.toml bans only {} packages", bans.len());
    let present: Vec<String> = bans
        .into_iter()
        .filter(|ban| built.contains(ban.name) && !allowed(ban))
        .map(|ban| format!("{}: {}", ban.name, ban.reason))
        .collect();
    assert!(present.is_empty(), "banned packages are built:\n{}", present.join("\n"));
}

/// Two versions of a package are allowed; they are printed (`--nocapture` shows them), so that somebody can see them grow.
#[test]
fn packages_in_two_versions_are_listed() {
    let rules = rules();
    assert_eq!(rules.list("bans.multiple-versions"), ["allow"], "this test only lists");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages(&rules) {
        let [name, version] = ["name", "version"].map(|key| package[key].as_str().unwrap().to_owned());
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        println!("{name} in {} versions: {}", versions.len(), versions.iter().cloned().collect::<Vec<_>>().join(", "));
    }
}
