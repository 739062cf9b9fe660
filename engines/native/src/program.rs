//! From a command of the plan to what the kernel wants, and from the kernel's refusal to a sentence.

use std::{
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use tc_engine::{CommandSpec, Environment};
use tc_sys::{
    errno_text,
    launch::{NotStarted, Program, Stage, c_string},
};

/// Names longer than this are cut in sentences; a task may use a megabyte of text as a program's name.
const SHOWN_CHARS: usize = 512;

/// Why a program does not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The author's mistake, as a text for the task log.
    Task(String),
    /// This worker's.
    Worker(String),
}

/// Prepares a command, or says what is wrong with it as a text for the task log.
pub(crate) fn prepare(
    argv: &[OsString],
    env: &Environment,
    fallback_path: Option<&OsStr>,
    directory: &Path,
) -> Result<Program, String> {
    let Some(name) = argv.first() else { return Err("exec: the command is empty".into()) };
    let mut strings = Vec::with_capacity(argv.len());
    for (position, argument) in argv.iter().enumerate() {
        strings.push(c_string(argument).ok_or_else(|| {
            format!("exec: argument {position} of the command contains a NUL byte, which no program can be given")
        })?);
    }
    let mut variables = Vec::with_capacity(env.len());
    for (variable, value) in env {
        let mut text = variable.clone();
        text.push("=");
        text.push(value);
        variables.push(c_string(&text).ok_or_else(|| {
            format!("exec: environment variable {} contains a NUL byte, which no program can be given", quoted(variable))
        })?);
    }
    let directory = c_string(directory.as_os_str()).ok_or("exec: the task directory has a NUL byte in its name")?;
    let searched = !name.as_bytes().contains(&b'/');
    let candidates = if searched { search(name, env.get(OsStr::new("PATH")), fallback_path) } else { vec![strings[0].clone()] };
    Ok(Program { candidates, searched, argv: strings, env: variables, directory })
}

/// The places where a bare name may be, the task's own search path first.
fn search(name: &OsStr, path: Option<&OsString>, fallback: Option<&OsStr>) -> Vec<CString> {
    if !CommandSpec::names_a_program(&[name]) {
        return Vec::new();
    }
    let places = path.map(OsString::as_os_str).into_iter().chain(fallback);
    let directories = places.flat_map(|place| place.as_bytes().split(|byte| *byte == b':'));
    directories
        .filter_map(|directory| {
            // An empty entry means the working directory, as in every shell.
            let directory = if directory.is_empty() { b"." } else { directory };
            CString::new([directory, b"/", name.as_bytes()].concat()).ok()
        })
        .collect()
}

/// Says why the program does not run, in the words that Go programs use for it.
pub(crate) fn explain(program: &Program, failed: &NotStarted) -> Refusal {
    let errno = errno_text(failed.errno);
    match failed.stage {
        Stage::NotFound => {
            let name = program.argv.first().map(|name| quoted(OsStr::from_bytes(name.to_bytes()))).unwrap_or_default();
            Refusal::Task(format!("exec: {name}: executable file not found in $PATH"))
        }
        Stage::Exec(position) => Refusal::Task(format!("fork/exec {}: {errno}", shown(program.candidates.get(position)))),
        Stage::Clone => Refusal::Task(format!("fork/exec {}: {errno}", shown(program.candidates.first()))),
        Stage::Directory => Refusal::Task(format!("chdir {}: {errno}", shown(Some(&program.directory)))),
        Stage::Cgroup => Refusal::Worker(format!("move a process into the cgroup of its run: {errno}")),
        Stage::Streams => Refusal::Worker(format!("set up the streams of a process: {errno}")),
        Stage::OomScore => Refusal::Worker(format!("give a process an ordinary oom_score_adj: {errno}")),
    }
}

fn shown(path: Option<&CString>) -> String {
    cut(&path.map(|path| path.to_string_lossy()).unwrap_or_default())
}

fn quoted(name: &OsStr) -> String {
    format!("{:?}", cut(&name.to_string_lossy()))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(name: &str, path: Option<&str>, fallback: Option<&str>) -> Vec<String> {
        let env = path.map(|path| ("PATH".into(), path.into())).into_iter().collect();
        let program = prepare(&[name.into()], &env, fallback.map(OsStr::new), Path::new("/t")).expect("prepared");
        program.candidates.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn bare_names_are_searched_and_others_are_not() {
        assert_eq!(prepared("x", Some("/a::b"), Some("/c")), ["/a/x", "./x", "b/x", "/c/x"]);
        assert_eq!(prepared("x", None, None), [""; 0]);
        assert_eq!(prepared("", Some("/a"), None), [""; 0]);
        assert_eq!(prepared("./x", Some("/a"), Some("/c")), ["./x"]);
        assert_eq!(prepared("/b/x", Some("/a"), Some("/c")), ["/b/x"]);
    }

    #[test]
    fn nul_bytes_are_named() {
        let env = Environment::from([("A".into(), "b\0".into())]);
        let error = prepare(&["x".into()], &env, None, Path::new("/t")).expect_err("refused");
        assert_eq!(error, "exec: environment variable \"A\" contains a NUL byte, which no program can be given");
        let error = prepare(&["x".into(), "\0".into()], &Environment::new(), None, Path::new("/t")).expect_err("refused");
        assert_eq!(error, "exec: argument 1 of the command contains a NUL byte, which no program can be given");
    }
}
