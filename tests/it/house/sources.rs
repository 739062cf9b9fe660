//! House rules about source files that no lint checks.

use std::path::{Path, PathBuf};

/// Every Rust file of the workspace.
fn files() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories: Vec<PathBuf> =
        ["src", "engines", "payload-schemas", "tests", "benches"].iter().map(|name| root.join(name)).collect();
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.iter().any(|(path, _)| path.ends_with("src/lib.rs")), "the sources were not found");
    found
}

/// A file of more lines is two files.
const LONGEST: usize = 600;

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<String> = files()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_lives_in_one_crate() {
    // Put together here, so that this file does not find itself.
    let openings: Vec<String> =
        ["{", "fn ", "impl ", "trait ", "extern "].iter().map(|next| ["unsafe", next].join(" ")).collect();
    let mut inside = 0;
    for (path, text) in files() {
        let uses = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count = uses.filter(|line| openings.iter().any(|opening| line.contains(opening.as_str()))).count();
        if path.starts_with("engines/sys") {
            inside += count;
        } else {
            assert_eq!(count, 0, "unsafe code outside engines/sys: {}", path.display());
        }
    }
    assert!(inside > 0, "engines/sys has none: this test looks for the wrong words");
}

/// The compiler refuses unsafe code in every crate that takes the workspace's lints; only `engines/sys` may have a table of
/// its own.
#[test]
fn every_other_crate_takes_the_lints_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert!(manifest("Cargo.toml").contains("unsafe_code = \"forbid\""));
    let mut crates = vec!["Cargo.toml".to_owned(), "payload-schemas/Cargo.toml".to_owned()];
    for entry in std::fs::read_dir(root.join("engines")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "sys" {
            crates.push(format!("engines/{name}/Cargo.toml"));
        }
    }
    for path in crates {
        assert!(manifest(&path).contains("[lints]\nworkspace = true"), "{path} does not take the workspace's lints");
    }
}
