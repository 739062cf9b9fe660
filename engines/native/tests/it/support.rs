//! Starting runs, and looking at what they leave.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tc_engine::{CommandSpec, Engine, EngineError, Environment, Exit, Names, Quiet, RunHandle, SandboxPlan, Sink};
use tc_engine_native::{Containment, NativeEngine, NativeOptions};

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Keeps what a task writes.
#[derive(Default)]
pub struct Collected(Mutex<Vec<u8>>);

impl Sink for Collected {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
    }
}

impl Collected {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("not poisoned").clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// An engine with a directory of its own.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub engine: NativeEngine,
}

/// The engines that this machine allows. Where no control group can be made, only the reaper is tested, and it is said.
pub fn benches() -> Vec<Bench> {
    let mut benches = vec![bench(Containment::Reaper).expect("a reaper can always be had")];
    match bench(Containment::Cgroup) {
        Ok(bench) => benches.push(bench),
        Err(error) => eprintln!("NOT RUN with control groups: {error}"),
    }
    benches
}

pub fn bench(containment: Containment) -> std::io::Result<Bench> {
    let reaper_program = example("reaper");
    let engine = NativeEngine::new(NativeOptions { reaper_program, containment })?;
    assert_eq!(engine.containment(), containment);
    Ok(Bench { dir: tempfile::tempdir()?, engine })
}

/// A program that cargo has built from `examples/` together with this test.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let program = test.parent().and_then(Path::parent).expect("target/<profile>").join("examples").join(name);
    assert!(program.exists(), "{} is not built: cargo builds it unless told to build single targets", program.display());
    program
}

pub fn sh(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].into_iter().map(OsString::from).collect()
}

pub fn argv(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// A started run.
pub struct Run {
    pub handle: Box<dyn RunHandle>,
    pub sink: Arc<Collected>,
    pub task_dir: PathBuf,
}

impl Bench {
    pub fn name(&self) -> String {
        format!("{:?}", self.engine.containment())
    }

    pub fn names(&self) -> Names {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let run = format!("task_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Names { task_dir: self.dir.path().join(&run), run, network: false }
    }

    pub async fn start(&self, commands: Vec<Vec<OsString>>) -> Run {
        self.start_with(commands, |_| {}).await
    }

    pub async fn start_with(&self, commands: Vec<Vec<OsString>>, adapt: impl FnOnce(&mut SandboxPlan)) -> Run {
        let ground = self.engine.reserve(self.names()).await.expect("reserved");
        let task_dir = ground.task_dir().to_owned();
        let mut env = Environment::new();
        env.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into());
        let mut plan = SandboxPlan {
            commands: commands.into_iter().map(|argv| CommandSpec { argv }).collect(),
            env,
            fallback_path: None,
            container: None,
        };
        adapt(&mut plan);
        let sandbox = match ground.create(plan).await {
            Ok(sandbox) => sandbox,
            Err((error, _)) => panic!("{}: {error}", self.name()),
        };
        let sink = Arc::new(Collected::default());
        Run { handle: sandbox.start(sink.clone()), sink, task_dir }
    }
}

impl Run {
    pub async fn exit(&mut self, index: usize) -> Exit {
        self.end(index).await.expect("the engine works")
    }

    pub async fn end(&mut self, index: usize) -> Result<Exit, EngineError> {
        let end = tokio::time::timeout(LONG, self.handle.run(index)).await.expect("in time");
        end.map(|end| end.exit)
    }

    pub async fn quiet(self) -> Box<dyn Quiet> {
        tokio::time::timeout(LONG, self.handle.quiesce()).await.expect("in time").expect("quiet")
    }

    pub async fn gone(self) {
        let task_dir = self.task_dir.clone();
        self.quiet().await.destroy(false).await.expect("gone");
        assert!(!task_dir.exists());
    }

    /// A number that a command has written into a file of its directory.
    pub async fn pid(&self, file: &str) -> u32 {
        let path = self.task_dir.join(file);
        let read = || fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        until(|| read().is_some()).await;
        read().expect("it was there")
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move { until_from(caller, is_so).await }
}

async fn until_from(caller: &std::panic::Location<'_>, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so: {caller}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
