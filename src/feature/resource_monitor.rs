//! The resource monitor: memory of the machine while commands run, for the log and against exhaustion.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tc_engine::{Quiet, StopReason};
use tokio_util::task::AbortOnDropHandle;

use super::{switched_off, table::Part};
use crate::{
    log::format,
    observe::memory::{self, Pressure},
    run::{
        context::RunContext,
        outcome::{Kill, Phase, RunError},
    },
};

/// The sampler of one run.
#[derive(Default)]
pub struct ResourceMonitor(Mutex<Option<AbortOnDropHandle<()>>>);

#[async_trait]
impl Part<RunContext> for ResourceMonitor {
    fn name(&self) -> &'static str {
        "Resource Monitor"
    }

    fn starts_in(&self) -> Phase {
        Phase::Run
    }

    fn stops_in(&self) -> Phase {
        Phase::Run
    }

    fn admit(&self, cx: &RunContext) -> Result<(), RunError> {
        if cx.shop.config.enable_resource_monitor { Ok(()) } else { Err(switched_off(cx, self.name())) }
    }

    async fn start(&self, cx: &RunContext) -> Result<(), RunError> {
        let config = &cx.shop.config;
        let limits = memory::Limits {
            max_used_percent: config.max_memory_usage_percent,
            min_available_bytes: config.min_available_memory_bytes,
            allowed: Duration::from_secs(config.allowed_high_memory_duration_secs),
        };
        let only_warn = config.disable_oom_protection;
        let (watch, log, kill) = (cx.memory.clone(), cx.log.clone(), cx.kill.clone());
        let sampler = tokio::spawn(async move {
            let mut pressure = Pressure::new(limits);
            loop {
                tokio::time::sleep(memory::SAMPLE_EVERY).await;
                let Some(sample) = memory::sample() else { continue };
                watch.add(&sample);
                if !pressure.exceeded(&sample, tokio::time::Instant::now()) {
                    continue;
                }
                let (percent, available) = (limits.max_used_percent, format::memory_size(limits.min_available_bytes));
                log.warn(&format!(
                    "Memory usage above {percent}% and available memory less than {available} persisted for over {}!",
                    format::go_duration(limits.allowed)
                ));
                if only_warn {
                    log.warn("OOM protections are disabled, continuing task...");
                } else {
                    kill.kill(Kill::because(
                        StopReason::Memory,
                        format!(
                            "task aborted due to sustained memory usage above {percent}% and available memory less than {available}"
                        ),
                    ));
                    return;
                }
            }
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(sampler));
        Ok(())
    }

    async fn stop(&self, _cx: &RunContext, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        if let Some(sampler) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            sampler.abort();
        }
        Vec::new()
    }
}
