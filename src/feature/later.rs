//! Parts of the payload that this version understands but cannot do yet. A task that asks for one is told so; nothing is
//! silently ignored.

use async_trait::async_trait;
use tc_payload::native::Payload;

use super::table::Part;
use crate::run::{
    context::RunContext,
    outcome::{Blame, RunError},
};

/// A part that is not there yet.
struct Later(&'static str);

/// The parts among them that this run asks for.
pub fn wanted(cx: &RunContext) -> Vec<Box<dyn Part<RunContext>>> {
    asked(&cx.payload).map(|name| Box::new(Later(name)) as Box<_>).collect()
}

/// Where a payload asks for them: fields of it, with dots between the levels.
pub fn asked(payload: &Payload) -> impl Iterator<Item = &'static str> {
    let features = &payload.features;
    let asked = [
        ("features.taskclusterProxy", features.taskcluster_proxy),
        ("mounts", !payload.mounts.is_empty()),
        ("features.interactive", features.interactive),
        ("features.chainOfTrust", features.chain_of_trust),
        ("features.loopbackAudio", features.loopback_audio),
        ("features.loopbackVideo", features.loopback_video),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name)
}

#[async_trait]
impl Part<RunContext> for Later {
    fn name(&self) -> &'static str {
        self.0
    }

    fn admit(&self, _cx: &RunContext) -> Result<(), RunError> {
        Err(RunError::new(
            Blame::Payload,
            format!("payload.{} comes with a later version of this worker; it cannot run this task", self.0),
        ))
    }
}
