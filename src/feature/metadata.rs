//! `generic-worker-metadata.json`: names the last task of this worker, for whoever looks at the machine.

use async_trait::async_trait;
use tc_engine::Quiet;
use tracing::warn;

use super::table::Part;
use crate::run::{
    context::RunContext,
    outcome::{Phase, RunError},
};
use crate::seam::Lasting;

/// Name of the file, in the state directory.
pub const FILE_NAME: &str = "generic-worker-metadata.json";

/// Writes the file after each task.
pub struct Metadata;

#[async_trait]
impl Part<RunContext> for Metadata {
    fn name(&self) -> &'static str {
        "Metadata"
    }

    fn stops_in(&self) -> Phase {
        Phase::Return
    }

    async fn stop(&self, cx: &RunContext, _quiet: Option<&dyn Quiet>) -> Vec<RunError> {
        let root = cx.shop.config.root_url.trim_end_matches('/');
        let url = format!("{root}/tasks/{}/runs/{}", cx.task_id, cx.run_id);
        let path = cx.shop.config.own.state_dir.join(FILE_NAME);
        let content = format!("{}\n", serde_json::json!({ "lastTaskUrl": url }));
        // The file is a convenience; a task does not fail for it.
        if let Err(error) = cx.shop.disk.replace(&path, content.as_bytes(), 0o644, Lasting::Process) {
            warn!("Could not write {}: {error}", path.display());
        }
        Vec::new()
    }
}
