use proptest::prelude::*;

use super::*;

fn limits(capacity: usize) -> Limits {
    Limits { capacity, tasks_to_run: None, idle_timeout: None, give_up_after: Duration::from_secs(3600) }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The call that was made, if one was.
fn claim(effects: &[Effect]) -> Option<(u64, usize)> {
    effects.iter().find_map(|e| if let Effect::Claim { call, tasks } = e { Some((*call, *tasks)) } else { None })
}

#[test]
fn one_call_asks_for_at_most_what_the_service_allows() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(255), now);
    assert_eq!(claim(&slots.on(Event::Tick, now)), Some((0, 32)));
    let effects = slots.on(Event::Claimed { call: 0, tasks: 32 }, now);
    assert_eq!(effects, [Effect::Start(32), Effect::Claim { call: 1, tasks: 32 }]);
}

#[test]
fn a_slot_that_becomes_free_is_asked_for_while_another_call_is_open() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(4), now);
    slots.on(Event::Tick, now);
    let effects = slots.on(Event::Claimed { call: 0, tasks: 2 }, now);
    assert_eq!(claim(&effects), Some((1, 2)));
    assert_eq!(claim(&slots.on(Event::RunEnded, now)), Some((2, 1)), "a second call for the slot that is new");
    assert_eq!(claim(&slots.on(Event::RunEnded, now)), None, "two calls are open already");
    let effects = slots.on(Event::Claimed { call: 2, tasks: 1 }, now);
    assert_eq!(claim(&effects), Some((3, 1)), "the slot that waited is asked for now");
}

#[test]
fn an_empty_answer_at_once_is_followed_by_a_gap_and_a_late_one_is_not() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(1), now);
    slots.on(Event::Tick, now);
    assert_eq!(slots.on(Event::Claimed { call: 0, tasks: 0 }, now), []);
    assert_eq!(slots.next_wakeup(), Some(now + EMPTY_CALL_GAP));
    let now = now + EMPTY_CALL_GAP;
    assert_eq!(claim(&slots.on(Event::Tick, now)), Some((1, 1)));
    let now = now + secs(20);
    assert_eq!(claim(&slots.on(Event::Claimed { call: 1, tasks: 0 }, now)), Some((2, 1)));
}

#[test]
fn failures_back_off_and_a_pause_that_the_service_asks_for_is_kept() {
    let mut now = Instant::now();
    let mut slots = Slots::new(limits(1), now);
    let (mut call, _) = claim(&slots.on(Event::Tick, now)).expect("a call");
    let mut waits = Vec::new();
    for pause in [None, None, None, Some(secs(30))] {
        slots.on(Event::NotClaimed { call, pause, jitter: 1.0 }, now);
        let next = slots.next_wakeup().expect("a next try");
        waits.push(next - now);
        now = next;
        (call, _) = claim(&slots.on(Event::Tick, now)).expect("a call");
    }
    assert_eq!(waits, [secs(1), secs(2), secs(4), secs(30)]);
}

#[test]
fn a_worker_that_cannot_claim_for_too_long_ends_with_69() {
    let mut now = Instant::now();
    let mut slots = Slots::new(limits(1), now);
    let begin = now;
    let mut effects = slots.on(Event::Tick, now);
    for _ in 0..1000 {
        if let Some((call, _)) = claim(&effects) {
            effects = slots.on(Event::NotClaimed { call, pause: None, jitter: 0.3 }, now);
        } else if effects.contains(&Effect::End(INTERNAL_ERROR)) {
            assert!(now - begin >= secs(3600) && now - begin < secs(3700));
            return;
        } else {
            now = slots.next_wakeup().expect("it goes on");
            effects = slots.on(Event::Tick, now);
        }
    }
    panic!("the worker went on for ever");
}

