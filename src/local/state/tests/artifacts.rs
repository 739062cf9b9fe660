use std::path::PathBuf;

use super::*;

fn s3(content_type: &str, expires: i64) -> NewArtifact {
    NewArtifact {
        content_type: content_type.into(),
        expires: at(expires),
        storage: Storage::S3 { content_length: None, stored: None },
    }
}

fn reference(url: &str) -> NewArtifact {
    NewArtifact { content_type: "text/plain".into(), expires: at(500), storage: Storage::Reference { url: url.into() } }
}

fn link(to: &str) -> NewArtifact {
    NewArtifact { content_type: "application/binary".into(), expires: at(500), storage: Storage::Link { artifact: to.into() } }
}

fn error(message: &str) -> NewArtifact {
    let storage = Storage::Error { reason: "file-missing-on-worker".into(), message: message.into() };
    NewArtifact { content_type: "application/binary".into(), expires: at(500), storage }
}

fn running() -> State {
    let mut state = state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    claim_one(&mut state, 0);
    state
}

#[test]
fn what_may_replace_what() {
    let text = || s3("text/plain", 500);
    for (old, new, allowed) in [
        (text(), text(), true),
        (text(), s3("text/plain", 600), true),
        (text(), s3("text/plain", 400), false),
        (text(), s3("text/html", 500), false),
        (text(), reference("http://x"), false),
        (text(), link("other"), false),
        (reference("http://x"), reference("http://y"), true),
        (reference("http://x"), link("other"), true),
        (reference("http://x"), text(), false),
        (reference("http://x"), error("e"), false),
        (link("other"), link("other"), true),
        (link("other"), link("more"), false),
        (link("other"), reference("http://x"), false),
        (error("e"), error("e"), true),
        (error("e"), error("f"), false),
        (error("e"), text(), false),
    ] {
        let mut state = running();
        state.create_artifact(at(1), id(1), 0, "name", old.clone()).expect("created");
        let answer = state.create_artifact(at(2), id(1), 0, "name", new.clone());
        assert_eq!(answer.is_ok(), allowed, "{old:?} → {new:?}: {answer:?}");
        assert!(allowed || matches!(answer, Err(Refusal::Conflict(_))));
    }
}

#[test]
fn a_link_that_replaces_a_reference_keeps_its_content_type() {
    let mut state = running();
    state.create_artifact(at(1), id(1), 0, "live.log", reference("http://x")).expect("created");
    let artifact = state.create_artifact(at(1), id(1), 0, "live.log", link("backing.log")).expect("replaced");
    assert_eq!(artifact.content_type, "text/plain");
}

#[test]
fn only_running_runs_and_recent_exceptions_take_artifacts() {
    let mut state = running();
    assert!(matches!(state.create_artifact(at(1), id(2), 0, "a", error("e")), Err(Refusal::Input(_))));
    assert!(matches!(state.create_artifact(at(1), id(1), 1, "a", error("e")), Err(Refusal::Input(_))));
    assert!(matches!(state.create_artifact(at(1), id(1), 0, "a", s3("t", 2001)), Err(Refusal::Input(_))), "after its task");
    assert!(matches!(state.create_artifact(at(1), id(1), 0, "a", s3("t", -900)), Err(Refusal::Input(_))), "in the past");
    assert!(state.create_artifact(at(1), id(1), 0, "a", s3("t", -899)).is_ok(), "clocks differ");
    state.report(at(2), id(1), 0, Report::Exception(Trouble::InternalError)).expect("reported");
    let until = 2 + 25 * 60;
    assert!(state.create_artifact(at(until - 1), id(1), 0, "b", s3("t", 1999)).is_ok());
    assert!(matches!(state.create_artifact(at(until), id(1), 0, "c", s3("t", 1999)), Err(Refusal::Conflict(_))));

    let mut state = running();
    state.report(at(2), id(1), 0, Report::Failed).expect("reported");
    assert!(matches!(state.create_artifact(at(2), id(1), 0, "a", error("e")), Err(Refusal::Conflict(_))));

    let mut state = super::state();
    create(&mut state, 0, 1, |_| {}).expect("created");
    assert!(matches!(state.create_artifact(at(1), id(1), 0, "a", error("e")), Err(Refusal::Input(_))), "never claimed");
}

