//! What starting a process costs, next to the standard library. A measurement, not a test:
//! `cargo run --release -p tc-engine-native --example spawn_cost`.

use std::{
    fs::File,
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tc_engine::{CommandSpec, Engine, Environment, Names, SandboxPlan, Sink};
use tc_engine_native::{Containment, NativeEngine, NativeOptions};
use tc_sys::{
    fd,
    launch::{Place, Program, launch},
    process,
};

const ROUNDS: usize = 500;

struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _bytes: &[u8]) {}
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what:<52} p50 {:7.3} ms   p99 {:7.3} ms", at(50), at(99));
}

fn measure(mut action: impl FnMut()) -> Vec<Duration> {
    (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            action();
            begun.elapsed()
        })
        .collect()
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(tc_engine_native::REAPER_COMMAND) {
        tc_engine_native::reaper_main();
        return;
    }
    let silent = || {
        let status = Command::new("/bin/true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("started").success());
    };
    report("std::process, /bin/true, start to end", measure(silent));

    let null = File::options().read(true).write(true).open("/dev/null").expect("there is /dev/null");
    let program = Program {
        candidates: vec![c"/bin/true".into()],
        searched: false,
        argv: vec![c"true".into()],
        env: Vec::new(),
        directory: c"/".into(),
    };
    let place =
        Place { input: null.as_fd(), output: null.as_fd(), error: null.as_fd(), cgroup: None, ordinary_oom_score: false };
    let launched = || {
        let started = launch(&program, &place).expect("started");
        fd::wait_any([started.pidfd.as_fd()], None).expect("ended");
        process::reap(started.pidfd.as_fd());
    };
    report("tc_sys::launch, /bin/true, start to end", measure(launched));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    for containment in [Containment::Cgroup, Containment::Reaper] {
        let reaper_program = std::env::current_exe().expect("a path");
        let _inside = runtime.enter();
        let engine = match NativeEngine::new(NativeOptions { reaper_program, containment }) {
            Ok(engine) => engine,
            Err(error) => {
                println!("{containment:?}: {error}");
                continue;
            }
        };
        let (mut prepare, mut run, mut finish) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..ROUNDS {
            runtime.block_on(async {
                let begun = Instant::now();
                let run_name = format!("task_{number}");
                let names = Names { task_dir: dir.path().join(&run_name), run: run_name, network: false };
                let ground = engine.reserve(names).await.expect("reserved");
                let commands = vec![CommandSpec { argv: vec!["/bin/true".into()] }];
                let plan = SandboxPlan { commands, env: Environment::new(), fallback_path: None, container: None };
                let Ok(sandbox) = ground.create(plan).await else { panic!("not created") };
                let mut handle = sandbox.start(Arc::new(Nowhere));
                prepare.push(begun.elapsed());
                let begun = Instant::now();
                assert!(handle.run(0).await.expect("ran").exit.is_success());
                run.push(begun.elapsed());
                let begun = Instant::now();
                handle.quiesce().await.expect("quiet").destroy(false).await.expect("gone");
                finish.push(begun.elapsed());
            });
        }
        report(&format!("{containment:?}: reserve, create, start"), prepare);
        report(&format!("{containment:?}: run /bin/true"), run);
        report(&format!("{containment:?}: quiesce, destroy"), finish);
    }
}
