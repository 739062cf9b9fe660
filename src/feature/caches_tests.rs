//! The verdict over a run's caches, and the part itself over a real store.

use super::*;

#[test]
fn only_a_task_that_ended_by_itself_leaves_its_caches_to_others() {
    use CommandsState::{Ended, NotStarted, Unfinished};
    let of = |state, quiet| verdict(state, &[72, 0], quiet).0;
    assert_eq!(of(Ended(Some(1)), true), Verdict::Keep, "failed, and kept all the same");
    assert_eq!(of(Ended(Some(72)), true), Verdict::Discard);
    assert_eq!(of(Ended(Some(0)), true), Verdict::Discard, "also a success, if it is listed");
    assert_eq!(of(Ended(None), true), Verdict::Keep);
    assert_eq!(of(Unfinished, true), Verdict::Discard);
    assert_eq!(of(NotStarted, true), Verdict::Unused);
    for state in [NotStarted, Unfinished, Ended(Some(1))] {
        assert_eq!(of(state, false), Verdict::Discard, "{state:?}");
    }
}

#[test]
fn log_readers_find_why_caches_go() {
    let why = |state| verdict(state, &[72], true).1;
    let aborted = "Purging caches since the task was aborted and may have left them in an inconsistent state";
    assert_eq!(why(CommandsState::Unfinished).as_deref(), Some(aborted));
    let listed =
        "Purging caches since last command had exit code 72 which is listed in task.Payload.OnExitStatus.PurgeCaches array";
    assert_eq!(why(CommandsState::Ended(Some(72))).as_deref(), Some(listed));
    assert_eq!(why(CommandsState::Ended(Some(1))), None);
}

#[test]
fn a_scope_of_either_kind_is_enough() {
    let missing = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        missing_scope(&scopes, "level-1-x")
    };
    for fine in ["docker-worker:cache:level-1-x", "generic-worker:cache:level-1-*", "docker-worker:*", "*"] {
        assert_eq!(missing(&[fine]), None, "{fine}");
    }
    for other in ["docker-worker:cache:level-1", "docker-worker:cache:level-3-*", "queue:*"] {
        assert_eq!(missing(&[other]).as_deref(), Some("docker-worker:cache:level-1-x"), "{other}");
    }
    assert!(missing(&[]).is_some());
}

#[test]
fn caches_that_arrive_after_the_end_go_back_unused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CacheStore::open(crate::cache::Options {
        dir: dir.path().join("caches"),
        import: Vec::new(),
        clock: Arc::new(crate::seam::SystemClock),
        random: Arc::new(crate::seam::SystemRandom),
        disk: Arc::new(crate::seam::SystemDisk),
        powers: None,
    });
    let one = || store.lease(&["a"]).expect("a cache");
    for lease in one() {
        lease.give_back(Verdict::Keep).expect("kept");
    }
    let held = Mutex::new(Held::default());
    put_away(&held, one());
    assert!(held.lock().expect("unlocked").leases[0].was_there());
    let closed = Mutex::new(Held { closed: true, ..Held::default() });
    held.lock().expect("unlocked").leases.pop().expect("one").give_back(Verdict::Unused).expect("kept");
    put_away(&closed, one());
    assert!(closed.lock().expect("unlocked").leases.is_empty());
    assert!(one()[0].was_there(), "it was given back and not discarded");
}