#[test]
fn an_upload_is_kept_by_repeated_calls_replaced_by_the_next_and_dropped_with_its_task() {
    let upload = |name: &str| Stored { path: PathBuf::from(name), bytes: 1, content_encoding: None };
    let unstored = |state: &mut State| -> Vec<PathBuf> {
        let effects = state.take_effects().into_iter();
        effects.filter_map(|effect| if let Effect::Unstored(stored) = effect { Some(stored.path) } else { None }).collect()
    };
    let mut state = running();
    assert!(state.stored(at(1), id(1), 0, "a", upload("/0")).is_err());
    assert_eq!(unstored(&mut state), [PathBuf::from("/0")]);
    state.create_artifact(at(1), id(1), 0, "a", s3("t", 500)).expect("created");
    state.stored(at(1), id(1), 0, "a", upload("/1")).expect("stored");
    let again = state.create_artifact(at(2), id(1), 0, "a", s3("t", 600)).expect("repeated");
    assert!(matches!(again.storage, Storage::S3 { stored: Some(stored), .. } if stored.path.as_os_str() == "/1"));
    state.stored(at(3), id(1), 0, "a", upload("/2")).expect("stored");
    assert_eq!(unstored(&mut state), [PathBuf::from("/1")]);
    state.create_artifact(at(3), id(1), 0, "b", s3("t", 2000)).expect("created");
    state.stored(at(3), id(1), 0, "b", upload("/3")).expect("stored");
    state.advance(at(2000));
    assert_eq!(unstored(&mut state), [PathBuf::from("/2"), PathBuf::from("/3")]);
}

#[test]
fn an_artifact_that_has_expired_is_nowhere_any_more_and_its_task_is() {
    let mut state = running();
    state.note_changes();
    for (name, expires) in [("a", 500), ("b", 600), ("c", 600), ("d", 2000)] {
        state.create_artifact(at(1), id(1), 0, name, s3("t", expires)).expect("created");
        let upload = Stored { path: PathBuf::from(name), bytes: 1, content_encoding: None };
        state.stored(at(1), id(1), 0, name, upload).expect("stored");
    }
    // What is prolonged does not go when it first wanted to.
    state.create_artifact(at(2), id(1), 0, "c", s3("t", 700)).expect("prolonged");
    state.take_changes();
    let names = |state: &mut State, now| -> Vec<String> {
        state.artifacts(at(now), id(1), 0, None, 9).expect("a list").into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&mut state, 499), ["a", "b", "c", "d"]);
    assert_eq!(state.next_wakeup(), Some(at(500)));
    assert_eq!(names(&mut state, 500), ["b", "c", "d"]);
    assert!(matches!(state.artifact(at(500), id(1), 0, "a"), Err(Refusal::NotFound(_))));
    let of_artifacts = |change: &Change| matches!(change, Change::Artifact(..));
    let changes: Vec<_> = state.take_changes().into_iter().filter(of_artifacts).collect();
    assert_eq!(changes, [Change::Artifact(id(1), 0, "a".into())]);
    assert_eq!(names(&mut state, 699), ["c", "d"]);
    assert_eq!(names(&mut state, 700), ["d"]);
    let gone = state.take_effects().into_iter();
    let gone: Vec<_> =
        gone.filter_map(|effect| if let Effect::Unstored(stored) = effect { Some(stored.path) } else { None }).collect();
    assert_eq!(gone, ["a", "b", "c"].map(PathBuf::from));
    assert!(state.stored(at(700), id(1), 0, "c", Stored { path: "late".into(), bytes: 1, content_encoding: None }).is_err());
}

#[test]
fn lists_go_by_name_and_by_page() {
    let mut state = running();
    for name in ["b", "a/x", "c", "a"] {
        state.create_artifact(at(1), id(1), 0, name, error("e")).expect("created");
    }
    let names = |state: &mut State, after: Option<&str>, limit| -> Vec<String> {
        state.artifacts(at(1), id(1), 0, after, limit).expect("a list").into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&mut state, None, 9), ["a", "a/x", "b", "c"]);
    assert_eq!(names(&mut state, Some("a"), 2), ["a/x", "b"]);
    assert_eq!(names(&mut state, Some("c"), 2), Vec::<String>::new());
    assert!(matches!(state.artifacts(at(1), id(1), 1, None, 9), Err(Refusal::NotFound(_))));
}
