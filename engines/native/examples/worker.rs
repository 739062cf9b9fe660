//! A worker that runs one script and then waits to be killed, for the tests of this crate.
//!
//! `worker cgroup|reaper REAPER_PROGRAM TASK_DIR SCRIPT`

use std::{io::Write, path::PathBuf, sync::Arc};

use tc_engine::{CommandSpec, Engine, Names, SandboxPlan, Sink};
use tc_engine_native::{Containment, NativeEngine, NativeOptions};

struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, bytes: &[u8]) {
        drop(std::io::stdout().write_all(bytes));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [containment, reaper_program, task_dir, script] = arguments.as_slice() else {
        panic!("four arguments");
    };
    let containment = if containment == "cgroup" { Containment::Cgroup } else { Containment::Reaper };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let engine = {
        let _inside = runtime.enter();
        NativeEngine::new(NativeOptions { reaper_program: reaper_program.into(), containment }).expect("an engine")
    };
    // As the worker does it, and with what it may have been started with.
    tc_sys::process::make_undumpable().expect("undumpable");
    runtime.block_on(async {
        let task_dir = PathBuf::from(task_dir);
        let run = task_dir.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let ground = engine.reserve(Names { run, task_dir, network: false }).await.expect("reserved");
        let argv = match std::env::var_os("WORKER_ARGV0") {
            Some(program) => vec![program],
            None => ["/bin/sh", "-c", script].into_iter().map(Into::into).collect(),
        };
        let plan = SandboxPlan {
            commands: vec![CommandSpec { argv }],
            env: ground.base_environment(),
            fallback_path: None,
            container: None,
        };
        let Ok(sandbox) = ground.create(plan).await else { panic!("not created") };
        let mut handle = sandbox.start(Arc::new(Nowhere));
        let end = handle.run(0).await.expect("ran");
        println!("{:?}", end.exit);
        if std::env::var_os("WORKER_DESTROYS").is_some() {
            let quiet = handle.quiesce().await.expect("quiet");
            println!("{:?}", quiet.destroy(false).await.map_err(|error| error.to_string()));
        }
        std::future::pending::<()>().await;
    });
}