#[test]
fn an_idle_worker_waits_for_its_open_call_and_works_on_if_that_brings_a_task() {
    let now = Instant::now();
    let mut slots = Slots::new(Limits { idle_timeout: Some(secs(7)), ..limits(1) }, now);
    slots.on(Event::Tick, now);
    assert_eq!(slots.on(Event::Tick, now + secs(7)), [], "the call is open");
    assert_eq!(slots.on(Event::Claimed { call: 0, tasks: 1 }, now + secs(8)), [Effect::Start(1)]);
    let effects = slots.on(Event::RunEnded, now + secs(9));
    assert_eq!(claim(&effects), Some((1, 1)));
    slots.on(Event::Tick, now + secs(16));
    assert_eq!(slots.on(Event::Claimed { call: 1, tasks: 0 }, now + secs(29)), [Effect::End(IDLE_TIMEOUT)]);
}

#[test]
fn the_wanted_number_of_tasks_is_never_exceeded() {
    let now = Instant::now();
    let mut slots = Slots::new(Limits { tasks_to_run: Some(3), ..limits(2) }, now);
    assert_eq!(claim(&slots.on(Event::Tick, now)), Some((0, 2)));
    assert_eq!(claim(&slots.on(Event::Claimed { call: 0, tasks: 2 }, now)), None);
    assert_eq!(claim(&slots.on(Event::RunEnded, now)), Some((1, 1)));
    assert_eq!(claim(&slots.on(Event::Claimed { call: 1, tasks: 1 }, now)), None);
    assert_eq!(slots.on(Event::RunEnded, now), []);
    assert_eq!(slots.on(Event::RunEnded, now), [Effect::End(TASKS_COMPLETE)]);
}

#[test]
fn finishing_waits_for_runs_and_hands_late_tasks_back() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(2), now);
    slots.on(Event::Tick, now);
    slots.on(Event::Claimed { call: 0, tasks: 1 }, now);
    assert_eq!(slots.on(Event::Finish, now), []);
    assert_eq!(slots.on(Event::Claimed { call: 1, tasks: 1 }, now), [Effect::HandBack]);
    assert_eq!(slots.on(Event::RunEnded, now), [Effect::End(WORKER_STOPPED)]);
}

#[test]
fn an_abort_outranks_a_finish_that_came_before() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(1), now);
    slots.on(Event::Tick, now);
    slots.on(Event::Claimed { call: 0, tasks: 1 }, now);
    slots.on(Event::Finish, now);
    assert_eq!(slots.on(Event::Abort, now), [Effect::AbortRuns]);
    assert_eq!(slots.on(Event::Finish, now), []);
    assert_eq!(slots.on(Event::RunEnded, now), [Effect::End(WORKER_SHUTDOWN)]);
}

#[test]
fn an_abort_ends_calls_before_runs_so_that_none_comes_back() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(3), now);
    slots.on(Event::Tick, now);
    slots.on(Event::Claimed { call: 0, tasks: 2 }, now);
    assert_eq!(claim(&slots.on(Event::RunEnded, now)), Some((2, 1)));
    assert_eq!(slots.on(Event::Abort, now), [Effect::BreakOff]);
    assert_eq!(slots.on(Event::NotClaimed { call: 1, pause: None, jitter: 0.5 }, now), [], "another call is open");
    assert_eq!(slots.on(Event::Claimed { call: 2, tasks: 1 }, now), [Effect::HandBack, Effect::AbortRuns]);
    assert_eq!(slots.on(Event::RunEnded, now), [Effect::End(WORKER_SHUTDOWN)]);
}

#[test]
fn a_service_that_gives_too_much_does_not_overfill_the_worker() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(2), now);
    slots.on(Event::Tick, now);
    assert_eq!(slots.on(Event::Claimed { call: 0, tasks: 5 }, now), [Effect::Start(2)]);
    assert_eq!(slots.running(), 2);
}

#[test]
fn failures_while_tasks_run_do_not_end_the_worker_when_the_last_one_ends() {
    let now = Instant::now();
    let mut slots = Slots::new(limits(2), now);
    slots.on(Event::Tick, now);
    let effects = slots.on(Event::Claimed { call: 0, tasks: 1 }, now);
    let (call, _) = claim(&effects).expect("a call for the other slot");
    slots.on(Event::NotClaimed { call, pause: None, jitter: 0.5 }, now);
    let late = now + secs(7200);
    let effects = slots.on(Event::RunEnded, late);
    assert!(claim(&effects).is_some() && !slots.is_leaving(), "{effects:?}");
}

