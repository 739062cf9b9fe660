//! From a command of the plan to something that can be started, and from a failure to the words that authors know.

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};
use tc_engine::{CommandSpec, Environment, SandboxPlan};
use tc_sys::{
    open::c_string,
    spawn::{Failure, Step},
};

/// A command, as the kernel takes it.
#[derive(Debug)]
pub struct Prepared {
    /// The program; a relative path counts from the task's directory.
    pub path: CString,
    /// Its arguments.
    pub argv: Vec<CString>,
    /// Its environment.
    pub envp: Vec<CString>,
}

/// Prepares a command. The error is the sentence for the task log.
pub fn prepare(command: &CommandSpec, plan: &SandboxPlan, task_dir: &Path) -> Result<Prepared, String> {
    let name = command.argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let argv = command.argv.iter().enumerate().map(|(i, argument)| {
        c_string(argument).map_err(|_| format!("fork/exec {}: argument {i} contains a NUL byte", name.display()))
    });
    let argv = argv.collect::<Result<Vec<_>, _>>()?;
    let envp = plan.env.iter().map(|(name, value)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        c_string(&text).map_err(|_| format!("environment variable {:?} contains a NUL byte", name.to_string_lossy()))
    });
    let envp = envp.collect::<Result<Vec<_>, _>>()?;
    let path = if name.as_bytes().contains(&b'/') {
        PathBuf::from(name)
    } else {
        look_up(name, &plan.env, plan.fallback_path.as_deref(), task_dir)
            .ok_or_else(|| format!("exec: \"{}\": executable file not found in $PATH", name.display()))?
    };
    let path = c_string(path.as_os_str()).map_err(|e| format!("exec: \"{}\": {e}", name.display()))?;
    Ok(Prepared { path, argv, envp })
}

/// Finds a bare name in the task's own `PATH`, then in the fallback. Relative directories count from the task's.
fn look_up(name: &OsStr, env: &Environment, fallback: Option<&OsStr>, task_dir: &Path) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let own = env.get(OsStr::new("PATH")).map(OsString::as_os_str);
    [own, fallback]
        .into_iter()
        .flatten()
        .flat_map(std::env::split_paths)
        .map(|directory| task_dir.join(directory).join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    // Root may execute nothing that has no execute bit at all, and `access` knows about mounts without execution.
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0) && access(path, AccessFlags::X_OK).is_ok()
}

/// The sentence for a program that did not start.
pub fn explain(failure: &Failure, command: &CommandSpec, prepared: &Prepared, task_dir: &Path) -> String {
    let path = if command.argv.first().is_some_and(|name| name.as_bytes().contains(&b'/')) {
        command.argv[0].to_string_lossy().into_owned()
    } else {
        prepared.path.to_string_lossy().into_owned()
    };
    match failure.step {
        Step::Chdir => format!("chdir {}: {}", task_dir.display(), words(&failure.error)),
        Step::Exec => format!("fork/exec {path}: {}", words(&failure.error)),
        Step::Setup => format!("fork/exec {path}: before the program: {}", words(&failure.error)),
    }
}

/// An error of the operating system in its usual words, in lower case.
pub fn words(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let text = nix::errno::Errno::from_raw(code).desc();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(path: &str, fallback: Option<&str>) -> SandboxPlan {
        SandboxPlan {
            commands: Vec::new(),
            env: [("PATH".into(), path.into())].into_iter().collect(),
            fallback_path: fallback.map(Into::into),
        }
    }

    fn command(argv: &[&str]) -> CommandSpec {
        CommandSpec { argv: argv.iter().map(Into::into).collect() }
    }

    #[test]
    fn a_bare_name_is_looked_up_in_the_tasks_path_then_in_the_workers() {
        let dir = tempfile::tempdir().expect("a directory");
        let tool = dir.path().join("bin/tool");
        std::fs::create_dir(dir.path().join("bin")).expect("made");
        std::fs::write(&tool, "#!/bin/sh\n").expect("written");
        let found = prepare(&command(&["tool"]), &plan("bin", None), dir.path());
        assert!(found.is_err(), "not executable yet");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("set");
        let found = prepare(&command(&["tool"]), &plan("bin", None), dir.path()).expect("found in a relative directory");
        assert_eq!(found.path.as_bytes(), tool.as_os_str().as_bytes());
        let found = prepare(&command(&["sh"]), &plan("bin", Some("/bin")), dir.path()).expect("found in the fallback");
        assert_eq!(found.path.as_bytes(), b"/bin/sh");
        let missing = prepare(&command(&["nope"]), &plan("bin", Some("/bin")), dir.path()).expect_err("nowhere");
        assert_eq!(missing, "exec: \"nope\": executable file not found in $PATH");
    }

    #[test]
    fn nul_bytes_are_named() {
        let dir = Path::new("/");
        let error = prepare(&command(&["/bin/echo", "a\0b"]), &plan("/bin", None), dir).expect_err("refused");
        assert_eq!(error, "fork/exec /bin/echo: argument 1 contains a NUL byte");
        let error = prepare(&command(&["/bin/echo"]), &plan("/bin\0", None), dir).expect_err("refused");
        assert_eq!(error, "environment variable \"PATH\" contains a NUL byte");
    }

    #[test]
    fn errors_speak_in_lower_case() {
        assert_eq!(words(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(words(&io::Error::from_raw_os_error(8)), "exec format error");
        assert_eq!(words(&io::Error::from_raw_os_error(7)), "argument list too long");
    }
}
