//! `--tasks-for`: templates are rendered as `exec` renders them, so that their tasks can be checked.

use std::path::{Path, PathBuf};

use serde_json::json;
use tc_payload::{Document, Problem};

use super::{USAGE, input::Budget};
use crate::{
    check::{self, FileReport, Kind, ROOT_URL, Render},
    cli::{
        args::OccasionArgs,
        exec::template::{self, Occasion},
        problems::Failure,
    },
    graph::rendered::Batch,
};

/// Renders templates for one occasion, each in a process of its own.
#[derive(Debug)]
pub(super) struct Kitchen {
    occasion: Occasion,
}

impl Render for Kitchen {
    fn render(&self, document: &Document) -> Result<Batch, Box<Problem>> {
        template::tasks(document, &self.occasion, ROOT_URL)
    }
}

/// What renders templates, if that is wanted; or what is wrong with the event.
pub(super) fn kitchen(arguments: &OccasionArgs, files: &[PathBuf]) -> Result<Result<Option<Kitchen>, FileReport>, Failure> {
    let Some(tasks_for) = arguments.tasks_for.clone() else { return Ok(Ok(None)) };
    let event = match &arguments.event {
        None => json!({}),
        Some(path) => {
            let stdin = Path::new("-");
            if path == stdin && files.iter().any(|file| file == stdin) {
                return Err(Failure::new(USAGE, "standard input cannot be both the event and a file to check"));
            }
            match check::event(Budget::default().read(path)) {
                Ok(event) => event,
                Err(report) => return Ok(Err(report)),
            }
        }
    };
    Ok(Ok(Some(Kitchen { occasion: Occasion { tasks_for, event, parameters: arguments.parameter.clone() } })))
}

/// What people should know about templates, beside problems.
pub(super) fn notes(reports: &[FileReport], kitchen: Option<&Kitchen>) -> Vec<String> {
    let mut templates = reports.iter().filter(|report| report.kind == Some(Kind::Template)).peekable();
    let Some(kitchen) = kitchen else {
        // One is enough to learn of the option.
        let note = |report: &FileReport| {
            format!(
                "note: {}: only its shape was checked; --tasks-for github-push renders it and checks its tasks",
                report.name
            )
        };
        return templates.next().map(note).into_iter().collect();
    };
    if templates.peek().is_none() {
        return vec!["note: no file is a template, so that --tasks-for had nothing to render".to_owned()];
    }
    let empty = templates.filter(|report| report.tasks == 0 && report.errors == 0);
    empty.map(|report| format!("note: {}: gives no tasks for {}", report.name, kitchen.occasion.tasks_for)).collect()
}