/// One step of a history, as proptest makes it up.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Answer { newest: bool, share: f64 },
    Fail { newest: bool },
    EndRun,
    Finish,
    Abort,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..30_u64).prop_map(Step::Wait),
        6 => (any::<bool>(), 0.0..1.01_f64).prop_map(|(newest, share)| Step::Answer { newest, share }),
        2 => any::<bool>().prop_map(|newest| Step::Fail { newest }),
        6 => Just(Step::EndRun),
        1 => Just(Step::Finish),
        1 => Just(Step::Abort),
    ]
}

proptest! {
    #[test]
    fn no_history_overfills_or_hangs(
        capacity in 1..256_usize,
        tasks_to_run in proptest::option::of(1..20_u64),
        idle in proptest::option::of(1..60_u64),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut now = Instant::now();
        let limits = Limits { capacity, tasks_to_run, idle_timeout: idle.map(secs), give_up_after: secs(600) };
        let mut slots = Slots::new(limits, now);
        let mut open: Vec<(u64, usize)> = Vec::new();
        let mut running = 0;
        let mut started = 0_u64;
        let mut ended = None;
        let mut leaving = false;
        let script = std::iter::once(Step::Wait(0)).chain(steps);
        // After the script the surroundings behave: the worker is told to go, calls are answered, runs end.
        let closing = std::iter::once(Step::Finish)
            .chain(std::iter::repeat_n(Step::Answer { newest: false, share: 0.0 }, 3))
            .chain(std::iter::repeat_n(Step::EndRun, 600));
        for step in script.chain(closing) {
            if ended.is_some() { break; }
            let mut came = 0;
            let event = match step {
                Step::Wait(s) => { now += secs(s); Event::Tick }
                Step::Answer { newest, share } => {
                    if open.is_empty() { continue; }
                    let (call, asked) = if newest { open.pop().expect("not empty") } else { open.remove(0) };
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "asked is at most 32")]
                    { came = ((asked as f64) * share.min(1.0)) as usize; }
                    Event::Claimed { call, tasks: came }
                }
                Step::Fail { newest } => {
                    if open.is_empty() { continue; }
                    let (call, _) = if newest { open.pop().expect("not empty") } else { open.remove(0) };
                    Event::NotClaimed { call, pause: None, jitter: 0.5 }
                }
                Step::EndRun => {
                    if running == 0 { continue; }
                    running -= 1;
                    Event::RunEnded
                }
                Step::Finish => { leaving = true; Event::Finish }
                Step::Abort => { leaving = true; Event::Abort }
            };
            let effects = slots.on(event, now);
            for effect in &effects {
                match effect {
                    Effect::Claim { call, tasks } => {
                        prop_assert!(!leaving, "claimed while leaving");
                        prop_assert!((1..=TASKS_PER_CALL).contains(tasks));
                        open.push((*call, *tasks));
                    }
                    Effect::Start(n) => { prop_assert_eq!(*n, came); running += came; started += came as u64; came = 0; }
                    Effect::HandBack => { prop_assert!(came > 0); came = 0; }
                    Effect::End(code) => { prop_assert!(ended.is_none()); ended = Some(*code); }
                    Effect::AbortRuns => prop_assert!(open.is_empty(), "a call could bring the runs back"),
                    Effect::BreakOff => prop_assert!(!open.is_empty()),
                    Effect::SayIdle(_) => {}
                }
            }
            prop_assert_eq!(came, 0, "tasks were neither started nor handed back");
            prop_assert!(open.len() <= 2);
            prop_assert!(running + open.iter().map(|o| o.1).sum::<usize>() <= capacity);
            prop_assert!(tasks_to_run.is_none_or(|n| started <= n));
            prop_assert_eq!(slots.running(), running);
            if ended.is_some() {
                prop_assert!(running == 0 && open.is_empty());
            } else if !slots.is_leaving() && open.is_empty() && running == 0 {
                prop_assert!(slots.next_wakeup().is_some(), "nothing would ever happen again");
            }
        }
        prop_assert!(ended.is_some(), "the worker hangs");
    }
}
