//! Engines that a test may break, since they are its own.

use std::process::{Command, Stdio};

use super::bench::{Engine, archive, not_run};

/// The program that starts an engine.
const ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/engine.py");

/// An engine of one test's own, which it may break. It is ended when the test drops it.
pub struct Spare {
    /// How to speak to it.
    pub engine: Engine,
    dir: tempfile::TempDir,
    kind: &'static str,
    disk_mib: u32,
}

impl Spare {
    /// Starts one with the test image, or notes the test as not run.
    pub fn start(kind: &'static str) -> Option<Self> {
        let disk = std::env::var("TC_DOCKER_DISK").ok().and_then(|mib| mib.parse().ok()).unwrap_or(0);
        Self::with_disk(kind, disk)
    }

    /// The same, with a file system of so many megabytes for itself.
    pub fn with_disk(kind: &'static str, disk_mib: u32) -> Option<Self> {
        if std::env::var("TC_DOCKER_TREE").is_err() {
            not_run("TC_DOCKER_TREE does not say where the engine's programs are");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("tc-spare-").tempdir().expect("a directory");
        let host = format!("unix://{}/docker.sock", dir.path().display());
        let spare = Self { engine: Engine { host }, dir, kind, disk_mib };
        spare.again();
        spare.engine.docker(&["load", "--input", archive("busybox.tar").to_str().expect("UTF-8")]);
        Some(spare)
    }

    /// Starts it, also after it was killed.
    pub fn again(&self) {
        run_engine(&["start", self.kind, self.path(), "--disk", &self.disk_mib.to_string()]);
    }

    /// Ends dockerd as no service manager would.
    pub fn kill(&self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Sends dockerd a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = std::fs::read_to_string(self.dir.path().join("docker.pid")).expect("dockerd wrote its process id");
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a number"));
        nix::sys::signal::kill(pid, signal).expect("dockerd is ours");
    }

    /// Ends it, and keeps its data.
    pub fn stop(&self) {
        run_engine(&["stop", self.path()]);
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().expect("UTF-8")
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run_engine(arguments: &[&str]) {
    let output = Command::new("python3").arg(ENGINE).args(arguments).stdin(Stdio::null()).output().expect("python3");
    assert!(output.status.success(), "engine.py {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
