//! Random histories of the state machine beside the [`model`](super::model): after each step both have answered the same and show the same.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::{
    model::{Claimed, Model, PATIENCE, Spec},
    *,
};

const TASKS: usize = 6;
const QUEUES: usize = 2;
const GROUPS: usize = 2;
const WORKERS: usize = 3;
/// Members of a group that are changed in one go.
const BATCH: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    /// The dates count from the moment.
    Create(Spec),
    Claim {
        queue: usize,
        worker: usize,
        count: usize,
    },
    ClaimRun {
        task: usize,
        run: usize,
        worker: usize,
    },
    Wait {
        queue: usize,
        worker: usize,
        count: usize,
    },
    Leave {
        ticket: usize,
    },
    GiveBack {
        claim: usize,
    },
    Reclaim {
        task: usize,
        run: usize,
    },
    Lapse {
        task: usize,
        run: usize,
    },
    Report {
        task: usize,
        run: usize,
        report: usize,
    },
    Schedule {
        task: usize,
    },
    Rerun {
        task: usize,
    },
    Cancel {
        task: usize,
    },
    Prioritize {
        task: usize,
        priority: usize,
    },
    Seal {
        group: usize,
    },
    CancelGroup {
        group: usize,
    },
    PrioritizeGroup {
        group: usize,
        priority: usize,
    },
    Quarantine {
        queue: usize,
        worker: usize,
        seconds: i64,
    },
    /// The clock goes on, jumps ahead, or goes back.
    Pass {
        seconds: i64,
    },
}

const REPORTS: [(Report, &str, &str); 6] = [
    (Report::Completed, "completed", "completed"),
    (Report::Completed, "completed", "completed"),
    (Report::Failed, "failed", "failed"),
    (Report::Exception(Trouble::WorkerShutdown), "exception", "worker-shutdown"),
    (Report::Exception(Trouble::IntermittentTask), "exception", "intermittent-task"),
    (Report::Exception(Trouble::MalformedPayload), "exception", "malformed-payload"),
];

