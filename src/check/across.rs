//! The rules between tasks, over what is remembered of each.

use super::{Options, cache, card::Card, depend, finding::Findings, kind::Kind, name, open::Opened, rule};
use tc_payload::Problem;

/// Looks at all tasks of all files together. Returns the findings of each file.
pub(super) fn check(files: &[Opened], cards: &[Vec<Card>], options: &Options<'_>) -> Vec<(usize, Findings)> {
    let mut findings: Vec<Findings> = files.iter().map(|_| Findings::default()).collect();
    let is_graph: Vec<bool> = files.iter().map(|file| file.kind == Some(Kind::Graph)).collect();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    name::shared(cards, &is_graph, &names, &mut findings);
    let stems: Vec<&str> = files.iter().map(|file| file.stem.as_str()).collect();
    depend::check(cards, &is_graph, (&names, &stems), &mut findings);
    cache::shared(cards, &mut findings);
    if let Some(worker) = options.worker {
        let queue = worker.task_queue_id();
        let is_for_it = |card: &Card| card.queue.as_deref().is_none_or(|wanted| wanted == queue);
        let first = cards.iter().position(|cards| !cards.is_empty());
        if let Some(first) = first.filter(|_| !cards.iter().flatten().any(is_for_it)) {
            let message =
                format!("no task is for the queue {queue} of the worker's configuration, which was held against nothing");
            findings[first].of_file(&rule::WORKER_QUEUE, Problem::new("", message));
        }
    }
    findings.into_iter().enumerate().collect()
}
