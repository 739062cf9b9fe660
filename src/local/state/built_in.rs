//! Task queues whose tasks the queue itself resolves, as a deployment's own workers do: `built-in/succeed` and `built-in/fail`. Such
//! tasks run nothing; in graphs, others wait for them. Their payload has to be `{}`.
//!
//! They are in no lane: nobody claims them. A run is due as soon as it is made, and what is due happens in a loop, so that chains of
//! such tasks may be long.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Definition, RunState, State, TaskId, Trouble, WhyResolved, Worker};

/// How a task ends that the queue resolves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltIn {
    /// It is completed.
    Succeed,
    /// It has failed.
    Fail,
}

impl BuiltIn {
    /// What becomes of the tasks of a task queue, if the queue resolves them itself.
    pub fn of(task_queue_id: &str) -> Option<Self> {
        match task_queue_id {
            "built-in/succeed" => Some(Self::Succeed),
            "built-in/fail" => Some(Self::Fail),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Succeed => "succeed",
            Self::Fail => "fail",
        }
    }

    fn end(self, definition: &Definition) -> (RunState, WhyResolved) {
        #[derive(Deserialize)]
        struct Payload {
            payload: Map<String, Value>,
        }
        let payload = serde_json::from_str::<Payload>(definition.json.get());
        match self {
            _ if !payload.is_ok_and(|of| of.payload.is_empty()) => (RunState::Exception, Trouble::MalformedPayload.into()),
            Self::Succeed => (RunState::Completed, WhyResolved::Completed),
            Self::Fail => (RunState::Failed, WhyResolved::Failed),
        }
    }
}

impl State {
    /// Runs a task that the queue resolves itself, if it is still pending.
    pub(super) fn run_built_in(&mut self, now: Timestamp, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let definition = task.definition.clone();
        let is_pending = task.runs.last().is_some_and(|run| run.state == RunState::Pending);
        let Some(built_in) = BuiltIn::of(&definition.task_queue_id).filter(|_| is_pending) else { return };
        let worker = Worker { group: "built-in".into(), id: built_in.word().into() };
        self.start_run(now, id, &Arc::new(worker));
        let (state, why) = built_in.end(&definition);
        self.end_run(now, id, state, why, None);
    }
}
