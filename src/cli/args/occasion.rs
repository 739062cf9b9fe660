//! What can be said to commands that render templates.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exec::input::parameter;

/// What templates are rendered for.
#[derive(Debug, Args)]
pub struct OccasionArgs {
    /// Render .taskcluster.yml for this: github-push, github-pull-request, github-release, cron, action …
    #[arg(long, value_name = "KIND")]
    pub tasks_for: Option<String>,
    /// The event that a template is rendered with, JSON or YAML [default: an empty one]
    #[arg(long, value_name = "FILE", requires = "tasks_for")]
    pub event: Option<PathBuf>,
    /// A further name that a template may use; the value is JSON, else a text. May be repeated
    #[arg(long, value_name = "NAME=VALUE", requires = "tasks_for", value_parser = parameter)]
    pub parameter: Vec<(String, serde_json::Value)>,
}
