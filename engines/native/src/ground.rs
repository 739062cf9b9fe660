//! Space for a run: its directory, and the cage its processes will live in.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tc_engine::{EngineError, Environment, Fault, Ground, Identity, Names, Quiet, RunHandle, Sandbox, SandboxPlan, Sink};

use crate::{
    cage::Group,
    files::NativeQuiet,
    running::{Broken, Running},
};

/// The cage before anything is in it.
#[derive(Debug)]
pub enum Reserved {
    /// A control group.
    Group(Group),
    /// The program that will be the reaper.
    Reaper(PathBuf),
}

/// A directory and a cage.
pub struct NativeGround {
    names: Names,
    identity: Identity,
    cage: Reserved,
    reset_oom_score: bool,
}

impl NativeGround {
    /// Makes the task's directory with an empty `generic-worker` in it.
    pub fn make(names: Names, cage: Reserved, reset_oom_score: bool) -> Result<Self, EngineError> {
        let made = make_directory(&names.task_dir);
        if let Err(error) = made {
            if let Reserved::Group(group) = &cage {
                drop(group.remove());
            }
            let fault = if error.kind() == io::ErrorKind::StorageFull { Fault::Resource } else { Fault::Worker };
            return Err(EngineError::new(fault, format!("make the task's directory {}: {error}", names.task_dir.display())));
        }
        Ok(Self { names, identity: identity(), cage, reset_oom_score })
    }

    fn into_quiet(self) -> Box<dyn Quiet> {
        let group = match self.cage {
            Reserved::Group(group) => Some(group),
            Reserved::Reaper(_) => None,
        };
        Box::new(NativeQuiet::new(self.names.task_dir, group))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    // Whatever is there belongs to somebody else; a run never shares a directory.
    fs::DirBuilder::new().mode(0o700).create(path)?;
    fs::DirBuilder::new().mode(0o700).create(path.join("generic-worker"))
}

fn identity() -> Identity {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let groups = nix::unistd::getgroups().unwrap_or_default();
    let groups = groups.into_iter().filter_map(|gid| nix::unistd::Group::from_gid(gid).ok().flatten());
    Identity { uid: uid.as_raw(), gid: gid.as_raw(), groups: groups.map(|group| group.name).collect() }
}

#[async_trait]
impl Ground for NativeGround {
    fn task_dir(&self) -> &Path {
        &self.names.task_dir
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The worker's own environment: displays, sound and message buses of the session are what some machines are there for.
    /// Nothing of it speaks of Taskcluster, its credentials least of all.
    fn base_environment(&self) -> Environment {
        std::env::vars_os().filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"TASKCLUSTER_")).collect()
    }

    async fn create(self: Box<Self>, plan: SandboxPlan) -> Result<Box<dyn Sandbox>, (EngineError, Box<dyn Quiet>)> {
        Ok(Box::new(NativeSandbox { ground: *self, plan }))
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        self.into_quiet()
    }
}

/// Ready to start.
struct NativeSandbox {
    ground: NativeGround,
    plan: SandboxPlan,
}

#[async_trait]
impl Sandbox for NativeSandbox {
    fn start(self: Box<Self>, sink: Arc<dyn Sink>) -> Box<dyn RunHandle> {
        let NativeSandbox { ground, plan } = *self;
        let NativeGround { names, cage, reset_oom_score, .. } = ground;
        match Running::start(names.task_dir.clone(), cage, plan, reset_oom_score, sink) {
            Ok(running) => Box::new(running),
            Err((error, group)) => Box::new(Broken::new(&error, names.task_dir, group)),
        }
    }

    async fn quiesce(self: Box<Self>) -> Box<dyn Quiet> {
        self.ground.into_quiet()
    }
}
