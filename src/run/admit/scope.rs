//! Scopes of a task: what it has, what its payload needs, and the sentences about the difference.

use tc_payload::docker;

use crate::{
    api::ApiError,
    run::{
        context::Basics,
        outcome::{Blame, RunError},
    },
};

/// Beginning of scopes that stand for a role, and so for others.
pub(crate) const ROLE: &str = "assume:";

/// Whether `scopes` satisfy `wanted`: one of them is the same, or ends in `*` and begins it.
pub fn satisfied(scopes: &[String], wanted: &str) -> bool {
    scopes.iter().any(|scope| scope == wanted || scope.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix)))
}

/// The scopes that somebody has, for a sentence.
pub fn listed(scopes: &[String]) -> String {
    if scopes.is_empty() { "<no scopes>".to_owned() } else { scopes.join(" and ") }
}

/// What a container payload needs: of each group, one scope is enough. `queue` is the task queue's id.
///
/// All of it is needed also where the pool will not give what it is for.
pub fn needed(payload: &docker::Payload, queue: &str) -> Vec<Vec<String>> {
    let can = payload.container.capabilities;
    let here = |name: &str| {
        let scope = format!("docker-worker:capability:{name}");
        vec![scope.clone(), format!("{scope}:{queue}")]
    };
    let asked = [
        (can.privileged, here("privileged")),
        (can.disable_seccomp, vec!["docker-worker:capability:disableSeccomp".to_owned()]),
        (can.host_shared_memory, here("device:hostSharedMemory")),
        (can.kvm, here("device:kvm")),
        (can.loopback_audio, here("device:loopbackAudio")),
        (can.loopback_video, here("device:loopbackVideo")),
        (can.allow_ptrace, vec!["docker-worker:feature:allowPtrace".to_owned()]),
    ];
    let caches = payload.container.caches.keys();
    let caches = caches.map(|name| vec![format!("docker-worker:cache:{name}"), format!("generic-worker:cache:{name}")]);
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, group)| group).chain(caches).collect()
}

/// What a native payload needs: all of these. `queue` is the task queue's id.
pub fn os_groups(groups: &[String], queue: &str) -> Vec<String> {
    groups.iter().map(|group| format!("generic-worker:os-group:{queue}/{group}")).collect()
}

/// The groups of which none of these scopes is one.
pub fn missing<'g>(groups: &'g [Vec<String>], scopes: &[String]) -> impl Iterator<Item = &'g Vec<String>> {
    groups.iter().filter(|group| !group.iter().any(|scope| satisfied(scopes, scope)))
}

/// Checks that of each group the task has one scope. The error names all groups of which it has none.
pub fn require(groups: &[Vec<String>], scopes: &[String]) -> Result<(), RunError> {
    let missing: Vec<String> = missing(groups, scopes).map(|group| format!("({})", group.join(", or\n"))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RunError::new(
        Blame::Payload,
        format!(
            "d2g task requires scopes:\n\n{}\n\nbut task only has scopes:\n\n{}\n\n\
             You probably should add some scopes to your task definition",
            missing.join("\nAND\n"),
            listed(scopes)
        ),
    ))
}

/// The task's scopes with all that its roles stand for. Asks the auth service only if there are roles among them.
pub async fn expanded(basics: &Basics) -> Result<Vec<String>, RunError> {
    let scopes = &basics.task.scopes;
    if !scopes.iter().any(|scope| scope.starts_with(ROLE)) {
        return Ok(scopes.clone());
    }
    let auth = basics.shop.services.auth(basics.credentials.clone());
    auth.expand_scopes(scopes).await.map_err(|error| unexpanded(&error))
}

/// What it means that the auth service did not say what roles stand for.
fn unexpanded(error: &ApiError) -> RunError {
    // A service that cannot be reached says nothing about the task, which will run elsewhere or later.
    let blame = if error.is_temporary() { Blame::Service } else { Blame::Payload };
    RunError::new(blame, format!("could not find out what the roles among the task's scopes stand for: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ErrorKind;

    fn texts(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|scope| (*scope).to_owned()).collect()
    }

    #[test]
    fn a_star_counts_only_at_the_end() {
        let scopes = texts(&["a:b", "c:*", "d:*:e"]);
        assert!(satisfied(&scopes, "a:b") && satisfied(&scopes, "c:x/y") && satisfied(&scopes, "c:"));
        assert!(!satisfied(&scopes, "a:bc") && !satisfied(&scopes, "d:x:e") && !satisfied(&scopes, "c"));
    }

    #[test]
    fn each_capability_has_its_scopes() {
        let check = |more: serde_json::Value| {
            let mut payload = json!({ "image": "x", "maxRunTime": 1 });
            payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            needed(&docker::check(&payload).expect("a payload"), "p/w")
        };
        assert!(check(json!({ "features": { "taskclusterProxy": true, "interactive": true } })).is_empty());
        let everything = check(json!({
            "capabilities": { "privileged": true, "disableSeccomp": true, "devices": {
                "hostSharedMemory": true, "kvm": true, "loopbackAudio": true, "loopbackVideo": true } },
            "features": { "allowPtrace": true },
            "cache": { "c": "/c" },
        }));
        let pair = |first: &str, second: &str| texts(&[first, second]);
        assert_eq!(
            everything,
            [
                pair("docker-worker:capability:privileged", "docker-worker:capability:privileged:p/w"),
                texts(&["docker-worker:capability:disableSeccomp"]),
                pair(
                    "docker-worker:capability:device:hostSharedMemory",
                    "docker-worker:capability:device:hostSharedMemory:p/w"
                ),
                pair("docker-worker:capability:device:kvm", "docker-worker:capability:device:kvm:p/w"),
                pair("docker-worker:capability:device:loopbackAudio", "docker-worker:capability:device:loopbackAudio:p/w"),
                pair("docker-worker:capability:device:loopbackVideo", "docker-worker:capability:device:loopbackVideo:p/w"),
                texts(&["docker-worker:feature:allowPtrace"]),
                pair("docker-worker:cache:c", "generic-worker:cache:c"),
            ]
        );
    }

    #[test]
    fn all_missing_groups_are_named_at_once() {
        let groups = [texts(&["a", "a:p/w"]), texts(&["b"]), texts(&["c:x", "d:x"])];
        assert_eq!(require(&groups, &texts(&["a:p/*", "b", "d:*"])), Ok(()));
        let error = require(&groups, &texts(&["b", "x"])).expect_err("two groups are missing");
        assert_eq!(error.blame, Blame::Payload);
        assert_eq!(
            error.message,
            "d2g task requires scopes:\n\n(a, or\na:p/w)\nAND\n(c:x, or\nd:x)\n\nbut task only has scopes:\n\nb and x\n\n\
             You probably should add some scopes to your task definition"
        );
        assert!(require(&groups, &[]).expect_err("all are missing").message.contains("<no scopes>"));
    }

    #[test]
    fn a_service_that_is_away_is_not_the_payload_s_fault() {
        let blame = |status| {
            let kind = ErrorKind::Status { status, code: String::new(), message: String::new() };
            unexpanded(&ApiError::new("auth.expandScopes", kind)).blame
        };
        assert_eq!(
            (blame(503), blame(429), blame(403), blame(400)),
            (Blame::Service, Blame::Service, Blame::Payload, Blame::Payload)
        );
    }
}