fn spec() -> impl Strategy<Value = Spec> {
    let names = (0..TASKS, 0..QUEUES, 0..GROUPS, prop_oneof![9 => Just(0_usize), 1 => Just(1)]);
    let dates = (1..120_i64, 0..120_i64);
    let needs = (prop::collection::btree_set(0..TASKS, 0..3), any::<bool>());
    (names, 0..Priority::ALL.len(), 0..4_usize, dates, needs).prop_map(
        |((task, queue, group, scheduler), priority, retries, (deadline, more), (on, all_resolved))| Spec {
            task,
            queue,
            group,
            scheduler,
            priority,
            retries,
            deadline,
            expires: deadline + more,
            on: on.into_iter().collect(),
            all_resolved,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (task, queue, worker, group) = (0..TASKS, 0..QUEUES, 0..WORKERS, 0..GROUPS);
    let (run, count, priority) = (0..4_usize, 1..4_usize, 0..Priority::ALL.len());
    let task_and_run = (task.clone(), run.clone());
    prop_oneof![
        8 => spec().prop_map(Step::Create),
        6 => (queue.clone(), worker.clone(), count.clone()).prop_map(|(queue, worker, count)| Step::Claim { queue, worker, count }),
        2 => (task_and_run.clone(), worker.clone()).prop_map(|((task, run), worker)| Step::ClaimRun { task, run, worker }),
        3 => (queue.clone(), worker.clone(), count).prop_map(|(queue, worker, count)| Step::Wait { queue, worker, count }),
        1 => (0..8_usize).prop_map(|ticket| Step::Leave { ticket }),
        1 => (0..8_usize).prop_map(|claim| Step::GiveBack { claim }),
        3 => task_and_run.clone().prop_map(|(task, run)| Step::Reclaim { task, run }),
        1 => task_and_run.clone().prop_map(|(task, run)| Step::Lapse { task, run }),
        8 => (task_and_run, 0..REPORTS.len()).prop_map(|((task, run), report)| Step::Report { task, run, report }),
        1 => task.clone().prop_map(|task| Step::Schedule { task }),
        2 => task.clone().prop_map(|task| Step::Rerun { task }),
        1 => task.clone().prop_map(|task| Step::Cancel { task }),
        2 => (task, priority.clone()).prop_map(|(task, priority)| Step::Prioritize { task, priority }),
        1 => group.clone().prop_map(|group| Step::Seal { group }),
        1 => group.clone().prop_map(|group| Step::CancelGroup { group }),
        1 => (group, priority).prop_map(|(group, priority)| Step::PrioritizeGroup { group, priority }),
        1 => (queue, worker, -10..60_i64).prop_map(|(queue, worker, seconds)| Step::Quarantine { queue, worker, seconds }),
        6 => prop_oneof![8 => 0..14_i64, 1 => -30..0_i64, 1 => 50..600_i64].prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// Both, and what was handed out so far.
struct Both {
    state: State,
    model: Model,
    now: i64,
    tickets: Vec<Ticket>,
    claims: Vec<(Claim, Claimed)>,
}

fn named(number: usize) -> Arc<Worker> {
    worker(&number.to_string())
}

fn number(id: TaskId) -> usize {
    id.as_str()[4..8].parse().expect("a number")
}

fn seconds(date: Timestamp) -> i64 {
    date.as_second() - at(0).as_second()
}

fn rank(priority: Priority) -> usize {
    Priority::ALL.iter().position(|other| *other == priority).expect("a priority")
}

fn show(status: &Status) -> String {
    let mut text = format!("{} p{} r{}", number(status.task_id), rank(status.priority), status.retries_left);
    for run in &status.runs {
        let held = run.hold.as_ref().map(|hold| {
            let worker: usize = hold.worker.id.parse().expect("a number");
            (worker, seconds(hold.started), seconds(hold.taken_until))
        });
        let resolved = run.resolved.as_ref().map(|(why, when)| (why.as_str(), seconds(*when)));
        let (state, created) = (run.state.as_str(), run.why_created.as_str());
        write!(text, " [{state} {created} {} {held:?} {resolved:?}]", seconds(run.scheduled)).expect("written");
    }
    text
}

fn kind(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(_) => "not found",
        Refusal::Conflict(_) => "conflict",
        Refusal::Input(_) => "input",
    }
    .to_owned()
}

fn shown(answer: Result<Status, Refusal>) -> Result<String, String> {
    answer.map(|status| show(&status)).map_err(|refusal| kind(&refusal))
}

fn show_group(group: &Group) -> String {
    let scheduler = group.scheduler_id.strip_prefix('s').expect("a scheduler").to_owned();
    format!("s{scheduler} {} {:?}", seconds(group.expires), group.sealed.map(seconds))
}

fn definition_of(spec: &Spec) -> Definition {
    Definition {
        json: RawValue::from_string(format!("\"{spec:?}\"")).expect("JSON"),
        task_queue_id: queue(spec.queue),
        scheduler_id: format!("s{}", spec.scheduler).into(),
        task_group_id: id(spec.group),
        dependencies: spec.on.iter().map(|on| id(*on)).collect(),
        requires: if spec.all_resolved { Requires::AllResolved } else { Requires::AllCompleted },
        priority: Priority::ALL[spec.priority],
        retries: u32::try_from(spec.retries).expect("few"),
        deadline: at(spec.deadline),
        expires: at(spec.expires),
        ..definition()
    }
}

impl Both {
    fn new() -> Self {
        assert_eq!(CLAIM, SignedDuration::from_secs(PATIENCE));
        Self { state: state(), model: Model::default(), now: 0, tickets: Vec::new(), claims: Vec::new() }
    }

    fn remember(&mut self, ours: Vec<Claim>, theirs: Vec<Claimed>) {
        let text = |claim: &Claim| (number(claim.status.task_id), claim.run_id as usize, seconds(claim.taken_until));
        let ours_text: Vec<_> = ours.iter().map(text).collect();
        let theirs_text: Vec<_> = theirs.iter().map(|claim| (claim.task, claim.run, claim.until)).collect();
        assert_eq!(ours_text, theirs_text, "claims");
        self.claims.extend(ours.into_iter().zip(theirs));
    }

    fn take(&mut self, step: &Step) {
        let now = self.now;
        let (state, model, date) = (&mut self.state, &mut self.model, at(now));
        match step {
            Step::Create(spec) => {
                let spec = Spec { deadline: now + spec.deadline, expires: now + spec.expires, ..spec.clone() };
                let ours = state.create(date, id(spec.task), Arc::new(definition_of(&spec)));
                assert_eq!(shown(ours), model.create(now, &spec));
            }
            Step::Claim { queue: name, worker, count } => {
                let ours = state.claim(date, &queue(*name), &named(*worker), *count);
                let theirs = model.claim(now, *name, *worker, *count);
                self.remember(ours, theirs);
            }
            Step::ClaimRun { task, run, worker } => {
                let ours = state
                    .claim_run(date, id(*task), u32::try_from(*run).expect("few"), &named(*worker))
                    .map_err(|refusal| kind(&refusal));
                match (ours, model.claim_run(now, *task, *run, *worker)) {
                    (Ok(ours), Ok(theirs)) => self.remember(vec![ours], vec![theirs]),
                    (ours, theirs) => assert_eq!(ours.err(), theirs.err()),
                }
            }
            Step::Wait { queue: name, worker, count } => {
                self.tickets.push(state.wait(date, &queue(*name), named(*worker), *count));
                model.wait(now, *name, *worker, *count);
            }
            Step::Leave { ticket } => {
                if let Some(ours) = self.tickets.get(*ticket) {
                    state.leave(*ours);
                    model.leave(*ticket);
                }
            }
            Step::GiveBack { claim } => {
                if let Some((ours, theirs)) = self.claims.get(*claim) {
                    state.give_back(date, ours);
                    model.give_back(now, theirs);
                }
            }
            Step::Reclaim { task, run } => {
                let ours = state.reclaim(date, id(*task), u32::try_from(*run).expect("few"));
                let ours = ours.map(|claim| seconds(claim.taken_until)).map_err(|refusal| kind(&refusal));
                assert_eq!(ours, model.reclaim(now, *task, *run));
            }
            Step::Lapse { task, run } => {
                let ours = state.lapse(date, id(*task), u32::try_from(*run).expect("few"));
                assert_eq!(ours.map_err(|refusal| kind(&refusal)), model.lapse(now, *task, *run));
            }
            Step::Report { task, run, report } => {
                let (report, word, why) = REPORTS[*report];
                let ours = state.report(date, id(*task), u32::try_from(*run).expect("few"), report);
                assert_eq!(shown(ours), model.report(now, *task, *run, word, why));
            }
            Step::Schedule { task } => assert_eq!(shown(state.schedule(date, id(*task))), model.schedule(now, *task)),
            Step::Rerun { task } => assert_eq!(shown(state.rerun(date, id(*task))), model.rerun(now, *task)),
            Step::Cancel { task } => assert_eq!(shown(state.cancel(date, id(*task))), model.cancel(now, *task)),
            Step::Prioritize { task, priority } => {
                let ours = state.prioritize(date, id(*task), Priority::ALL[*priority]);
                assert_eq!(shown(ours), model.prioritize(now, *task, *priority));
            }
            Step::Seal { group } => {
                let ours = state.seal_group(date, id(*group)).map(|group| show_group(&group)).map_err(|refusal| kind(&refusal));
                assert_eq!(ours, model.seal(now, *group));
            }
            Step::CancelGroup { group } => {
                let members = model.members(*group);
                let mut after = None;
                for members in members.chunks(BATCH) {
                    let ours = state.cancel_group(date, id(*group), after, BATCH).map_err(|refusal| kind(&refusal));
                    let theirs = model.cancel_group(now, *group, members);
                    let changed = ours.as_ref().map(|batch| batch.changed.iter().map(|id| number(*id)).collect());
                    assert_eq!(changed.map_err(Clone::clone), theirs);
                    after = ours.ok().and_then(|batch| batch.next);
                }
            }
            Step::PrioritizeGroup { group, priority } => {
                let ours = state.prioritize_group(date, id(*group), Priority::ALL[*priority], None, TASKS);
                let ours = ours.map(|batch| batch.changed.into_iter().map(number).collect()).map_err(|refusal| kind(&refusal));
                assert_eq!(ours, model.prioritize_group(now, *group, *priority));
            }
            Step::Quarantine { queue: name, worker, seconds } => {
                let until = now + seconds;
                let change = Quarantined { until: at(until), at: date, client_id: "c".into(), info: "i".into() };
                let ours = state
                    .quarantine(date, &queue(*name), &named(*worker), change)
                    .map(|_| ())
                    .map_err(|refusal| kind(&refusal));
                assert_eq!(ours, model.quarantine(now, *name, *worker, until));
            }
            Step::Pass { seconds } => {
                self.now += seconds;
                state.advance(at(self.now));
                model.advance(self.now);
            }
        }
        self.compare_grants();
        self.compare();
    }

    /// Each queue's workers are served in their order; in which order the queues come is nobody's business.
    fn compare_grants(&mut self) {
        let ticket = |ticket: Ticket| self.tickets.iter().position(|other| *other == ticket).expect("a ticket");
        let mut ours: Vec<_> = granted(&mut self.state).into_iter().map(|(given, claims)| (ticket(given), claims)).collect();
        let mut theirs = std::mem::take(&mut self.model.granted);
        ours.sort_by_key(|(ticket, _)| *ticket);
        theirs.sort_by_key(|(ticket, _)| *ticket);
        let tickets = |ours: Vec<usize>, theirs: Vec<usize>| assert_eq!(ours, theirs, "tickets that were served");
        tickets(ours.iter().map(|(ticket, _)| *ticket).collect(), theirs.iter().map(|(ticket, _)| *ticket).collect());
        for ((_, ours), (_, theirs)) in ours.into_iter().zip(theirs) {
            self.remember(ours, theirs);
        }
    }

    /// Everything that anybody can ask for.
    fn compare(&mut self) {
        let (state, model, now) = (&mut self.state, &self.model, at(self.now));
        let numbers = |statuses: Vec<Status>| statuses.iter().map(|status| number(status.task_id)).collect::<Vec<_>>();
        assert_eq!(state.next_wakeup().map(seconds), model.next().map(|(when, ..)| when), "what comes next");
        for task in 0..TASKS {
            assert_eq!(shown(state.status(now, id(task))), model.show(task));
            let first = state.dependents(now, id(task), None, 1).map_err(|refusal| kind(&refusal));
            let all = first.and_then(|mut first| {
                let rest = state
                    .dependents(now, id(task), first.last().map(|last| last.task_id), TASKS)
                    .map_err(|refusal| kind(&refusal))?;
                first.extend(rest);
                Ok(numbers(first))
            });
            assert_eq!(all, model.dependents(task), "who depends on {task}");
        }
        for group in 0..GROUPS {
            let ours = state.group_page(now, id(group), None, TASKS).map_err(|refusal| kind(&refusal));
            let theirs = model.group(group).map(|shown| (shown, model.members(group)));
            assert_eq!(ours.map(|(group, members)| (show_group(&group), numbers(members))), theirs, "group {group}");
        }
        for name in 0..QUEUES {
            let mut lane = |claimed| -> Vec<_> {
                state.lane(now, &queue(name), claimed, None, TASKS).iter().map(|(_, status)| number(status.task_id)).collect()
            };
            let (pending, claimed) = (lane(false), lane(true));
            assert_eq!(state.counts(now, &queue(name)), (pending.len(), claimed.len()));
            assert_eq!((pending, claimed), (model.lane(name, "pending"), model.lane(name, "running")), "queue {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_say_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut both = Both::new();
        for step in &steps {
            both.take(step);
        }
        // In the end, nothing is left anywhere but what was seen.
        both.take(&Step::Pass { seconds: 10_000 });
        for ticket in 0..both.tickets.len() {
            both.take(&Step::Leave { ticket });
        }
        let state = both.state;
        prop_assert!(state.tasks.all().is_empty() && state.alarms.is_empty() && state.lanes.is_empty(), "{:?}", state);
        prop_assert!(state.groups.is_empty() && state.needs.is_empty(), "{:?}", state);
    }
}
