//! Real processes: one dies while a task has a cache, two share a directory, one may not delete what another user owns.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt},
    process::{Child, Command, Stdio},
};

use super::*;

const DIR: &str = "TC_TEST_CACHE_DIR";

/// What the child process does; nothing when it runs as an ordinary test.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let rig = Rig::at(Path::new(&dir));
    let store = rig.open();
    let mut line = String::new();
    let mut leases = Vec::new();
    while std::io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
        match line.trim() {
            "lease" => {
                let lease = one(&store, "a");
                let found = content(&lease).unwrap_or_default();
                // Before the answer: what the other side does next may close the cache to this process.
                put(&lease, "half");
                leases.push(lease);
                println!("\n>{found}");
            }
            "keep" => {
                for lease in leases.drain(..) {
                    put(&lease, "whole");
                    println!("\n>{:?}", lease.give_back(Verdict::Keep));
                }
            }
            "return" => println!("\n>{:?}", leases.pop().expect("a cache").give_back(Verdict::Keep)),
            "clear" => println!("\n>{}", store.clear(PATIENCE)),
            _ => break,
        }
        std::io::stdout().flush().expect("said");
        line.clear();
    }
}

/// A process with a store.
struct Other {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(dir: &Path) -> Self {
        let program = std::env::current_exe().expect("this program");
        Self::start_with(&mut Command::new(program), dir)
    }

    fn start_with(command: &mut Command, dir: &Path) -> Self {
        let mut child = command
            .args(["--exact", "cache::tests::crash::child", "--nocapture"])
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// Says a word and waits for the answer.
    fn ask(&mut self, word: &str) -> String {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{word}").expect("said");
        let mut line = String::new();
        while self.output.read_line(&mut line).expect("an answer") > 0 {
            if let Some(answer) = line.trim().strip_prefix('>') {
                return answer.to_owned();
            }
            line.clear();
        }
        panic!("no answer to {word}");
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("dead");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_worker_that_is_killed_leaves_no_half_written_cache() {
    let rig = Rig::new();
    let store = rig.open();
    kept(&rig, &store, "a", "whole");
    let mut other = Other::start(&rig.dir);
    assert_eq!(other.ask("lease"), "whole");
    let meanwhile = rig.open();
    rig.tidy(&meanwhile);
    assert_eq!(content(&one(&meanwhile, "a")), None, "it is in use there");
    assert_eq!(rig.units().iter().filter(|name| matches!(places::read(name), places::Named::Busy(_))).count(), 1);
    other.kill();
    let next = rig.open();
    rig.tidy(&next);
    assert_eq!((rig.units(), next.count()), (Vec::new(), 0));
}

#[test]
fn two_processes_hand_a_cache_to_each_other() {
    let rig = Rig::new();
    let store = rig.open();
    let mut other = Other::start(&rig.dir);
    kept(&rig, &store, "a", "mine");
    assert_eq!(other.ask("lease"), "mine");
    let second = one(&store, "a");
    assert!(!second.was_there());
    drop(second);
    assert_eq!(other.ask("keep"), "Ok(Kept)");
    assert_eq!(content(&one(&store, "a")).as_deref(), Some("whole"));
}

/// A user and a group that nobody has.
const NOBODY: u32 = 70_017;

#[test]
fn what_containers_gave_to_root_is_put_aside_and_named_by_a_worker_without_privileges() {
    if !nix::unistd::geteuid().is_root() {
        println!("NOT RUN: needs root to act as another user");
        if let Some(list) = std::env::var_os("TC_TESTS_NOT_RUN") {
            let mut list = fs::OpenOptions::new().append(true).create(true).open(list).expect("a list");
            writeln!(list, "cache::what_containers_gave_to_root\tneeds root to act as another user").expect("written");
        }
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).expect("given");
    // The program has to be readable for that user, too.
    let program = home.path().join("program");
    // Copied by a process of its own: a file that this one has written could be open in a child that another test just starts.
    let copied = Command::new("cp").arg(std::env::current_exe().expect("this program")).arg(&program).status();
    assert!(copied.expect("cp starts").success());
    let rig = Rig::at(&home.path().join("caches"));
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    let mut other = Other::start_with(command.arg("--").arg(&program).current_dir("/"), &rig.dir);
    assert_eq!(other.ask("lease"), "");
    // What run-task and other programs do as root in a container.
    let unit = rig.units().pop().expect("a cache");
    let data = rig.dir.join(&unit).join(places::DATA);
    fs::create_dir(data.join("deep")).expect("made");
    fs::write(data.join("deep/file"), "root's").expect("written");
    fs::set_permissions(data.join("deep"), PermissionsExt::from_mode(0o700)).expect("closed");
    std::os::unix::fs::chown(&data, Some(0), Some(NOBODY + 1)).expect("given");
    assert_eq!(other.ask("return"), "Ok(Kept)", "whoever owns what is in it");
    let free = rig.units().pop().expect("a cache");
    let owner = rig.dir.join(&free).join(places::DATA).metadata().expect("there");
    assert_eq!((owner.uid(), owner.gid()), (0, NOBODY + 1), "nobody changes owners");

    assert_eq!(other.ask("clear"), "false", "it may not delete all of it");
    let names = rig.units();
    assert!(matches!(names.as_slice(), [name] if places::read(name) == places::Named::Trash), "{names:?}");
    drop(other);
    let privileged = rig.open();
    rig.tidy(&privileged);
    assert_eq!(rig.units(), [""; 0]);
}
