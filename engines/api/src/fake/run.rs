//! Playing the script of one run.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{FakeRun, Step};
use crate::{CommandEnd, EngineError, Exit, Fault, Over, Quiet, RunHandle, Sink, StopReason};

/// A fake run that was started.
pub(super) struct Running {
    pub(super) run: FakeRun,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) over: Over,
}

#[async_trait]
impl RunHandle for Running {
    async fn run(&mut self, index: usize) -> Result<CommandEnd, EngineError> {
        self.run.note(&format!("run {index}"));
        let started = tokio::time::Instant::now();
        let exit = loop {
            match self.run.script.pop_front() {
                Some(Step::Print(bytes)) => self.sink.write(&bytes),
                Some(Step::Take(time)) => tokio::time::sleep(time).await,
                Some(Step::Linger(more)) => {
                    self.over.set();
                    tokio::time::sleep(more).await;
                }
                Some(Step::End(exit)) => break exit,
                Some(Step::Hang) => std::future::pending().await,
                Some(Step::Fail(message)) => return Err(EngineError::new(Fault::Worker, message)),
                Some(Step::Panic) => panic!("the script says so"),
                None => break Exit::Code(0),
            }
        };
        Ok(CommandEnd { exit, user: Duration::ZERO, kernel: Duration::ZERO, wall: started.elapsed(), out_of_memory: false })
    }

    fn over(&self) -> Over {
        self.over.clone()
    }

    async fn stop(&mut self, reason: StopReason, _grace: Duration) {
        self.run.note(&format!("stop {reason:?}"));
    }

    async fn quiesce(self: Box<Self>) -> Result<Box<dyn Quiet>, EngineError> {
        self.run.note("quiet");
        Ok(Box::new(self.run))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Engine, Environment, Names, SandboxPlan, fake::FakeEngine};

    struct Collected(Mutex<Vec<u8>>);
    impl Sink for Collected {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_played_command_by_command() {
        let engine = FakeEngine::new([Step::prints("a"), Step::exits(0), Step::prints("b"), Step::exits(7)]);
        let ground =
            engine.reserve(Names { run: "r".into(), task_dir: "/t".into(), network: false }).await.expect("the fake reserves");
        let plan = SandboxPlan { commands: Vec::new(), env: Environment::new(), fallback_path: None, container: None };
        let Ok(sandbox) = ground.create(plan).await else { panic!("the fake creates") };
        let sink = Arc::new(Collected(Mutex::default()));
        let mut handle = sandbox.start(sink.clone());
        assert!(handle.run(0).await.expect("first").exit.is_success());
        assert_eq!(handle.run(1).await.expect("second").exit, Exit::Code(7));
        let quiet = handle.quiesce().await.expect("quiet");
        quiet.destroy(false).await.expect("gone");
        assert_eq!(*sink.0.lock().expect("not poisoned"), b"ab");
        assert_eq!(engine.journal(), ["reserve r", "create r", "start r", "run 0 r", "run 1 r", "quiet r", "destroy r"]);
    }
}
