//! `payload.maxRunTime`: covers the commands, from the first to the last.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tc_engine::{Quiet, StopReason};
use tokio_util::task::AbortOnDropHandle;

use super::table::Part;
use crate::run::{
    context::RunContext,
    outcome::{Kill, Phase, RunError},
};

/// The timer of one run.
#[derive(Default)]
pub struct MaxRunTime(Mutex<Option<AbortOnDropHandle<()>>>);

#[async_trait]
impl Part<RunContext> for MaxRunTime {
    fn name(&self) -> &'static str {
        "Max Run Time"
    }

    fn starts_in(&self) -> Phase {
        Phase::Run
    }

    fn stops_in(&self) -> Phase {
        Phase::Run
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let kill = cx.kill.clone();
        let limit = Duration::from_secs(cx.payload.max_run_time_secs);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            kill.kill(Kill::new(StopReason::MaxRunTime));
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(timer));
        Ok(())
    }

    async fn stop(&self, _cx: &RunContext, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        if let Some(timer) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            timer.abort();
        }
        Vec::new()
    }
}
